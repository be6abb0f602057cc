"""Every part of the shipped stack restarts under load: no call fails, or calls are refused for about a second."""

import time
from contextlib import ExitStack

import pytest

from tests.system.deploy.conftest import Stack, ask, logged
from tests.system.faults.load import Load
from tests.system.faults.machines import wait_until

# The times are those of an idle machine; the tests run beside others.
PATIENCE_SECONDS = 2


def _rolled(stack: Stack, rounds: int) -> dict[bool, dict[str, int]]:
    """Restarts the servers one after the other; returns the answers to calls with and without a key."""
    loads = {}
    with ExitStack() as running:
        for is_keyed in (True, False):
            name = f"roll-{is_keyed}-{time.time_ns()}"
            load = Load([stack.through], stack.stage.redemptions, name=name, is_keyed=is_keyed)
            loads[is_keyed] = running.enter_context(load)
        for server in stack.servers * rounds:
            before = {each: load.journal.tries for each, load in loads.items()}
            server.stop()
            server.start()
            wait_until(lambda: all(load.journal.tries > before[each] for each, load in loads.items()))  # noqa: B023
    assert loads[True].journal.unanswered == []
    return {is_keyed: dict(load.journal.codes) for is_keyed, load in loads.items()}


def _failed(codes: dict[str, int]) -> dict[str, int]:
    return {code: count for code, count in codes.items() if code == "no answer" or code.startswith("5")}


def test_no_call_fails_during_a_rolling_restart(stack: Stack) -> None:
    answers = _rolled(stack, rounds=1)
    assert {is_keyed: _failed(codes) for is_keyed, codes in answers.items()} == {True: {}, False: {}}
    assert all(codes["200"] > 50 for codes in answers.values())


@pytest.mark.deep
def test_no_call_fails_during_ten_rolling_restarts(stack: Stack) -> None:
    answers = _rolled(stack, rounds=10)
    assert {is_keyed: _failed(codes) for is_keyed, codes in answers.items()} == {True: {}, False: {}}


def test_postgresql_that_restarts_is_used_again_within_about_a_second(stack: Stack) -> None:
    """With PgBouncer's default every call is refused for 15 s after a restart within half a second."""
    database = stack.stage.database
    assert database is not None
    with stack.stage.under_load("restart of PostgreSQL behind PgBouncer", through=stack.through) as fault:
        started = time.monotonic()
        database.configure({})
        fault.injected += 1
        restarted = time.monotonic() - started
    assert fault.refused_seconds < restarted + 1 + PATIENCE_SECONDS


def test_server_that_is_about_to_stop_gets_no_call(stack: Stack) -> None:
    first, second = stack.servers
    flag = first.runtime / str(first.port)
    flag.touch()
    try:
        answers = [ask(stack, None, "GET", "/health/ready") for _ in range(6)]
    finally:
        flag.unlink()
    assert [status for status, _, _ in answers] == [200] * 6
    lines = logged(stack, [headers for _, _, headers in answers])
    assert {line["upstream"] for line in lines} == {f"127.0.0.1:{second.port}"}


def test_calls_are_answered_while_both_servers_are_about_to_stop(stack: Stack) -> None:
    flags = [server.runtime / str(server.port) for server in stack.servers]
    for flag in flags:
        flag.touch()
    try:
        assert ask(stack, None, "GET", "/health/ready")[0] == 200
    finally:
        for flag in flags:
            flag.unlink()
