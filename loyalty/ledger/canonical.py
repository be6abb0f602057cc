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

# Texts from a spreadsheet: a long number (9.19812E+11), a formula or its error, or a text marked with an apostrophe.
_SPREADSHEET = re.compile(
    r"""[0-9]([.,][0-9]+)?E\+[0-9]+|=.*|['\u2019][=+@0-9-].*|#{3,}|#(N/A|[A-Z0/]+[!?])""", re.DOTALL
)


def canonical(text: str) -> str:
    """Returns the text without blanks at its ends and without format characters (Unicode Cf), composed (NFC)."""
    if text.isascii():
        return text.strip()
    if len(text) > LONGEST:
        return text
    visible = "".join(character for character in text if unicodedata.category(character) != "Cf")
    return unicodedata.normalize("NFC", visible).strip(_BLANKS)


def spellings(text: str) -> list[str]:
    """Returns the spellings under which a row may be stored: the text as sent, and its canonical form.

    Ids and references are sealed. So those that were stored before the canonical form keep their spelling.
    """
    return list(dict.fromkeys((text, canonical(text))))


def is_of_spreadsheet(text: str) -> bool:
    """Returns whether a spreadsheet has changed the text, so that it is no longer the intended id."""
    return _SPREADSHEET.fullmatch(text) is not None
