"""Runs one call that moves points, from its key to its answer: transaction, retries, outages and the record of it."""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from django.db import Error, transaction

from loyalty.callers import Belief, Unproven
from reversals import attempts, outages
from reversals.errors import ErrorCode, Ladder, Refused
from reversals.models import Attempt
from reversals.monitoring import counted
from reversals.requests import MovementRequest

logger = logging.getLogger(__name__)

RETRIES = 2

Request = TypeVar("Request", bound=MovementRequest)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a door answers and a key repeats: an HTTP status and a body."""

    status: int
    body: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The attempt with its answer: accepted if it has no rule, else refused by it."""

    attempt: Attempt
    is_replay: bool = False

    @property
    def error(self) -> Ladder | None:
        return self.attempt.error


class StartAgain(Exception):
    """The transaction has to begin anew, with what the movement learned in it."""


class Movement(Protocol[Request]):
    """One kind of movement of points. Each method refuses by raising Refused."""

    def read(self) -> Request:
        """What is asked for, as plain values."""

    def check(self) -> None:
        """What needs no look-up."""

    def make(self, request: Request, finish: Callable[[Reply], None]) -> bool:
        """Locks, decides and writes, in the caller's transaction, the attempt included.

        Returns whether it moved nothing because an earlier movement is the same one, and answered with that.
        `finish` puts the reply on the attempt and must be called before the attempt is written.
        """

    def refused(self, refusal: Refused) -> Reply:
        """The reply to a refusal."""


def answer(attempt: Attempt, movement: Movement[Request], belief: Belief | None = None) -> Answer:
    """Makes the movement once, and records the attempt, accepted or refused.

    `attempt` says who asks, through which channel and with which idempotency key; it must be new. Refusals are
    answers, in the order of the attempt's ladder; nothing is raised for one, nor for a database outage.
    `belief` is in who calls; a movement that writes must have proven it. Raises Unproven, with nothing kept.
    """
    answered = _answer(_Call(attempt, movement, belief, started=time.monotonic()))
    rule, code = ("", "") if answered.error is None else (answered.error.name, answered.error.code)
    counted.MOVEMENTS.labels(attempt.operation, attempt.channel, rule, code).inc()
    return answered


def _answer(call: "_Call[Request]") -> Answer:
    try:
        return call.answer()
    except Unproven:
        raise
    except Refused as refusal:
        return call.refuse(refusal)
    except Error as error:
        outage = outages.refusal_for(error, during_movement=call.in_transaction)
        if call.belief is not None and not (outage and outage.error is ErrorCode.BUSY):
            call.belief.give_up()  # a kept connection does not outlive a restart of the database
        return call.refuse(outage or _unforeseen(error))
    except Exception as error:  # the ladder's last row: nothing unforeseen reaches the client as a traceback
        return call.refuse(_unforeseen(error))


@dataclass
class _Call(Generic[Request]):
    """One call on its way to its answer."""

    attempt: Attempt
    movement: Movement[Request]
    belief: Belief | None
    started: float
    in_transaction: bool = False

    def answer(self) -> Answer:
        request = self.movement.read()
        attempts.describe(self.attempt, request)
        if self.attempt.uses_key:
            earlier = attempts.find_answer(self.attempt)
            if earlier is not None:
                return self._repeat(earlier)
        self.movement.check()
        self.in_transaction = True
        return self._move(request)

    def _move(self, request: Request) -> Answer:
        """The transaction, tried again after a deadlock, but never once COMMIT was sent."""
        retries_left = RETRIES
        while True:
            committing = False
            try:
                with transaction.atomic():
                    answer = self._move_in_transaction(request)
                    committing = True
                return answer
            except StartAgain:
                continue
            except Error as error:
                if committing and attempts.was_committed(self.attempt):
                    return answer
                if committing or not retries_left or not outages.is_retryable(error):
                    raise
                retries_left -= 1
                counted.RETRIES.labels(outages.sqlstate_of(error)).inc()
                time.sleep(random.uniform(0.005, 0.05))

    def _move_in_transaction(self, request: Request) -> Answer:
        attempt = self.attempt
        attempt.reversal_id = attempt.redemption_id = None  # of a try that was rolled back
        if attempt.uses_key and not attempts.take_key(attempt):
            return self._repeat(attempts.answer_of_holder(attempt))
        is_replay = self.movement.make(request, self._finish)
        return Answer(attempt, is_replay)

    def refuse(self, refusal: Refused) -> Answer:
        """Records the refusal, after the rollback, and returns it; or what the key's holder was answered."""
        self._prove()
        attempt = self.attempt
        # The shared rooms refuse in the words of a reversal; the call has words of its own.
        error = attempt.ladder[refusal.error.name]
        attempt.reversal_id = attempt.redemption_id = None
        attempt.rule = error.name
        attempt.code = error.code
        attempt.refusal_reason = refusal.reason
        attempt.holds_key = bool(attempt.fingerprint) and error.holds_key
        self._finish(self.movement.refused(Refused(error, refusal.reason)))
        try:
            if attempts.record(attempt):
                return Answer(attempt)
            return self._repeat(attempts.answer_of_holder(attempt))
        except Refused as refused_by_key:
            return self.refuse(refused_by_key)
        except Error as outage:
            return self._unrecorded(error, outage)

    def _repeat(self, earlier: Attempt) -> Answer:
        self._prove()
        return Answer(earlier, is_replay=True)

    def _prove(self) -> None:
        if self.belief is not None:
            self.belief.prove()

    def _unrecorded(self, refused_as: Ladder, error: Error) -> Answer:
        """The answer where no attempt can be written: the ladder's UNAVAILABLE, unless an earlier row applies."""
        logger.warning("an attempt could not be recorded: %s", error)
        outage = outages.refusal_for(error, during_movement=False)
        if outage is not None and refused_as.is_decided_by_database:
            as_refused = self.attempt.ladder[outage.error.name]
            self.attempt.rule = as_refused.name
            self._finish(self.movement.refused(Refused(as_refused, outage.reason)))
        return Answer(self.attempt)

    def _finish(self, reply: Reply) -> None:
        self.attempt.http_status = reply.status
        self.attempt.reply = reply.body
        self.attempt.duration_ms = round((time.monotonic() - self.started) * 1000)


def _unforeseen(error: Exception) -> Refused:
    logger.error("a call failed unforeseen", exc_info=error)
    return Refused(ErrorCode.UNFORESEEN, "An unforeseen error; report the X-CAP-REQUEST-ID of this reply.")
