"""The error that the ledger's operations raise for an invalid request."""


class InvalidOperation(ValueError):
    """The requested operation is not possible. The message states why and what was expected."""
