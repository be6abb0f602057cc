"""Every way in which a reversal is refused, in the order in which the reasons are looked for."""

from enum import Enum


class ErrorCode(Enum):
    """One refusal: its row in the ladder, wire code, HTTP status, published message, and the engine's own.

    The order of the members is the order of precedence. Two members that share a row share its code and
    differ in the engine's dialect. Members without a row are refusals of the platform and of keys.
    Messages are the published table's descriptions; engine codes and messages are the loyalty engine's.
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
        """Whether an idempotency key stays taken by this answer: only definitive refusals of the rules do."""
        return self.row is not None and 5 <= self.row <= 16 and self.status < 500

    @property
    def retry_after_seconds(self) -> int | None:
        """When to try again; None where trying again cannot help."""
        match self:
            case ErrorCode.BUSY | ErrorCode.KEY_IN_USE:
                return 1
            case ErrorCode.UNAVAILABLE:
                return 30
            case ErrorCode.DATABASE_FAILED:
                return 5
        return None


class ReversalRefused(Exception):
    """A reversal that is not made. `reason` says what exactly was wrong and what to do, for the client to read."""

    def __init__(self, error: ErrorCode, reason: str) -> None:
        super().__init__(f"{error.code} {error.message}: {reason}")
        self.error = error
        self.reason = reason
