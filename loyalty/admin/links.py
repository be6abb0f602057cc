"""Links to the pages of rows."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.db import models
from django.urls import reverse
from django.utils.html import format_html


def page_of(row: models.Model) -> str:
    """Returns the address of the row's page."""
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])


def link(row: models.Model, text: object = None) -> str:
    """Returns a link to the row's page, with the row's name or `text` as its text."""
    return format_html('<a class="text-link" href="{}">{}</a>', page_of(row), row if text is None else text)


def link_column(name: str) -> Callable[[Any], str]:
    """Returns a list column that links to the page of a related row. Without a related row it is empty."""

    @admin.display(description=name.replace("_", " "))
    def column(row: Any) -> str:
        related = getattr(row, name)
        return "" if related is None else link(related)

    column.__name__ = name
    return column
