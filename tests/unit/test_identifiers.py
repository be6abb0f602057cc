"""Identifiers of customers, without a database: spellings of types, normalized values and masking."""

import pytest

from loyalty.ledger.identifiers import Identifier, IdentifierType, identifier_type, identify, masked, mobile_digits


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
        ("IN", "12", "12"),
        ("IN", "1-2", "12"),
        ("IN", "not a phone", "not a phone"),
        ("IN", "-", "-"),
        ("IN", "9" * 41, "9" * 41),
    ],
)
def test_a_mobile_number_is_normalized_to_its_international_digits(country: str, value: str, digits: str) -> None:
    assert mobile_digits(value, country=country) == digits
    assert mobile_digits(digits, country=country) == digits


def test_only_email_addresses_are_normalized_to_lower_case() -> None:
    as_stored = Identifier(IdentifierType.EMAIL, "asha@example.com")
    assert identify(IdentifierType.EMAIL, "Asha@Example.COM", country="IN") == as_stored
    as_sent = Identifier(IdentifierType.EXTERNAL_ID, "Hh-1")
    assert identify(IdentifierType.EXTERNAL_ID, "Hh-1", country="IN") == as_sent


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
