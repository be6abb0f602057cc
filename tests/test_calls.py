"""The run of one call with a movement that does as it is told: what is tried again, recorded, replayed and said."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import time_machine
from django.db import DataError, OperationalError, connection
from django.utils import timezone

from loyalty.identifiers import Identifier, IdentifierType
from reversals import attempts, calls
from reversals.calls import Answer, Reply, StartAgain
from reversals.errors import ErrorCode, Refused
from reversals.models import Attempt
from reversals.monitoring import counted
from reversals.requests import ReversalRequest
from tests.builders import World, points

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ASKED = ReversalRequest("RED-1", "ORD-1", Identifier(IdentifierType.MOBILE, "919740000000"), points(2))
OTHER_REQUEST = "This Idempotency-Key was used for another request; send a new key with a new request."
STILL_RUNNING = "The first request with this Idempotency-Key is still running; send it again."
FOR_ANOTHER = ReversalRequest("RED-2", None, None, None)


class Told:
    """A movement whose tries end in turn as `ends` says: by an exception, or made."""

    def __init__(self, attempt: Attempt, *ends: Exception, request: ReversalRequest = ASKED) -> None:
        self.attempt, self.ends, self.request, self.tries = attempt, list(ends), request, 0

    def read(self) -> ReversalRequest:
        return self.request

    def check(self) -> None:
        pass

    def make(self, request: ReversalRequest, finish: Callable[[Reply], None]) -> bool:
        self.tries += 1
        if self.ends:
            raise self.ends.pop(0)
        finish(Reply(201, "made"))
        with connection.cursor() as cursor:
            cursor.execute(*attempts.complete_attempt(self.attempt))
        return False

    def refused(self, refusal: Refused) -> Reply:
        return Reply(refusal.error.status, f"{refusal.error.name}: {refusal.reason}")


def new_attempt(world: World, key: str = "") -> Attempt:
    return Attempt(org=world.org, created_at=timezone.now(), channel="API", made_by="till.1", idempotency_key=key)


def ask(world: World, *ends: Exception, key: str = "", request: ReversalRequest = ASKED) -> Answer:
    attempt = new_attempt(world, key)
    return calls.answer(attempt, Told(attempt, *ends, request=request))


def reply_of(answer: Answer) -> tuple[int | None, str]:
    return answer.attempt.http_status, answer.attempt.reply


def failure(cause: Exception) -> OperationalError:
    error = OperationalError("failed")
    error.__cause__ = cause
    return error


REFUSED = Refused(ErrorCode.MORE_THAN_LEFT, "Only 1 is left.")


# What is recorded


def test_what_was_asked_and_answered_is_recorded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([100.0, 101.2346])
    monkeypatch.setattr(calls.time, "monotonic", lambda: next(ticks))
    answer = ask(world)
    (kept,) = world.attempts()
    assert (answer.attempt.id, answer.is_replay, answer.error) == (kept.id, False, None)
    assert (kept.redemption_id_asked, kept.external_reference_asked, kept.points_asked) == ("RED-1", "ORD-1", 2)
    assert (kept.identifier_type, kept.identifier_masked, kept.fingerprint) == ("MOBILE", "********0000", "")
    assert (kept.http_status, kept.reply, kept.duration_ms) == (201, "made", 1235)
    assert (kept.rule, kept.code, kept.refusal_reason, kept.holds_key) == ("", None, "", False)


def test_what_was_not_asked_is_recorded_as_empty(world: World) -> None:
    ask(world, request=ReversalRequest(None, None, None, None))
    (kept,) = world.attempts()
    assert (kept.redemption_id_asked, kept.external_reference_asked, kept.points_asked) == ("", "", None)
    assert (kept.identifier_type, kept.identifier_masked) == ("", "")


def test_a_refusal_is_recorded_without_what_was_rolled_back(world: World) -> None:
    attempt = new_attempt(world)
    attempt.reversal_id, attempt.redemption_id = 1, 2
    answer = calls.answer(attempt, Told(attempt, REFUSED))
    (kept,) = world.attempts()
    assert (kept.reversal_id, kept.redemption_id, attempt.reversal_id, attempt.redemption_id) == (None,) * 4
    assert (kept.rule, kept.code, kept.refusal_reason) == ("MORE_THAN_LEFT", 817, "Only 1 is left.")
    assert (reply_of(answer), answer.error) == ((400, "MORE_THAN_LEFT: Only 1 is left."), ErrorCode.MORE_THAN_LEFT)


def counts(rule: str, code: int | str) -> float:
    return counted.MOVEMENTS.labels("REVERSE", "API", rule, code)._value.get()


def test_every_call_is_counted_by_its_end(world: World) -> None:
    accepted, refused = counts("", ""), counts("MORE_THAN_LEFT", 817)
    ask(world)
    ask(world, REFUSED)
    assert (counts("", ""), counts("MORE_THAN_LEFT", 817)) == (accepted + 1, refused + 1)


# What is tried again


def test_a_movement_that_wants_to_start_again_does_so_as_often_as_it_wants(world: World) -> None:
    answer = ask(world, *[StartAgain() for _ in range(5)], key="key-1")
    assert (reply_of(answer), len(world.attempts())) == ((201, "made"), 1)


def test_a_deadlock_is_tried_again_twice_after_a_short_and_random_pause(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    between, paused = [], []
    monkeypatch.setattr(calls.random, "uniform", lambda *limits: between.append(limits) or 0.01)
    monkeypatch.setattr(calls.time, "sleep", paused.append)
    tried_again = counted.RETRIES.labels("40P01")._value
    before = tried_again.get()
    attempt = new_attempt(world)
    movement = Told(attempt, *[failure(psycopg.errors.DeadlockDetected()) for _ in range(3)])
    assert calls.answer(attempt, movement).error is ErrorCode.BUSY
    assert (movement.tries, between, paused) == (3, [(0.005, 0.05)] * 2, [0.01] * 2)
    assert tried_again.get() == before + 2


def test_nothing_of_a_try_that_was_rolled_back_is_left_on_the_next(world: World) -> None:
    attempt = new_attempt(world)
    attempt.reversal_id, attempt.redemption_id = 1, 2
    calls.answer(attempt, Told(attempt))
    assert (attempt.reversal_id, attempt.redemption_id) == (None, None)


# Failures


def test_a_fault_of_the_program_is_logged_with_its_traceback_and_not_told(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    told = "UNFORESEEN: An unforeseen error; report the X-CAP-REQUEST-ID of this reply."
    for error in (ZeroDivisionError("secret"), DataError("secret")):
        caplog.clear()
        assert reply_of(ask(world, error)) == (500, told)
        (record,) = [each for each in caplog.records if each.name == "reversals.calls"]
        assert (record.levelno, record.getMessage()) == (logging.ERROR, "a call failed unforeseen")
        assert record.exc_info is not None
        assert record.exc_info[1] is error


def test_a_failure_before_the_transaction_moved_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = new_attempt(world)
    movement = Told(attempt)
    monkeypatch.setattr(movement, "check", lambda: _raise(failure(psycopg.errors.DiskFull())))
    assert calls.answer(attempt, movement).error is ErrorCode.UNAVAILABLE
    assert ask(world, failure(psycopg.errors.DiskFull())).error is ErrorCode.DATABASE_FAILED


def _raise(error: Exception) -> Any:
    raise error


@pytest.fixture
def unrecorded(monkeypatch: pytest.MonkeyPatch) -> Exception:
    """No attempt can be written: the disk is full."""
    error = failure(psycopg.errors.DiskFull())
    monkeypatch.setattr(attempts, "record", lambda attempt: _raise(error))
    return error


def test_a_refusal_by_the_rules_that_cannot_be_recorded_is_unavailable(
    world: World, unrecorded: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    answer = ask(world, REFUSED)
    said = "UNAVAILABLE: The database cannot be reached or written now; try again later."
    assert (reply_of(answer), answer.attempt.rule) == ((503, said), "UNAVAILABLE")
    assert [each.getMessage() for each in caplog.records if each.name == "reversals.calls"] == [
        "an attempt could not be recorded: failed"
    ]


@pytest.mark.parametrize("error", [ErrorCode.INVALID_REQUEST, ErrorCode.BUSY, ErrorCode.UNFORESEEN])
def test_another_refusal_that_cannot_be_recorded_is_answered_all_the_same(
    world: World, unrecorded: Exception, error: ErrorCode
) -> None:
    assert reply_of(ask(world, Refused(error, "Why."))) == (error.status, f"{error.name}: Why.")


def test_a_fault_in_the_record_alone_leaves_the_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "record", lambda attempt: _raise(DataError()))
    assert reply_of(ask(world, REFUSED)) == (400, "MORE_THAN_LEFT: Only 1 is left.")


# Keys


def test_a_key_repeats_what_was_answered_first_accepted_or_refused(world: World) -> None:
    made, refused = ask(world, key="made"), ask(world, REFUSED, key="refused")
    assert made.attempt.fingerprint == attempts.fingerprint(ASKED) != attempts.fingerprint(FOR_ANOTHER)
    for key, first in {"made": made, "refused": refused}.items():
        again = ask(world, key=key)
        assert (again.attempt, again.is_replay, reply_of(again)) == (first.attempt, True, reply_of(first))
    assert len(world.attempts()) == 2


def test_a_key_of_another_request_says_so(world: World) -> None:
    ask(world, key="key-1")
    answer = ask(world, key="key-1", request=FOR_ANOTHER)
    assert reply_of(answer) == (422, f"KEY_OF_ANOTHER_REQUEST: {OTHER_REQUEST}")
    assert [attempt.holds_key for attempt in world.attempts()] == [True, False]


class Unseen:
    """The first look for an earlier answer comes just before the holder of the key commits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.find, self.looks = attempts.find_answer, 0
        monkeypatch.setattr(attempts, "find_answer", self.find_answer)

    def find_answer(self, attempt: Attempt) -> Attempt | None:
        self.looks += 1
        return None if self.looks == 1 else self.find(attempt)


def test_who_loses_the_race_for_a_key_gets_the_winners_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ask(world, key="key-1")
    Unseen(monkeypatch)
    again = ask(world, key="key-1")
    assert (again.attempt, again.is_replay) == (first.attempt, True)


def test_who_loses_the_race_to_another_request_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(world, key="key-1")
    Unseen(monkeypatch)
    answer = ask(world, key="key-1", request=FOR_ANOTHER)
    assert (reply_of(answer), answer.is_replay) == ((422, f"KEY_OF_ANOTHER_REQUEST: {OTHER_REQUEST}"), False)


class Overtaken(Told):
    """Refused, while another call with its key is answered between the rollback and the record."""

    winning = ASKED

    def refused(self, refusal: Refused) -> Reply:
        if not Attempt.objects.filter(org_id=self.attempt.org_id).exists():
            winner = Attempt(
                org_id=self.attempt.org_id,
                created_at=timezone.now(),
                channel="API",
                idempotency_key=self.attempt.idempotency_key,
            )
            calls.answer(winner, Told(winner, request=self.winning))
        return super().refused(refusal)


def test_a_refusal_that_loses_its_key_meanwhile_gets_the_winners_answer(world: World) -> None:
    attempt = new_attempt(world, "key-1")
    answer = calls.answer(attempt, Overtaken(attempt, REFUSED))
    assert (reply_of(answer), answer.is_replay) == ((201, "made"), True)
    assert answer.attempt == world.attempts()[0]
    assert len(world.attempts()) == 1


def test_a_refusal_that_loses_its_key_to_another_request_is_refused_for_that(world: World) -> None:
    attempt = new_attempt(world, "key-1")
    movement = Overtaken(attempt, REFUSED)
    movement.winning = FOR_ANOTHER
    answer = calls.answer(attempt, movement)
    assert reply_of(answer) == (422, f"KEY_OF_ANOTHER_REQUEST: {OTHER_REQUEST}")
    assert [kept.rule for kept in world.attempts()] == ["KEY_OF_ANOTHER_REQUEST", ""]


def test_a_key_whose_first_request_stays_locked_is_in_use(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    record = attempts.record
    waits = iter([failure(psycopg.errors.LockNotAvailable())])
    monkeypatch.setattr(attempts, "record", lambda each: _raise(wait) if (wait := next(waits, None)) else record(each))
    answer = ask(world, key="key-1")
    assert (reply_of(answer), answer.attempt.holds_key) == ((409, f"KEY_IN_USE: {STILL_RUNNING}"), False)


def test_a_key_whose_holder_is_gone_again_is_in_use(world: World) -> None:
    attempt = new_attempt(world, "key-1")
    attempt.fingerprint = "f"
    with pytest.raises(Refused) as refused:
        attempts.answer_of_holder(attempt)
    assert (refused.value.error, refused.value.reason) == (ErrorCode.KEY_IN_USE, STILL_RUNNING)


def test_a_key_lapses_31_days_after_its_refusal_and_alone(world: World) -> None:
    with time_machine.travel(START, tick=False):
        ask(world, REFUSED, key="key-1")
        ask(world, REFUSED, key="key-2")
    with time_machine.travel(START + timedelta(days=31) - timedelta(microseconds=1), tick=False):
        assert ask(world, key="key-1").is_replay
    with time_machine.travel(START + timedelta(days=31), tick=False):
        assert not ask(world, key="key-1").is_replay
    assert [kept.holds_key for kept in world.attempts()] == [False, True, True]
