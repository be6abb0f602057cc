"""Signs events according to Standard Webhooks 1.0: https://www.standardwebhooks.com."""

import base64
import hashlib
import hmac
from collections.abc import Sequence

_PREFIX = "whsec_"


def signed_headers(*, secrets: Sequence[str], event_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Returns the headers that prove the sender and the time, with a signature of each secret, separated by spaces.

    `timestamp` is in whole seconds since 1970.
    """
    signatures = [signature(secret=secret, event_id=event_id, timestamp=timestamp, body=body) for secret in secrets]
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }


def signature(*, secret: str, event_id: str, timestamp: int, body: bytes) -> str:
    """Returns the HMAC-SHA256 signature in the scheme v1. `secret` is base64 and may begin with `whsec_`."""
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    content = f"{event_id}.{timestamp}.".encode() + body
    return f"v1,{base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()}"
