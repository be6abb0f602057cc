"""The ways to name a customer, and the one form in which each is compared."""

import re
from dataclasses import dataclass
from enum import StrEnum

import phonenumbers


class IdentifierType(StrEnum):
    ID = "ID"
    MOBILE = "MOBILE"
    EMAIL = "EMAIL"
    EXTERNAL_ID = "EXTERNAL_ID"
    CARD_NUMBER = "CARD_NUMBER"
    CARD_EXTERNAL_ID = "CARD_EXTERNAL_ID"


_OTHER_NAMES = {"PHONE": IdentifierType.MOBILE}
_TYPES_AS_SENT = {kind.replace("_", ""): kind for kind in IdentifierType} | _OTHER_NAMES

# All names of the types, for people to read.
TYPE_NAMES = ", ".join(
    name
    for kind in IdentifierType
    for name in (kind.value, *(other for other, meant in _OTHER_NAMES.items() if meant is kind))
)

_CUSTOMER_NUMBER = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
_LARGEST_BIGINT = 2**63 - 1
_PHONE_LIKE = re.compile(r"(?=.*[0-9])\+?[0-9 ().\-]{1,40}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Identifier:
    """A customer's name in comparable form, as `identify` makes it."""

    type: IdentifierType
    value: str

    @property
    def customer_number(self) -> int | None:
        """The customer id that an ID names; None for text that no customer id can be."""
        if _CUSTOMER_NUMBER.fullmatch(self.value) is None:
            return None
        number = int(self.value)
        return number if number <= _LARGEST_BIGINT else None


def identifier_type(as_sent: str) -> IdentifierType | None:
    """The type meant, whatever its case and underscores (`PHONE` is `MOBILE`); None if it does not exist such."""
    # In ASCII only: Unicode has other letters whose upper case is I or S.
    return _TYPES_AS_SENT.get(as_sent.replace("_", "").upper()) if as_sent.isascii() else None


def identify(kind: IdentifierType, value: str, *, country: str) -> Identifier:
    """The identifier in the form in which it is stored and looked up.

    `country` is the org's default, two letters (ISO 3166), by which national mobile numbers are read.
    """
    match kind:
        case IdentifierType.MOBILE:
            return Identifier(kind, mobile_digits(value, country=country))
        case IdentifierType.EMAIL:
            return Identifier(kind, value.lower())
        case _:
            return Identifier(kind, value)


def mobile_digits(value: str, *, country: str) -> str:
    """E.164 digits without `+`.

    A number is read as one of `country`, then as one with its country code but without `+`, as tills
    send it; the first reading that exists wins. What is no phone number is compared as it stands.
    """
    if _PHONE_LIKE.fullmatch(value) is None:
        return value
    readings = [_parsed(value, country), _parsed("+" + value.lstrip("+"), None)]
    for exists in (phonenumbers.is_valid_number, phonenumbers.is_possible_number):
        for number in readings:
            if number is not None and exists(number):
                return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164).lstrip("+")
    return re.sub(r"[^0-9]", "", value)


def _parsed(value: str, country: str | None) -> phonenumbers.PhoneNumber | None:
    try:
        return phonenumbers.parse(value, country)
    except phonenumbers.NumberParseException:
        return None


def masked(value: str) -> str:
    """The value with all but its last characters hidden: at most 4 show, and never more than a third."""
    shown = min(4, len(value) // 3)
    return "*" * min(len(value) - shown, 12) + (value[-shown:] if shown else "")
