"""A request for one correction, in plain values that every entry point can build."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CorrectionRequest:
    """A request to correct the reversal with this public id."""

    reversal_id: str

    @property
    def redemption_id(self) -> str:
        """The reversal's id, for the attempt. Reversals and redemptions share one space of public ids."""
        return self.reversal_id

    @property
    def external_reference_number(self) -> None:
        return

    @property
    def identifier(self) -> None:
        return

    @property
    def points_asked(self) -> None:
        """None, because a reversal can only be corrected in full."""
        return

    @property
    def meaning(self) -> tuple[object, ...]:
        return ("correct", self.reversal_id)
