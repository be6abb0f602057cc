"""Decides on one correction: facts in, a plan out, or a refusal. No clock, no database and no Django here."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from loyalty.emf import registry as emf
from loyalty.emf.registry import EmfSettings, InvalidSetting
from loyalty.ledger.points import written
from loyalty.ledger.snapshots import CustomerFacts, WalletLot
from reversals.refusals import CorrectionError, Refused

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class LineFacts:
    """A line of the reversal, and the row ids of the lot they were drawn from and of the one they were re-issued in."""

    draw_id: int
    points: Decimal
    lot_id: int | None
    reissued_lot_id: int | None
    lot_customer_id: int | None


@dataclass(frozen=True, slots=True)
class ReversalFacts:
    """The reversal to correct: `id`, `redemption_id` and `customer_id` are row ids."""

    id: int
    public_id: str
    redemption_id: int
    redemption_public_id: str
    customer_id: int
    points: Decimal
    lines: tuple[LineFacts, ...]

    @property
    def customer_ids(self) -> frozenset[int]:
        """The row ids of all customers to whom its points went."""
        owners = {line.lot_customer_id for line in self.lines if line.lot_customer_id is not None}
        return frozenset(owners | {self.customer_id})

    @property
    def lot_ids(self) -> frozenset[int]:
        """The row ids of all lots that a correction changes."""
        lots = [lot_id for line in self.lines for lot_id in (line.lot_id, line.reissued_lot_id)]
        return frozenset(lot_id for lot_id in lots if lot_id is not None)

    @property
    def reissued_lot_ids(self) -> frozenset[int]:
        """The row ids of the lots that it awarded."""
        return frozenset(line.reissued_lot_id for line in self.lines if line.reissued_lot_id is not None)


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the decision on one correction rests on, read after the rows were locked."""

    reversal: ReversalFacts
    corrected_at: datetime | None
    customer: CustomerFacts
    lots: Mapping[int, WalletLot]
    is_approved: bool
    now: datetime


@dataclass(frozen=True, slots=True)
class PlannedTaking:
    """Points that one lot loses: their own lot, or the one that the reversal awarded, which loses them for good."""

    lot: WalletLot
    points: Decimal
    lot_was_reissued: bool

    @property
    def missing(self) -> Decimal:
        """What the lot no longer has of them."""
        return max(self.points - self.lot.facts.points_remaining, ZERO)


@dataclass(frozen=True, slots=True)
class Plan:
    """A correction that may be made: what each lot loses, in the order of the reversal.

    `replaced` are the points that the reversal had re-issued, by their own lot's row id: they are drawn from it again.
    """

    points: Decimal
    takings: tuple[PlannedTaking, ...]
    replaced: Mapping[int, Decimal]


def check_org(settings: EmfSettings) -> None:
    """The checks that need no look-up. Refuses 898, 888. A correction does not ask whether reversals are allowed."""
    try:
        is_paused = settings.get(emf.PAUSED)
        settings.check()
    except InvalidSetting as error:
        raise Refused(CorrectionError.INVALID_SETTING, f"Staff must correct a setting: {error}.") from error
    if is_paused:
        raise Refused(CorrectionError.UNAVAILABLE, "Reversals are paused for this org, and corrections with them.")


def plan_correction(facts: Facts) -> Plan:
    """The correction to write. Refuses 901, 902, 817 (rows 4 to 6), in this order, and last what nobody approved."""
    _check_customer(facts)
    _check_repeat(facts)
    reversal = facts.reversal
    reissued_lot_ids = reversal.reissued_lot_ids
    takings = tuple(
        PlannedTaking(facts.lots[lot_id], points, lot_was_reissued=lot_id in reissued_lot_ids)
        for lot_id, points in _points_by_lot(reversal.lines).items()
    )
    _check_remaining(facts, takings)
    _check_approval(facts)
    replaced = {
        line.lot_id: line.points
        for line in reversal.lines
        if line.lot_id is not None and line.reissued_lot_id is not None
    }
    return Plan(reversal.points, takings, replaced)


def _points_by_lot(lines: tuple[LineFacts, ...]) -> dict[int, Decimal]:
    """What the lines put into each lot: re-issued points into the new one, all others into their own."""
    points: dict[int, Decimal] = {}
    for line in lines:
        lot_id = line.lot_id if line.reissued_lot_id is None else line.reissued_lot_id
        if lot_id is not None:
            points[lot_id] = points.get(lot_id, ZERO) + line.points
    return points


def _check_customer(facts: Facts) -> None:
    if facts.customer.status == "MERGED":
        raise Refused(
            CorrectionError.CUSTOMER_NOT_ELIGIBLE, "The customer was merged into another; staff must put it right."
        )


def _check_repeat(facts: Facts) -> None:
    if facts.corrected_at is not None:
        raise Refused(
            CorrectionError.ALREADY_CORRECTED,
            f"Reversal {facts.reversal.public_id} was corrected already, at {facts.corrected_at:%Y-%m-%dT%H:%M:%SZ}.",
        )


def _check_remaining(facts: Facts, takings: tuple[PlannedTaking, ...]) -> None:
    short = [taking for taking in takings if taking.missing]
    if not short:
        return
    missing = sum((taking.missing for taking in short), ZERO)
    lots = ", ".join(f"{written(taking.missing)} of lot {taking.lot.lot_ref}" for taking in short[:3])
    more = f" and {len(short) - 3} more lots" if len(short) > 3 else ""
    raise Refused(
        CorrectionError.MORE_THAN_REMAINING,
        f"{written(missing)} of the {written(facts.reversal.points)} reversed points are no longer in their lots"
        f" ({lots}{more}): they were spent or re-issued since. A reversal is corrected whole or not at all.",
    )


def _check_approval(facts: Facts) -> None:
    if not facts.is_approved:
        raise Refused(CorrectionError.NEEDS_APPROVAL, "A correction is made once a second person has approved it.")
