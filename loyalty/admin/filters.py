"""Filters of lists with input fields: two days or a period, a user, an amount of points. And filters by parents."""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from loyalty.ledger.canonical import canonical
from loyalty.ledger.points import InvalidPoints, grouped, read_written_points
from loyalty.models import Program
from loyalty.staff.current_org import current_org, zone_of

CHOICES_SHOWN = 100


class Typed(admin.ListFilter):
    """A filter with input fields: the name in the address and the label of each."""

    template = "admin/parts/typed_filter.html"
    inputs: ClassVar[dict[str, str]]
    input_type = "text"

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: type[Model], model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        self.org = current_org(request)
        for name in self.inputs:
            text = canonical(str(params.pop(name, [""])[-1]).replace("\0", ""))  # PostgreSQL refuses null characters
            value = self.read(text) if text else None
            if value is not None:
                self.used_parameters[name] = value

    def read(self, text: str) -> Any:
        """Returns the value of what was typed, or None if it is no value."""
        return text

    def written(self, value: Any) -> str:
        """Returns the value as an input field shows it."""
        return str(value)

    @property
    def fields(self) -> list[tuple[str, str, str]]:
        """The name, label and text of each input field."""
        used = self.used_parameters
        return [(name, label, self.written(used[name]) if name in used else "") for name, label in self.inputs.items()]

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[str | None]:
        return list(self.inputs)

    def choices(self, changelist: Any) -> Iterator[dict[str, Any]]:
        yield {"selected": bool(self.used_parameters), "display": self.in_words()}

    def in_words(self) -> str:
        return " ".join(
            f"{self.inputs[name].lower()} {self.shown(value)}" for name, value in self.used_parameters.items()
        )

    def shown(self, value: Any) -> str:
        return self.written(value)


class Period(Typed):
    """The rows of two days or between them, in the org's time zone, or of the last days until now.

    A link from totals by day adds `zone=UTC`, because they are counted in UTC.
    """

    title = "period"
    input_type = "date"
    inputs: ClassVar = {"from": "From", "to": "To"}
    kept = ("period", "zone")  # the form of the filters has them itself, or not at all
    field = "created_at"
    default = "30"
    lengths: ClassVar = {"today": "Today", "7": "7 days", "30": "30 days", "90": "90 days", "all": "All"}

    def __init__(self, request: HttpRequest, params: dict[str, Any], *args: Any) -> None:
        length = str(params.pop("period", [""])[-1])
        is_utc = params.pop("zone", [""])[-1] == "UTC"
        super().__init__(request, params, *args)
        # An export in the worker counts from when the user asked for it.
        self.now: datetime = getattr(request, "asked_at", None) or timezone.now()
        default = "all" if request.GET.get("q") else self.default
        self.length = length if length in self.lengths else default
        self.is_utc, self.zone = is_utc, zone_of(None if is_utc else self.org)
        self.days: dict[str, date] = dict(self.used_parameters)  # type: ignore[arg-type]
        if self.days:
            self.length = ""
        elif length in self.lengths:
            self.used_parameters["period"] = length

    def read(self, text: str) -> date | None:
        try:
            return date.fromisoformat(text)
        except ValueError:
            return None

    def expected_parameters(self) -> list[str | None]:
        return ["period", "zone", *self.inputs]

    def choices(self, changelist: Any) -> Iterator[dict[str, Any]]:
        for value, name in self.lengths.items():
            query = changelist.get_query_string({"period": value, "zone": None, **dict.fromkeys(self.inputs)})
            yield {"selected": value == self.length, "query_string": query, "display": name}
        if not self.length:
            yield {"selected": True, "display": self.in_words()}

    def in_words(self) -> str:
        first, last = self.days.get("from"), self.days.get("to")
        words = str(first) if first == last else super().in_words()
        return f"{words} UTC" if self.is_utc else words

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        zone = self.zone
        today = self.now.astimezone(zone).date()
        first: date | None = self.days.get("from")
        last: date | None = self.days.get("to")
        conditions: dict[str, datetime] = {}
        if self.length == "today":
            first = today
        elif self.length.isdigit():
            conditions["gte"] = self.now - timedelta(days=int(self.length))
        if first is not None:
            conditions["gte"] = datetime.combine(first, time.min, zone)
        if hasattr(request, "asked_at"):
            conditions["lte"] = self.now
        if last is not None and last < date.max:
            conditions["lt"] = datetime.combine(last + timedelta(days=1), time.min, zone)
        return queryset.filter(**{f"{self.field}__{lookup}": moment for lookup, moment in conditions.items()})


def period_of(field: str, *, default: str = "all") -> type[Period]:
    """Returns the filter by this time."""
    return type("Period", (Period,), {"field": field, "default": default})


class ByUser(Typed):
    """The user or API client that made the row."""

    title = "made by"
    inputs: ClassVar = {"made_by": "Username"}
    field = "made_by"
    scans = True

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        username = self.used_parameters.get("made_by")
        return queryset.filter(**{self.field: username}) if username else queryset

    def in_words(self) -> str:
        return str(self.used_parameters.get("made_by", ""))


class ByPoints(Typed):
    """The amount of points."""

    title = "points"
    inputs: ClassVar = {"points_from": "From", "points_to": "To"}
    field = "points"
    scans = True

    def read(self, text: str) -> Decimal | None:
        try:
            return read_written_points(text)
        except InvalidPoints:
            return None

    def shown(self, value: Decimal) -> str:
        return grouped(value)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        bounds = {f"{self.field}__gte": "points_from", f"{self.field}__lte": "points_to"}
        used = self.used_parameters
        return queryset.filter(**{lookup: used[name] for lookup, name in bounds.items() if name in used})


class Scanned(admin.ChoicesFieldListFilter):
    """The choices of a field that no index has."""

    scans = True


class OfParent(admin.SimpleListFilter):
    """The rows of one parent in the current org."""

    parents: type[Model]

    def __init__(self, request: HttpRequest, *args: Any) -> None:
        self.org = current_org(request)
        super().__init__(request, *args)

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        parents = self.parents._default_manager.filter(org=self.org).order_by("id")
        return [(str(parent.pk), str(parent)) for parent in parents[:CHOICES_SHOWN]]

    @property
    def selected(self) -> int | None:
        """The row id of the selected parent, if it belongs to the org."""
        value = self.value()
        return int(str(value)) if value in {each for each, _ in self.lookup_choices} else None

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset if self.selected is None else self.of(self.selected, queryset)

    def of(self, parent_id: int, queryset: QuerySet[Any]) -> QuerySet[Any]:
        raise NotImplementedError


class OfProgram(OfParent):
    """The program of the row."""

    title = "program"
    parameter_name = "program"
    parents = Program
    scans = True

    def of(self, parent_id: int, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(program_id=parent_id)
