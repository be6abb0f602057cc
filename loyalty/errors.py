"""What the ledger's own operations refuse."""


class InvalidOperation(ValueError):
    """What was asked cannot be done; the message says why and what was expected."""
