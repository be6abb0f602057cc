"""What stands in the place of a text that was erased."""

import re
from hashlib import sha256

ERASED = "[erased]"
_WITH_DIGEST = re.compile(r"\[erased ([0-9a-f]{64})\]")

# The same in SQL: text without and with the digest, and an erased JSON object.
_AS_TEXT = "CAST({0} AS text)"
IS_ERASED = f"({_AS_TEXT} IN ('{ERASED}', '{{{{}}}}') OR {_AS_TEXT} LIKE '[erased {'_' * 64}]')"


def erased(text: str) -> str:
    """What takes the place of a sealed text: by the digest in it, the seal still holds."""
    return f"[erased {digest_of(text)}]"


def digest_of(text: str) -> str:
    """The SHA-256 of the text, or of what it was before it was erased."""
    with_digest = _WITH_DIGEST.fullmatch(text)
    return with_digest[1] if with_digest else sha256(text.encode()).hexdigest()
