"""An example of each refusal's reason for the document. Tests compare the examples with real replies."""

from reversals.api.call import LARGEST_BODY
from reversals.refusals import ErrorCode, Ladder, ReadError, RedemptionError

_SHARED = {
    "BODY_TOO_LARGE": f"Send at most {LARGEST_BODY} bytes.",
    "NOT_JSON": "Send Content-Type: application/json.",
    "V2_NOT_ENABLED": "The V2 API is off for this org. Ask the org's staff to enable it.",
    "UNAVAILABLE": "The database cannot be reached or written to. Try again later.",
    "BUSY": "Another request for this customer is running. Try again in a moment.",
    "DATABASE_FAILED": "The database failed. Send the request again with the same Idempotency-Key, so that points move"
    " only once.",
    "UNFORESEEN": "An unexpected error occurred. Report the X-CAP-REQUEST-ID of this reply.",
    "KEY_OF_ANOTHER_REQUEST": "This Idempotency-Key was used for a different request. Send a new key with a new"
    " request.",
    "KEY_IN_USE": "The first request with this Idempotency-Key is still running. Send the request again with the same"
    " key.",
}
_OWN: dict[Ladder, str] = {
    ErrorCode.INVALID_REQUEST: "redemptionId, externalReferenceNumber: expected exactly one of the two.",
    ErrorCode.POINTS_NOT_POSITIVE: "pointsToBeReversed: expected more than 0.",
    ErrorCode.POINTS_TOO_PRECISE: "pointsToBeReversed: expected at most 3 decimals.",
    ErrorCode.UNAVAILABLE: "Reversals are paused for this org. Try again later.",
    ErrorCode.INVALID_SETTING: "An EMF setting must be corrected: the stored value 'soon' of Reversal_window_days is"
    " not valid: expected a whole number from 1 to 36500.",
    ErrorCode.OFF_FOR_ORG: "Reversals are off for this org. The EMF setting Allow_points_redemption_reversal turns"
    " them on.",
    ErrorCode.NOT_FOUND: "There is no such redemption of this customer. Check the identifier and the redemption.",
    ErrorCode.IS_A_REVERSAL: "zwU7b0 is a reversal, and a reversal cannot be reversed. Use the id of the redemption.",
    ErrorCode.WRONG_PROGRAM: "programId is not the program of this redemption. Send the redemption's program, or leave"
    " programId out.",
    ErrorCode.OFF_FOR_PROGRAM: "Reversals are off for program 973. The EMF setting Allow_points_redemption_reversal"
    " turns them on.",
    ErrorCode.CUSTOMER_NOT_ELIGIBLE: "The customer's status is FRAUD, which blocks reversals.",
    ErrorCode.CUSTOMER_LOCKED: "Reversals are locked for this customer until they are unlocked in the back office.",
    ErrorCode.NOTHING_LEFT: "All points of this redemption are already reversed. The last reversal is zwU7b0.",
    ErrorCode.DUPLICATE: "The same request was accepted a moment ago as reversal zwU7b0. To make another reversal, send"
    " an Idempotency-Key.",
    ErrorCode.OUTSIDE_WINDOW: "The points were redeemed more than 30 days ago, which is too long for a reversal.",
    ErrorCode.MORE_THAN_LEFT: "10.001 points requested, 10 remaining to reverse.",
    ErrorCode.NO_LOT_TO_RETURN_TO: "1 of the points did not come from a lot and cannot be reversed to one. Request"
    " fewer points, or allow re-issue with the EMF setting Reversal_reissue_days.",
    ErrorCode.LIMIT_EXCEEDED: "Reversal_limit_points allows 5 points within 30 days: 0 already reversed for this"
    " customer, 5.001 more requested.",
    RedemptionError.INVALID_REQUEST: "points: expected a number of points to redeem.",
    RedemptionError.POINTS_TOO_PRECISE: "points: expected at most 3 decimals.",
    RedemptionError.INVALID_SETTING: "An EMF setting must be corrected: the stored value 'perhaps' of"
    " Enable_cross_member_redemption is not valid: expected yes or no.",
    RedemptionError.CUSTOMER_NOT_FOUND: "The org has no customer with this id. Check the customer id.",
    RedemptionError.REFERENCE_TAKEN: "This externalReferenceNumber was used for a different redemption. Send a new"
    " number with a new redemption.",
    RedemptionError.WRONG_PROGRAM: "The org has no program with this id. Check programId.",
    RedemptionError.CUSTOMER_MERGED: "The customer was merged into another customer. Redeem the points of that"
    " customer.",
    RedemptionError.CUSTOMER_IS_FRAUD: "The customer's status is FRAUD, which blocks redemptions.",
    RedemptionError.CUSTOMER_NOT_ELIGIBLE: "The customer's status is DEACTIVATED, which blocks redemptions.",
    RedemptionError.DUPLICATE: "The same request was accepted a moment ago as redemption gWpna6. To make another"
    " redemption, send an Idempotency-Key or an externalReferenceNumber.",
    RedemptionError.MORE_THAN_AVAILABLE: "10.001 points requested, 10 available.",
    ReadError.INVALID_REQUEST: "limit: expected a whole number from 1 to 200.",
    ReadError.NOT_FOUND: "The org has nothing with this id. Check the id, and that the credentials are those of the"
    " right org.",
}


def reason_of(error: Ladder) -> str:
    """Returns the example reason of a refusal."""
    return _OWN[error] if error in _OWN else _SHARED[error.name]
