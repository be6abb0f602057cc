"""Each error code of PostgreSQL is an outage or a fault of the program. The cause of an outage is logged."""

import logging
from typing import Any

import psycopg
import pytest
from django.db import (
    DatabaseError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    ProgrammingError,
)

from loyalty import outages
from loyalty.outages import Outage, outage_of

CODES = {each.sqlstate for each in vars(psycopg.errors).values() if isinstance(getattr(each, "sqlstate", None), str)}


def failed(code: str, text: str = "failed") -> Error:
    cause = psycopg.errors.lookup(code)(text)
    error = OperationalError(text)
    error.__cause__ = cause
    return error


def test_each_class_of_postgresql_is_decided() -> None:
    assert len(CODES) > 250
    assert {code[:2] for code in CODES} <= set(outages._CLASSES)
    assert set(outages._CODES) <= CODES


@pytest.mark.parametrize(
    ("outage", "codes"),
    [
        (Outage.BUSY, "40001 40P01 55P03 0A000"),
        (
            Outage.UNAVAILABLE,
            "08001 08004 25006 25P01 26000 28000 28P01 34000 3D000 3F000 42501 42P01 42P05 53300 57P03 57P04 F0000",
        ),
        (
            Outage.FAILED,
            "08000 08003 08006 08007 08P01 25P03 25P04 40000 40003 53000 53100 53200 53400 54000 55000 57000 57014"
            " 57P01 57P02 57P05 58000 58030 58P01 72000 XX000 XX001 XX002",
        ),
        (None, "0A001 21000 22003 22P02 23505 25001 25P02 40002 42601 42804 42P02 44000 54001 55P02 P0001 HV000"),
    ],
)
def test_each_code_belongs_to_its_outage(outage: Outage | None, codes: str) -> None:
    assert {code: outage_of(failed(code)) for code in codes.split() if code in CODES} == {
        code: outage for code in codes.split() if code in CODES
    }


def test_class_decides_over_the_type_that_the_driver_gave_the_error() -> None:
    error = InternalError("terminating connection due to idle-in-transaction timeout")
    error.__cause__ = psycopg.errors.IdleInTransactionSessionTimeout()
    assert outage_of(error) is Outage.FAILED


@pytest.mark.parametrize(
    ("error", "outage"),
    [
        (OperationalError("connection refused"), Outage.FAILED),
        (InterfaceError("the connection is closed"), Outage.FAILED),
        (InternalError("received 2 results from command 'BEGIN'"), Outage.FAILED),
        (DatabaseError("lost synchronization with server"), Outage.FAILED),
        (ProgrammingError("no results to fetch"), None),
        (IntegrityError("CHECK constraint failed"), None),
    ],
)
def test_error_without_a_code_is_an_outage_if_the_connection_failed(error: Error, outage: Outage | None) -> None:
    assert outage_of(error) is outage


def test_cause_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "_noted", {})
    now = [1000.0]
    monkeypatch.setattr("loyalty.outages.time.monotonic", lambda: now[0])
    for seconds in (0, 1, 58, 1, 1):
        now[0] += seconds
        outages.note_outage(failed("53100", "could not extend file: No space left on device\nHINT: Check free space."))
    outages.note_outage(failed("57P01", "terminating connection due to administrator command"))
    assert [each.getMessage() for each in caplog.records] == [
        "the database failed: 53100: could not extend file: No space left on device",
        "the database failed: 53100: could not extend file: No space left on device",
        "the database failed: 57P01: terminating connection due to administrator command",
    ]
    assert caplog.records[0].levelno == logging.ERROR


def test_password_is_not_in_the_logged_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    databases: dict[str, Any] = {"default": {"PASSWORD": "s3cret/1", "OPTIONS": {"password": "an0ther"}}}
    monkeypatch.setattr("django.conf.settings.DATABASES", databases)
    error = OperationalError('connection to "s3cret/1@host" failed:\n\tan0ther is wrong')
    assert outages.cause_of(error) == 'connection to "***@host" failed: *** is wrong'
