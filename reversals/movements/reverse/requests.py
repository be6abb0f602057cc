"""A request for one reversal, in plain values that every entry point can build."""

from dataclasses import dataclass
from decimal import Decimal

from loyalty.ledger.identifiers import Identifier
from loyalty.ledger.points import written


@dataclass(frozen=True, slots=True)
class ReversalRequest:
    """A request for one reversal. Exactly one of `redemption_id` and `external_reference_number` is set.

    `identifier` is None if staff request it, because the redemption is enough. `points_asked` None requests all
    remaining points. `program_id` is a public id as text. `named_as_sent` is the client's spelling of the id or
    reference, in which a row that is older than the canonical form can be stored.
    """

    redemption_id: str | None
    external_reference_number: str | None
    identifier: Identifier | None
    points_asked: Decimal | None
    program_id: str | None = None
    named_as_sent: str | None = None

    @property
    def names(self) -> list[tuple[str | None, str | None]]:
        """The redemption ids and reference numbers under which the redemption may be stored, as pairs with one None."""
        name = self.redemption_id if self.redemption_id is not None else self.external_reference_number
        names = [name] if self.named_as_sent in {name, None} else [self.named_as_sent, name]
        return [(None, each) if self.redemption_id is None else (each, None) for each in names]

    @property
    def meaning(self) -> tuple[object, ...]:
        return (
            self.redemption_id,
            self.external_reference_number,
            None if self.identifier is None else (self.identifier.type.value, self.identifier.value),
            "all" if self.points_asked is None else written(self.points_asked),
            self.program_id,
        )
