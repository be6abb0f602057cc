"""The canonical form of ids, references and identifiers, in which every entry point compares and stores them."""

import re
import unicodedata
from itertools import product

# The largest integer that JavaScript, and so many API clients, read exactly.
LARGEST_EXACT_NUMBER = 2**53 - 1

# The advice for a value that a spreadsheet has changed.
SPREADSHEETS = (
    "spreadsheets change long numbers (9.19812E+11, a decimal point, =, an apostrophe), so format the column as text"
)

# A longer text cannot match a stored value. Note: composing a long text of combining characters takes seconds.
LONGEST = 1_000

# A text with this number of letters has 256 mixtures of upper and lower case.
MOST_LETTERS_IN_ANY_CASE = 8

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


def without_blanks(text: str) -> str:
    """Returns the canonical form of the text without its inner blanks either."""
    return "".join(each for each in canonical(text) if each not in _BLANKS)


def searched_spellings(text: str) -> list[str]:
    """Returns the spellings that a search by a user looks up: without blanks, and in upper and lower case.

    A text with few letters is looked up in every mixture of cases, because ids that the platform draws mix them.
    """
    canonical_text = canonical(text)
    spelled = [text, canonical_text]
    if len(text) <= LONGEST:
        joined = without_blanks(text)
        spelled += [each for word in (canonical_text, joined) for each in (word.upper(), word.lower())]
        letters = sum(each.upper() != each.lower() for each in joined)
        if letters <= MOST_LETTERS_IN_ANY_CASE:
            spelled += map("".join, product(*(dict.fromkeys((each, each.upper(), each.lower())) for each in joined)))
    return list(dict.fromkeys(spelled))


def is_of_spreadsheet(text: str) -> bool:
    """Returns whether a spreadsheet has changed the text, so that it is no longer the intended id."""
    return _SPREADSHEET.fullmatch(text) is not None
