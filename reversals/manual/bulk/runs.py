"""Creates bulk runs, checks their rows and makes their reversals in short steps. Repeating a step continues it."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import Count, Q, QuerySet, Sum
from django.template.defaultfilters import pluralize
from django.utils import timezone

from loyalty.errors import InvalidOperation
from loyalty.ledger.points import written
from loyalty.models import Org, Redemption
from reversals.manual import manual_reversals
from reversals.manual.bulk.customers import check_customers
from reversals.manual.bulk.reasons import check_reasons
from reversals.manual.bulk.uploads import MOST_ROWS, FileRow, read_points_of
from reversals.manual.manual_reversals import ManualReversal
from reversals.models import Approval, BulkRow, BulkRun, Channel, Reversal
from reversals.refusals import Refused

STEP_SECONDS = 1.0
ROWS_AT_ONCE = 100

Status = BulkRow.Status


@dataclass(frozen=True, slots=True)
class Totals:
    """The progress of a run: numbers of rows, and the points of ready and of reversed rows."""

    all: int
    unchecked: int
    ready: int
    needing_approval: int
    repeating: int
    invalid: int
    reversed: int
    requested: int
    refused: int
    points_ready: Decimal
    points_ready_expired: Decimal
    points_reversed: Decimal
    points_reversed_expired: Decimal

    @property
    def checked(self) -> int:
        return self.all - self.unchecked

    @property
    def ready_or_unchecked(self) -> int:
        return self.ready + self.unchecked

    @property
    def possible(self) -> int:
        return self.all - self.invalid

    @property
    def done(self) -> int:
        return self.reversed + self.requested + self.refused


def key_of(rows: Sequence[FileRow], *, page: str = "") -> str:
    """The key of a run of these rows. The same rows have the same key, regardless of user and file name.

    With `page` the key is specific to one page, so that the same rows can be reversed again.
    """
    asked = [
        (row.redemption_id, row.points_written, row.reason, *([row.customer] if row.customer else [])) for row in rows
    ]
    return hashlib.sha256(json.dumps([page, asked]).encode()).hexdigest()


@transaction.atomic
def make_run(*, org: Org, key: str, name: str, rows: Sequence[FileRow], made_by: str) -> tuple[BulkRun, bool]:
    """The run with this key, and whether it is new. New rows are unchecked, or INVALID if they have a problem."""
    about = {"name": name[:200], "made_by": made_by, "made_at": timezone.now()}
    run, is_new = BulkRun.objects.get_or_create(org=org, key=key, defaults=about)
    if is_new:
        BulkRow.objects.bulk_create(
            [_new_row(run, row) for row in check_reasons(org, check_customers(org, rows))], batch_size=500
        )
    return run, is_new


def start_from_redemptions(
    *, org: Org, key: str, redemptions: Sequence[Redemption], reason: str, made_by: str
) -> BulkRun:
    """Creates the run with this key, which reverses all remaining points of these redemptions, or returns it.

    Raises InvalidOperation if there are no redemptions or too many, one is of another org, or the reason is empty.
    """
    if not 1 <= len(redemptions) <= MOST_ROWS:
        raise InvalidOperation(f"the number of selected redemptions is {len(redemptions):,}; select 1 to {MOST_ROWS:,}")
    if any(redemption.org_id != org.id for redemption in redemptions):
        raise InvalidOperation(f"a selected redemption does not belong to {org}; select redemptions of one org")
    if not reason.strip():
        raise InvalidOperation("a bulk run needs a reason")
    rows = [
        FileRow(line=number, redemption_id=redemption.public_id, points_written="", reason=reason.strip())
        for number, redemption in enumerate(redemptions, start=1)
    ]
    run, _ = make_run(
        org=org, key=key, name=f"{_counted(len(rows), 'selected redemption')}", rows=rows, made_by=made_by
    )
    return run


def check_some(run: BulkRun, *, made_by: str, is_wanted: Callable[[], bool] = lambda: True) -> Refused | None:
    """Checks rows by dry runs for about STEP_SECONDS, while it `is_wanted`.

    Returns the temporary refusal that stopped it, if any.
    """
    unchecked = _rows(run).filter(status=Status.READY, points__isnull=True)
    return _process(unchecked, lambda row: _check(row, made_by), is_wanted)


def confirm(run: BulkRun, *, made_by: str) -> None:
    """Confirms the run, so that its reversals can be made. Confirming it again changes nothing.

    Raises InvalidOperation if rows are unchecked or no row is ready.
    """
    if run.confirmed_at is not None:
        return
    totals = totals_of(run)
    if totals.unchecked:
        raise InvalidOperation(f"{_counted(totals.unchecked, 'row')} must still be checked; check all rows first")
    if not totals.ready:
        raise InvalidOperation("no row is ready to reverse")
    BulkRun.objects.filter(org_id=run.org_id, id=run.id, confirmed_at__isnull=True).update(
        confirmed_at=timezone.now(), confirmed_by=made_by
    )
    run.refresh_from_db()


def run_some(run: BulkRun, *, made_by: str, is_wanted: Callable[[], bool] = lambda: True) -> Refused | None:
    """Makes reversals of ready rows for about STEP_SECONDS, each once, even if several workers run it.

    Asks before each row whether it still `is_wanted`.

    `made_by` is recorded as the user who made these reversals. Returns the temporary refusal that stopped it, if any.
    Raises InvalidOperation if the run is not confirmed.
    """
    if run.confirmed_at is None:
        raise InvalidOperation("the run is not confirmed yet")
    return _process(_rows(run).filter(status=Status.READY), lambda row: _reverse(row, made_by), is_wanted)


def totals_of(run: BulkRun) -> Totals:
    """The progress of the run."""
    return Totals(**_totals(_rows(run)))


def rows_by_status(org_id: int, run_ids: Sequence[int]) -> dict[int, dict[str, int]]:
    """The number of rows by status for each run, by the run's row id, in one query."""
    counts: dict[int, dict[str, int]] = {run_id: {} for run_id in run_ids}
    grouped = BulkRow.objects.filter(org_id=org_id, run_id__in=run_ids).order_by()
    for run_id, status, count in grouped.values_list("run_id", "status").annotate(Count("id")):
        counts[run_id][status] = count
    return counts


def _totals(rows: QuerySet[BulkRow]) -> dict[str, Any]:
    """The fields of Totals, in one query."""
    ready, made = Q(status=Status.READY), Q(status=Status.REVERSED)
    moved = made | Q(approval__status=Approval.Status.APPROVED)
    return rows.aggregate(
        all=Count("id"),
        unchecked=Count("id", filter=ready & Q(points__isnull=True)),
        ready=Count("id", filter=ready & Q(points__isnull=False)),
        needing_approval=Count("id", filter=ready & Q(needs_approval=True)),
        repeating=Count("id", filter=ready & ~Q(outcome="")),
        invalid=Count("id", filter=Q(status=Status.INVALID)),
        reversed=Count("id", filter=made),
        requested=Count("id", filter=Q(status=Status.REQUESTED)),
        refused=Count("id", filter=Q(status=Status.REFUSED)),
        points_ready=Sum("points", filter=ready, default=0),
        points_ready_expired=Sum("points_expired", filter=ready, default=0),
        points_reversed=Sum("points", filter=moved, default=0),
        points_reversed_expired=Sum("points_expired", filter=moved, default=0),
    )


def _new_row(run: BulkRun, row: FileRow) -> BulkRow:
    return BulkRow(
        org_id=run.org_id,
        run=run,
        position=row.line,
        redemption_id=row.redemption_id,
        points_written=row.points_written,
        reason=row.reason,
        status=Status.INVALID if row.problem else Status.READY,
        outcome=row.problem,
    )


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{pluralize(count)}"


def _rows(run: BulkRun) -> QuerySet[BulkRow]:
    return BulkRow.objects.filter(org_id=run.org_id, run_id=run.id)


def _process(
    rows: QuerySet[BulkRow], work: Callable[[BulkRow], Refused | None], is_wanted: Callable[[], bool]
) -> Refused | None:
    """Processes rows until STEP_SECONDS are over. Stops at a temporary refusal and returns it."""
    ends_at = time.monotonic() + STEP_SECONDS
    for row in rows.order_by("position")[:ROWS_AT_ONCE]:
        if not is_wanted():
            break
        refusal = work(row)
        if refusal is not None:
            return refusal
        if time.monotonic() >= ends_at:
            break
    return None


def _check(row: BulkRow, made_by: str) -> Refused | None:
    outcome = manual_reversals.preview(_wanted(row, made_by))
    if not isinstance(outcome, Refused):
        # If another user's check was first, or the row was run since, that result stays.
        _if_ready(row).filter(points__isnull=True).update(
            points=outcome.plan.points,
            points_expired=outcome.plan.expired,
            needs_approval=outcome.why_approval is not None,
            outcome=_reversed_before(row),
        )
        return None
    if _is_temporary(outcome):
        return outcome
    _if_ready(row).filter(points__isnull=True).update(status=Status.INVALID, **_refusal(outcome))
    return None


def _reversed_before(row: BulkRow) -> str:
    """Describes what another run reversed or requested of the redemption; empty for a row for all remaining points."""
    if not row.points_written:
        return ""
    rows = BulkRow.objects.filter(org_id=row.org_id, redemption_id=row.redemption_id)
    before = rows.filter(status__in=[Status.REVERSED, Status.REQUESTED]).exclude(run_id=row.run_id)
    last = before.select_related("run").order_by("-id").first()
    if last is None or last.points is None:
        return ""
    did = "reversed" if last.status == Status.REVERSED else "requested"
    amount = f"{written(last.points)} point{pluralize(last.points)}"
    return f"the run {last.run} of {last.run.made_at:%Y-%m-%d} already {did} {amount} of this redemption"


def _reverse(row: BulkRow, made_by: str) -> Refused | None:
    outcome = manual_reversals.reverse(_wanted(row, made_by))
    if isinstance(outcome, Reversal):
        # Overwrites even a result that another process wrote meanwhile, because points have moved.
        BulkRow.objects.filter(org_id=row.org_id, id=row.id).update(status=Status.REVERSED, **_reversal(outcome))
    elif isinstance(outcome, Approval):
        _if_ready(row).update(
            status=Status.REQUESTED, approval_id=outcome.id, points=outcome.points, outcome="waits for a second user"
        )
    elif _is_temporary(outcome):
        return outcome
    else:
        _if_ready(row).update(status=Status.REFUSED, **_refusal(outcome))
    return None


def _wanted(row: BulkRow, made_by: str) -> ManualReversal:
    return ManualReversal(
        org_id=row.org_id,
        redemption_id=row.redemption_id,
        points=read_points_of(row.points_written),
        reason=row.reason,
        made_by=made_by,
        key=f"{BulkRow.KEY_PREFIX}{row.id}",
        channel=Channel.BULK,
    )


def _is_temporary(refusal: Refused) -> bool:
    return refusal.error.retry_after_seconds is not None


def _if_ready(row: BulkRow) -> QuerySet[BulkRow]:
    return BulkRow.objects.filter(org_id=row.org_id, id=row.id, status=Status.READY)


def _refusal(refusal: Refused) -> dict[str, object]:
    return {"code": refusal.error.code, "outcome": f"{refusal.error.message}. {refusal.reason}"[:1000]}


def _reversal(reversal: Reversal) -> dict[str, object]:
    return {
        "reversal_id": reversal.id,
        "points": reversal.points,
        "points_expired": reversal.points_expired,
        "code": None,
        "outcome": f"reversal {reversal.public_id}",
    }
