"""Lists the refusals of each kind of call, in order of precedence: the first that applies is the answer."""

from collections.abc import Callable
from enum import Enum
from typing import TypeVar

_RETRY_AFTER_SECONDS = {"BUSY": 1, "KEY_IN_USE": 1, "DATABASE_FAILED": 5, "UNAVAILABLE": 30}


class Ladder(Enum):
    """An ordered list of refusals for one kind of call; each member is one refusal.

    A member holds its row in the list, its code, its HTTP status, its published message, and the code and message
    that the loyalty engine has for it. The order of the members is the order of precedence. Members without a row
    are refusals of the platform, of idempotency keys and of approvals. Code that all calls share raises members of
    ErrorCode; the answer is the member of the same name from the call's own list.
    """

    def __init__(
        self, row: int | None, code: int, status: int, message: str, engine: tuple[int, str] | None = None
    ) -> None:
        self.row = row
        self.code = code
        self.status = status
        self.message = message
        self.engine = engine

    @property
    def holds_key(self) -> bool:
        """Whether this refusal keeps the idempotency key. Only final refusals by the rules do."""
        return self.is_decided_by_database and self.status < 500

    @property
    def is_decided_by_database(self) -> bool:
        """Whether the rules refused because of data in the database: members between UNAVAILABLE and BUSY."""
        names = list(type(self).__members__)
        return names.index("UNAVAILABLE") < names.index(self.name) < names.index("BUSY")

    @property
    def retry_after_seconds(self) -> int | None:
        """The seconds to wait before trying again; None if trying again cannot help."""
        return _RETRY_AFTER_SECONDS.get(self.name)


# The refusals of each kind of movement, by operation.
LADDERS: dict[str, type[Ladder]] = {}

AnyLadder = TypeVar("AnyLadder", bound=type[Ladder])


def refusals_of(operation: str) -> Callable[[AnyLadder], AnyLadder]:
    """Registers the decorated list as the refusals of this operation, the name that attempts record."""

    def register(ladder: AnyLadder) -> AnyLadder:
        LADDERS[operation] = ladder
        return ladder

    return register


@refusals_of("REVERSE")
class ErrorCode(Ladder):
    """The refusals of a reversal.

    Messages are the descriptions in the published table. Engine codes and messages are the loyalty engine's. Two
    members that share a row share its code, and differ in the `engine` dialect.
    """

    BODY_TOO_LARGE = (None, 413, 413, "Request body too large")
    NOT_JSON = (None, 415, 415, "Unsupported media type")
    V2_NOT_ENABLED = (None, 403, 403, "V2 is not enabled for the org")

    INVALID_REQUEST = (1, 887, 400, "Points reversal failed due to validation error")
    POINTS_NOT_POSITIVE = (
        1,
        887,
        400,
        "Points reversal failed due to validation error",
        (4102, "points redemption reversal not allowed for invalid points"),
    )
    POINTS_TOO_PRECISE = (2, 878, 400, "Points decimal precision not supported")
    UNAVAILABLE = (3, 898, 503, "Points reversal currently unavailable")
    INVALID_SETTING = (4, 888, 500, "Invalid configuration detected")
    OFF_FOR_ORG = (
        5,
        818,
        400,
        "Points reversal not allowed for this program",
        (4101, "points redemption reversal is disabled for this org"),
    )
    NOT_FOUND = (
        6,
        804,
        400,
        "Unable to process points reversal request",
        (3803, "prs record not found for the unique redemption id"),
    )
    IS_A_REVERSAL = (
        7,
        827,
        400,
        "Unable to reverse points; reversal is enabled",
        (3804, "redemption reversal of a reversal not allowed"),
    )
    WRONG_PROGRAM = (8, 885, 400, "Invalid program ID")
    OFF_FOR_PROGRAM = (
        9,
        818,
        400,
        "Points reversal not allowed for this program",
        (4101, "points redemption reversal is disabled for this org"),
    )
    CUSTOMER_NOT_ELIGIBLE = (10, 901, 400, "Customer not eligible for points reversal")
    CUSTOMER_LOCKED = (11, 904, 400, "Points reversal locked for this customer")
    NOTHING_LEFT = (12, 902, 400, "Duplicate reversal request", (3802, "all redeemed points already reversed"))
    DUPLICATE = (12, 902, 400, "Duplicate reversal request")
    OUTSIDE_WINDOW = (13, 827, 400, "Unable to reverse points; reversal is enabled")
    MORE_THAN_LEFT = (
        14,
        817,
        400,
        "Points reversal failed due to insufficient points",
        (
            3801,
            "points to be reversed should not be greater than total points redeemed against the redemption summary id",
        ),
    )
    NO_LOT_TO_RETURN_TO = (15, 899, 500, "Misconfigured program setup")
    LIMIT_EXCEEDED = (16, 903, 400, "Reversal limit exceeded")
    BUSY = (17, 896, 503, "Points reversal could not be processed")
    DATABASE_FAILED = (18, 886, 503, "Points reversal failed due to a temporary system error")
    UNFORESEEN = (19, 804, 500, "Unable to process points reversal request")

    KEY_OF_ANOTHER_REQUEST = (None, 887, 422, "Points reversal failed due to validation error")
    KEY_IN_USE = (None, 896, 409, "Points reversal could not be processed")
    NEEDS_APPROVAL = (None, 403, 403, "Points reversal needs approval")
    NOT_APPROVABLE = (None, 403, 403, "Points reversal cannot be approved")

    @property
    def engine_answer(self) -> tuple[int, str] | None:
        """The code and message that the `engine` dialect sends with HTTP 200; None if it answers as documented."""
        is_of_engine = self.name == "POINTS_NOT_POSITIVE" or self.is_decided_by_database
        return (self.engine or (self.code, self.message)) if is_of_engine else None


@refusals_of("REDEEM")
class RedemptionError(Ladder):
    """The refusals of a redemption, with the codes that the vendor's redeem calls send for the same causes."""

    BODY_TOO_LARGE = (None, 413, 413, "Request body too large")
    NOT_JSON = (None, 415, 415, "Unsupported media type")
    V2_NOT_ENABLED = (None, 403, 403, "V2 is not enabled for the org")

    INVALID_REQUEST = (1, 887, 400, "Points redemption failed due to validation error")
    POINTS_NOT_POSITIVE = INVALID_REQUEST
    POINTS_TOO_PRECISE = (2, 878, 400, "Points decimal precision not supported")
    UNAVAILABLE = (3, 898, 503, "Points redemption currently unavailable")
    INVALID_SETTING = (4, 888, 500, "Invalid configuration detected")
    CUSTOMER_NOT_FOUND = (5, 816, 400, "Customer not found for organization")
    REFERENCE_TAKEN = (6, 887, 422, "Points redemption failed due to validation error")
    WRONG_PROGRAM = (7, 885, 400, "Invalid program ID")
    CUSTOMER_MERGED = (8, 8069, 400, "Merged customer found")
    CUSTOMER_IS_FRAUD = (9, 809, 400, "Customer is marked as fraud")
    CUSTOMER_NOT_ELIGIBLE = (10, 881, 400, "Customer is not in the loyalty program")
    DUPLICATE = (11, 902, 400, "Duplicate redemption request")
    MORE_THAN_AVAILABLE = (12, 818, 400, "Points redemption failed due to insufficient points")
    BUSY = (13, 896, 503, "Points redemption could not be processed")
    DATABASE_FAILED = (14, 886, 503, "Points redemption failed due to a temporary system error")
    UNFORESEEN = (15, 817, 500, "Points redemption failed")

    KEY_OF_ANOTHER_REQUEST = (None, 887, 422, "Points redemption failed due to validation error")
    KEY_IN_USE = (None, 896, 409, "Points redemption could not be processed")


@refusals_of("CORRECT")
class CorrectionError(Ladder):
    """The refusals of a correction, with a reversal's codes for the same causes. Only staff request corrections."""

    UNAVAILABLE = (1, 898, 503, "Points correction currently unavailable")
    INVALID_SETTING = (2, 888, 500, "Invalid configuration detected")
    NOT_FOUND = (3, 804, 400, "Unable to process points correction request")
    CUSTOMER_NOT_ELIGIBLE = (4, 901, 400, "Customer not eligible for points correction")
    ALREADY_CORRECTED = (5, 902, 400, "Duplicate correction request")
    MORE_THAN_REMAINING = (6, 817, 400, "Points correction failed due to insufficient points")
    BUSY = (7, 896, 503, "Points correction could not be processed")
    DATABASE_FAILED = (8, 886, 503, "Points correction failed due to a temporary system error")
    UNFORESEEN = (9, 804, 500, "Unable to process points correction request")

    KEY_OF_ANOTHER_REQUEST = (None, 887, 422, "Points correction failed due to validation error")
    KEY_IN_USE = (None, 896, 409, "Points correction could not be processed")
    NEEDS_APPROVAL = (None, 403, 403, "Points correction needs approval")
    NOT_APPROVABLE = (None, 403, 403, "Points correction cannot be approved")


class ReadError(Ladder):
    """The refusals of a call that only reads."""

    V2_NOT_ENABLED = (None, 403, 403, "V2 is not enabled for the org")

    INVALID_REQUEST = (1, 887, 400, "Request failed due to validation error")
    UNAVAILABLE = (2, 898, 503, "Service currently unavailable")
    NOT_FOUND = (3, 404, 404, "Not Found")
    BUSY = (4, 896, 503, "Request could not be processed")
    UNFORESEEN = (5, 500, 500, "Internal Server Error")


class Refused(Exception):
    """A call that was refused.

    `reason` tells the API client what was wrong and what to do. `staff_reason` tells staff the same, where the advice
    differs: they send no keys or headers.
    """

    def __init__(self, error: Ladder, reason: str, *, staff_reason: str | None = None) -> None:
        super().__init__(f"{error.code} {error.message}: {reason}")
        self.error = error
        self.reason = reason
        self.staff_reason = reason if staff_reason is None else staff_reason
