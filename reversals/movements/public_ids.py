"""Draws the public ids of new reversals and redemptions."""

import re
import secrets
import string

PUBLIC_ID_LENGTH = 6
_PUBLIC_ID_CHARACTERS = string.ascii_letters + string.digits
# What a spreadsheet reads as a number or a date, and changes: 004711, 1E5, 3MAR26.
_FOR_SPREADSHEETS = re.compile(
    r"[0-9]+(E[0-9]+)?|[0-9]*(JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC)[A-Z]*[0-9]+", re.IGNORECASE
)
_PUBLIC_IDS = len(_PUBLIC_ID_CHARACTERS) ** PUBLIC_ID_LENGTH


def new_public_id() -> str:
    """Six random letters and digits. There are 57 billion, so a clash is rare, and a retry resolves it.

    A spreadsheet does not change them, because none looks like a number or a date.
    """
    while _FOR_SPREADSHEETS.fullmatch(public_id := _random_id()) is not None:
        pass
    return public_id


def _random_id() -> str:
    number = secrets.randbelow(_PUBLIC_IDS)
    characters = []
    for _ in range(PUBLIC_ID_LENGTH):
        number, character = divmod(number, len(_PUBLIC_ID_CHARACTERS))
        characters.append(_PUBLIC_ID_CHARACTERS[character])
    return "".join(characters)
