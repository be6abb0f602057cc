"""Reads the ledger without locks, for reads of the API and pages of the back office."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import Q, QuerySet, Sum

from loyalty.ledger.canonical import spellings
from loyalty.ledger.distribution import org_of
from loyalty.ledger.identifiers import Identifier, IdentifierType
from loyalty.ledger.snapshots import DrawRecord, ExpiryRecord, PointsRecord, RedemptionRecord
from loyalty.models import Customer, Draw, GroupMember, Lot, Program, Redemption

ZERO = Decimal(0)

_BEGIN = {"postgresql": "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "sqlite": "BEGIN DEFERRED"}


@contextmanager
def one_snapshot() -> Iterator[None]:
    """Makes all reads inside see one snapshot. Otherwise each statement sees what was committed before it.

    Has no effect inside a transaction of the caller. Django's atomic() is not used, because it would take SQLite's
    write lock.
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


def can_be_stored(text: str) -> bool:
    """Returns whether a row can have this name. PostgreSQL cannot store NUL, and fails if a parameter has one."""
    return "\0" not in text


def find_redemption(
    *, org_id: int, public_id: str | None = None, external_reference_number: str | None = None
) -> RedemptionRecord | None:
    """Returns the org's redemption with this public id and external reference number, as far as given, or None.

    The names are as sent, or canonical.
    """
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
    """Returns the row id of the redemption that `find_redemption` would return, or None."""
    named = _named(org_id, public_id=public_id, external_reference_number=external_reference_number)
    return named.values_list("id", flat=True).first()


def points_of(*, org_id: int, customer_id: int, at: datetime) -> PointsRecord:
    """Returns the points in the customer's own lots at the time `at`. `customer_id` is the row id."""
    lots = Lot.objects.filter(org_id=org_id, customer_id=customer_id, points_remaining__gt=0, awarded_at__lte=at)
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
    if not all(can_be_stored(name) for name in given.values()):
        return Redemption.objects.none()
    return Redemption.objects.filter(
        org_id=org_id, **{f"{column}__in": spellings(name) for column, name in given.items()}
    )


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


def group_of(*, org_id: int, customer_id: int) -> set[int]:
    """Returns the row ids of the members of the customer's active group, or only the customer's without a group."""
    mine = GroupMember.objects.filter(
        org_id=org_id, customer_id=customer_id, left_at__isnull=True, group__is_active=True
    ).values("group_id")
    members = GroupMember.objects.filter(org_id=org_id, left_at__isnull=True, group_id__in=mine)
    return {customer_id, *members.values_list("customer_id", flat=True)}


def find_customer_id(*, org_id: int, identifier: Identifier) -> int | None:
    """Returns the row id of the customer with this identifier, or None."""
    condition, values = customer_condition(org_id, identifier)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT customer.id FROM loyalty_customer customer WHERE customer.org_id = %s AND {condition}",
            [org_id, *values],
        )
        row = cursor.fetchone()
    return row[0] if row else None


def survivor_of(*, org_id: int, identifier: Identifier) -> int | None:
    """Returns the customer id (public) into which the customer with this identifier was merged; None if not merged."""
    condition, values = customer_condition(org_id, identifier)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT survivor.public_id FROM loyalty_customer customer"
            f" JOIN loyalty_customer survivor ON survivor.id = customer.merged_into_id AND {org_of('survivor')} = %s"
            f" WHERE customer.org_id = %s AND {condition}",
            [org_id, org_id, *values],
        )
        row = cursor.fetchone()
    return row[0] if row else None


def with_merged(*, org_id: int, customer_id: int) -> list[int]:
    """Returns the row ids of the customer and of the customers who were merged into it."""
    merged = Customer.objects.filter(org_id=org_id, merged_into_id=customer_id).order_by("id")
    return [customer_id, *merged.values_list("id", flat=True)]


def programs_of(org_id: int) -> dict[int, Program]:
    """Returns the org's programs by row id, the oldest first."""
    return {program.id: program for program in Program.objects.filter(org_id=org_id).order_by("id")}


def programs_of_lots(*, org_id: int, lot_ids: Collection[int]) -> dict[int, int]:
    """Returns the row id of each lot's program, by the lot's row id."""
    return dict(Lot.objects.filter(org_id=org_id, id__in=lot_ids).values_list("id", "program_id"))


def current_points(*, org_id: int, customer_id: int, program_ids: Collection[int], now: datetime) -> dict[int, Decimal]:
    """Returns the points that the customer can spend in each program, by the program's row id."""
    unexpired = Lot.objects.filter(
        Q(expires_at__isnull=True) | Q(expires_at__gt=now),
        org_id=org_id,
        customer_id=customer_id,
        program_id__in=program_ids,
        awarded_at__lte=now,
    )
    totals = dict(unexpired.order_by().values_list("program_id").annotate(Sum("points_remaining")))
    return {program_id: totals.get(program_id, Decimal(0)) for program_id in program_ids}


def available_points(*, org_id: int, customer_ids: Collection[int], now: datetime) -> dict[int, Decimal]:
    """Returns the points that each customer can spend in all programs, by the customer's row id."""
    unexpired = Lot.objects.filter(
        Q(expires_at__isnull=True) | Q(expires_at__gt=now),
        org_id=org_id,
        customer_id__in=customer_ids,
        awarded_at__lte=now,
    )
    totals = dict(unexpired.order_by().values_list("customer_id").annotate(Sum("points_remaining")))
    return {customer_id: totals.get(customer_id, Decimal(0)) for customer_id in customer_ids}


def customer_condition(org_id: int, identifier: Identifier) -> tuple[str, list[Any]]:
    if identifier.type is IdentifierType.ID:
        # An impossible id is looked up too, so that it takes as long as any other.
        return "customer.public_id = %s", [identifier.customer_number or 0]
    return (
        "customer.id = (SELECT named.customer_id FROM loyalty_customeridentifier named"
        " WHERE named.org_id = %s AND named.type = %s AND named.value = %s)",
        [org_id, identifier.type.value, identifier.value],
    )
