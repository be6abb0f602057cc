"""Model fields for amounts of points and for row ids."""

import secrets
import threading
import time
from decimal import Decimal, InvalidOperation
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.lookups import Exact
from django.db.models.sql.where import WhereNode

from loyalty.ledger.distribution import is_distributed
from loyalty.ledger.points import DECIMALS, INTEGER_DIGITS, InvalidPoints, from_thousandths, to_thousandths, written


class PointsField(models.Field):
    """An amount of points: whole thousandths in a BIGINT column, a Decimal in Python.

    It is not a DecimalField, because SQLite stores these as binary floats, in which 0.1 + 0.1 + 0.1 exceeds 0.3.
    Raises ValidationError for a float and for more than 3 decimals.
    """

    description = "Points with 3 decimals"

    def get_internal_type(self) -> str:
        return "BigIntegerField"

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Decimal | None:
        return None if value is None else from_thousandths(value)

    def to_python(self, value: Any) -> Decimal | None:
        if value is None:
            return None
        if isinstance(value, float):
            raise ValidationError("A float cannot hold points exactly; expected a Decimal.")
        try:
            points = Decimal(value)
            to_thousandths(points)
        except (InvalidOperation, InvalidPoints, TypeError, ValueError, OverflowError) as error:
            raise ValidationError(f"{value!r} is not an amount of points with at most {DECIMALS} decimals") from error
        return points

    def get_prep_value(self, value: Any) -> int | None:
        if hasattr(value, "resolve_expression"):
            return value
        points = self.to_python(value)
        return None if points is None else to_thousandths(points)

    def value_to_string(self, obj: models.Model) -> str:
        points = self.to_python(self.value_from_object(obj))
        return "" if points is None else written(points)

    def formfield(self, **kwargs: Any) -> Any:
        limits = {"max_digits": INTEGER_DIGITS + DECIMALS, "decimal_places": DECIMALS}
        return super().formfield(**{"form_class": forms.DecimalField, **limits, **kwargs})


_EPOCH_MILLISECONDS = 1_577_836_800_000  # 2020-01-01
_RANDOM_BITS = 22
_lock = threading.Lock()
_last_id = 0


def new_row_id() -> int:
    """Returns a positive 63-bit row id: milliseconds since 2020, then 22 random bits. Ids rise within a process.

    The id is known before the insert, so that a parent and its children can be written in one statement. Unlike ids
    from a sequence, it stays unique when orgs are spread over several databases. If two processes generate the same
    id in the same millisecond (1 in 4 million), the second violates the primary key, and its transaction is retried.
    """
    return new_row_ids(1)[0]


def new_row_ids(count: int) -> range:
    """Returns `count` consecutive row ids at the cost of one."""
    global _last_id
    milliseconds = time.time_ns() // 1_000_000 - _EPOCH_MILLISECONDS
    candidate = (milliseconds << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS)
    with _lock:
        first = max(candidate, _last_id + 1)
        _last_id = first + count - 1
    return range(first, first + count)


class RowIdField(models.BigIntegerField):
    """The primary key of every table that holds an org's rows. The API never shows it; it shows public ids."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs |= {"primary_key": True, "default": new_row_id, "editable": False}
        super().__init__(*args, **kwargs)


class RandomKey(models.Func):
    """A random text from the database: the default of a unique key for rows that older code inserts without one."""

    output_field = models.CharField()

    def as_sqlite(self, compiler: Any, connection: Any, **extra_context: Any) -> Any:
        return "lower(hex(randomblob(16)))", []

    def as_postgresql(self, *args: Any, **kwargs: Any) -> tuple[str, list[Any]]:
        return "replace(gen_random_uuid()::text, '-', '')", []


class OrgForeignKey(models.ForeignKey[Any, Any]):
    """A foreign key to a row of the same org. On a Citus cluster, its joins name the org of both tables.

    Migrations record it as a plain foreign key, because it has the same column.
    """

    def deconstruct(self) -> Any:
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.ForeignKey", args, kwargs

    def get_extra_restriction(self, alias: str, related_alias: str) -> Any:
        if not is_distributed():
            return None
        own: Any = self.model._meta.get_field("org")
        parent: Any = self.remote_field.model._meta.get_field("org")
        same_org: Any = Exact(own.get_col(alias), parent.get_col(related_alias))
        return WhereNode([same_org])
