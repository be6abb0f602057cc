"""Lists the tables with rows of an org, in an order in which the rows can be loaded."""

from functools import cache
from graphlib import TopologicalSorter
from typing import Any

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, models

from loyalty.models import ChosenOrg, LedgerUpload, Org, OrgAccess, OrgMove, SavedView
from reversals.models import DayTotals, Export, ExportPart, LedgerCheck, SealedRow

# Tables that refer to an org but belong to the cell: access of staff, their chosen org and saved views, exports of
# lists, ledger checks, uploads, seals and moves.
OF_THE_CELL = {
    *(ChosenOrg, OrgAccess, OrgMove, SavedView, Export, ExportPart, LedgerCheck, LedgerUpload, SealedRow),
}

Model = type[models.Model]


@cache
def moved_models() -> tuple[Model, ...]:
    """Returns Org and every model with an org, parents before children."""
    owned: list[Model] = [model for model in apps.get_models() if model not in OF_THE_CELL and column_of_org(model)]
    parents: dict[Model, set[Model]] = {model: _parents(model) & set(owned) for model in owned}
    return tuple(TopologicalSorter(parents).static_order())


def guarded_models() -> tuple[Model, ...]:
    """Returns the models that cannot change while the org is closed: all but day totals, which are derived data."""
    return tuple(model for model in moved_models() if model is not DayTotals)


def column_of_org(model: Model) -> str:
    """Returns the column that holds the org's id, or an empty string if the model has no org."""
    if model is Org:
        return "id"
    return "org_id" if any(field.attname == "org_id" for field in model._meta.concrete_fields) else ""


def rows_of(model: Model, org_id: int) -> models.QuerySet[models.Model]:
    """Returns the org's rows in order of id, from the primary database because a replica may lag.

    A row that refers to a row of its own table comes after those that do not.
    """
    own = [field.name for field in model._meta.concrete_fields if field.related_model is model]
    rows = model._base_manager.using(DEFAULT_DB_ALIAS).filter(**{column_of_org(model): org_id})
    return rows.order_by(*(models.F(name).asc(nulls_first=True) for name in own), "pk")


def _parents(model: Model) -> set[Model]:
    related: set[Any] = {field.related_model for field in model._meta.concrete_fields}
    return related - {model, None}
