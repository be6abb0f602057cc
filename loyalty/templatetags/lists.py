"""Template tags for lists: the name of a list, and its active filters."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django import template
from django.contrib import admin
from django.utils.translation import gettext

register = template.Library()
TITLES = "_titles_in_sidebar"


@dataclass(frozen=True, slots=True)
class ActiveFilter:
    """A filter and its choice as text. `without` is the address of the list without a removable filter."""

    title: str
    choice: str
    without: str = ""


@register.simple_tag(takes_context=True)
def name_of_list(context: Any, address: str) -> str:
    """Returns the sidebar's name of the list at this address, or an empty string if the sidebar does not link to it."""
    request = context["request"]
    if not hasattr(request, TITLES):
        sections = admin.site.get_sidebar_list(request)  # type: ignore[attr-defined]
        setattr(request, TITLES, {item["link"]: str(item["title"]) for each in sections for item in each["items"]})
    return str(getattr(request, TITLES).get(str(address), ""))


@register.simple_tag
def active_filters(changelist: Any) -> list[ActiveFilter]:
    """Returns the filters that narrow the list: chosen by the user, set by default, or contained in a link."""
    return [*_by_filter(changelist), *_by_link(changelist)]


@register.filter
def item(items: Sequence[Any], position: int) -> Any:
    """Returns the item of a list at this position, from 0."""
    return items[position]


def _by_filter(changelist: Any) -> Iterator[ActiveFilter]:
    for filter in changelist.filter_specs:
        names = [name for name in filter.expected_parameters() if name in changelist.params]
        without = changelist.get_query_string(remove=names) if names else ""
        for choice in filter.choices(changelist):
            text = str(choice.get("display", "")) if choice.get("selected") else _typed(filter, choice)
            if text and text != gettext("All"):
                yield ActiveFilter(str(filter.title), text, without)


def _typed(filter: Any, choice: dict[str, Any]) -> str:
    """Returns the text that was typed into a filter with an input field."""
    return str(filter.value() or "") if "form" in choice else ""


def _by_link(changelist: Any) -> Iterator[ActiveFilter]:
    """Returns the look-ups in a link beside the list's own filters, such as the rows of one customer."""
    known = {name for filter in changelist.filter_specs for name in filter.expected_parameters()}
    for name in changelist.get_filters_params().keys() - known:
        field = name.partition("__")[0]
        # Name the choice after a row found, because the address could contain the id of another org's row.
        row = next(iter(changelist.result_list), None)
        choice = "not found" if row is None else str(getattr(row, field, ""))
        yield ActiveFilter(field.replace("_", " "), choice, changelist.get_query_string(remove=[name]))
