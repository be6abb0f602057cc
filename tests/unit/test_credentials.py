"""The exact formats and hashes of secrets, because a change would make every secret in use invalid."""

import hashlib
import re
from typing import Any

import pytest

from loyalty.clients.credentials import keyed_digest, md5_form, new_secret, webhook_secret
from reversals.api.authentication import _basic_credentials
from tests.builders import basic


@pytest.fixture(autouse=True)
def _pepper(settings: Any) -> None:
    settings.API_PEPPER = "pepper of the tests, 32 long at least"


def test_a_new_secret_is_256_random_bits_as_43_characters() -> None:
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert all(re.fullmatch(r"[\w-]{43}", secret) for secret in secrets)


def test_the_md5_form_is_lower_case_hex() -> None:
    assert md5_form("secret") == "5ebe2294ecd0e0f08eab7690d2a6ee69"


def test_md5_is_called_with_usedforsecurity_false(monkeypatch: pytest.MonkeyPatch) -> None:
    def md5_without_security(data: bytes, *, usedforsecurity: bool = True) -> Any:
        assert usedforsecurity is False
        return md5(data, usedforsecurity=False)

    md5 = hashlib.md5
    monkeypatch.setattr(hashlib, "md5", md5_without_security)
    assert md5_form("secret") == "5ebe2294ecd0e0f08eab7690d2a6ee69"


def test_a_digest_is_hmac_sha256_with_the_pepper() -> None:
    assert keyed_digest("secret") == "cb298f62f8f0852fec9278bb60b4d97fecf85350944e1ba388466d654d2c5663"


def test_a_webhook_secret_is_derived_from_the_pepper_and_the_row_id() -> None:
    assert webhook_secret(7) == "whsec_6+f2YXiUy4MhvOUlazq8UjurLB2vaNFeiV75RmsDTiI="


@pytest.mark.parametrize("header", [basic("till.1", "a:b"), basic("till.1", "a:b").replace("Basic ", "bAsIc   ") + " "])
def test_the_first_colon_of_basic_credentials_ends_the_username(header: str) -> None:
    assert _basic_credentials(header) == ("till.1", "a:b")


def test_a_basic_username_may_be_empty_or_contain_any_letter() -> None:
    assert _basic_credentials(basic("", "")) == ("", "")
    assert _basic_credentials(basic("käsé", "пароль")) == ("käsé", "пароль")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Bearer dDpw",  # t:p
        "Basic dDpw!",
        "Basic dDp",
        "Basic dP86cA==",  # not UTF-8
        "Basic bm8gY29sb24=",  # no colon
        basic("till\0", "p"),
    ],
)
def test_an_invalid_authorization_header_gives_no_credentials(header: str) -> None:
    assert _basic_credentials(header) is None
