"""The EMF settings: which keys there are, what their values mean, and which value is in force."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, Generic, TypeVar

from loyalty.ledger.points import InvalidPoints, PointsNotPositive, read_points, written

STATUSES = ("ACTIVE", "FRAUD", "DEACTIVATED", "MERGED")
DIALECTS = ("documented", "engine")

T = TypeVar("T", covariant=True)


class InvalidSetting(ValueError):
    """A key or a value that the registry does not know; the message names it and what was expected."""


@dataclass(frozen=True)
class EmfKey(Generic[T]):
    """One typed setting. `read` turns stored text into a value or raises ValueError with what was expected."""

    name: str
    read: Callable[[str], T]
    default: T
    meaning: str
    org_only: bool = False


def yes_no(text: str) -> bool:
    match text.strip().lower():
        case "yes" | "true" | "on" | "1":
            return True
        case "no" | "false" | "off" | "0":
            return False
    raise ValueError("expected yes or no")


@dataclass(frozen=True)
class Whole:
    """Reads whole numbers within limits, which the edit form shows too."""

    lowest: int
    highest: int

    def __call__(self, text: str) -> int:
        if text.isascii() and text.isdigit() and len(text) <= 10 and self.lowest <= int(text) <= self.highest:
            return int(text)
        raise ValueError(f"expected a whole number from {self.lowest} to {self.highest}")


def points(text: str) -> Decimal:
    try:
        return read_points(text)
    except PointsNotPositive:
        if text.startswith("-"):
            raise ValueError("expected points of 0 or more") from None
        return Decimal(0)
    except InvalidPoints as error:
        raise ValueError(f"expected points of 0 or more, {error}") from error


def statuses(text: str) -> frozenset[str]:
    named = frozenset(status.strip().upper() for status in text.split(",") if status.strip())
    if unknown := named - set(STATUSES):
        raise ValueError(f"expected ACTIVE, FRAUD, DEACTIVATED or MERGED, with commas; not {min(unknown)}")
    if not named:
        raise ValueError("expected at least one status")
    return named


def dialect(text: str) -> str:
    if text in DIALECTS:
        return text
    raise ValueError("expected documented or engine")


def _unset_or(read: Callable[[str], T]) -> Callable[[str], T | None]:
    """The same reader, typed for a key that has no value by default."""
    return read


_DAYS = Whole(1, 36_500)

ALLOW_REVERSAL = EmfKey(
    "Allow_points_redemption_reversal", yes_no, False, "Redeemed points can be reversed. The switch."
)
PAUSED = EmfKey("Reversal_paused", yes_no, False, "While yes, every reversal is answered 898: try later.", True)
WINDOW_DAYS = EmfKey(
    "Reversal_window_days", _unset_or(_DAYS), None, "How many days after the redemption a reversal is possible."
)
LIMIT_COUNT = EmfKey(
    "Reversal_limit_count",
    _unset_or(Whole(0, 10**9)),
    None,
    "How many reversals within Reversal_limit_days may concern a customer: their redemptions, or their lots.",
)
LIMIT_POINTS = EmfKey(
    "Reversal_limit_points",
    _unset_or(points),
    None,
    "How many points such reversals may come to: all of the customer's redemptions, and what goes to their lots.",
)
LIMIT_DAYS = EmfKey("Reversal_limit_days", _DAYS, 30, "The rolling period of the two limits, in days.")
DUPLICATE_WINDOW_SECONDS = EmfKey(
    "Reversal_duplicate_window_seconds",
    Whole(0, 31_536_000),
    60,
    "How long the same request without an Idempotency-Key is refused as a duplicate; 0 turns it off.",
)
BLOCKED_STATUSES = EmfKey(
    "Reversal_blocked_statuses",
    statuses,
    frozenset({"FRAUD", "DEACTIVATED"}),
    "Customer statuses that cannot be reversed to.",
)
REISSUE_DAYS = EmfKey(
    "Reversal_reissue_days",
    _unset_or(_DAYS),
    None,
    "Expired points, and points that came from no lot, are re-issued once, as a new lot valid this many days.",
)
APPROVAL_POINTS = EmfKey(
    "Reversal_approval_points",
    _unset_or(points),
    None,
    "A manual reversal of more than this, with what one person reversed of it before, needs a second person.",
)
APPROVAL_DAYS = EmfKey(
    "Reversal_approval_days", _DAYS, 7, "How many days a request for approval waits for the second person.", True
)
ERROR_DIALECT = EmfKey(
    "Reversal_error_dialect",
    dialect,
    "documented",
    "engine answers refusals with HTTP 200 and the loyalty engine's codes, for clients written against it.",
    True,
)
CROSS_MEMBER_REDEMPTION = EmfKey(
    "Enable_cross_member_redemption",
    yes_no,
    False,
    "A member of a customer group redeems the points of all its active members. For redemptions, not reversals.",
    True,
)

# All of the above, in their order.
REGISTRY: dict[str, EmfKey[object]] = {key.name: key for key in [*globals().values()] if isinstance(key, EmfKey)}


def known_key(name: str) -> EmfKey[object]:
    """The key of that name. Raises InvalidSetting."""
    if name in REGISTRY:
        return REGISTRY[name]
    near = get_close_matches(name, REGISTRY, n=1)
    raise InvalidSetting(
        f"{name} is no EMF setting; " + (f"did you mean {near[0]}?" if near else "see the list of keys")
    )


def in_words(value: object) -> str:
    """A value for a person to read, as it would be stored; `not set` where there is none."""
    match value:
        case None:
            return "not set"
        case bool():
            return "yes" if value else "no"
        case Decimal():
            return written(value)
        case frozenset():
            return ",".join(sorted(value))
    return str(value)


def check_value(key: EmfKey[object], text: str, *, for_program: bool) -> None:
    """Refuses, with InvalidSetting, a text that the key cannot be set to there."""
    if for_program and key.org_only:
        raise InvalidSetting(f"{key.name} can be set for the org only, not for a program")
    try:
        key.read(text)
    except ValueError as error:
        raise InvalidSetting(f"{key.name} cannot be {text!r}: {error}") from error


class ReversalState(StrEnum):
    """Whether an org's redemptions can be reversed at present, in one word for staff."""

    ON = "on"
    PARTLY = "on for some programs"
    OFF = "off"
    PAUSED = "paused"
    BROKEN = "a setting is broken"


class EmfSettings:
    """The stored settings of one org, as read at the start of a request.

    `stored` maps (program row id or None for the org, key name) to text.
    """

    def __init__(self, stored: Mapping[tuple[int | None, str], str]) -> None:
        self._stored = stored
        self._in_force: dict[tuple[int | None, str], Any] = {}

    def get(self, key: EmfKey[T], program_id: int | None = None) -> T:
        """The value in force: the program's, else the org's, else the default. Raises InvalidSetting."""
        place = (program_id, key.name)
        if place not in self._in_force:
            self._in_force[place] = self._read(key, program_id)
        value: T = self._in_force[place]
        return value

    def _read(self, key: EmfKey[T], program_id: int | None) -> T:
        text = self._stored.get((program_id, key.name)) if program_id is not None else None
        if text is None:
            text = self._stored.get((None, key.name))
        if text is None:
            return key.default
        try:
            return key.read(text)
        except ValueError as error:
            raise InvalidSetting(f"the stored value {text!r} of {key.name} is not valid: {error}") from error

    def text(self, key: EmfKey[object], program_id: int | None = None) -> str | None:
        """What is stored for just this place, valid or not; None where nothing is."""
        return self._stored.get((program_id, key.name))

    def with_text(self, key: EmfKey[object], program_id: int | None, text: str) -> "EmfSettings":
        """The settings as they would be with this text stored there; an empty text removes what is stored."""
        place = (program_id, key.name)
        others = {stored: value for stored, value in self._stored.items() if stored != place}
        return EmfSettings(others | {place: text} if text else others)

    def check(self) -> None:
        """Raises InvalidSetting, naming the first stored value that cannot be read, in the registry's order."""
        order = list(REGISTRY)
        known = sorted((name for _, name in self._stored if name in REGISTRY), key=order.index)
        for name in known:
            for program_id in {program_id for program_id, stored_name in self._stored if stored_name == name}:
                self.get(REGISTRY[name], program_id)

    def allows_reversal_somewhere(self) -> bool:
        """Whether the switch is on for the org or for any program of it."""
        return any(self._switches())

    def state(self) -> ReversalState:
        """What stands in the way of reversals first, else where the switch is on."""
        try:
            self.check()
        except InvalidSetting:
            return ReversalState.BROKEN
        if self.get(PAUSED):
            return ReversalState.PAUSED
        switches = self._switches()
        if all(switches):
            return ReversalState.ON
        return ReversalState.PARTLY if any(switches) else ReversalState.OFF

    def _switches(self) -> list[bool]:
        places = {program_id for program_id, _ in self._stored} | {None}
        return [self.get(ALLOW_REVERSAL, program_id) for program_id in places]
