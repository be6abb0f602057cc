"""Reads the ledger for those who ask what it holds; nothing here locks or decides."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal

from django.db import connection
from django.db.models import QuerySet

from loyalty.models import Draw, Lot, Redemption
from loyalty.records import DrawRecord, ExpiryRecord, PointsRecord, RedemptionRecord

ZERO = Decimal(0)

_BEGIN = {"postgresql": "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "sqlite": "BEGIN DEFERRED"}


@contextmanager
def one_moment() -> Iterator[None]:
    """What is read inside is all of one moment; without it each statement sees what was committed before it.

    Within a transaction of the caller it changes nothing. Django's atomic() would take SQLite's write lock.
    """
    if connection.in_atomic_block:
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute(_BEGIN[connection.vendor])
        try:
            yield
        finally:
            cursor.execute("COMMIT")


def can_be_a_name(text: str) -> bool:
    """Whether a row can be named so: PostgreSQL keeps no NUL, and fails when asked for one."""
    return "\0" not in text


def find_redemption(
    *, org_id: int, public_id: str | None = None, external_reference_number: str | None = None
) -> RedemptionRecord | None:
    """The org's redemption with this public id and external reference number, if given; None if there is none."""
    named = _named(org_id, public_id=public_id, external_reference_number=external_reference_number)
    redemption = named.select_related("customer", "program").first()
    if redemption is None:
        return None
    draws = Draw.objects.filter(org_id=org_id, redemption=redemption).order_by("position")
    return RedemptionRecord(
        row_id=redemption.id,
        public_id=redemption.public_id,
        customer_id=redemption.customer.public_id,
        program_id=redemption.program.public_id,
        points=redemption.points,
        points_reversed=redemption.points_reversed,
        redeemed_at=redemption.redeemed_at,
        transaction_number=redemption.transaction_number,
        external_reference_number=redemption.external_reference_number,
        draws=_draw_records(draws),
    )


def find_redemption_id(
    *, org_id: int, public_id: str | None = None, external_reference_number: str | None = None
) -> int | None:
    """The row id of the redemption that `find_redemption` finds."""
    named = _named(org_id, public_id=public_id, external_reference_number=external_reference_number)
    return named.values_list("id", flat=True).first()


def points_of(*, org_id: int, customer_id: int, at: datetime) -> PointsRecord:
    """The points in the customer's own lots at `at`; `customer_id` is the row id."""
    lots = Lot.objects.filter(org_id=org_id, customer_id=customer_id, points_remaining__gt=0, awarded_at__lt=at)
    expired, by_expiry = ZERO, dict[datetime | None, Decimal]()
    for expires_at, points in lots.order_by("expires_at").values_list("expires_at", "points_remaining"):
        if expires_at is not None and expires_at <= at:
            expired += points
        else:
            by_expiry[expires_at] = by_expiry.get(expires_at, ZERO) + points
    soonest_first = sorted(by_expiry.items(), key=lambda part: (part[0] is None, part[0] or at))
    return PointsRecord(
        available=sum(by_expiry.values(), ZERO),
        expired=expired,
        by_expiry=tuple(ExpiryRecord(expires_at, points) for expires_at, points in soonest_first),
    )


def _named(org_id: int, **names: str | None) -> QuerySet[Redemption]:
    given = {column: name for column, name in names.items() if name is not None}
    if not all(can_be_a_name(name) for name in given.values()):
        return Redemption.objects.none()
    return Redemption.objects.filter(org_id=org_id, **given)


def _draw_records(draws: QuerySet[Draw]) -> tuple[DrawRecord, ...]:
    rows = draws.values_list(
        "position",
        "points",
        "points_reversed",
        "lot__lot_ref",
        "lot__expires_at",
        "lot__program__public_id",
        "lot__customer__public_id",
    )
    return tuple(DrawRecord(*row) for row in rows)
