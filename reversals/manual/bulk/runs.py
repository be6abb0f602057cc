"""Makes bulk runs, checks their rows and makes their reversals, a little at a time: to repeat a step is to go on."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import Count, Q, QuerySet, Sum
from django.utils import timezone

from loyalty.errors import InvalidOperation
from loyalty.ledger.points import written
from loyalty.models import Org, Redemption
from reversals.manual import manual_reversals
from reversals.manual.bulk.uploads import MOST_ROWS, FileRow, read_points_of
from reversals.manual.manual_reversals import ManualReversal
from reversals.models import Approval, BulkRow, BulkRun, Channel, Reversal
from reversals.refusals import Refused

STEP_SECONDS = 1.0
ROWS_AT_ONCE = 100

Status = BulkRow.Status


@dataclass(frozen=True, slots=True)
class Totals:
    """How far a run has come: numbers of rows, and the points of those that are ready and of those reversed."""

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
    def possible(self) -> int:
        return self.all - self.invalid

    @property
    def done(self) -> int:
        return self.reversed + self.requested + self.refused


def key_of(rows: Sequence[FileRow], *, page: str = "") -> str:
    """The key of a run of these rows: the same rows have the same, whoever sends them under whatever file name.

    `page` makes it the key of one page: for rows that are to be reversed once more.
    """
    asked = [(row.redemption_id, row.points_written, row.reason) for row in rows]
    return hashlib.sha256(json.dumps([page, asked]).encode()).hexdigest()


@transaction.atomic
def make_run(*, org: Org, key: str, name: str, rows: Sequence[FileRow], made_by: str) -> tuple[BulkRun, bool]:
    """The run with this key, and whether it is new: its rows are not checked yet, those with a problem INVALID."""
    about = {"name": name[:200], "made_by": made_by, "made_at": timezone.now()}
    run, is_new = BulkRun.objects.get_or_create(org=org, key=key, defaults=about)
    if is_new:
        BulkRow.objects.bulk_create([_new_row(run, row) for row in rows], batch_size=500)
    return run, is_new


def start_from_redemptions(
    *, org: Org, key: str, redemptions: Sequence[Redemption], reason: str, made_by: str
) -> BulkRun:
    """The run with this key, which reverses all that is left of these redemptions.

    Raises InvalidOperation on none or too many of them, one of another org, or without a reason.
    """
    if not 1 <= len(redemptions) <= MOST_ROWS:
        raise InvalidOperation(f"{len(redemptions)} redemptions are selected; expected 1 to {MOST_ROWS:,}")
    if any(redemption.org_id != org.id for redemption in redemptions):
        raise InvalidOperation(f"a redemption is not of {org}; select redemptions of one org")
    if not reason.strip():
        raise InvalidOperation("a bulk run needs a reason")
    rows = [
        FileRow(line=number, redemption_id=redemption.public_id, points_written="", reason=reason.strip())
        for number, redemption in enumerate(redemptions, start=1)
    ]
    run, _ = make_run(org=org, key=key, name=f"{len(rows)} selected redemptions", rows=rows, made_by=made_by)
    return run


def check_some(run: BulkRun, *, made_by: str) -> Refused | None:
    """Checks unchecked rows for a while, by dry runs. Returns the temporary refusal that stopped it, if one did."""
    unchecked = _rows(run).filter(status=Status.READY, points__isnull=True)
    return _work_off(unchecked, lambda row: _check(row, made_by))


def confirm(run: BulkRun, *, made_by: str) -> None:
    """From now on the run's reversals are made. Who confirms it later changes nothing.

    Raises InvalidOperation while rows are unchecked, or where none is ready.
    """
    if run.confirmed_at is not None:
        return
    totals = totals_of(run)
    if totals.unchecked:
        raise InvalidOperation(f"{totals.unchecked:,} rows are not checked yet; check them first")
    if not totals.ready:
        raise InvalidOperation("no row is ready to be reversed")
    BulkRun.objects.filter(org_id=run.org_id, id=run.id, confirmed_at__isnull=True).update(
        confirmed_at=timezone.now(), confirmed_by=made_by
    )
    run.refresh_from_db()


def run_some(run: BulkRun, *, made_by: str) -> Refused | None:
    """Makes the reversals of ready rows for a while, each once, however many people and tabs run it.

    `made_by` asks for those that are made now. Returns the temporary refusal that stopped it, if one did.
    Raises InvalidOperation on a run that is not confirmed.
    """
    if run.confirmed_at is None:
        raise InvalidOperation("the run is not confirmed yet")
    return _work_off(_rows(run).filter(status=Status.READY), lambda row: _reverse(row, made_by))


def totals_of(run: BulkRun) -> Totals:
    """How far the run has come."""
    return Totals(**_counted(_rows(run)))


def rows_by_status(org_id: int, run_ids: Sequence[int]) -> dict[int, dict[str, int]]:
    """How many rows of each status these runs have, by the run's row id, in one query."""
    counts: dict[int, dict[str, int]] = {run_id: {} for run_id in run_ids}
    grouped = BulkRow.objects.filter(org_id=org_id, run_id__in=run_ids).order_by()
    for run_id, status, count in grouped.values_list("run_id", "status").annotate(Count("id")):
        counts[run_id][status] = count
    return counts


def _counted(rows: QuerySet[BulkRow]) -> dict[str, Any]:
    """The fields of Totals, by one query."""
    ready, made = Q(status=Status.READY), Q(status=Status.REVERSED)
    given_back = made | Q(approval__status=Approval.Status.APPROVED)
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
        points_reversed=Sum("points", filter=given_back, default=0),
        points_reversed_expired=Sum("points_expired", filter=given_back, default=0),
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


def _rows(run: BulkRun) -> QuerySet[BulkRow]:
    return BulkRow.objects.filter(org_id=run.org_id, run_id=run.id)


def _work_off(rows: QuerySet[BulkRow], work: Callable[[BulkRow], Refused | None]) -> Refused | None:
    """Works on row after row until time is over, at least on one; a temporary refusal stops it and is returned."""
    ends_at = time.monotonic() + STEP_SECONDS
    for row in rows.order_by("position")[:ROWS_AT_ONCE]:
        refusal = work(row)
        if refusal is not None:
            return refusal
        if time.monotonic() >= ends_at:
            break
    return None


def _check(row: BulkRow, made_by: str) -> Refused | None:
    outcome = manual_reversals.preview(_wanted(row, made_by))
    if not isinstance(outcome, Refused):
        # Somebody else's check of the same row may be first, and the row run since: that stands.
        _if_ready(row).filter(points__isnull=True).update(
            points=outcome.plan.points,
            points_expired=outcome.plan.expired,
            needs_approval=outcome.needs_approval,
            outcome=_given_back_before(row),
        )
        return None
    if _is_temporary(outcome):
        return outcome
    _if_ready(row).filter(points__isnull=True).update(status=Status.INVALID, **_refusal(outcome))
    return None


def _given_back_before(row: BulkRow) -> str:
    """What another run reversed of the redemption or asked for. A row for all that is left repeats nothing."""
    if not row.points_written:
        return ""
    rows = BulkRow.objects.filter(org_id=row.org_id, redemption_id=row.redemption_id)
    before = rows.filter(status__in=[Status.REVERSED, Status.REQUESTED]).exclude(run_id=row.run_id)
    last = before.select_related("run").order_by("-id").first()
    if last is None or last.points is None:
        return ""
    did = "reversed" if last.status == Status.REVERSED else "asked for"
    return f"the run {last.run} of {last.run.made_at:%Y-%m-%d} {did} {written(last.points)} points of it already"


def _reverse(row: BulkRow, made_by: str) -> Refused | None:
    outcome = manual_reversals.reverse(_wanted(row, made_by))
    if isinstance(outcome, Reversal):
        # Also over what another runner wrote of the same row meanwhile: points have moved, which stays true.
        BulkRow.objects.filter(org_id=row.org_id, id=row.id).update(status=Status.REVERSED, **_reversal(outcome))
    elif isinstance(outcome, Approval):
        _if_ready(row).update(
            status=Status.REQUESTED, approval_id=outcome.id, points=outcome.points, outcome="waits for another person"
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
