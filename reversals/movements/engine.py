"""Runs one call that moves points: its key, transaction, retries, outages and record. It knows nothing of points."""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from django.db import Error, transaction

from loyalty.ledger.sql import Statement, execute_together
from reversals.models import Attempt
from reversals.movements import attempts, counters, outages
from reversals.movements.attempts import MovementRequest
from reversals.refusals import ErrorCode, Ladder, Refused

logger = logging.getLogger(__name__)

RETRIES = 2

Accepted = TypeVar("Accepted")
Accepted_co = TypeVar("Accepted_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Moment:
    """One try of a call: its attempt, and the customers (row ids) that an earlier try found it has to lock first."""

    attempt: Attempt
    customer_ids: frozenset[int] = frozenset()


class LockFirst(Exception):
    """The transaction has to begin anew, and to lock these customers (row ids) before all else."""

    def __init__(self, customer_ids: frozenset[int]) -> None:
        super().__init__(customer_ids)
        self.customer_ids = customer_ids


@dataclass(frozen=True, slots=True)
class Decision(Generic[Accepted_co]):
    """What a movement decided: what its caller is told, and what writes it, parents first, if it is no dry run.

    `reversal_id` and `redemption_id` are row ids that the attempt then names. `is_replay`: an earlier movement was the
    same one, and nothing is written again.
    """

    accepted: Accepted_co
    statements: tuple[Statement, ...] = ()
    reversal_id: int | None = None
    redemption_id: int | None = None
    is_replay: bool = False


class Movement(Protocol[Accepted_co]):
    """One movement of points that is asked for."""

    @property
    def operation(self) -> str: ...

    @property
    def request(self) -> MovementRequest:
        """What is asked for, as the record keeps it."""

    def decide(self, moment: Moment) -> Decision[Accepted_co]:
        """Locks, reads and decides in the transaction of the engine; writes nothing. Raises Refused, LockFirst."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What an entry point answers and a key repeats: an HTTP status and a body."""

    status: int
    body: str


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Accepted_co]):
    """What came of a call. `result` is None where a key repeats an earlier reply, which its attempt holds."""

    attempt: Attempt
    result: Accepted_co | Refused | None
    is_replay: bool = False

    @property
    def error(self) -> Ladder | None:
        """The rule that refused it; None where it was accepted."""
        return self.attempt.error


def no_body(result: Any) -> Reply:
    """The reply of an entry point that answers no HTTP call."""
    return Reply(result.error.status if isinstance(result, Refused) else 200, "")


def run(
    movement: Movement[Accepted],
    attempt: Attempt,
    *,
    render: Callable[[Accepted | Refused], Reply] = no_body,
    key_is_free: bool = False,
) -> Outcome[Accepted]:
    """Makes the movement once and records the attempt, accepted or refused.

    `attempt` says who asks, through which channel and with which idempotency key; it must be new. `render` makes the
    reply that is kept for repeats of the key. `key_is_free`: the key was looked up already, and nobody held it.
    Refusals are outcomes, in the order of the operation's ladder; nothing is raised for one, nor for an outage.
    """
    attempt.operation = movement.operation
    call: _Call[Accepted] = _Call(attempt, render, started=time.monotonic())
    return _counted(call.run(movement, key_is_free=key_is_free))


def refuse(refusal: Refused, attempt: Attempt, *, render: Callable[[Any], Reply] = no_body) -> Outcome[Any]:
    """Records a call that was refused before anybody knew what it asks for: its headers or its body are wrong."""
    return _counted(_Call(attempt, render, started=time.monotonic()).refuse(refusal))


def _counted(outcome: Outcome[Accepted]) -> Outcome[Accepted]:
    attempt = outcome.attempt
    rule, code = ("", "") if outcome.error is None else (outcome.error.name, outcome.error.code)
    counters.MOVEMENTS.labels(attempt.operation, attempt.channel, rule, code).inc()
    return outcome


@dataclass
class _Call(Generic[Accepted]):
    """One call on its way to its outcome."""

    attempt: Attempt
    render: Callable[[Accepted | Refused], Reply]
    started: float
    in_transaction: bool = False
    is_writing: bool = False

    def run(self, movement: Movement[Accepted], *, key_is_free: bool) -> Outcome[Accepted]:
        try:
            attempts.describe(self.attempt, movement.request)
            if self.attempt.uses_key and not key_is_free:
                earlier = attempts.find_answer(self.attempt)
                if earlier is not None:
                    return Outcome(earlier, None, is_replay=True)
            self.in_transaction = True
            return self._move(movement)
        except Refused as refusal:
            return self.refuse(refusal)
        except Error as error:
            outage = outages.refusal_for(error, during_movement=self.in_transaction)
            return self.refuse(outage or _unforeseen(error))
        except Exception as error:  # the ladder's last row: nothing unforeseen reaches the client as a traceback
            return self.refuse(_unforeseen(error))

    def _move(self, movement: Movement[Accepted]) -> Outcome[Accepted]:
        """The transaction, tried again after a deadlock, but never once COMMIT was sent."""
        moment, retries_left = Moment(self.attempt), RETRIES
        while True:
            is_committing = self.is_writing = False
            try:
                with transaction.atomic():
                    outcome = self._decide_and_write(movement, moment)
                    is_committing = True
                return outcome
            except LockFirst as first:
                moment = replace(moment, customer_ids=first.customer_ids)
            except Error as error:
                if is_committing and attempts.was_committed(self.attempt):
                    return outcome
                if self._lost_its_key(error):
                    return Outcome(attempts.answer_of_holder(self.attempt), None, is_replay=True)
                if is_committing or not retries_left or not outages.is_retryable(error):
                    raise
                retries_left -= 1
                counters.RETRIES.labels(outages.sqlstate_of(error)).inc()
                time.sleep(random.uniform(0.005, 0.05))

    def _decide_and_write(self, movement: Movement[Accepted], moment: Moment) -> Outcome[Accepted]:
        attempt = self.attempt
        attempt.rule, attempt.code, attempt.refusal_reason = "", None, ""  # of a try that was rolled back
        try:
            decision = movement.decide(moment)
        except Refused as refusal:
            # Nothing is written yet, so the refusal commits. After a ROLLBACK the driver would prepare all anew.
            return self._record(refusal)
        if attempt.is_dry_run and not decision.is_replay:
            decision = Decision(decision.accepted)
        attempt.reversal_id, attempt.redemption_id = decision.reversal_id, decision.redemption_id
        attempt.holds_key = attempt.uses_key
        self._finish(self.render(decision.accepted))
        self.is_writing = True
        execute_together([*decision.statements, attempts.insertion(attempt)])
        return Outcome(attempt, decision.accepted, decision.is_replay)

    def _lost_its_key(self, error: Error) -> bool:
        """Whether another request took the key meanwhile. Refuses 896 (409) where that one still runs."""
        if not (self.is_writing and self.attempt.holds_key):
            return False
        if outages.is_lock_timeout(error):
            raise attempts.key_in_use() from error
        return attempts.is_held(error)

    def refuse(self, refusal: Refused) -> Outcome[Accepted]:
        """Records the refusal outside of a transaction and returns it; or what the key's holder was answered."""
        try:
            return self._record(refusal)
        except Refused as refused_by_key:
            return self.refuse(refused_by_key)
        except Error as outage:
            return self._unrecorded(self._put_on_attempt(refusal), outage)

    def _record(self, refusal: Refused) -> Outcome[Accepted]:
        """The outcome of the refusal, once recorded; refuses in turn where its key was used for another request."""
        refused = self._put_on_attempt(refusal)
        self.is_writing = True
        if attempts.record(self.attempt):
            return Outcome(self.attempt, refused)
        return Outcome(attempts.answer_of_holder(self.attempt), None, is_replay=True)

    def _put_on_attempt(self, refusal: Refused) -> Refused:
        """The refusal in the words of the operation, which is put on the attempt."""
        attempt = self.attempt
        # What all movements share refuses in the words of a reversal; the operation has words of its own.
        error = attempt.ladder[refusal.error.name]
        attempt.reversal_id = attempt.redemption_id = None
        attempt.rule = error.name
        attempt.code = error.code
        attempt.refusal_reason = refusal.reason
        attempt.holds_key = bool(attempt.fingerprint) and error.holds_key
        refused = Refused(error, refusal.reason)
        self._finish(self.render(refused))
        return refused

    def _unrecorded(self, refused: Refused, error: Error) -> Outcome[Accepted]:
        """The outcome where no attempt can be written: the ladder's UNAVAILABLE, unless an earlier row applies."""
        logger.warning("an attempt could not be recorded: %s", error)
        outage = outages.refusal_for(error, during_movement=False)
        if outage is not None and refused.error.is_decided_by_database:
            refused = Refused(self.attempt.ladder[outage.error.name], outage.reason)
            self.attempt.rule = refused.error.name
            self._finish(self.render(refused))
        return Outcome(self.attempt, refused)

    def _finish(self, reply: Reply) -> None:
        self.attempt.http_status = reply.status
        self.attempt.reply = reply.body
        self.attempt.duration_ms = round((time.monotonic() - self.started) * 1000)


def _unforeseen(error: Exception) -> Refused:
    logger.error("a call failed unforeseen", exc_info=error)
    return Refused(ErrorCode.UNFORESEEN, "An unforeseen error; report the X-CAP-REQUEST-ID of this reply.")
