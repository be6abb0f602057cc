"""What a door asks for: one correction, in plain values that any door can make."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CorrectionRequest:
    """One correction asked for, of the reversal with this public id."""

    reversal_id: str

    @property
    def redemption_id(self) -> str:
        """The id that was asked for: reversals and redemptions share one space of public ids."""
        return self.reversal_id

    @property
    def external_reference_number(self) -> None:
        return

    @property
    def identifier(self) -> None:
        return

    @property
    def points_asked(self) -> None:
        """A reversal is taken back whole."""
        return

    @property
    def meaning(self) -> tuple[object, ...]:
        return ("correct", self.reversal_id)
