"""The second factor of staff: codes of an authenticator app, and recovery codes for a lost phone."""

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
from loyalty.staff.locks import lock_user

RECOVERY_CODES = 10
APP_CODE_LENGTH = 6


@dataclass(frozen=True, slots=True)
class WrongCode(Exception):
    """The code is wrong, or it was not checked because too many wrong codes preceded it."""

    seconds_to_wait: int = 0

    def __str__(self) -> str:
        if self.seconds_to_wait:
            unit = "second" if self.seconds_to_wait == 1 else "seconds"
            return f"Too many wrong codes. Try again in {self.seconds_to_wait} {unit}."
        return "This code is wrong. Enter the code that the app shows now. Each code works only once."


def is_passed(user: Any) -> bool:
    """Returns whether the user gave the second factor, or the setting does not require one."""
    return not settings.STAFF_SECOND_FACTOR or bool(user.is_verified())


def is_set_up(user: Any) -> bool:
    """Returns whether the user has set up an authenticator app."""
    return TOTPDevice.objects.filter(user=user, confirmed=True).exists()


def new_device(user: Any, key: str | None = None) -> TOTPDevice:
    """Returns a new device of the user, not stored yet. `key` (hex digits) is the key that was offered before."""
    return TOTPDevice(user=user, name="app", confirmed=True, **({"key": key} if key else {}))


def key_in_text(device: TOTPDevice) -> str:
    """Returns the key as users type it into an app: Base32 in groups of four."""
    text = b32encode(device.bin_key).decode()
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))


@transaction.atomic
def set_up(device: TOTPDevice, code: str) -> list[str]:
    """Stores the device if the code is right, and returns the user's recovery codes, which are shown once.

    Raises WrongCode, or InvalidOperation if the user already has a device.
    """
    user = lock_user(device.user_id)
    if is_set_up(user):
        raise InvalidOperation("your second factor is already set up; sign in with its code")
    if not device.verify_token(code):
        raise WrongCode
    codes = [StaticToken.random_token() for _ in range(RECOVERY_CODES)]
    spare = StaticDevice.objects.create(user=user, name="recovery codes", confirmed=True)
    StaticToken.objects.bulk_create(StaticToken(device=spare, token=each) for each in codes)
    _record(user, action="second factor set up", made_by=user.username, reason="At sign-in.", is_set_up=True)
    return codes


def verify(user: Any, code: str) -> TOTPDevice | StaticDevice:
    """Returns the user's device to which the code belongs.

    Raises WrongCode. Each wrong code doubles the wait before the next one.
    """
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
    """Returns how many recovery codes the user has not used yet."""
    return StaticToken.objects.filter(device__user=user).count()


@transaction.atomic
def reset(user: User, *, made_by: str, reason: str) -> None:
    """Removes the user's devices, so that they set up a new one when they next sign in.

    Raises InvalidOperation if the user has no device.
    """
    lock_user(user.pk)
    if not is_set_up(user):
        raise InvalidOperation(f"user {user.username} has no second factor yet; they set one up when they next sign in")
    TOTPDevice.objects.filter(user=user).delete()
    StaticDevice.objects.filter(user=user).delete()
    _record(user, action="second factor reset", made_by=made_by, reason=reason, is_set_up=False)


def _record(user: User, *, action: str, made_by: str, reason: str, is_set_up: bool) -> None:
    before, after = {"second factor": not is_set_up}, {"second factor": is_set_up}
    record_change(user, org=None, action=action, made_by=made_by, reason=reason, before=before, after=after)
