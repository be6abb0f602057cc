"""The canonical form of ids, references and identifiers, in which every entry point compares and stores them."""

import re
import unicodedata

# The largest integer that JavaScript, and so many API clients, read exactly.
LARGEST_EXACT_NUMBER = 2**53 - 1

# The advice for a value that a spreadsheet has changed.
SPREADSHEETS = (
    "spreadsheets change long numbers (9.19812E+11, a decimal point, =, an apostrophe), so format the column as text"
)

# A longer text cannot match a stored value. Note: composing a long text of combining characters takes seconds.
LONGEST = 1_000

# Blanks of every width, and characters that look blank although Unicode counts them as letters or symbols.
_BLANKS = "".join(filter(str.isspace, map(chr, range(0x3001)))) + "\u115f\u1160\u2800\u3164\uffa0"

# Characters that are not in Cf, but that nobody sees either: the grapheme joiner and the variation selectors.
_INVISIBLE = frozenset(map(chr, (0x34F, *range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))

# Texts from a spreadsheet: a long number (9.19812E+11 or, with decimals, 4711000815.0), a formula or its error, or a
# text marked with an apostrophe.
_SPREADSHEET = re.compile(
    r"""[0-9]([.,][0-9]+)?E\+[0-9]+|[0-9]{6,}[.,]0+|=.*|['\u2019][=+@0-9-].*|#{3,}|#(N/A|[A-Z0/]+[!?])""",
    re.DOTALL | re.IGNORECASE,
)


def canonical(text: str) -> str:
    """Returns the text composed (NFC), without blanks at its ends and without format and other invisible characters."""
    if text.isascii():
        return text.strip()
    if len(text) > LONGEST:
        return text
    visible = "".join(each for each in text if unicodedata.category(each) != "Cf" and each not in _INVISIBLE)
    return unicodedata.normalize("NFC", visible).strip(_BLANKS)


def spellings(text: str) -> list[str]:
    """Returns the spellings under which a row may be stored: the text as sent, and its canonical form.

    Ids and references are sealed. So those that were stored before the canonical form keep their spelling.
    """
    return list(dict.fromkeys((text, canonical(text))))


def is_of_spreadsheet(text: str) -> bool:
    """Returns whether a spreadsheet has changed the text, so that it is no longer the intended id."""
    return _SPREADSHEET.fullmatch(text) is not None
