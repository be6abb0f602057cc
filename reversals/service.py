"""Reverses points: the one door, whoever asks. It opens the transaction and reads the clock once."""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from django.db import Error, transaction
from django.utils import timezone

from loyalty import selectors as loyalty_selectors
from loyalty.emf import EmfSettings
from reversals import attempts, ledger, outages, rules, selectors
from reversals.errors import ErrorCode, ReversalRefused
from reversals.models import Attempt, Channel
from reversals.requests import ReversalRequest
from reversals.rules import Facts, Plan

logger = logging.getLogger(__name__)

RETRIES = 2


@dataclass(frozen=True, slots=True)
class Accepted:
    """A reversal that was made: what it rested on, what was written, and its new public id."""

    facts: Facts
    plan: Plan
    reversal_id: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What a door answers and a key repeats: an HTTP status and a body."""

    status: int
    body: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The attempt with its answer: accepted if it has a reversal, else refused by its rule."""

    attempt: Attempt
    is_replay: bool = False

    @property
    def error(self) -> ErrorCode | None:
        return ErrorCode[self.attempt.rule] if self.attempt.rule else None


def _no_reply(outcome: Accepted | ReversalRefused) -> Reply:
    return Reply(outcome.error.status if isinstance(outcome, ReversalRefused) else 200, "")


def reverse_points(
    attempt: Attempt,
    *,
    settings: EmfSettings,
    read: Callable[[], ReversalRequest],
    reply: Callable[[Accepted | ReversalRefused], Reply] = _no_reply,
) -> Answer:
    """Makes the reversal that `read` returns, once, and records the attempt, accepted or refused.

    `attempt` says who asks, through which channel and with which idempotency key; it must be new. `read`
    raises ReversalRefused on a malformed request. `reply` gives the body that a repeat of the key receives.
    Refusals are answers, in the order of `ErrorCode`; nothing is raised for one, nor for a database outage.
    """
    call = _Call(attempt, settings, reply, started=time.monotonic())
    try:
        return call.answer(read)
    except ReversalRefused as refusal:
        return call.refuse(refusal)
    except Error as error:
        outage = outages.refusal_for(error, during_reversal=call.in_transaction)
        return call.refuse(outage or _unforeseen(error))
    except Exception as error:  # row 19 of the ladder: nothing unforeseen reaches the client as a traceback
        return call.refuse(_unforeseen(error))


@dataclass
class _Call:
    """One call on its way to its answer."""

    attempt: Attempt
    settings: EmfSettings
    reply: Callable[[Accepted | ReversalRefused], Reply]
    started: float
    in_transaction: bool = False

    def answer(self, read: Callable[[], ReversalRequest]) -> Answer:
        request = read()
        attempts.describe(self.attempt, request)
        if self.attempt.idempotency_key:
            earlier = attempts.find_answer(self.attempt)
            if earlier is not None:
                return Answer(earlier, is_replay=True)
        rules.check_org(self.settings)
        self.in_transaction = True
        return self._reverse(request)

    def _reverse(self, request: ReversalRequest) -> Answer:
        """The transaction, tried again after a deadlock, but never once COMMIT was sent."""
        for retries_left in reversed(range(RETRIES + 1)):
            committing = False
            try:
                with transaction.atomic():
                    answer = self._reverse_in_transaction(request)
                    committing = True
                return answer
            except Error as error:
                if committing and attempts.was_committed(self.attempt):
                    return answer
                if committing or not retries_left or not outages.is_retryable(error):
                    raise
                time.sleep(random.uniform(0.005, 0.05))
        raise AssertionError("the last try returns or raises")

    def _reverse_in_transaction(self, request: ReversalRequest) -> Answer:
        attempt = self.attempt
        attempt.reversal_id = None  # of a try that was rolled back
        if attempt.idempotency_key and not attempts.take_key(attempt):
            return Answer(attempts.answer_of_holder(attempt), is_replay=True)
        reversal_id = ledger.new_public_id()
        redemption = loyalty_selectors.lock_redemption(
            org_id=attempt.org_id,
            identifier=request.identifier,
            public_id=request.redemption_id,
            external_reference_number=request.external_reference_number,
            candidate_public_id=reversal_id,
        )
        now = timezone.now()
        if redemption is None:
            raise self._not_found(request)
        if redemption.candidate_is_taken:
            raise outages.PublicIdTaken
        facts = Facts(
            request=request,
            settings=self.settings,
            redemption=redemption,
            earlier=selectors.earlier_reversals(
                attempt=attempt, request=request, redemption=redemption, settings=self.settings, now=now
            ),
            by_hand=attempt.channel != Channel.API,
            now=now,
        )
        plan = rules.plan_reversal(facts)
        self._finish(self.reply(Accepted(facts, plan, reversal_id)))
        ledger.write_reversal(facts=facts, plan=plan, attempt=attempt, public_id=reversal_id)
        return Answer(attempt)

    def refuse(self, refusal: ReversalRefused) -> Answer:
        """Records the refusal, after the rollback, and returns it; or what the key's holder was answered."""
        attempt = self.attempt
        attempt.reversal_id = None
        attempt.rule = refusal.error.name
        attempt.code = refusal.error.code
        attempt.refusal_reason = refusal.reason
        attempt.holds_key = bool(attempt.fingerprint) and refusal.error.holds_key
        self._finish(self.reply(refusal))
        try:
            if attempts.record(attempt):
                return Answer(attempt)
            return Answer(attempts.answer_of_holder(attempt), is_replay=True)
        except ReversalRefused as refused_by_key:
            return self.refuse(refused_by_key)
        except Error as error:
            return self._unrecorded(refusal, error)

    def _unrecorded(self, refusal: ReversalRefused, error: Error) -> Answer:
        """The answer where no attempt can be written: row 3 of the ladder, unless an earlier row applies."""
        logger.warning("an attempt could not be recorded: %s", error)
        outage = outages.refusal_for(error, during_reversal=False)
        if outage is not None and refusal.error.row in range(4, 17):
            self.attempt.rule = outage.error.name
            self._finish(self.reply(outage))
        return Answer(self.attempt)

    def _finish(self, reply: Reply) -> None:
        self.attempt.http_status = reply.status
        self.attempt.reply = reply.body
        self.attempt.duration_ms = round((time.monotonic() - self.started) * 1000)

    def _not_found(self, request: ReversalRequest) -> ReversalRefused:
        public_id = request.redemption_id
        if public_id is not None and selectors.is_reversal(
            org_id=self.attempt.org_id, public_id=public_id, identifier=request.identifier
        ):
            return ReversalRefused(
                ErrorCode.IS_A_REVERSAL,
                f"{public_id} is a reversal; a reversal is not reversed. Send the redemptionId.",
            )
        return ReversalRefused(
            ErrorCode.NOT_FOUND,
            "There is no such customer, or no such redemption of that customer; check identifier and redemption.",
        )


def _unforeseen(error: Exception) -> ReversalRefused:
    logger.error("a reversal failed unforeseen", exc_info=error)
    return ReversalRefused(ErrorCode.UNFORESEEN, "An unforeseen error; report the X-CAP-REQUEST-ID of this reply.")
