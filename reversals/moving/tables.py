"""Which tables an org owns, in an order in which their rows can be loaded; every door of a move reads it here."""

from functools import cache
from graphlib import TopologicalSorter
from typing import Any

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, models

from loyalty.models import Org, OrgAccess, OrgMove
from reversals.models import DayTotals, LedgerCheck, SealedRow

# They name an org and are of this cell: its staff, its checks, its seals, and what it knows of moves.
OF_THE_CELL = {OrgAccess, OrgMove, LedgerCheck, SealedRow}

Model = type[models.Model]


@cache
def moved_models() -> tuple[Model, ...]:
    """Org and every model with an org, parents before children."""
    owned: list[Model] = [model for model in apps.get_models() if model not in OF_THE_CELL and column_of_org(model)]
    parents: dict[Model, set[Model]] = {model: _parents(model) & set(owned) for model in owned}
    return tuple(TopologicalSorter(parents).static_order())


def guarded_models() -> tuple[Model, ...]:
    """Those of which nothing changes while the org is closed: totals of days are only counted from the others."""
    return tuple(model for model in moved_models() if model is not DayTotals)


def column_of_org(model: Model) -> str:
    """The column that holds the org's id; empty if the model has no org."""
    if model is Org:
        return "id"
    return "org_id" if any(field.attname == "org_id" for field in model._meta.concrete_fields) else ""


def rows_of(model: Model, org_id: int) -> models.QuerySet[models.Model]:
    """The org's rows by rising id, of the database that is written and not of a copy that may be late."""
    return model._base_manager.using(DEFAULT_DB_ALIAS).filter(**{column_of_org(model): org_id}).order_by("pk")


def _parents(model: Model) -> set[Model]:
    related: set[Any] = {field.related_model for field in model._meta.concrete_fields}
    return related - {model, None}
