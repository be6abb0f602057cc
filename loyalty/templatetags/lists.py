"""Lists in templates: what each is called, and which filters narrow it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django import template
from django.contrib import admin
from django.utils.translation import gettext

register = template.Library()


@dataclass(frozen=True, slots=True)
class Chosen:
    """A filter and its choice in words; `without` is the address of the list without it, where that can be."""

    title: str
    choice: str
    without: str = ""


@register.simple_tag(takes_context=True)
def name_of_list(context: Any, address: str) -> str:
    """What the side bar calls the list at this address; empty where it has none there."""
    sections = admin.site.get_sidebar_list(context["request"])  # type: ignore[attr-defined]
    titles = {item["link"]: str(item["title"]) for section in sections for item in section["items"]}
    return titles.get(str(address), "")


@register.simple_tag
def chosen_filters(changelist: Any) -> list[Chosen]:
    """The filters that narrow the list, by choice, by default, or by the link that led to it."""
    return [*_by_filter(changelist), *_by_link(changelist)]


def _by_filter(changelist: Any) -> Iterator[Chosen]:
    for filter in changelist.filter_specs:
        names = [name for name in filter.expected_parameters() if name in changelist.params]
        # The list always shows one org; who chose another goes on with it.
        is_removable = bool(names) and names != ["org"]
        without = changelist.get_query_string(remove=names) if is_removable else ""
        for choice in filter.choices(changelist):
            text = str(choice.get("display", "")) if choice.get("selected") else _typed(filter, choice)
            if text and text != gettext("All"):
                yield Chosen(str(filter.title), text, without)


def _typed(filter: Any, choice: dict[str, Any]) -> str:
    """What was typed into a filter with a box of its own."""
    return str(filter.value() or "") if "form" in choice else ""


def _by_link(changelist: Any) -> Iterator[Chosen]:
    """What a link to the list asked for beside the filters, such as the rows of one customer."""
    known = {name for filter in changelist.filter_specs for name in filter.expected_parameters()}
    for name in changelist.get_filters_params().keys() - known:
        field = name.partition("__")[0]
        # In words of the rows themselves: the address could name any row of any org.
        row = next(iter(changelist.result_list), None)
        choice = "none found" if row is None else str(getattr(row, field, ""))
        yield Chosen(field.replace("_", " "), choice, changelist.get_query_string(remove=[name]))
