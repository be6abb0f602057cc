"""The canonical form of ids and references, without a database."""

import pytest

from loyalty.ledger.canonical import LONGEST, canonical, is_of_spreadsheet, spellings


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("E1", "E1"),
        ("E1 ", "E1"),
        ("\tE 1\r\n", "E 1"),
        ("\u00a0E1\u3000", "E1"),
        ("\u2003E1\u202f", "E1"),
        ("\ufeffE1", "E1"),
        ("\u202aE1\u202c", "E1"),
        ("E\u200b1", "E1"),
        ("E\u00ad1", "E1"),
        ("\u3164E1\u2800", "E1"),
        ("u\u0308", "\u00fc"),
        ("u\u200b\u0308", "\u00fc"),
        ("E\ufe0f1\U000e0101", "E1"),
        ("u\u034f\u0308", "\u00fc"),
        (" \u200b\u3000", ""),
        ("", ""),
        ("\u00fc" * (LONGEST + 1), "\u00fc" * (LONGEST + 1)),
    ],
)
def test_ends_are_trimmed_format_characters_dropped_and_letters_composed(text: str, form: str) -> None:
    assert canonical(text) == form
    assert canonical(form) == form


def test_spellings_are_the_text_as_sent_and_its_canonical_form() -> None:
    assert spellings("E1 ") == ["E1 ", "E1"]
    assert spellings("E1") == ["E1"]


@pytest.mark.parametrize(
    "text",
    [
        "9.19812E+11",
        "9,19812E+11",
        "4E+15",
        '="004711"',
        "=A1",
        "'004711",
        "'+91",
        "#NUM!",
        "#N/A",
        "#####",
        "9.2e+11",
        "4711000815,00",
    ],
)
def test_text_that_a_spreadsheet_has_changed_is_recognized(text: str) -> None:
    assert is_of_spreadsheet(text)


@pytest.mark.parametrize(
    "text", ["1E5", "CARD=1", "004711", "E+1", "#12", "'s-Hertogenbosch", "1.5", "#VIP", "", "-7", "12345.0"]
)
def test_text_that_no_spreadsheet_has_changed_is_not_recognized(text: str) -> None:
    assert not is_of_spreadsheet(text)
