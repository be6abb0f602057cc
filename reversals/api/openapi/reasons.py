"""One reason for each row of each ladder, as a client may read it; tests hold them against real answers."""

from reversals.api.call import LARGEST_BODY
from reversals.refusals import ErrorCode, Ladder, ReadError, RedemptionError

_SHARED = {
    "BODY_TOO_LARGE": f"Send at most {LARGEST_BODY} bytes.",
    "NOT_JSON": "Send Content-Type: application/json.",
    "V2_NOT_ENABLED": "Ask the org's staff to enable the V2 API.",
    "UNAVAILABLE": "The database cannot be reached or written now; try again later.",
    "BUSY": "Other requests for this customer are running; try again at once.",
    "DATABASE_FAILED": "The database failed; try again with the same Idempotency-Key, which cannot pay twice.",
    "UNFORESEEN": "An unforeseen error; report the X-CAP-REQUEST-ID of this reply.",
    "KEY_OF_ANOTHER_REQUEST": "This Idempotency-Key was used for another request; send a new key with a new request.",
    "KEY_IN_USE": "The first request with this Idempotency-Key is still running; send it again.",
}
_OWN: dict[Ladder, str] = {
    ErrorCode.INVALID_REQUEST: "redemptionId, externalReferenceNumber: expected exactly one of the two.",
    ErrorCode.POINTS_NOT_POSITIVE: "pointsToBeReversed: expected more than 0.",
    ErrorCode.POINTS_TOO_PRECISE: "pointsToBeReversed: expected at most 3 decimals.",
    ErrorCode.UNAVAILABLE: "Reversals are paused for this org; try again later with the same key.",
    ErrorCode.INVALID_SETTING: "Staff must correct a setting: the stored value 'soon' of Reversal_window_days is not"
    " valid: expected a whole number from 1 to 36500.",
    ErrorCode.OFF_FOR_ORG: "Allow_points_redemption_reversal is off for this org; ask its staff to turn it on.",
    ErrorCode.NOT_FOUND: "There is no such customer, or no such redemption of that customer; check identifier and"
    " redemption.",
    ErrorCode.IS_A_REVERSAL: "zwU7b0 is a reversal; a reversal is not reversed. Send the redemptionId.",
    ErrorCode.WRONG_PROGRAM: "programId is not the program of this redemption; leave it out.",
    ErrorCode.OFF_FOR_PROGRAM: "Allow_points_redemption_reversal is off for program 973; ask the org's staff to turn"
    " it on.",
    ErrorCode.CUSTOMER_NOT_ELIGIBLE: "The customer's status is FRAUD, which blocks reversals.",
    ErrorCode.CUSTOMER_LOCKED: "Reversals are locked for this customer until staff unlock them.",
    ErrorCode.NOTHING_LEFT: "All points of this redemption were reversed already; the last reversal is zwU7b0.",
    ErrorCode.DUPLICATE: "The same request was accepted a moment ago as reversal zwU7b0; if another one is meant, send"
    " an Idempotency-Key.",
    ErrorCode.OUTSIDE_WINDOW: "The points were redeemed more than 30 days ago; later reversals are not made.",
    ErrorCode.MORE_THAN_LEFT: "10.001 points were asked and 10 are left to reverse.",
    ErrorCode.NO_LOT_TO_RETURN_TO: "1 of the points came from no lot that could take them back; staff must set"
    " Reversal_reissue_days, or ask for fewer points.",
    ErrorCode.LIMIT_EXCEEDED: "Reversal_limit_points: 0 of 5 points within 30 days are used, and 5.001 more"
    " were asked.",
    RedemptionError.INVALID_REQUEST: "points: expected a number of points to redeem.",
    RedemptionError.POINTS_TOO_PRECISE: "points: expected at most 3 decimals.",
    RedemptionError.INVALID_SETTING: "Staff must correct a setting: the stored value 'perhaps' of"
    " Enable_cross_member_redemption is not valid: expected yes or no.",
    RedemptionError.CUSTOMER_NOT_FOUND: "There is no such customer; check the customer id.",
    RedemptionError.REFERENCE_TAKEN: "This externalReferenceNumber was used for another redemption; send a new one"
    " with a new redemption.",
    RedemptionError.WRONG_PROGRAM: "There is no such program; check programId.",
    RedemptionError.CUSTOMER_MERGED: "The customer was merged into another; redeem for the other one.",
    RedemptionError.CUSTOMER_IS_FRAUD: "The customer's status is FRAUD, which blocks redemption.",
    RedemptionError.CUSTOMER_NOT_ELIGIBLE: "The customer's status is DEACTIVATED, which blocks redemption.",
    RedemptionError.MORE_THAN_AVAILABLE: "10.001 points were asked and 10 are available.",
    ReadError.INVALID_REQUEST: "limit: expected a whole number from 1 to 200.",
    ReadError.NOT_FOUND: "There is nothing with this id; check the id and whose credentials were sent.",
}


def reason_of(error: Ladder) -> str:
    """The reason that the document shows for the row."""
    return _OWN[error] if error in _OWN else _SHARED[error.name]
