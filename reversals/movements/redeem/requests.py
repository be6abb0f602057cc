"""A request for one redemption, in plain values that every entry point can build."""

from dataclasses import dataclass
from decimal import Decimal

from loyalty.ledger.identifiers import Identifier, IdentifierType
from loyalty.ledger.points import written


@dataclass(frozen=True, slots=True)
class RedemptionRequest:
    """`customer_id` and `program_id` are public ids as text. Without a program, the org must have only one.

    `reference_as_sent` is the spelling in which the client sent the reference number: redemptions that are older than
    the canonical form can be stored in it.
    """

    customer_id: str
    points_asked: Decimal
    program_id: str | None
    transaction_number: str
    external_reference_number: str | None
    reference_as_sent: str | None = None

    @property
    def redemption_id(self) -> None:
        """None, because a new redemption has no id yet."""
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
