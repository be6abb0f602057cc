"""Tests the engine with movements of this file: retries, records, replays, refusals and purging."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar

import psycopg
import pytest
import time_machine
from django.db import DataError, OperationalError
from django.test import RequestFactory
from django.utils import timezone

from loyalty.ledger.identifiers import Identifier, IdentifierType
from loyalty.ledger.locks import lock_customers, lock_lots_by_id
from loyalty.ledger.sql import add_points
from loyalty.models import Lot
from reversals.admin.filters import ByRule
from reversals.models import Attempt
from reversals.movements import attempts, counters, engine
from reversals.movements.engine import Decision, LockFirst, Moment, Outcome, Reply
from reversals.movements.reverse.requests import ReversalRequest
from reversals.refusals import ErrorCode, Ladder, Refused, refusals_of
from tests.builders import World, make_lot, points

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ASKED = ReversalRequest("RED-1", "ORD-1", Identifier(IdentifierType.MOBILE, "919740000000"), points(2))
OTHER_REQUEST = "This Idempotency-Key was used for a different request. Send a new key with a new request."
STILL_RUNNING = (
    "The first request with this Idempotency-Key is still running. Send the request again with the same key."
)
FOR_ANOTHER = ReversalRequest("RED-2", None, None, None)


@dataclass
class Scripted:
    """A movement whose tries raise the exceptions of `ends` in turn; the next try succeeds."""

    ends: list[Exception] = field(default_factory=list)
    request: ReversalRequest = ASKED
    moments: list[Moment] = field(default_factory=list)
    operation: ClassVar[str] = "REVERSE"

    def decide(self, moment: Moment) -> Decision[str]:
        self.moments.append(moment)
        if self.ends:
            raise self.ends.pop(0)
        return Decision("made")


def render(result: str | Refused) -> Reply:
    if isinstance(result, Refused):
        return Reply(result.error.status, f"{result.error.name}: {result.reason}")
    return Reply(201, result)


def new_attempt(world: World, key: str = "") -> Attempt:
    return Attempt(org=world.org, created_at=timezone.now(), channel="API", made_by="till.1", idempotency_key=key)


def ask(world: World, *ends: Exception, key: str = "", request: ReversalRequest = ASKED) -> Outcome[str]:
    return engine.run(Scripted([*ends], request), new_attempt(world, key), render=render)


def reply_of(answer: Outcome[str]) -> tuple[int | None, str]:
    return answer.attempt.http_status, answer.attempt.reply


def failure(cause: Exception) -> OperationalError:
    error = OperationalError("failed")
    error.__cause__ = cause
    return error


REFUSED = Refused(ErrorCode.MORE_THAN_LEFT, "Only 1 is left.")


# Records


def test_attempt_records_request_and_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([100.0, 101.2346])
    monkeypatch.setattr(engine.time, "monotonic", lambda: next(ticks))
    answer = ask(world)
    (kept,) = world.attempts()
    assert (answer.attempt.id, answer.is_replay, answer.error) == (kept.id, False, None)
    assert (kept.redemption_id_asked, kept.external_reference_asked, kept.points_asked) == ("RED-1", "ORD-1", 2)
    assert (kept.identifier_type, kept.identifier_masked, kept.fingerprint) == ("MOBILE", "********0000", "")
    assert (kept.http_status, kept.reply, kept.duration_ms) == (201, "made", 1235)
    assert (kept.rule, kept.code, kept.refusal_reason, kept.holds_key) == ("", None, "", False)


def test_attempt_records_missing_fields_as_empty(world: World) -> None:
    ask(world, request=ReversalRequest(None, None, None, None))
    (kept,) = world.attempts()
    assert (kept.redemption_id_asked, kept.external_reference_asked, kept.points_asked) == ("", "", None)
    assert (kept.identifier_type, kept.identifier_masked) == ("", "")


def test_refusal_is_recorded_without_row_ids_of_an_earlier_try(world: World) -> None:
    attempt = new_attempt(world)
    attempt.reversal_id, attempt.redemption_id = 1, 2
    answer = engine.run(Scripted([REFUSED]), attempt, render=render)
    (kept,) = world.attempts()
    assert (kept.reversal_id, kept.redemption_id, attempt.reversal_id, attempt.redemption_id) == (None,) * 4
    assert (kept.rule, kept.code, kept.refusal_reason) == ("MORE_THAN_LEFT", 817, "Only 1 is left.")
    assert (reply_of(answer), answer.error) == ((400, "MORE_THAN_LEFT: Only 1 is left."), ErrorCode.MORE_THAN_LEFT)


def counts(rule: str, code: int | str) -> float:
    return counters.MOVEMENTS.labels("REVERSE", "API", rule, code)._value.get()


def test_refusal_has_a_reason_for_api_clients_and_one_for_staff(world: World) -> None:
    refusal = Refused(ErrorCode.BUSY, "Send the same key.", staff_reason="Open the page again.")
    for channel, reason in {"API": "Send the same key.", "ADMIN": "Open the page again."}.items():
        attempt = new_attempt(world)
        attempt.channel = channel
        outcome = engine.run(Scripted([refusal]), attempt, render=render)
        assert (reply_of(outcome), attempt.refusal_reason) == ((503, f"BUSY: {reason}"), reason)


def test_calls_are_counted_by_rule_and_code(world: World) -> None:
    accepted, refused = counts("", ""), counts("MORE_THAN_LEFT", 817)
    ask(world)
    ask(world, REFUSED)
    assert (counts("", ""), counts("MORE_THAN_LEFT", 817)) == (accepted + 1, refused + 1)


# Retries


def test_movement_that_must_lock_customers_first_starts_again_with_them(world: World) -> None:
    movement = Scripted([LockFirst(frozenset({number})) for number in range(5)])
    outcome = engine.run(movement, new_attempt(world, "key-1"), render=render)
    assert (reply_of(outcome), len(world.attempts())) == ((201, "made"), 1)
    assert [moment.customer_ids for moment in movement.moments] == [set(), {0}, {1}, {2}, {3}, {4}]


def test_deadlock_is_retried_twice_after_a_short_random_pause(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    between, paused = [], []
    monkeypatch.setattr(engine.random, "uniform", lambda *limits: between.append(limits) or 0.01)
    monkeypatch.setattr(engine.time, "sleep", paused.append)
    tried_again = counters.RETRIES.labels("40P01")._value
    before = tried_again.get()
    movement = Scripted([failure(psycopg.errors.DeadlockDetected()) for _ in range(3)])
    assert engine.run(movement, new_attempt(world)).error is ErrorCode.BUSY
    assert (len(movement.moments), between, paused) == (3, [(0.005, 0.05)] * 2, [0.01] * 2)
    assert tried_again.get() == before + 2


def test_row_ids_of_an_earlier_try_are_cleared(world: World) -> None:
    attempt = new_attempt(world)
    attempt.reversal_id, attempt.redemption_id = 1, 2
    engine.run(Scripted(), attempt)
    assert (attempt.reversal_id, attempt.redemption_id) == (None, None)


# Failures


def test_program_error_is_logged_with_traceback_and_not_shown_to_the_client(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    reply = "UNFORESEEN: An unexpected error occurred. Report the X-CAP-REQUEST-ID of this reply."
    for error in (ZeroDivisionError("secret"), DataError("secret")):
        caplog.clear()
        assert reply_of(ask(world, error)) == (500, reply)
        (record,) = [each for each in caplog.records if each.name == "reversals.movements.engine"]
        assert (record.levelno, record.getMessage()) == (logging.ERROR, "a call failed with an unexpected error")
        assert record.exc_info is not None
        assert record.exc_info[1] is error


def test_database_failure_before_the_transaction_is_unavailable(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "find_answer", lambda attempt: _raise(failure(psycopg.errors.DiskFull())))
    assert ask(world, key="key-1").error is ErrorCode.UNAVAILABLE
    assert ask(world, failure(psycopg.errors.DiskFull())).error is ErrorCode.DATABASE_FAILED


def _raise(error: Exception) -> Any:
    raise error


@pytest.fixture
def unrecorded(monkeypatch: pytest.MonkeyPatch) -> Exception:
    """Attempts cannot be recorded, because the database is read-only."""
    error = failure(psycopg.errors.ReadOnlySqlTransaction())
    monkeypatch.setattr(attempts, "record", lambda attempt: _raise(error))
    return error


def test_refusal_by_the_rules_that_cannot_be_recorded_is_unavailable(
    world: World, unrecorded: Exception, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loyalty.outages._noted", {})
    answer = ask(world, REFUSED)
    reply = "UNAVAILABLE: The database cannot be reached or written to. Try again later."
    assert (reply_of(answer), answer.attempt.rule) == ((503, reply), "UNAVAILABLE")
    assert [each.getMessage() for each in caplog.records if each.name == "loyalty.outages"] == [
        "the database failed: 25006: "
    ]


@pytest.mark.parametrize("error", [ErrorCode.INVALID_REQUEST, ErrorCode.BUSY, ErrorCode.UNFORESEEN])
def test_other_refusal_that_cannot_be_recorded_is_still_answered(
    world: World, unrecorded: Exception, error: ErrorCode
) -> None:
    outcome = engine.refuse(Refused(error, "Why."), new_attempt(world), render=render)
    assert reply_of(outcome) == (error.status, f"{error.name}: Why.")


def test_program_error_while_recording_does_not_change_the_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "record", lambda attempt: _raise(DataError()))
    outcome = engine.refuse(REFUSED, new_attempt(world), render=render)
    assert reply_of(outcome) == (400, "MORE_THAN_LEFT: Only 1 is left.")


def test_rolled_back_refusal_is_cleared_before_the_next_try(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    record, fails = attempts.record, [failure(psycopg.errors.DeadlockDetected())]
    monkeypatch.setattr(attempts, "record", lambda attempt: _raise(fails.pop()) if fails else record(attempt))
    outcome = ask(world, REFUSED)
    (kept,) = world.attempts()
    assert (reply_of(outcome), outcome.error, kept.rule, kept.refusal_reason) == ((201, "made"), None, "", "")


# Keys


def test_key_repeats_the_first_answer_accepted_or_refused(world: World) -> None:
    made, refused = ask(world, key="made"), ask(world, REFUSED, key="refused")
    assert made.attempt.fingerprint == attempts.fingerprints(ASKED)[0] != attempts.fingerprints(FOR_ANOTHER)[0]
    for key, first in {"made": made, "refused": refused}.items():
        again = ask(world, key=key)
        assert (again.attempt, again.is_replay, reply_of(again)) == (first.attempt, True, reply_of(first))
    assert len(world.attempts()) == 2


def test_key_of_a_different_request_is_refused(world: World) -> None:
    ask(world, key="key-1")
    answer = ask(world, key="key-1", request=FOR_ANOTHER)
    assert reply_of(answer) == (422, f"KEY_OF_ANOTHER_REQUEST: {OTHER_REQUEST}")
    assert [attempt.holds_key for attempt in world.attempts()] == [True, False]


class MissedLookUp:
    """Makes the first look-up of the key find nothing, as if the key's holder committed just after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.find, self.looks = attempts.find_answer, 0
        monkeypatch.setattr(attempts, "find_answer", self.find_answer)

    def find_answer(self, attempt: Attempt) -> Attempt | None:
        self.looks += 1
        return None if self.looks == 1 else self.find(attempt)


def test_loser_of_a_race_for_a_key_gets_the_winners_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ask(world, key="key-1")
    MissedLookUp(monkeypatch)
    again = ask(world, key="key-1")
    assert (again.attempt, again.is_replay) == (first.attempt, True)


def test_loser_of_a_race_with_a_different_request_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(world, key="key-1")
    MissedLookUp(monkeypatch)
    answer = ask(world, key="key-1", request=FOR_ANOTHER)
    assert (reply_of(answer), answer.is_replay) == ((422, f"KEY_OF_ANOTHER_REQUEST: {OTHER_REQUEST}"), False)


def overtaken(world: World, winning: ReversalRequest) -> Outcome[str]:
    """A refused call that loses its key: `winning` takes it between the decision and the record."""

    def render_late(result: str | Refused) -> Reply:
        if not Attempt.objects.filter(org=world.org).exists():
            ask(world, key="key-1", request=winning)
        return render(result)

    return engine.run(Scripted([REFUSED]), new_attempt(world, "key-1"), render=render_late)


def test_refusal_that_loses_the_race_for_its_key_gets_the_winners_answer(world: World) -> None:
    answer = overtaken(world, ASKED)
    assert (reply_of(answer), answer.is_replay) == ((201, "made"), True)
    assert [answer.attempt] == world.attempts()


def test_refusal_that_loses_its_key_to_a_different_request_is_422(world: World) -> None:
    answer = overtaken(world, FOR_ANOTHER)
    assert reply_of(answer) == (422, f"KEY_OF_ANOTHER_REQUEST: {OTHER_REQUEST}")
    assert [kept.rule for kept in world.attempts()] == ["KEY_OF_ANOTHER_REQUEST", ""]


def test_key_is_in_use_while_its_first_request_stays_locked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = failure(psycopg.errors.LockNotAvailable())
    monkeypatch.setattr(engine, "execute_together", lambda statements: _raise(locked))
    answer = ask(world, key="key-1")
    assert (reply_of(answer), answer.attempt.holds_key) == ((409, f"KEY_IN_USE: {STILL_RUNNING}"), False)


def test_timeout_of_another_lock_is_busy_and_not_key_in_use(world: World) -> None:
    locked = failure(psycopg.errors.LockNotAvailable())
    assert ask(world, locked, key="key-1").error is ErrorCode.BUSY


def test_key_that_was_already_looked_up_is_not_looked_up_again(world: World) -> None:
    first = ask(world, key="key-1")
    movement = Scripted()
    again = engine.run(movement, new_attempt(world, "key-1"), render=render, key_is_free=True)
    assert (again.attempt, again.is_replay, len(movement.moments)) == (first.attempt, True, 1)


def test_key_is_in_use_if_its_holder_is_gone(world: World) -> None:
    attempt = new_attempt(world, "key-1")
    attempt.fingerprint = "f"
    with pytest.raises(Refused) as refused:
        attempts.answer_of_holder(attempt)
    assert (refused.value.error, refused.value.reason) == (ErrorCode.KEY_IN_USE, STILL_RUNNING)


def test_key_of_a_refusal_lapses_after_31_days(world: World) -> None:
    with time_machine.travel(START, tick=False):
        ask(world, REFUSED, key="key-1")
        ask(world, REFUSED, key="key-2")
    with time_machine.travel(START + timedelta(days=31) - timedelta(microseconds=1), tick=False):
        assert ask(world, key="key-1").is_replay
    with time_machine.travel(START + timedelta(days=31), tick=False):
        assert not ask(world, key="key-1").is_replay
    assert [kept.holds_key for kept in world.attempts()] == [False, True, True]


# A new kind of movement, which exists only in this file


@refusals_of("TRANSFER")
class TransferError(Ladder):
    """The refusals of the movement."""

    UNAVAILABLE = (1, 898, 503, "Points transfer currently unavailable")
    TOO_MUCH = (2, 817, 400, "Points transfer failed due to insufficient points")
    BUSY = (3, 896, 503, "Points transfer could not be processed")
    DATABASE_FAILED = (4, 886, 503, "Points transfer failed due to a temporary system error")
    UNFORESEEN = (5, 804, 500, "Unable to process points transfer request")
    KEY_OF_ANOTHER_REQUEST = (None, 887, 422, "Points transfer failed due to validation error")
    KEY_IN_USE = (None, 896, 409, "Points transfer could not be processed")


@dataclass(frozen=True)
class TransferRequest:
    """A request to transfer points from one lot to another."""

    points_asked: Decimal
    redemption_id = external_reference_number = identifier = None

    @property
    def meaning(self) -> tuple[object, ...]:
        return ("transfer", str(self.points_asked))


@dataclass(frozen=True)
class Transfer:
    """A movement of points between two lots of a customer: everything that a new kind of movement needs."""

    operation: ClassVar[str] = "TRANSFER"

    giver: Lot
    taker: Lot
    request: TransferRequest
    fails: list[Exception] = field(default_factory=list)

    def decide(self, moment: Moment) -> Decision[Decimal]:
        org_id, asked = moment.attempt.org_id, self.request.points_asked
        lock_customers(org_id=org_id, ids=[self.giver.customer_id])
        locked = {lot.facts.id: lot for lot in lock_lots_by_id(org_id=org_id, ids=[self.giver.id, self.taker.id])}
        if self.fails:
            raise self.fails.pop(0)
        left = locked[self.giver.id].facts.points_remaining
        if asked > left:
            raise Refused(TransferError.TOO_MUCH, f"{asked} points were requested, {left} remain.")
        moved = {self.giver.id: -asked, self.taker.id: asked}
        return Decision(left - asked, tuple(add_points("loyalty_lot", "points_remaining", org_id=org_id, points=moved)))


@pytest.fixture
def transfer(world: World) -> Callable[..., Outcome[Decimal]]:
    """Runs transfers between two lots of 10 points; 2 points remain in the second."""
    giver, taker = (make_lot(world.asha, 10, program=world.program) for _ in range(2))
    Lot.objects.filter(id=taker.id).update(points_remaining=2)

    def ask_for(amount: object, *fails: Exception, key: str = "", is_dry_run: bool = False) -> Outcome[Decimal]:
        attempt = new_attempt(world, key)
        attempt.is_dry_run = is_dry_run
        return engine.run(Transfer(giver, taker, TransferRequest(points(amount)), [*fails]), attempt)

    return ask_for


def remaining(world: World) -> list[Decimal]:
    return list(Lot.objects.filter(org=world.org).order_by("id").values_list("points_remaining", flat=True))


def test_new_movement_moves_once_for_a_key(world: World, transfer: Callable[..., Outcome[Decimal]]) -> None:
    first, again = transfer(3, key="key-1"), transfer(3, key="key-1")
    assert (first.result, again.is_replay, again.attempt) == (7, True, first.attempt)
    assert (remaining(world), first.attempt.operation) == ([7, 5], "TRANSFER")
    assert transfer(4, key="key-1").error is TransferError.KEY_OF_ANOTHER_REQUEST


def test_new_movement_refuses_with_its_own_errors_and_moves_nothing(
    world: World, transfer: Callable[..., Outcome[Decimal]]
) -> None:
    refused = transfer(11, key="key-1")
    assert (refused.error, refused.attempt.code) == (TransferError.TOO_MUCH, 817)
    assert (transfer(11, key="key-1").attempt, remaining(world)) == (refused.attempt, [10, 2])
    assert transfer(3, is_dry_run=True).result == 7
    assert remaining(world) == [10, 2]


def test_new_movement_is_retried_after_a_deadlock_and_survives_an_outage(
    world: World, transfer: Callable[..., Outcome[Decimal]]
) -> None:
    assert transfer(1, failure(psycopg.errors.DeadlockDetected())).result == 9
    assert transfer(1, failure(psycopg.errors.DiskFull()), key="key-1").error is TransferError.DATABASE_FAILED
    assert transfer(1, LockFirst(frozenset()), ZeroDivisionError()).error is TransferError.UNFORESEEN
    assert transfer(1, key="key-1").result == 8
    assert remaining(world) == [8, 4]


def test_purge_keeps_the_accepted_attempt_of_a_new_movement(
    world: World, transfer: Callable[..., Outcome[Decimal]]
) -> None:
    made, refused = transfer(3), transfer(11)
    Attempt.objects.filter(org=world.org).update(created_at=START)
    assert attempts.purge(before=START + timedelta(days=1)) == 1
    assert [made.attempt] == world.attempts()
    assert refused.attempt not in world.attempts()
    by_rule = ByRule(RequestFactory().get("/"), {}, Attempt, None)
    assert ("TOO_MUCH.817", "817 TOO_MUCH") in by_rule.lookups(None, None)
