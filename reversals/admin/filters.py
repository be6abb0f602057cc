"""Filters the lists of reversals and attempts without counting or sorting a whole table."""

from datetime import UTC, date, datetime, time, timedelta
from functools import reduce
from operator import or_
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import Model, OuterRef, Q, QuerySet, Subquery
from django.db.models.lookups import Exact
from django.http import HttpRequest
from django.utils import timezone

from loyalty.models import ApiClient, Program, Redemption
from loyalty.staff.current_org import current_org
from reversals.admin.statuses import NEEDS_APPROVAL
from reversals.models import Reversal
from reversals.refusals import LADDERS

CHOICES_SHOWN = 100
LOOKED_THROUGH = 20_000


class Period(admin.SimpleListFilter):
    """How far back the list goes. The default is 30 days, or the whole list for a search.

    A link can name the first and the last day (UTC): `from=2026-11-01&to=2026-11-03`.
    """

    title = "period"
    parameter_name = "period"

    def __init__(self, request: HttpRequest, params: dict[str, Any], *args: Any) -> None:
        self.default = "all" if request.GET.get("q") else "30"
        self.days = [_day(params.pop(name, [""])[-1]) for name in ("from", "to")]
        super().__init__(request, params, *args)
        days = zip(("from", "to"), self.days, strict=True)
        self.used_parameters |= {name: day.isoformat() for name, day in days if day}

    def expected_parameters(self) -> list[str | None]:
        return [self.parameter_name, "from", "to"]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("today", "Today"), ("7", "7 days"), ("30", "30 days"), ("90", "90 days"), ("all", "All")]

    def choices(self, changelist: Any) -> Any:
        first, last = self.days
        for value, name in self.lookup_choices:
            yield {
                "selected": not (first or last) and (self.value() or self.default) == value,
                "query_string": changelist.get_query_string({self.parameter_name: value}, ["from", "to"]),
                "display": name,
            }
        if first or last:
            shown = f"{first or 'the first day'}" if first == last else f"{first or 'the first day'} to {last or 'now'}"
            yield {"selected": True, "query_string": changelist.get_query_string(), "display": shown}

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        # An export in the worker counts from when the user asked for it.
        period, now = self.value() or self.default, getattr(request, "asked_at", None) or timezone.now()
        first, last = self.days
        if first or last:
            found = queryset.filter(created_at__gte=_start(first)) if first else queryset
            return found.filter(created_at__lt=_start(last) + timedelta(days=1)) if last else found
        if period == "today":
            return queryset.filter(created_at__gte=now.replace(hour=0, minute=0, second=0, microsecond=0))
        if period in {"7", "30", "90"}:
            return queryset.filter(created_at__gte=now - timedelta(days=int(period)))
        return queryset


def _day(text: str) -> date | None:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if day < date.max else None


def _start(day: date) -> datetime:
    return datetime.combine(day, time.min, UTC)


class ByStatus(admin.SimpleListFilter):
    """Whether reversals were corrected."""

    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("valid", "Valid"), ("corrected", "Corrected"), ("waiting", "Waiting for correction")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "valid":
                return queryset.filter(corrected_at__isnull=True)
            case "corrected":
                return queryset.filter(corrected_at__isnull=False)
            case "waiting":
                return queryset.filter(corrected_at__isnull=True, is_waiting=True)
            case _:
                return queryset


class ByRule(admin.SimpleListFilter):
    """The rule that refused the call, by code. Rules with the same name and different codes are separate choices."""

    title = "result"
    parameter_name = "rule"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        rules = sorted({(error.code, error.name) for ladder in LADDERS.values() for error in ladder})
        return [
            ("accepted", "Accepted"),
            ("refused", "Refused"),
            (NEEDS_APPROVAL, "Approval requested"),
            *((f"{name}.{code}", f"{code} {name}") for code, name in rules if name != NEEDS_APPROVAL),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case None:
                return queryset
            case "accepted":
                return queryset.filter(rule="")
            case "refused":
                return queryset.exclude(rule__in=("", NEEDS_APPROVAL))
            case rule:
                name, _, code = rule.partition(".")
                return queryset.filter(rule=name, code=code) if code.isdecimal() else queryset.filter(rule=name)


class ByOperation(admin.SimpleListFilter):
    """The requested operation."""

    title = "operation"
    parameter_name = "operation"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(operation, operation.capitalize()) for operation in LADDERS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset if self.value() is None else queryset.filter(operation=self.value())


class _OfParent(admin.SimpleListFilter):
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
        return queryset if self.selected is None else self.of(self.selected, request, queryset)

    def of(self, parent_id: int, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        raise NotImplementedError


class ByClient(_OfParent):
    """The API client that called."""

    title = "client"
    parameter_name = "client"
    parents = ApiClient

    def of(self, parent_id: int, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(client_id=parent_id)


class ByProgram(_OfParent):
    """The program of the redemption that was reversed.

    Each row of the list costs a look-up of its redemption. So the filter searches a limited number of the org's
    newest rows, and the page says so if there are older rows.
    """

    title = "program"
    parameter_name = "program"
    parents = Program
    programs: ClassVar = [Subquery(Redemption.objects.filter(id=OuterRef("redemption_id")).values("program_id")[:1])]

    def of(self, parent_id: int, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        newest_first = queryset.model._default_manager.filter(org=self.org).order_by("-created_at")
        oldest = newest_first.values_list("created_at", flat=True)[LOOKED_THROUGH : LOOKED_THROUGH + 1].first()
        if oldest is not None:
            messages.info(request, f"The program filter searches only the org's newest {LOOKED_THROUGH:,} rows.")
            queryset = queryset.filter(created_at__gt=oldest)
        # One value for each row, because PostgreSQL would read all redemptions of the org for a join or an EXISTS.
        return queryset.filter(reduce(or_, (Q(Exact(program, parent_id)) for program in self.programs)))


class ByProgramAsked(ByProgram):
    """The program of the redemption that the call named, made or reversed."""

    programs: ClassVar = [
        *ByProgram.programs,
        Subquery(Reversal.objects.filter(id=OuterRef("reversal_id")).values("redemption__program_id")[:1]),
        Subquery(
            Redemption.objects.filter(org_id=OuterRef("org_id"), public_id=OuterRef("redemption_id_asked")).values(
                "program_id"
            )[:1]
        ),
    ]
