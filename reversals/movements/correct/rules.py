"""Decides on one correction: takes facts, and returns a plan or refuses. Uses no clock, no database and no Django."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from loyalty.emf import registry as emf
from loyalty.emf.registry import EmfSettings, InvalidSetting
from loyalty.ledger.points import written
from loyalty.ledger.snapshots import CustomerFacts, WalletLot
from reversals.movements.quantities import quantity
from reversals.refusals import CorrectionError, Refused

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class LineFacts:
    """A line of the reversal. `lot_id` is the lot that its points were drawn from. Ids are row ids."""

    draw_id: int
    points: Decimal
    lot_id: int | None
    reissued_lot_id: int | None
    lot_customer_id: int | None


@dataclass(frozen=True, slots=True)
class ReversalFacts:
    """The reversal to correct. `id`, `redemption_id` and `customer_id` are row ids."""

    id: int
    public_id: str
    redemption_id: int
    redemption_public_id: str
    customer_id: int
    points: Decimal
    lines: tuple[LineFacts, ...]

    @property
    def customer_ids(self) -> frozenset[int]:
        """The row ids of the customer who redeemed and of all owners of the lots."""
        owners = {line.lot_customer_id for line in self.lines if line.lot_customer_id is not None}
        return frozenset(owners | {self.customer_id})

    @property
    def lot_ids(self) -> frozenset[int]:
        """The row ids of all lots that a correction changes."""
        lots = [lot_id for line in self.lines for lot_id in (line.lot_id, line.reissued_lot_id)]
        return frozenset(lot_id for lot_id in lots if lot_id is not None)

    @property
    def reissued_lot_ids(self) -> frozenset[int]:
        """The row ids of the lots that the reversal created."""
        return frozenset(line.reissued_lot_id for line in self.lines if line.reissued_lot_id is not None)


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that one correction is decided on, read after the rows were locked."""

    reversal: ReversalFacts
    corrected_at: datetime | None
    customer: CustomerFacts
    lots: Mapping[int, WalletLot]
    is_approved: bool
    now: datetime


@dataclass(frozen=True, slots=True)
class PlannedTaking:
    """The points that one lot loses. `lot_was_reissued`: the reversal created the lot, which loses them for good."""

    lot: WalletLot
    points: Decimal
    lot_was_reissued: bool

    @property
    def missing(self) -> Decimal:
        """How many of these points the lot no longer has."""
        return max(self.points - self.lot.facts.points_remaining, ZERO)


@dataclass(frozen=True, slots=True)
class Plan:
    """An allowed correction: what each lot loses, in the order of the reversal.

    `replaced` are the points that the reversal re-issued, by the row id of the lot that they were first drawn from.
    The correction draws them from that lot again.
    """

    points: Decimal
    takings: tuple[PlannedTaking, ...]
    replaced: Mapping[int, Decimal]


def check_org(settings: EmfSettings) -> None:
    """Checks the settings, before any look-up. Refuses 888, 898. Reversals need not be on for a correction."""
    try:
        is_paused = settings.get(emf.PAUSED)
        settings.check()
    except InvalidSetting as error:
        raise Refused(CorrectionError.INVALID_SETTING, f"An EMF setting must be corrected: {error}.") from error
    if is_paused:
        raise Refused(
            CorrectionError.UNAVAILABLE, "Reversals and corrections are paused for this org. Try again later."
        )


def plan_correction(facts: Facts) -> Plan:
    """Plans the correction. Refuses 901, 902, 817 (rows 4 to 6), in this order, and 403 last if it is not approved."""
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
    """The points that the reversal added to each lot: re-issued ones to the new lot, others to their own."""
    points: dict[int, Decimal] = {}
    for line in lines:
        lot_id = line.lot_id if line.reissued_lot_id is None else line.reissued_lot_id
        if lot_id is not None:
            points[lot_id] = points.get(lot_id, ZERO) + line.points
    return points


def _check_customer(facts: Facts) -> None:
    if facts.customer.status == "MERGED":
        raise Refused(
            CorrectionError.CUSTOMER_NOT_ELIGIBLE,
            "The customer was merged into another customer, so the reversal cannot be corrected.",
        )


def _check_repeat(facts: Facts) -> None:
    if facts.corrected_at is not None:
        raise Refused(
            CorrectionError.ALREADY_CORRECTED,
            f"Reversal {facts.reversal.public_id} was already corrected at {facts.corrected_at:%Y-%m-%dT%H:%M:%SZ}.",
        )


def _check_remaining(facts: Facts, takings: tuple[PlannedTaking, ...]) -> None:
    short = [taking for taking in takings if taking.missing]
    if not short:
        return
    missing = sum((taking.missing for taking in short), ZERO)
    lots = ", ".join(f"{written(taking.missing)} of lot {taking.lot.lot_ref}" for taking in short[:3])
    more = f" and {quantity(len(short) - 3, 'more lot')}" if len(short) > 3 else ""
    raise Refused(
        CorrectionError.MORE_THAN_REMAINING,
        f"{written(missing)} of {quantity(facts.reversal.points, 'reversed point')} cannot be taken back"
        f" ({lots}{more}): they were redeemed or re-issued since. A reversal can only be corrected in full.",
    )


def _check_approval(facts: Facts) -> None:
    if not facts.is_approved:
        raise Refused(CorrectionError.NEEDS_APPROVAL, "A second user must approve a correction.")
