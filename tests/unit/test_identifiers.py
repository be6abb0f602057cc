"""Identifiers of customers, without a database: spellings of types, normalized values and masking."""

import pytest

from loyalty.ledger.identifiers import (
    Identifier,
    IdentifierType,
    identifier_type,
    identify,
    masked,
    mobile_digits,
    storable,
)


@pytest.mark.parametrize(
    ("as_sent", "kind"),
    [
        ("ID", IdentifierType.ID),
        ("id", IdentifierType.ID),
        ("PHONE", IdentifierType.MOBILE),
        ("externalId", IdentifierType.EXTERNAL_ID),
        ("_card__Number_", IdentifierType.CARD_NUMBER),
        ("\u0131d", None),
        ("", None),
        ("cards", None),
    ],
)
def test_an_identifier_type_is_found_in_any_case_with_or_without_underscores(
    as_sent: str, kind: IdentifierType | None
) -> None:
    assert identifier_type(as_sent) is kind


@pytest.mark.parametrize(
    ("country", "value", "digits"),
    [
        ("IN", "919876500001", "919876500001"),
        ("IN", "+91 98765-00001", "919876500001"),
        ("IN", "9876500001", "919876500001"),
        ("IN", "09876500001", "919876500001"),
        ("IN", "84912345678", "84912345678"),
        ("VN", "0912345678", "84912345678"),
        ("US", "(415) 555-2671", "14155552671"),
        ("IN", "tel:+91-98765-00001", "919876500001"),
        ("IN", "tel:98765-00001;phone-context=+91", "919876500001"),
        ("IN", "Mobile: +91 98765 00001.", "919876500001"),
        ("IN", "\u202a+91 98765 00001\u202c", "919876500001"),
        ("IN", "98765\u00a000001", "919876500001"),
        ("IN", "98765\u2003\t00001", "919876500001"),
        ("IN", "98765\u201300001", "919876500001"),
        ("IN", "+91\u201198765\u201100001", "919876500001"),
        ("IN", "98765/00001", "919876500001"),
        ("IN", "+91 (0)98765 00001", "919876500001"),
        ("IN", "\uff19\uff18\uff17\uff16\uff15\uff10\uff10\uff10\uff10\uff11", "919876500001"),
        ("IN", "\u0669\u0668\u0667\u0666\u0665\u0660\u0660\u0660\u0660\u0661", "919876500001"),
        ("DE", "0049170/1234567", "491701234567"),
        ("DE", "491701234567", "491701234567"),
        ("FR", "06.12.34.56.78", "33612345678"),
        ("US", "415.555.2671", "14155552671"),
        ("IN", "+1.4155552671", "14155552671"),
        ("DE", "1701234567.0", None),
        ("DE", "01701234567.0", None),
        ("DE", "1 701 234 567,00", None),
        ("DE", "1,701,234,567.0", None),
        ("IN", "9.19812E+11", None),
        ("IN", "'+919812306011", None),
        ("IN", '="+919812306012"', None),
        ("IN", "98765 00001 / 98765 00002", None),
        ("IN", "98765 00001;98765 00002", None),
        ("IN", "98765 00001; +91 98765 00002", None),
        ("IN", "98765 00001;", "919876500001"),
        ("IN", "98765 00001 ext. 12", None),
        ("IN", "98765 00001 #12", None),
        ("IN", "tel:+919876500001;ext=12", None),
        ("IN", "98765\ufe0f00001", "919876500001"),
        ("IN", "98765 0000 abc", None),
        ("US", "555-2671", None),
        ("IN", "\u200b", None),
        ("IN", "12", None),
        ("IN", "1-2", None),
        ("IN", "not a phone", None),
        ("IN", "-", None),
        ("IN", "9" * 41, None),
    ],
)
def test_a_mobile_number_is_normalized_to_its_international_digits(
    country: str, value: str, digits: str | None
) -> None:
    assert mobile_digits(value, country=country) == digits
    assert digits is None or mobile_digits(digits, country=country) == digits


def test_only_email_addresses_are_normalized_to_lower_case() -> None:
    as_stored = Identifier(IdentifierType.EMAIL, "asha@example.com")
    assert identify(IdentifierType.EMAIL, "Asha@Example.COM", country="IN") == as_stored
    as_sent = Identifier(IdentifierType.EXTERNAL_ID, "Hh-1")
    assert identify(IdentifierType.EXTERNAL_ID, "Hh-1", country="IN") == as_sent


def test_mobile_that_is_no_possible_number_keeps_its_text() -> None:
    as_stored = Identifier(IdentifierType.MOBILE, "1701234567.0")
    assert identify(IdentifierType.MOBILE, " 1701234567.0 ", country="DE") == as_stored


@pytest.mark.parametrize(
    ("as_sent", "as_stored"),
    [
        ("Asha@B\u00dcCHER.example", "asha@xn--bcher-kva.example"),
        ("asha@bu\u0308cher.example", "asha@xn--bcher-kva.example"),
        ("asha@XN--BCHER-KVA.example", "asha@xn--bcher-kva.example"),
        ("asha@stra\u00dfe.example", "asha@xn--strae-oqa.example"),
        ("asha@\u4f8b\u3048\u3002example", "asha@xn--r8jz45g.example"),
        ("Mu\u0308ller@example.com", "m\u00fcller@example.com"),
        ("\u200easha@example.com\u00a0", "asha@example.com"),
        ("asha@\u00fc..example", "asha@\u00fc..example"),
        ("asha@\u2615.example", "asha@xn--53h.example"),
        ("asha@\u2615\ufe0f.example", "asha@xn--53h.example"),
        ("asha@B\u00dcCHER_1.example", "asha@xn--bcher_1-n2a.example"),
        ("Asha+Till@Example.com", "asha+till@example.com"),
        ("\u00fc", "\u00fc"),
        ("J\u030c@example.com", "\u01f0@example.com"),
    ],
)
def test_email_is_composed_lower_case_with_an_ascii_domain(as_sent: str, as_stored: str) -> None:
    assert identify(IdentifierType.EMAIL, as_sent, country="IN").value == as_stored
    assert identify(IdentifierType.EMAIL, as_stored, country="IN").value == as_stored


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (IdentifierType.MOBILE, "12", "a mobile number that is possible in IN"),
        (IdentifierType.EMAIL, " \u200b", "text of 1 to 255 characters"),
        (IdentifierType.EMAIL, "\u0130" * 255, "text of 1 to 255 characters"),
        (IdentifierType.CARD_NUMBER, "4.00012E+15", "the value as text"),
        (IdentifierType.EXTERNAL_ID, "a\0b", "text without NUL characters"),
        (IdentifierType.EXTERNAL_ID, "4711000815.0", "the value as text"),
        (IdentifierType.MOBILE, "98765 00001 ext. 12", "without an extension"),
        (IdentifierType.EMAIL, "5.64E+08", "the value as text"),
        (IdentifierType.EMAIL, "TRUE", "one email address"),
        (IdentifierType.EMAIL, "a@example.com, b@example.com", "one email address"),
        (IdentifierType.EMAIL, "Asha <a@example.com>", "one email address"),
    ],
)
def test_value_that_cannot_be_stored_is_refused_with_what_was_expected(
    kind: IdentifierType, value: str, expected: str
) -> None:
    with pytest.raises(ValueError, match=expected):
        storable(kind, value, country="IN")


def test_only_mobile_numbers_are_read_as_numbers_of_the_orgs_country() -> None:
    as_stored = Identifier(IdentifierType.MOBILE, "919876500001")
    assert identify(IdentifierType.MOBILE, "09876500001", country="IN") == as_stored
    as_sent = Identifier(IdentifierType.CARD_NUMBER, "09876500001")
    assert identify(IdentifierType.CARD_NUMBER, "09876500001", country="IN") == as_sent


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("1", 1),
        (str(2**63 - 1), 2**63 - 1),
        (str(2**63), None),
        ("0", None),
        ("01", None),
        ("-1", None),
        ("1.0", None),
        ("\u0663", None),
        ("", None),
    ],
)
def test_a_customer_number_is_a_positive_integer_within_the_databases_range(value: str, number: int | None) -> None:
    assert Identifier(IdentifierType.ID, value).customer_number == number


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("919876500001", "********0001"),
        ("asha@example.com", "************.com"),
        ("564000001", "******001"),
        ("12345", "****5"),
        ("12", "**"),
        ("", ""),
        ("x" * 300, "*" * 12 + "xxxx"),
    ],
)
def test_a_masked_value_shows_at_most_four_characters_and_at_most_a_third(value: str, shown: str) -> None:
    assert masked(value) == shown
