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


@register.simple_tag
def kept(changelist: Any) -> list[tuple[str, str]]:
    """Returns the parameters of the address that the inputs of the filters do not have, for the filters' form."""
    typed = {name for filter in changelist.filter_specs for name in getattr(filter, "inputs", ())}
    typed |= {name for filter in changelist.filter_specs for name in getattr(filter, "kept", ())}
    # The template of Django's filters by field has a hidden input for the choice.
    typed |= {filter.lookup_kwarg for filter in changelist.filter_specs if getattr(filter, "lookup_val", None)}
    return [(name, value) for name, value in changelist.params.items() if name not in typed]


def _by_filter(changelist: Any) -> Iterator[ActiveFilter]:
    for filter in changelist.filter_specs:
        names = [name for name in filter.expected_parameters() if changelist.params.get(name)]
        without = changelist.get_query_string(dict.fromkeys(names)) if names else ""
        for choice in filter.choices(changelist):
            text = str(choice.get("display", "")) if choice.get("selected") else ""
            if text and text != gettext("All"):
                yield ActiveFilter(str(filter.title), text, without)


def _by_link(changelist: Any) -> Iterator[ActiveFilter]:
    """Returns the look-ups in a link beside the list's own filters, such as the rows of one customer."""
    known = {name for filter in changelist.filter_specs for name in filter.expected_parameters()}
    for name in changelist.get_filters_params().keys() - known:
        field = name.partition("__")[0]
        # Name the choice after a row found, because the address could contain the id of another org's row.
        row = next(iter(changelist.result_list), None)
        choice = "not found" if row is None else str(getattr(row, field, ""))
        yield ActiveFilter(field.replace("_", " "), choice, changelist.get_query_string(remove=[name]))
