"""Records every call that asks to move points, and finds the attempt that holds an idempotency key."""

from collections.abc import Iterator
from contextlib import nullcontext
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, Protocol

from django.db import Error, IntegrityError, connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from loyalty import maintenance
from loyalty.clients.credentials import keyed_digests
from loyalty.ledger.distribution import is_distributed
from loyalty.ledger.identifiers import Identifier, masked
from loyalty.ledger.sql import Statement, insert_into
from loyalty.models import ApiSecret
from loyalty.outages import constraint_of
from loyalty.request_id import current_request_id
from reversals.models import Attempt
from reversals.refusals import ErrorCode, Refused

REFUSALS_REPLAY_FOR = timedelta(days=31)
PURGED_AT_ONCE = 1_000
_BEFORE_EVERY_ID = -(2**63)

_COLUMNS = [(str(field.column), field.attname) for field in Attempt._meta.concrete_fields]
# Not *: PostgreSQL refuses to run a prepared `SELECT *` again after a migration has added a column.
_NAMES = ", ".join(column for column, _ in _COLUMNS)


class MovementRequest(Protocol):
    """The parts of a request that its attempt records. `meaning` is equal if two requests ask for the same."""

    @property
    def redemption_id(self) -> str | None: ...
    @property
    def external_reference_number(self) -> str | None: ...
    @property
    def identifier(self) -> Identifier | None: ...
    @property
    def points_asked(self) -> Decimal | None: ...
    @property
    def meaning(self) -> tuple[object, ...]: ...


def new_attempt(org_id: int, *, channel: str, made_by: str, **more: Any) -> Attempt:
    """Creates an attempt for the current time and HTTP request, without saving it. `more` are further fields of it."""
    return Attempt(
        org_id=org_id,
        created_at=timezone.now(),
        request_id=current_request_id(),
        channel=channel,
        made_by=made_by,
        **more,
    )


def describe(attempt: Attempt, request: MovementRequest) -> None:
    """Copies the request to the attempt, with the identifier's value masked."""
    attempt.redemption_id_asked = request.redemption_id or ""
    attempt.external_reference_asked = request.external_reference_number or ""
    attempt.points_asked = request.points_asked
    if request.identifier is not None:
        attempt.identifier_type = request.identifier.type.value
        attempt.identifier_masked = masked(request.identifier.value)
    if attempt.uses_key:
        attempt.fingerprint, *attempt.former_fingerprints = fingerprints(request)


def fingerprints(request: MovementRequest) -> list[str]:
    """Keyed hashes of what the request means, with the pepper and with each former one.

    Equal meanings have equal hashes, even if their bytes differ.
    """
    return keyed_digests(repr(request.meaning))


def find_answer(attempt: Attempt) -> Attempt | None:
    """Finds the earlier attempt that holds this attempt's key, whose reply is repeated; None if the key is free.

    Refuses 887 (HTTP 422) if the key was used for a different request.
    """
    # Raw SQL, because the ORM takes five times as long to build this query.
    held = Attempt.objects.raw(
        f"SELECT {_NAMES} FROM reversals_attempt WHERE org_id = %s AND idempotency_key = %s AND holds_key",
        [attempt.org_id, attempt.idempotency_key],
    )
    holder = next(iter(held), None)
    if holder is None:
        return None
    if _has_lapsed(holder):
        Attempt.objects.filter(maintenance.is_off(), org_id=holder.org_id, id=holder.id).update(holds_key=False)
        return None
    if holder.fingerprint not in {attempt.fingerprint, *attempt.former_fingerprints}:
        raise Refused(
            ErrorCode.KEY_OF_ANOTHER_REQUEST,
            "This Idempotency-Key was used for a different request. Send a new key with a new request.",
            staff_reason="A different request was already sent from this page. Open the page again to start a new one.",
        )
    return holder


def holder_of(key: str) -> Statement:
    """An SQL expression, for the look-up of the `client`: NULL if no attempt holds the key.

    In a cluster it is never NULL for a key, because the node that has the org's attempts is not known yet.
    """
    if not key:
        return "NULL", []
    if is_distributed():
        return "TRUE", []
    held = "held.org_id = client.org_id AND held.idempotency_key = %s AND held.holds_key"
    return f"(SELECT held.id FROM reversals_attempt held WHERE {held})", [key]


def is_held(error: Error) -> bool:
    """Whether the write failed because another attempt holds the key."""
    return isinstance(error, IntegrityError) and "idempotency_key" in constraint_of(error)


def answer_of_holder(attempt: Attempt) -> Attempt:
    """Finds the attempt whose key this one could not take. Refuses 887 (HTTP 422), or 896 (HTTP 409) if it is gone."""
    holder = find_answer(attempt)
    if holder is None:
        raise key_in_use()
    return holder


def record(attempt: Attempt) -> bool:
    """Inserts the attempt. Returns False if another attempt holds its key. Fails if maintenance is on."""
    with transaction.atomic() if is_distributed() else nullcontext(), connection.cursor() as cursor:
        sql, params = insertion(attempt)
        cursor.execute(f"{sql} ON CONFLICT DO NOTHING", params)
        return bool(cursor.rowcount == 1)


@cache
def _insert() -> str:
    columns = [column for column, _ in _COLUMNS]
    values = [maintenance.guarded_value() if column == maintenance.GUARDED_COLUMN else "%s" for column in columns]
    return f"INSERT INTO reversals_attempt ({', '.join(columns)}) VALUES ({', '.join(values)})"


def insertion(attempt: Attempt) -> Statement:
    """The statement that inserts the attempt.

    It fails if another attempt holds its key (`is_held`), or if maintenance is on (`maintenance.was_refused`).
    """
    values = {column: getattr(attempt, name) for column, name in _COLUMNS}
    if is_distributed() and maintenance.is_on():  # in a cluster, the statement cannot look it up
        values[maintenance.GUARDED_COLUMN] = None
    return _insert(), insert_into("reversals_attempt", values)[1]


def was_committed(attempt: Attempt) -> bool:
    """Whether the attempt, and so its movement, was committed. Looks it up on a new connection."""
    connection.close()
    return Attempt.objects.filter(org_id=attempt.org_id, id=attempt.id).exists()


def purge(*, before: datetime) -> int:
    """Deletes attempts older than `before` in batches, and returns how many.

    Keeps accepted attempts that moved points, and attempts whose key can still replay their reply.
    """
    old = (
        Attempt.objects.filter(created_at__lt=before)
        .exclude(rule="", is_dry_run=False)
        .exclude(holds_key=True, created_at__gt=timezone.now() - REFUSALS_REPLAY_FOR)
    )
    return sum(batch.delete()[0] for batch in _batches(old))


def forget_addresses(*, before: datetime) -> int:
    """Removes the client address from attempts older than `before` in batches, and returns from how many.

    Also removes it from secrets that were last used before.
    """
    ApiSecret.objects.filter(last_used_at__lt=before, last_used_from__isnull=False).update(last_used_from=None)
    old = Attempt.objects.filter(created_at__lt=before, address__isnull=False)
    return sum(batch.update(address=None) for batch in _batches(old))


def _batches(rows: QuerySet[Attempt]) -> Iterator[QuerySet[Attempt]]:
    """Yields the rows in parts, each of one batch of ids of the whole table.

    A search for old attempts among millions that are kept would start again with each batch, and reach the statement
    timeout.
    """
    last = _BEFORE_EVERY_ID
    while ids := list(Attempt.objects.filter(id__gt=last).order_by("id").values_list("id", flat=True)[:PURGED_AT_ONCE]):
        yield rows.filter(id__gt=last, id__lte=ids[-1])
        last = ids[-1]


def key_in_use() -> Refused:
    """The refusal of a key whose first request is still running."""
    return Refused(
        ErrorCode.KEY_IN_USE,
        "The first request with this Idempotency-Key is still running. Send the request again with the same key.",
        staff_reason="The same request is still running. Wait a moment, then send the page again.",
    )


def _has_lapsed(holder: Attempt) -> bool:
    return holder.code is not None and holder.created_at <= timezone.now() - REFUSALS_REPLAY_FOR
