"""Signs the request with which `doctor` asks how it arrived through the proxy, so that nobody else is told."""

from django.core import signing

_SALT = "loyalty.doctor"
_SECONDS = 60


def sign() -> str:
    return signing.TimestampSigner(salt=_SALT).sign("doctor")


def is_signed(text: str) -> bool:
    try:
        signing.TimestampSigner(salt=_SALT).unsign(text, max_age=_SECONDS)
    except signing.BadSignature:
        return False
    return True
