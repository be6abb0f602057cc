"""The registry of EMF settings: keys, types, defaults, meanings, and the value in force."""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from decimal import Decimal
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, Generic, TypeVar

from loyalty.ledger.points import InvalidPoints, PointsNotPositive, read_points, written

STATUSES = ("ACTIVE", "FRAUD", "DEACTIVATED", "MERGED")
DIALECTS = ("documented", "engine")

T = TypeVar("T", covariant=True)


class InvalidSetting(ValueError):
    """An unknown key or an invalid value. The message names it and the expected values."""


class EmfGroup(StrEnum):
    """The parts of the settings page, in this order."""

    SWITCH = "Switch"
    LIMITS = "Limits"
    REPEATS = "Repeats"
    EXPIRY = "Expiry"
    APPROVAL = "Approval"
    CLIENTS = "Clients and groups"


@dataclass(frozen=True)
class EmfKey(Generic[T]):
    """One typed setting. `read` parses stored text, or raises ValueError with the expected values.

    `label` is its name for staff, and `unit` the unit of its value, in the singular. `effects` says for a value what
    happens from the next call on, where staff should know that before they save it.
    """

    name: str
    read: Callable[[str], T]
    default: T
    meaning: str
    org_only: bool = False
    _: KW_ONLY
    label: str
    group: EmfGroup
    unit: str = ""
    effects: Mapping[str, str] = field(default_factory=dict, compare=False)


def yes_no(text: str) -> bool:
    match text.strip().lower():
        case "yes" | "true" | "on" | "1":
            return True
        case "no" | "false" | "off" | "0":
            return False
    raise ValueError("expected yes or no")


@dataclass(frozen=True)
class Whole:
    """Reads whole numbers within limits. The edit form uses the same limits."""

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
        raise ValueError(f"expected ACTIVE, FRAUD, DEACTIVATED or MERGED, separated by commas; not {min(unknown)}")
    if not named:
        raise ValueError("expected at least one status")
    return named


def dialect(text: str) -> str:
    if text in DIALECTS:
        return text
    raise ValueError("expected documented or engine")


def _unset_or(read: Callable[[str], T]) -> Callable[[str], T | None]:
    """Returns the same reader, typed for a key without a default value."""
    return read


_DAYS = Whole(1, 36_500)

ALLOW_REVERSAL = EmfKey(
    "Allow_points_redemption_reversal",
    yes_no,
    False,
    "The main switch: yes allows reversals of redeemed points.",
    label="Reversals allowed",
    group=EmfGroup.SWITCH,
    effects={
        "yes": (
            "From the next call on, every till of this org can reverse redeemed points, except in programs "
            "with a value of their own."
        ),
        "no": (
            "From the next call on, every till of this org gets 818 for each reversal, except in programs "
            "with a value of their own. Staff cannot reverse points either. Redemptions go on."
        ),
    },
)
PAUSED = EmfKey(
    "Reversal_paused",
    yes_no,
    False,
    "While yes, every reversal is refused with 898 (try later).",
    True,
    label="Reversals paused",
    group=EmfGroup.SWITCH,
    effects={
        "yes": (
            "From the next call on, every till of this org gets 898 (try later) for each reversal, and staff"
            " cannot reverse points. Redemptions go on."
        ),
        "no": "From the next call on, reversals go on. Tills send again what they could not reverse meanwhile.",
    },
)
WINDOW_DAYS = EmfKey(
    "Reversal_window_days",
    _unset_or(_DAYS),
    None,
    "Number of days after a redemption in which it can be reversed.",
    label="Time to reverse",
    group=EmfGroup.LIMITS,
    unit="day",
)
LIMIT_COUNT = EmfKey(
    "Reversal_limit_count",
    _unset_or(Whole(0, 10**9)),
    None,
    "Maximum number of reversals per customer within Reversal_limit_days. A reversal counts for the customer who "
    "redeemed the points, and for each customer to whose lots points are reversed.",
    label="Reversals per customer",
    group=EmfGroup.LIMITS,
    unit="reversal",
)
LIMIT_POINTS = EmfKey(
    "Reversal_limit_points",
    _unset_or(points),
    None,
    "Maximum points reversed per customer within Reversal_limit_days: all points of the customer's own redemptions, "
    "and other members' points that are reversed to the customer's lots.",
    label="Points reversed per customer",
    group=EmfGroup.LIMITS,
    unit="point",
)
LIMIT_DAYS = EmfKey(
    "Reversal_limit_days",
    _DAYS,
    30,
    "Length in days of the rolling period of the two limits.",
    label="Period of the two limits",
    group=EmfGroup.LIMITS,
    unit="day",
)
DUPLICATE_WINDOW_SECONDS = EmfKey(
    "Reversal_duplicate_window_seconds",
    Whole(0, 31_536_000),
    60,
    "For this many seconds, the same request without an Idempotency-Key is refused as a duplicate. 0 turns this off.",
    label="Repeated reversals refused for",
    group=EmfGroup.REPEATS,
    unit="second",
)
REDEMPTION_DUPLICATE_WINDOW_SECONDS = EmfKey(
    "Redemption_duplicate_window_seconds",
    Whole(0, 31_536_000),
    60,
    "For this many seconds, a redemption of the same points by the same customer in the same transaction is refused as "
    "a duplicate. Applies to requests without an Idempotency-Key and an externalReferenceNumber. 0 turns this off.",
    True,
    label="Repeated redemptions refused for",
    group=EmfGroup.REPEATS,
    unit="second",
)
BLOCKED_STATUSES = EmfKey(
    "Reversal_blocked_statuses",
    statuses,
    frozenset({"FRAUD", "DEACTIVATED"}),
    "Reversals are refused for customers with these statuses.",
    label="Blocked customer statuses",
    group=EmfGroup.LIMITS,
)
REISSUE_DAYS = EmfKey(
    "Reversal_reissue_days",
    _unset_or(_DAYS),
    None,
    "A reversal re-issues expired points, and points that came from no lot, as a new lot that is valid for this many "
    "days. Points are re-issued only once.",
    label="Validity of re-issued points",
    group=EmfGroup.EXPIRY,
    unit="day",
)
APPROVAL_POINTS = EmfKey(
    "Reversal_approval_points",
    _unset_or(points),
    None,
    "A manual reversal of more points than this needs a second user's approval. Earlier manual reversals of the same "
    "redemption without approval count too.",
    label="Points without approval",
    group=EmfGroup.APPROVAL,
    unit="point",
)
APPROVAL_POINTS_PER_DAY = EmfKey(
    "Reversal_approval_points_per_day",
    _unset_or(points),
    None,
    "A manual reversal needs a second user's approval if it and the points that its user reversed manually and without "
    "approval in the org within the last 24 hours are more than this.",
    label="Points of a user without approval in 24 hours",
    group=EmfGroup.APPROVAL,
    unit="point",
)
APPROVAL_DAYS = EmfKey(
    "Reversal_approval_days",
    _DAYS,
    7,
    "Number of days after which an approval request lapses.",
    True,
    label="Requests lapse after",
    group=EmfGroup.APPROVAL,
    unit="day",
)
ERROR_DIALECT = EmfKey(
    "Reversal_error_dialect",
    dialect,
    "documented",
    "With engine, refusals are sent with HTTP 200 and the loyalty engine's codes, for clients that expect these.",
    True,
    label="Error codes for clients",
    group=EmfGroup.CLIENTS,
)
CROSS_MEMBER_REDEMPTION = EmfKey(
    "Enable_cross_member_redemption",
    yes_no,
    False,
    "Members of a customer group can redeem the points of all its active members. Applies to redemptions only.",
    True,
    label="Redeem points of group members",
    group=EmfGroup.CLIENTS,
)

# All keys above, in this order.
REGISTRY: dict[str, EmfKey[object]] = {key.name: key for key in [*globals().values()] if isinstance(key, EmfKey)}
# The points that one user can reverse alone.
APPROVAL_LIMITS = (APPROVAL_POINTS, APPROVAL_POINTS_PER_DAY)


def known_key(name: str) -> EmfKey[object]:
    """Returns the key with this name. Raises InvalidSetting if it is unknown."""
    if name in REGISTRY:
        return REGISTRY[name]
    near = get_close_matches(name, REGISTRY, n=1)
    raise InvalidSetting(
        f"{name} is not an EMF setting; " + (f"did you mean {near[0]}?" if near else "see the list of keys")
    )


def in_words(value: object) -> str:
    """Returns a value as readable text in its stored form, or `not set` for no value."""
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


def in_units(key: EmfKey[object], value: object) -> str:
    """Returns a value as staff read it: "30 days", "1,000 points", "FRAUD, DEACTIVATED"."""
    words = in_words(value)
    if isinstance(value, frozenset):
        return ", ".join(sorted(value))
    if not key.unit or value is None:
        return words
    return f"{value:,} {key.unit}s" if value != 1 else f"1 {key.unit}"


def check_value(key: EmfKey[object], text: str, *, for_program: bool) -> None:
    """Raises InvalidSetting if the key cannot have this value, or cannot be set for a program."""
    if for_program and key.org_only:
        raise InvalidSetting(f"{key.name} can be set for the org only, not for a program")
    try:
        key.read(text)
    except ValueError as error:
        raise InvalidSetting(f"{key.name} cannot be {text!r}: {error}") from error


class ReversalState(StrEnum):
    """Whether an org's redemptions can be reversed now, as staff see it."""

    ON = "on"
    PARTLY = "on for some programs"
    OFF = "off"
    PAUSED = "paused"
    BROKEN = "a setting is broken"


class EmfSettings:
    """The stored settings of one org, as read at the start of a request.

    `stored` maps (program row id, or None for the org; key name) to text.
    """

    def __init__(self, stored: Mapping[tuple[int | None, str], str]) -> None:
        self._stored = stored
        self._in_force: dict[tuple[int | None, str], Any] = {}

    def get(self, key: EmfKey[T], program_id: int | None = None) -> T:
        """Returns the value in force: the program's, else the org's, else the default. Raises InvalidSetting."""
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
        """Returns the text stored for exactly this program or the org, valid or not; None if nothing is stored."""
        return self._stored.get((program_id, key.name))

    def with_text(self, key: EmfKey[object], program_id: int | None, text: str) -> "EmfSettings":
        """Returns these settings with this text stored for the program or org. An empty text removes the stored one."""
        place = (program_id, key.name)
        others = {stored: value for stored, value in self._stored.items() if stored != place}
        return EmfSettings(others | {place: text} if text else others)

    def check(self) -> None:
        """Raises InvalidSetting for the first stored value, in the registry's order, that cannot be read."""
        order = list(REGISTRY)
        known = sorted((name for _, name in self._stored if name in REGISTRY), key=order.index)
        for name in known:
            for program_id in {program_id for program_id, stored_name in self._stored if stored_name == name}:
                self.get(REGISTRY[name], program_id)

    def has_approval_limit(self) -> bool:
        """Returns whether the org or one of its programs limits the points that one user can reverse alone."""
        names = {key.name for key in APPROVAL_LIMITS}
        return any(name in names for _, name in self._stored)

    def raises_approval_limit(self, new: "EmfSettings") -> bool:
        """Returns whether `new` lets one user reverse more points alone than these settings, in any program."""
        places = {program_id for program_id, _ in self._stored.keys() | new._stored.keys()} | {None}
        return any(
            new._height(key, program_id) > self._height(key, program_id)
            for key in APPROVAL_LIMITS
            for program_id in places
        )

    def _height(self, key: EmfKey[Decimal | None], program_id: int | None) -> Decimal:
        try:
            value = self.get(key, program_id)
        except InvalidSetting:
            return Decimal(-1)  # then every reversal is refused
        return Decimal("Infinity") if value is None else value

    def allows_reversal_somewhere(self) -> bool:
        """Returns whether the switch is on for the org or for any of its programs."""
        return any(self._switches())

    def state(self) -> ReversalState:
        """Returns the first obstacle to reversals, or else where the switch is on."""
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
