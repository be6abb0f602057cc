"""The texts that replace erased texts."""

import re
from hashlib import sha256

ERASED = "[erased]"
_WITH_DIGEST = re.compile(r"\[erased ([0-9a-f]{64})\]")

# SQL that is true for an erased text, with or without a digest, and for an erased JSON object.
_AS_TEXT = "CAST({0} AS text)"
IS_ERASED = f"({_AS_TEXT} IN ('{ERASED}', '{{{{}}}}') OR {_AS_TEXT} LIKE '[erased {'_' * 64}]')"


def erased(text: str) -> str:
    """Returns the replacement of a sealed text. It contains the text's digest, so that the seal stays valid."""
    return f"[erased {digest_of(text)}]"


def digest_of(text: str) -> str:
    """Returns the SHA-256 of the text, or of the original text if it was erased."""
    with_digest = _WITH_DIGEST.fullmatch(text)
    return with_digest[1] if with_digest else sha256(text.encode()).hexdigest()
