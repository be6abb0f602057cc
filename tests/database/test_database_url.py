"""DATABASE_URL: its parameters count beside the project's own, and every connection is READ COMMITTED."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections, transaction
from django.db.utils import load_backend

from config.settings import database

needs_postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no such parameters")
TIMEOUTS = {"lock_timeout": "2s", "statement_timeout": "5s", "idle_in_transaction_session_timeout": "10s"}


def settings_of(url: str) -> dict[str, Any]:
    with patch.dict(os.environ, DATABASE_URL=url):
        return database("DATABASE_URL")


@pytest.mark.parametrize(
    ("hosts", "host", "port"),
    [
        ("one", "one", ""),
        ("one:5433", "one", 5433),
        ("[::1]:5433", "::1", 5433),
        ("one:5433,two:5434", "one,two", "5433,5434"),
        ("one:5433,two", "one,two", "5433,"),
        ("one,two:5434", "one,two", ",5434"),
        ("[::1]:5433,[2001:db8::1]", "::1,2001:db8::1", "5433,"),
    ],
)
def test_each_host_of_the_url_has_its_own_port(hosts: str, host: str, port: str | int) -> None:
    read = settings_of(f"postgres://loyalty:p%40,ss@{hosts}/shop?target_session_attrs=read-write")
    assert (read["HOST"], read["PORT"], read["NAME"]) == (host, port, "shop")
    assert (read["USER"], read["PASSWORD"]) == ("loyalty", "p@,ss")
    assert read["OPTIONS"]["target_session_attrs"] == "read-write"


def test_parameters_of_the_url_count_beside_the_projects_own() -> None:
    parameters = (
        "sslmode=require&application_name=shop&connect_timeout=9&options=-c%20search_path%3Dshop&conn_max_age=60"
    )
    read = settings_of(f"postgres://one/shop?{parameters}")
    options = read["OPTIONS"]
    assert (options["sslmode"], options["application_name"], options["connect_timeout"]) == ("require", "shop", 9)
    assert options["options"].startswith("-c search_path=shop -c lock_timeout=2s ")
    assert (options["tcp_user_timeout"], options["server_side_binding"]) == (10_000, True)
    assert read["CONN_MAX_AGE"] == 60


def test_parameters_of_an_sqlite_url_count_but_never_change_its_transactions() -> None:
    options = settings_of("sqlite:///var/loyalty.sqlite3?timeout=20&transaction_mode=DEFERRED")["OPTIONS"]
    assert (options["timeout"], options["transaction_mode"]) == (20, "IMMEDIATE")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgres://one/shop?sslmod=require", 'invalid connection option "sslmod"; expected parameters of PostgreSQL'),
        ("postgres://one/shop?isolation_level=serializable", 'invalid connection option "isolation_level"'),
        ("postgres://[one,two/shop", "DATABASE_URL must look like"),
    ],
)
def test_an_unusable_url_refuses_to_start(url: str, said: str) -> None:
    with pytest.raises(ImproperlyConfigured) as refused:
        settings_of(url)
    assert said in str(refused.value)


@contextmanager
def connected(parameters: str) -> Iterator[Any]:
    """A connection to the tests' PostgreSQL, by its URL with further parameters."""
    url = os.environ["DATABASE_URL"]
    settings = settings_of(url + ("&" if "?" in url else "?") + parameters)
    wrapper = load_backend(settings["ENGINE"]).DatabaseWrapper(connections.settings["default"] | settings, "default")
    mine, connections["default"] = connections["default"], wrapper
    try:
        yield wrapper
    finally:
        connections["default"] = mine
        wrapper.close()


def shown(wrapper: Any, name: str) -> str:
    with wrapper.cursor() as cursor:
        cursor.execute(f"SHOW {name}")
        return str(cursor.fetchone()[0])


@pytest.mark.django_db
@needs_postgresql
def test_a_session_has_the_parameters_of_the_url_and_the_projects_timeouts() -> None:
    parameters = "application_name=shop&options=-c%20search_path%3Dshop%20-c%20statement_timeout%3D60s"
    with connected(parameters) as wrapper:
        assert (shown(wrapper, "application_name"), shown(wrapper, "search_path")) == ("shop", "shop")
        assert {name: shown(wrapper, name) for name in TIMEOUTS} == TIMEOUTS


@pytest.mark.django_db
@needs_postgresql
def test_a_parameter_of_the_url_counts_through_a_pooler_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("config.settings.DATABASE_POOLER", True)
    with connected("options=-c%20search_path%3Dshop") as wrapper:
        assert shown(wrapper, "search_path") == "shop"


@pytest.mark.django_db
@needs_postgresql
@pytest.mark.parametrize("is_pooled", [False, True])
def test_transactions_are_read_committed_whatever_the_servers_default(
    is_pooled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("config.settings.DATABASE_POOLER", is_pooled)
    name = f"serializable_{os.getpid()}"
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as session:
        session.execute(f"CREATE DATABASE {name}")
        session.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
        try:
            with connected(f"dbname={name}") as wrapper:
                # A single statement outside a transaction has the session's default, which a pooler's role sets.
                default = "serializable" if is_pooled else "read committed"
                assert shown(wrapper, "transaction_isolation") == default
                with transaction.atomic():
                    assert shown(wrapper, "transaction_isolation") == "read committed"
        finally:
            session.execute(f"DROP DATABASE {name}")


@pytest.mark.parametrize("password", ["se/cret", "se:cret/x", "se%cret/:x"])
def test_error_of_an_unreadable_url_has_no_part_of_the_password(password: str) -> None:
    with pytest.raises(ImproperlyConfigured) as raised:
        settings_of(f"postgres://loyalty:{password}@one:5432/shop")
    assert "write % / : @ as %25 %2F %3A %40" in str(raised.value)
    assert not [part for part in ("se/", "cret", "secret", "se:") if part in str(raised.value)]
    assert raised.value.__suppress_context__
