"""What a door asks for: one reversal, in plain values that any door can make."""

from dataclasses import dataclass
from decimal import Decimal

from loyalty.identifiers import Identifier


@dataclass(frozen=True, slots=True)
class ReversalRequest:
    """One reversal asked for.

    Exactly one of `redemption_id` and `external_reference_number` is set. `identifier` is None where staff
    name the redemption alone; `points_asked` None means all that is left; `program_id` is a public id as text.
    """

    redemption_id: str | None
    external_reference_number: str | None
    identifier: Identifier | None
    points_asked: Decimal | None
    program_id: str | None = None
