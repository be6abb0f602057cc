"""Normalizes the identifiers of customers, so that they can be stored and compared."""

import re
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

import idna
import phonenumbers
from phonenumbers import PhoneNumberFormat, PhoneNumberType, ValidationResult

from loyalty.ledger.canonical import SPREADSHEETS, canonical, is_of_spreadsheet


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
LONGEST_VALUE = 255

_NUMBER_START = re.compile(r"[+\uff0b]|\d")
# A number with decimals. Phone numbers have points too: 06.12.34.56.78, 06.12345678 and +1.4155552671.
_DECIMAL = re.compile(r"[1-9]\d*\.\d+|\+?\d+\.\d{1,3}")
_DECIMAL_COMMA = re.compile(r",\s*\d")
# A second number. The library would drop it.
_SECOND_NUMBER = re.compile(r";\s*[+(]*\d")
_EMAIL = re.compile(r"[^\s@]+@[^\s@]+")


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
    name = canonical(as_sent)
    return _TYPES_AS_SENT.get(name.replace("_", "").upper()) if name.isascii() else None


def identify(kind: IdentifierType, value: str, *, country: str) -> Identifier:
    """Returns the identifier in the form in which it is stored and looked up. Its value can be empty.

    `country` is the org's country, two letters (ISO 3166). National mobile numbers are read as numbers of it. A mobile
    that is not a possible number keeps its text, which matches no customer.
    """
    text = canonical(value)
    match kind:
        case IdentifierType.MOBILE:
            return Identifier(kind, mobile_digits(text, country=country) or text)
        case IdentifierType.EMAIL:
            return Identifier(kind, _email(text))
        case _:
            return Identifier(kind, text)


def storable(kind: IdentifierType, value: str, *, country: str) -> Identifier:
    """Returns the identifier as `identify` does. Raises ValueError, with what was expected, if it cannot be stored."""
    if "\0" in value:
        raise ValueError("text without NUL characters")
    identifier = identify(kind, value, country=country)
    if not 1 <= len(identifier.value) <= LONGEST_VALUE:
        raise ValueError(f"text of 1 to {LONGEST_VALUE} characters")
    if kind is IdentifierType.MOBILE and mobile_digits(value, country=country) is None:
        raise ValueError(
            f"a mobile number that is possible in {country} or starts with its country code, such as +91 98765 00001,"
            f" without an extension; {SPREADSHEETS}"
        )
    if is_of_spreadsheet(identifier.value):
        raise ValueError(f"the value as text; {SPREADSHEETS}")
    if kind is IdentifierType.EMAIL and _EMAIL.fullmatch(identifier.value) is None:
        raise ValueError("one email address, such as asha@example.com")
    return identifier


def mobile_digits(value: str, *, country: str) -> str | None:
    """Returns the number's E.164 digits without `+`, or None if the value is not a possible phone number.

    Reads the number first as a national number of `country`, then as one with a country code but without `+`, as tills
    send it. A mobile number takes precedence over another valid number, and a valid number over a possible one. So in
    Germany 491701234567 is +49 170 1234567, although it could be a national number of Leer.
    """
    text = " ".join(canonical(value).split())
    start = _NUMBER_START.search(text)
    if start is None or is_of_spreadsheet(text):
        return None
    number = text[start.start() :]
    # The library would read letters as the digits of their keys, and decimals as further digits or as an extension.
    if (
        any(map(str.isalpha, number.partition(";")[0]))
        or _DECIMAL.fullmatch(number.replace(" ", ""))
        or _DECIMAL_COMMA.search(number)
        or _SECOND_NUMBER.search(number)
    ):
        return None
    readings = [_parsed(text, country)]
    if start[0].isdigit():
        readings.append(_parsed("+" + number, None))
    possible = [reading for reading in readings if reading is not None and _is_possible(reading)]
    if not possible:
        return None
    likeliest = max(possible, key=_likelihood)
    return phonenumbers.format_number(likeliest, PhoneNumberFormat.E164).lstrip("+")


def _parsed(text: str, country: str | None) -> phonenumbers.PhoneNumber | None:
    try:
        return phonenumbers.parse(text, country)
    except phonenumbers.NumberParseException:
        return None


def _is_possible(number: phonenumbers.PhoneNumber) -> bool:
    """Returns whether the number has a possible length, and not only within its area, and no extension.

    A mobile has no extension. E.164 has no place for one, so all phones behind a switchboard would have one number.
    """
    return (
        number.extension is None and phonenumbers.is_possible_number_with_reason(number) == ValidationResult.IS_POSSIBLE
    )


def _likelihood(number: phonenumbers.PhoneNumber) -> int:
    kind = phonenumbers.number_type(number)
    if kind in {PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE_OR_MOBILE}:
        return 2
    return 0 if kind == PhoneNumberType.UNKNOWN else 1


def _email(text: str) -> str:
    """Returns the address in lower case, with its domain in ASCII. A domain that has no ASCII form stays as it is."""
    lowered = text.lower()
    if lowered.isascii():
        return lowered
    local, at, domain = canonical(lowered).rpartition("@")
    if at and not domain.isascii():
        domain = _ascii_domain(domain)
    return f"{local}{at}{domain}"


def _ascii_domain(domain: str) -> str:
    """Returns the domain in ASCII, by IDNA 2008 or, for what that forbids (emoji, `_`), by the older IDNA 2003."""
    with suppress(UnicodeError):
        return idna.encode(domain, uts46=True).decode("ascii")
    with suppress(UnicodeError):
        return domain.encode("idna").decode("ascii")
    return domain


def masked(value: str) -> str:
    """Masks all but the last characters of the value: shows at most 4, and at most a third of it."""
    shown = min(4, len(value) // 3)
    return "*" * min(len(value) - shown, 12) + (value[-shown:] if shown else "")
