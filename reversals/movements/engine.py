"""Runs one call that moves points: its key, transaction, retries, outages and record. Contains no rules of points."""

import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from django.db import Error, transaction

from loyalty import maintenance
from loyalty.ledger.sql import Statement, execute_together
from loyalty.outages import cause_of, is_lock_timeout, note_outage, sqlstate_of, took_too_long
from reversals.models import Attempt, Channel
from reversals.movements import attempts, counters, outages
from reversals.movements.attempts import MovementRequest
from reversals.refusals import ErrorCode, Ladder, Refused

logger = logging.getLogger(__name__)

RETRIES = 2

Accepted = TypeVar("Accepted")
Accepted_co = TypeVar("Accepted_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Moment:
    """One try of a call: its attempt, and the row ids of customers that an earlier try found must be locked first."""

    attempt: Attempt
    customer_ids: frozenset[int] = frozenset()


class LockFirst(Exception):
    """The transaction must start again and first lock these customers (row ids)."""

    def __init__(self, customer_ids: frozenset[int]) -> None:
        super().__init__(customer_ids)
        self.customer_ids = customer_ids


@dataclass(frozen=True, slots=True)
class Decision(Generic[Accepted_co]):
    """What a movement decided: the result for the caller, and the statements that write it, parents first.

    A dry run executes no statements. The attempt records `reversal_id` and `redemption_id`, which are row ids.
    `is_replay`: the movement was already made earlier, and nothing is written again.
    """

    accepted: Accepted_co
    statements: tuple[Statement, ...] = ()
    reversal_id: int | None = None
    redemption_id: int | None = None
    is_replay: bool = False


class Movement(Protocol[Accepted_co]):
    """A requested movement of points."""

    @property
    def operation(self) -> str: ...

    @property
    def request(self) -> MovementRequest:
        """The request, as the attempt records it."""

    def decide(self, moment: Moment) -> Decision[Accepted_co]:
        """Locks, reads and decides in the engine's transaction, and writes nothing. Raises Refused or LockFirst."""


@dataclass(frozen=True, slots=True)
class Wrapped(Generic[Accepted_co]):
    """A movement with something that commits with it: a subclass decides what."""

    movement: Movement[Accepted_co]

    @property
    def operation(self) -> str:
        return self.movement.operation

    @property
    def request(self) -> MovementRequest:
        return self.movement.request


@dataclass(frozen=True, slots=True)
class Reply:
    """The HTTP status and body that an entry point answers with, and that a key repeats."""

    status: int
    body: str


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Accepted_co]):
    """The outcome of a call. `result` is None if a key repeats an earlier reply, which the attempt holds."""

    attempt: Attempt
    result: Accepted_co | Refused | None
    is_replay: bool = False

    @property
    def error(self) -> Ladder | None:
        """The rule that refused the call; None if it was accepted."""
        return self.attempt.error


def no_body(result: Any) -> Reply:
    """Renders the reply for an entry point that does not answer over HTTP."""
    return Reply(result.error.status if isinstance(result, Refused) else 200, "")


def run(
    movement: Movement[Accepted],
    attempt: Attempt,
    *,
    render: Callable[[Accepted | Refused], Reply] = no_body,
    key_is_free: bool = False,
    in_maintenance: bool | None = None,
) -> Outcome[Accepted]:
    """Runs the movement once and records the attempt, accepted or refused.

    `attempt` holds the caller, the channel and the idempotency key. It must be new. `render` creates the reply, which
    is stored to answer repeats of the key. `key_is_free`: the key was already looked up, and no attempt holds it.
    `in_maintenance`: whether maintenance is on; None if the caller has not looked. Then the call is refused and not
    recorded, but a repeat of a key is still answered.
    Returns refusals and outages as outcomes, in the order of the operation's refusals; does not raise them.
    """
    attempt.operation = movement.operation
    call: _Call[Accepted] = _Call(attempt, render, time.monotonic(), in_maintenance)
    return _counted(call.run(movement, key_is_free=key_is_free))


def refuse(
    refusal: Refused,
    attempt: Attempt,
    *,
    render: Callable[[Any], Reply] = no_body,
    in_maintenance: bool | None = None,
) -> Outcome[Any]:
    """Records a call that was refused before its request could be read: its headers or its body are wrong."""
    return _counted(_Call(attempt, render, time.monotonic(), in_maintenance).refuse(refusal))


def _counted(outcome: Outcome[Accepted]) -> Outcome[Accepted]:
    attempt = outcome.attempt
    rule, code = ("", "") if outcome.error is None else (outcome.error.name, outcome.error.code)
    counters.MOVEMENTS.labels(attempt.operation, attempt.channel, rule, code).inc()
    return outcome


@dataclass
class _Call(Generic[Accepted]):
    """One call, and how far its transaction has got."""

    attempt: Attempt
    render: Callable[[Accepted | Refused], Reply]
    started: float
    in_maintenance: bool | None
    in_transaction: bool = False
    is_writing: bool = False

    def run(self, movement: Movement[Accepted], *, key_is_free: bool) -> Outcome[Accepted]:
        try:
            attempts.describe(self.attempt, movement.request)
            if self.attempt.uses_key and not key_is_free:
                earlier = attempts.find_answer(self.attempt)
                if earlier is not None:
                    return Outcome(earlier, None, is_replay=True)
            if self.in_maintenance is None:
                self.in_maintenance = maintenance.is_on()
            if self.in_maintenance:
                raise outages.under_maintenance()
            self.in_transaction = True
            return self._move(movement)
        except Refused as refusal:
            return self.refuse(refusal)
        except Error as error:
            outage = outages.refusal_for(error, during_movement=self.in_transaction)
            return self.refuse(outage or _unforeseen(error))
        except Exception as error:  # the last refusal of each list: no traceback reaches the client
            return self.refuse(_unforeseen(error))

    def _move(self, movement: Movement[Accepted]) -> Outcome[Accepted]:
        """Runs the transaction, and again after a deadlock, but not after COMMIT was sent."""
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
                if maintenance.was_refused(error):  # it was switched on meanwhile
                    self.in_maintenance = True
                    raise
                if is_committing and self._was_committed(error):
                    return outcome
                if self._lost_its_key(error):
                    return Outcome(attempts.answer_of_holder(self.attempt), None, is_replay=True)
                if is_committing or not retries_left or not outages.is_retryable(error):
                    raise
                retries_left -= 1
                counters.RETRIES.labels(sqlstate_of(error)).inc()
                time.sleep(random.uniform(0.005, 0.05))

    def _was_committed(self, error: Error) -> bool:
        """Whether COMMIT happened although it failed with the error. Refuses 896 or 886 if nobody can say so yet.

        A COMMIT that takes too long waits for a standby: nobody sees what it stored until it ends, if it does.
        """
        if took_too_long(error) and self.attempt.uses_key:
            note_outage(error)
            raise attempts.key_in_use() from error
        if not took_too_long(error):
            with suppress(Error):
                return attempts.was_committed(self.attempt)
        raise outages.of_unknown_outcome(error) from error

    def _decide_and_write(self, movement: Movement[Accepted], moment: Moment) -> Outcome[Accepted]:
        attempt = self.attempt
        attempt.rule, attempt.code, attempt.refusal_reason = "", None, ""  # may be set by a try that was rolled back
        try:
            decision = movement.decide(moment)
        except Refused as refusal:
            # Nothing is written yet, so the refusal can commit. After a ROLLBACK psycopg would prepare all again.
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
        """Whether another request took the key meanwhile. Refuses 896 (HTTP 409) if that request is still running."""
        if not (self.is_writing and self.attempt.holds_key):
            return False
        if is_lock_timeout(error):
            raise attempts.key_in_use() from error
        return attempts.is_held(error)

    def refuse(self, refusal: Refused) -> Outcome[Accepted]:
        """Records the refusal outside of a transaction. Returns it, or the reply of the attempt that holds the key."""
        if self.in_maintenance:
            return Outcome(self.attempt, self._put_on_attempt(refusal))
        try:
            return self._record(refusal)
        except Refused as refused_by_key:
            return self.refuse(refused_by_key)
        except Error as outage:
            return self._unrecorded(self._put_on_attempt(refusal), outage)

    def _record(self, refusal: Refused) -> Outcome[Accepted]:
        """Records the refusal and returns its outcome. Raises Refused if its key was used for a different request."""
        refused = self._put_on_attempt(refusal)
        self.is_writing = True
        if attempts.record(self.attempt):
            return Outcome(self.attempt, refused)
        return Outcome(attempts.answer_of_holder(self.attempt), None, is_replay=True)

    def _put_on_attempt(self, refusal: Refused) -> Refused:
        """Sets the refusal on the attempt, and returns it as a refusal of the attempt's operation and channel."""
        attempt, refused = self.attempt, self._own(refusal)
        attempt.reversal_id = attempt.redemption_id = None
        attempt.rule = refused.error.name
        attempt.code = refused.error.code
        attempt.refusal_reason = refused.reason
        attempt.holds_key = bool(attempt.fingerprint) and refused.error.holds_key
        self._finish(self.render(refused))
        return refused

    def _own(self, refusal: Refused) -> Refused:
        """The operation's refusal of the same name, because shared code raises those of a reversal."""
        is_api = self.attempt.channel == Channel.API
        return Refused(self.attempt.ladder[refusal.error.name], refusal.reason if is_api else refusal.staff_reason)

    def _unrecorded(self, refused: Refused, error: Error) -> Outcome[Accepted]:
        """The outcome if the attempt cannot be recorded: UNAVAILABLE, unless an earlier refusal applies."""
        outage = outages.refusal_for(error, during_movement=False)
        if outage is None:
            logger.error("could not record an attempt: %s", cause_of(error))
        if outage is not None and refused.error.is_decided_by_database:
            refused = self._own(outage)
            self.attempt.rule = refused.error.name
            self._finish(self.render(refused))
        return Outcome(self.attempt, refused)

    def _finish(self, reply: Reply) -> None:
        self.attempt.http_status = reply.status
        self.attempt.reply = reply.body
        self.attempt.duration_ms = round((time.monotonic() - self.started) * 1000)


def _unforeseen(error: Exception) -> Refused:
    logger.error("a call failed with an unexpected error", exc_info=error)
    return Refused(
        ErrorCode.UNFORESEEN,
        "An unexpected error occurred. Report the X-CAP-REQUEST-ID of this reply.",
        staff_reason="An unexpected error occurred. Report it with the request id on the page of this attempt.",
    )
