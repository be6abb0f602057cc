"""Lists of the back office: the filters and order that they accept, their count and pages, and their search."""

from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property
from typing import Any

from django.contrib import messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ORDER_VAR, ChangeList
from django.core.exceptions import ValidationError
from django.core.paginator import Page, Paginator
from django.db import models
from django.http import HttpRequest
from django.utils import timezone

from loyalty.admin.views import COLUMNS, tools_of
from loyalty.ledger.canonical import canonical, searched_spellings
from loyalty.ledger.queries import can_be_stored
from loyalty.staff.current_org import current_org

# The number of rows that a search looks up by each field. A customer can have many.
FOUND_AT_MOST = 1_000
# The template of a filter that the page does not show.
HIDDEN_FILTER = "admin/parts/nothing.html"
# A count of more rows takes seconds in a table of millions.
COUNTED = 1_000
UNCOUNTED = 9_999_999_999
# A filter that no index carries looks at this number of rows at most.
LOOKED_THROUGH = 20_000
# Look-ups that links to lists use beside the lists' own filters: a customer's page links to the customer's rows.
LINKED = frozenset({"customer__id__exact"})


class InfinitePaginator(Paginator):
    """Pages of a list. Counts its rows up to a limit, and reads one row more than a page has.

    By its name django-unfold knows that the header of the page cannot say the count.
    """

    template_name = "admin/parts/list_pages.html"
    has_next = False

    @cached_property
    def counted(self) -> int:
        """The number of rows; one more than COUNTED if there are more."""
        rows: Any = self.object_list
        return int(rows.order_by().values("pk")[: COUNTED + 1].count())

    @cached_property
    def count(self) -> int:
        return self.counted if self.counted <= COUNTED else UNCOUNTED

    def page(self, number: Any) -> Page:
        number = self.validate_number(number)
        first = (number - 1) * self.per_page
        rows = list(self.object_list[first : first + self.per_page + 1])
        self.has_next = len(rows) > self.per_page
        return Page(rows[: self.per_page], number, self)


class OfferedFilters(ChangeList):
    """A list that accepts only its own filters, order and the look-ups of links to it.

    Others could be slow or expose data. Filters that no index carries have `scans`: they look only at the newest rows
    of the period, and the page says so if there are older rows.
    """

    is_descending = True  # whether the newest row comes first

    def get_filters(self, request: HttpRequest) -> Any:
        filters = super().get_filters(request)
        if filters[2].keys() - LINKED:  # look-ups that no filter used
            raise IncorrectLookupParameters
        are_shown = any(each.template != HIDDEN_FILTER for each in filters[0])
        return filters[0], are_shown, *filters[2:]

    def get_filters_params(self, params: Any = None) -> Any:
        found = super().get_filters_params(params)
        found.pop(COLUMNS, None)
        return found

    def get_queryset(self, request: HttpRequest, *args: Any) -> models.QuerySet[Any]:
        self.request = request
        order = self._offered_order(self.params.pop(ORDER_VAR, ""))
        self.filter_params.pop(ORDER_VAR, None)
        if order:
            self.params[ORDER_VAR], self.filter_params[ORDER_VAR] = order, [order]
        rows = super().get_queryset(request, *args)
        return self._newest(request, rows)

    def get_ordering(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> Any:
        """Orders rows with the same time by row id in the same direction, as the indexes do."""
        ordering = super().get_ordering(request, queryset)
        self.is_descending = ordering[0] != self.newest_by
        if self.newest_by == "id" or ordering[0] not in {self.newest_by, f"-{self.newest_by}"}:
            return ordering
        return [ordering[0], "-id" if self.is_descending else "id"]

    @property
    def newest_by(self) -> str:
        """The field that orders the list by time."""
        return str(getattr(self.model_admin, "newest_by", "id"))

    @property
    def tools(self) -> dict[str, Any]:
        """The saved views and the columns of the list, for its page."""
        return tools_of(self.request, self)

    @property
    def times_in_words(self) -> str:
        """The time zone of the times that the list shows."""
        zone = timezone.get_current_timezone_name()
        return f"Times are in {'UTC' if zone == 'UTC' else f'the time zone {zone}'}."

    @property
    def rows_in_words(self) -> str:
        """The number of rows, and which of them the page shows."""
        counted = self.paginator.counted
        name = self.opts.verbose_name if counted == 1 else self.opts.verbose_name_plural
        count = f"{counted:,}" if counted <= COUNTED else f"more than {COUNTED:,}"
        if not self.multi_page:
            return f"{count} {name}"
        first = (self.page_num - 1) * self.list_per_page + 1
        return f"{first:,} to {first + len(self.result_list) - 1:,} of {count} {name}"

    def _offered_order(self, order: str) -> str:
        """Returns the sign and position of one column that the list offers to sort by, or an empty string.

        The order can also name the column, so that it stays the same with other columns.
        """
        _, sign, column = order.rpartition("-")
        if column in self.list_display:
            column = str(self.list_display.index(column))
        if not (column.isascii() and column.isdigit() and len(column) < 3 and int(column) < len(self.list_display)):
            return ""
        name = self.list_display[int(column)]
        return sign + column if self.sortable_by is None or name in self.sortable_by else ""

    def _newest(self, request: HttpRequest, rows: models.QuerySet[Any]) -> models.QuerySet[Any]:
        """Returns the newest rows only, if a filter would read them all."""
        scanning = [spec for spec in self.filter_specs if getattr(spec, "scans", False) and spec.used_parameters]
        if not scanning or self.query or LINKED & self.params.keys():
            return rows
        period: Any = self.root_queryset
        for spec in self.filter_specs:
            period = period if getattr(spec, "scans", False) else spec.queryset(request, period)
        name = self.newest_by
        newest = period.order_by(f"-{name}").values_list(name, flat=True)
        oldest = newest[LOOKED_THROUGH : LOOKED_THROUGH + 1].first()
        if oldest is None:
            return rows
        names = " and ".join(str(spec.title) for spec in scanning)
        messages.info(
            request,
            f"The list searches only the newest {LOOKED_THROUGH:,} rows of the period by {names}."
            " Choose a shorter period to search older rows.",
        )
        return rows.filter(**{f"{name}__gt": oldest})


class ExactSearch:
    """A search for whole ids of a row or of its parents, in any case, and with or without blanks.

    Looks up each of `search_fields` by itself, because no index covers them all. A field of a parent, such as
    `redemption__public_id`, is looked up in the parent's table first.
    """

    def get_search_results(
        self: Any, request: HttpRequest, queryset: models.QuerySet[Any], search_term: str
    ) -> tuple[models.QuerySet[Any], bool]:
        if not canonical(search_term):
            return queryset, False
        terms, found = searched_spellings(search_term), set()
        org = current_org(request)
        org_id = None if org is None else org.id
        for field in self.search_fields:
            found |= ids_of(self.model, field.lstrip("="), terms, org_id=org_id)
        return queryset.filter(pk__in=found), False


def ids_of(model: type[models.Model], path: str, terms: Iterable[Any], *, org_id: int | None) -> set[Any]:
    """Returns the row ids of the org's rows that have one of the terms in this field of theirs or of a parent."""
    name, _, rest = path.partition("__")
    field: Any = model._meta.get_field(name)
    values = ids_of(field.related_model, rest, terms, org_id=org_id) if rest else set(_storable(field, terms))
    rows = model._default_manager.filter(**{f"{name}__in": values}, org_id=org_id) if values else None
    return set() if rows is None else set(rows.values_list("pk", flat=True)[:FOUND_AT_MOST])


def _storable(field: Any, terms: Iterable[Any]) -> Iterable[Any]:
    """Yields the terms as values of the field, without those that the field cannot hold."""
    for term in terms:
        if can_be_stored(term):
            with suppress(ValidationError, ValueError):
                value = field.to_python(term)
                field.run_validators(value)
                yield value
