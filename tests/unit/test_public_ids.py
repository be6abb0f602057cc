"""New public ids of reversals and redemptions, without a database."""

import pytest

from reversals.movements import public_ids


@pytest.mark.parametrize("like_a_number", ["004711", "1E5000", "12e345", "3MAR26", "JUNE12", "12Dec5"])
def test_new_id_never_looks_like_a_number_or_a_date(monkeypatch: pytest.MonkeyPatch, like_a_number: str) -> None:
    drawn = iter([like_a_number, "gWpna6"])
    monkeypatch.setattr(public_ids, "_random_id", lambda: next(drawn))
    assert public_ids.new_public_id() == "gWpna6"


def test_new_id_is_six_letters_and_digits() -> None:
    new = public_ids.new_public_id()
    assert len(new) == public_ids.PUBLIC_ID_LENGTH
    assert new.isascii()
    assert new.isalnum()
