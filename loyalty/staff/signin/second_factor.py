"""The second factor of staff: an authenticator app's codes, and recovery codes for the day the phone is lost."""

from base64 import b32encode
from dataclasses import dataclass
from typing import Any

import django_otp
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from loyalty.errors import InvalidOperation
from loyalty.staff.audit import record_change
from loyalty.staff.locks import lock_person

RECOVERY_CODES = 10
APP_CODE_LENGTH = 6


@dataclass(frozen=True, slots=True)
class WrongCode(Exception):
    """The code was not right, or it was not looked at because too many before it were wrong."""

    seconds_to_wait: int = 0

    def __str__(self) -> str:
        if self.seconds_to_wait:
            return f"Too many wrong codes. Try again in {self.seconds_to_wait} seconds."
        return "This code is not right. Take the one that the app shows now; each works once."


def is_passed(user: Any) -> bool:
    """Whether nothing more than the password is asked of the person, or the second factor was given."""
    return not settings.STAFF_SECOND_FACTOR or bool(user.is_verified())


def is_set_up(user: Any) -> bool:
    """Whether the person has an authenticator app."""
    return TOTPDevice.objects.filter(user=user, confirmed=True).exists()


def new_device(user: Any, key: str | None = None) -> TOTPDevice:
    """A device of the person, not stored yet; with `key` (hex digits) the one that was offered before."""
    return TOTPDevice(user=user, name="app", confirmed=True, **({"key": key} if key else {}))


def key_in_text(device: TOTPDevice) -> str:
    """The key as people type it into an app: Base32 in groups of four."""
    text = b32encode(device.bin_key).decode()
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))


@transaction.atomic
def set_up(device: TOTPDevice, code: str) -> list[str]:
    """Stores the device, if the code is its own, and returns the person's recovery codes, which are shown once.

    Raises WrongCode, and InvalidOperation where the person has a device already.
    """
    person = lock_person(device.user_id)
    if is_set_up(person):
        raise InvalidOperation("a second factor is set up already; sign in with its code")
    if not device.verify_token(code):
        raise WrongCode
    codes = [StaticToken.random_token() for _ in range(RECOVERY_CODES)]
    spare = StaticDevice.objects.create(user=person, name="recovery codes", confirmed=True)
    StaticToken.objects.bulk_create(StaticToken(device=spare, token=each) for each in codes)
    _record(person, action="second factor set up", made_by=person.username, reason="At sign-in.", is_set_up=True)
    return codes


def verify(user: Any, code: str) -> TOTPDevice | StaticDevice:
    """The person's device whose code this is. Raises WrongCode; each wrong one doubles the wait for the next."""
    kind = TOTPDevice if code.isdecimal() and len(code) == APP_CODE_LENGTH else StaticDevice
    device = kind.objects.filter(user=user, confirmed=True).first()
    if device is None:
        raise WrongCode
    allowed, refused = device.verify_is_allowed()
    if not allowed:
        raise WrongCode(1 + int((refused["locked_until"] - timezone.now()).total_seconds()))
    verified = django_otp.verify_token(user, device.persistent_id, code)
    if verified is None:
        raise WrongCode
    return verified


def recovery_codes_left(user: Any) -> int:
    """How many recovery codes the person has not used yet."""
    return StaticToken.objects.filter(device__user=user).count()


@transaction.atomic
def reset(person: User, *, made_by: str, reason: str) -> None:
    """Removes the person's devices, so that the next sign-in sets up a new one. Raises InvalidOperation without one."""
    lock_person(person.pk)
    if not is_set_up(person):
        raise InvalidOperation(f"{person.username} has no second factor; the next sign-in sets one up")
    TOTPDevice.objects.filter(user=person).delete()
    StaticDevice.objects.filter(user=person).delete()
    _record(person, action="second factor reset", made_by=made_by, reason=reason, is_set_up=False)


def _record(person: User, *, action: str, made_by: str, reason: str, is_set_up: bool) -> None:
    before, after = {"second factor": not is_set_up}, {"second factor": is_set_up}
    record_change(person, org=None, action=action, made_by=made_by, reason=reason, before=before, after=after)
