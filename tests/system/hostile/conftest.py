"""The server as it ships, started once for all hostile requests, with a ledger that no other test uses."""

from collections.abc import Iterator

import pytest

from tests.serving import serving, with_demo_ledger


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return with_demo_ledger(f"sqlite:///{tmp_path_factory.mktemp('hostile')}/server.sqlite3")


@pytest.fixture(scope="session")
def port(environment: dict[str, str]) -> Iterator[int]:
    with serving(environment) as port:
        yield port
