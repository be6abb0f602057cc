"""The errors that the ledger's operations raise for an invalid request."""


class InvalidOperation(ValueError):
    """The requested operation is not possible. The message states why and what was expected."""


class NeedsSecondUser(Exception):
    """Nothing was changed, because a second user must confirm the change: the org has an approval limit."""
