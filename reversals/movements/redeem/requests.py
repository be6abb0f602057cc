"""What a door asks for: one redemption, in plain values that any door can make."""

from dataclasses import dataclass
from decimal import Decimal

from loyalty.ledger.identifiers import Identifier, IdentifierType
from loyalty.ledger.points import written


@dataclass(frozen=True, slots=True)
class RedemptionRequest:
    """One redemption asked for. `customer_id` and `program_id` are public ids as text; no program: the only one."""

    customer_id: str
    points_asked: Decimal
    program_id: str | None
    transaction_number: str
    external_reference_number: str | None

    @property
    def redemption_id(self) -> None:
        """A redemption has no id before it is made."""
        return

    @property
    def identifier(self) -> Identifier:
        return Identifier(IdentifierType.ID, self.customer_id)

    @property
    def meaning(self) -> tuple[object, ...]:
        return (
            "redeem",
            self.customer_id,
            written(self.points_asked),
            self.program_id,
            self.transaction_number,
            self.external_reference_number,
        )
