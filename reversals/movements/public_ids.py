"""Draws the public ids of new reversals and redemptions."""

import secrets
import string

PUBLIC_ID_LENGTH = 6
_PUBLIC_ID_CHARACTERS = string.ascii_letters + string.digits
_PUBLIC_IDS = len(_PUBLIC_ID_CHARACTERS) ** PUBLIC_ID_LENGTH


def new_public_id() -> str:
    """Six random letters and digits. There are 57 billion, so a clash is rare, and a retry resolves it."""
    number = secrets.randbelow(_PUBLIC_IDS)
    characters = []
    for _ in range(PUBLIC_ID_LENGTH):
        number, character = divmod(number, len(_PUBLIC_ID_CHARACTERS))
        characters.append(_PUBLIC_ID_CHARACTERS[character])
    return "".join(characters)
