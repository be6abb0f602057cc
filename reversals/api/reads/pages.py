"""The request for a page of reversals."""

from dataclasses import dataclass
from datetime import datetime

from loyalty.ledger.identifiers import Identifier


@dataclass(frozen=True, slots=True)
class PageRequest:
    """One page of reversals. A filter that is None matches all reversals. Ids are public ids.

    `since` is inclusive and `until` exclusive; `cursor` is the id of the last reversal of the previous page.
    """

    redemption_id: str | None
    external_reference_number: str | None
    customer: Identifier | None
    since: datetime | None
    until: datetime | None
    limit: int
    cursor: str | None

    @property
    def names_redemption(self) -> bool:
        return self.redemption_id is not None or self.external_reference_number is not None
