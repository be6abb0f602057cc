"""The whole of `deploy/compose.yaml` without its containers: nginx, two servers, PgBouncer and PostgreSQL."""

import copy
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from tests.system.deploy.machines import create_role, place_of, stacked
from tests.system.faults.conftest import Stage, make_stage, once, serve, sqlite_stage, stage  # noqa: F401 (fixtures)
from tests.system.faults.machines import Server


def needs(program: str) -> None:
    """Skips the test if the program is not installed, unless DEPLOY_TESTS is `required`."""
    if place_of(program) is None and os.environ.get("DEPLOY_TESTS") != "required":
        pytest.skip(f"{program} is not installed")


@dataclass
class Stack:
    """All running parts. `through` opens a connection to the proxy."""

    stage: Stage
    servers: list[Server]
    through: partial[HTTPSConnection]


@pytest.fixture(scope="package")
def stack(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:  # noqa: F811
    for program in ("pgbouncer", "nginx", "openssl"):
        needs(program)
    owned = of_role(stage, tmp_path_factory.mktemp("ledger"))
    with stacked(owned.database, owned.environment) as (servers, through):
        yield Stack(owned, servers, through)


def of_role(stage: Stage, folder: Path) -> Stage:  # noqa: F811
    """A stage in the database of the role that `deploy/role.sql` creates, migrated by that role."""
    assert stage.database is not None
    create_role(stage.url)
    database = copy.copy(stage.database)
    database.url = stage.url.replace("/postgres?", "/loyalty?")
    return make_stage(database.url.replace("//postgres:@", "//loyalty:@"), database, folder)
