"""The whole of `deploy/compose.yaml` without its containers: nginx, two servers, PgBouncer and PostgreSQL."""

import copy
import json
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest

from tests.system.deploy.machines import UnitServer, create_role, drop_role, place_of, stacked
from tests.system.faults.conftest import Stage, make_stage, once, serve, sqlite_stage, stage  # noqa: F401 (fixtures)
from tests.system.faults.load import HEADERS
from tests.system.faults.machines import wait_until


def needs(program: str) -> None:
    """Skips the test if the program is not installed, unless DEPLOY_TESTS is `required`."""
    if place_of(program) is None and os.environ.get("DEPLOY_TESTS") != "required":
        pytest.skip(f"{program} is not installed")


@dataclass
class Stack:
    """All running parts. `through` opens a connection to the proxy."""

    stage: Stage
    servers: list[UnitServer]
    through: partial[HTTPSConnection]


def ask(
    stack: Stack, body: Any, method: str = "POST", path: str = "/v2/points/reverse", **headers: str
) -> tuple[int, bytes, Any]:
    with closing(stack.through()) as connection:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, HEADERS | named)
        response = connection.getresponse()
        return response.status, response.read(), response.headers


def logged(stack: Stack, replies: list[Any]) -> list[dict[str, Any]]:
    """Returns what the proxy logged of the calls with these reply headers; it may write a line after its answer."""
    wanted = [headers["X-CAP-REQUEST-ID"] for headers in replies]
    found: dict[str, dict[str, Any]] = {}

    def is_logged() -> bool:
        whole = (stack.servers[0].runtime / "access.log").read_text().rpartition("\n")[0]
        found.update({line["request_id"]: line for line in map(json.loads, whole.splitlines())})
        return set(wanted) <= set(found)

    wait_until(is_logged)
    return [found[request_id] for request_id in wanted]


@pytest.fixture(scope="package")
def stack(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:  # noqa: F811
    for program in ("pgbouncer", "nginx", "openssl"):
        needs(program)
    owned = of_role(stage, tmp_path_factory.mktemp("ledger"))
    with stacked(owned.database, owned.environment) as (servers, through):
        yield Stack(owned, servers, through)
    # In random order the tests of another package can come between, and then this fixture is made again.
    drop_role(stage.url)


def of_role(stage: Stage, folder: Path) -> Stage:  # noqa: F811
    """A stage in the database of the role that `deploy/role.sql` creates, migrated by that role."""
    assert stage.database is not None
    create_role(stage.url)
    database = copy.copy(stage.database)
    database.url = stage.url.replace("/postgres?", "/loyalty?")
    return make_stage(database.url.replace("//postgres:@", "//loyalty:@"), database, folder)
