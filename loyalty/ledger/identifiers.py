"""Normalizes the identifiers of customers, so that they can be stored and compared."""

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

# All names of the types, for messages and documentation.
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
    """A customer's identifier in the normalized form that `identify` returns."""

    type: IdentifierType
    value: str

    @property
    def customer_number(self) -> int | None:
        """The customer id in an identifier of type ID; None if the text cannot be a customer id."""
        if _CUSTOMER_NUMBER.fullmatch(self.value) is None:
            return None
        number = int(self.value)
        return number if number <= _LARGEST_BIGINT else None


def identifier_type(as_sent: str) -> IdentifierType | None:
    """Returns the type with this name, in any case and with or without underscores, or None. `PHONE` is `MOBILE`."""
    # Only ASCII, because Unicode has other letters whose upper case is I or S.
    return _TYPES_AS_SENT.get(as_sent.replace("_", "").upper()) if as_sent.isascii() else None


def identify(kind: IdentifierType, value: str, *, country: str) -> Identifier:
    """Returns the identifier in the form in which it is stored and looked up.

    `country` is the org's country, two letters (ISO 3166). National mobile numbers are read as numbers of it.
    """
    match kind:
        case IdentifierType.MOBILE:
            return Identifier(kind, mobile_digits(value, country=country))
        case IdentifierType.EMAIL:
            return Identifier(kind, value.lower())
        case _:
            return Identifier(kind, value)


def mobile_digits(value: str, *, country: str) -> str:
    """Returns the number's E.164 digits without `+`.

    Reads the number first as a national number of `country`, then as one with a country code but without `+`, as tills
    send it. The first reading that is a valid number wins; otherwise the first possible one. A text that does not look
    like a phone number is returned unchanged.
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
    """Masks all but the last characters of the value: shows at most 4, and at most a third of it."""
    shown = min(4, len(value) // 3)
    return "*" * min(len(value) - shown, 12) + (value[-shown:] if shown else "")
