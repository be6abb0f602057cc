"""Tests the delivery of events: signed, in order, retried after failures, and without delaying others."""

import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.db import OperationalError, connection, connections
from django.db.models import QuerySet
from django.utils import timezone

from loyalty.clients.credentials import webhook_secret
from loyalty.models import Webhook
from loyalty.webhooks import change_webhook
from reversals.models import Delivery, Event
from reversals.webhooks import delivery, signing
from reversals.webhooks.delivery import Worker, claim, record
from reversals.webhooks.network import Answer
from tests.builders import World, make_customer, make_webhook, make_world, redeemed
from tests.receiver import Answered, Received, Receiver, closed_url, dripping, receiving

FAILED = Answer(500, "broken")


@pytest.fixture(autouse=True)
def to_private_addresses(settings: Any) -> None:
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def kept(committed: None) -> Iterator[None]:
    """Commits for real, and deletes the deliveries afterwards, which would be due in other tests."""
    yield
    Delivery.objects.all().delete()


def happen(world: World, count: int = 1) -> list[int]:
    """Makes `count` reversals for a new customer, and returns the numbers of their events."""
    world.asha = make_customer(world.org)
    redemption = redeemed(world, count)
    for number in range(count):
        assert world.reverse(redemption, 1, key=f"{redemption.public_id}-{number}").status_code == 200
    return [event.number for event in Event.objects.filter(customer=world.asha).order_by("id")]


def deliveries_of(number: int) -> QuerySet[Delivery]:
    """Selects the deliveries of the event with this number."""
    return Delivery.objects.filter(event__in=[event for event in Event.objects.all() if event.number == number])


def deliver() -> dict[str, int]:
    """Delivers the events that are due now, and returns the outcomes."""
    worker = Worker()
    worker.run(once=True)
    return dict(worker.outcomes)


def the_delivery() -> Delivery:
    return Delivery.objects.select_related("event", "webhook").get()


def outcomes(*, delivered: int = 0, failed: int = 0, given_up: int = 0) -> dict[str, int]:
    return {"delivered": delivered, "failed": failed, "given_up": given_up}


# Requests to receivers


def test_signature_equals_the_specifications_example() -> None:
    assert (
        signing.signature(
            secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            event_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
            timestamp=1614265330,
            body=b'{"test": 2432232314}',
        )
        == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


def test_delivery_sends_its_signed_event(world: World, receiver: Receiver) -> None:
    webhook = make_webhook(world.org, receiver.url)
    happen(world)
    assert deliver() == outcomes(delivered=1)
    [received] = receiver.received
    assert received.event["data"]["redeemedPointsReversed"] == 1.0
    assert received.headers["content-type"] == "application/json"
    assert received.headers["webhook-id"] == received.event["eventId"]
    sent_at = int(received.headers["webhook-timestamp"])
    assert abs(time.time() - sent_at) < 60
    assert received.headers["webhook-signature"] == signing.signature(
        secret=webhook_secret(webhook.id),
        event_id=received.event["eventId"],
        timestamp=sent_at,
        body=received.body,
    )
    delivered = the_delivery()
    assert (delivered.status, delivered.tries, delivered.last_status) == ("DELIVERED", 1, 200)
    assert delivered.delivered_at is not None


def test_every_try_sends_the_same_body_and_id(world: World, receiver: Receiver) -> None:
    make_webhook(world.org, receiver.url)
    happen(world)
    receiver.answers(503)
    deliver()
    receiver.answers(204)
    with time_machine.travel(timezone.now() + timedelta(seconds=2)):
        assert deliver() == outcomes(delivered=1)
    first, second = receiver.received
    assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])


def test_delivered_event_is_not_sent_again(world: World, receiver: Receiver) -> None:
    make_webhook(world.org, receiver.url)
    happen(world)
    assert [deliver(), deliver()] == [outcomes(delivered=1), outcomes()]


# Order


def test_later_event_waits_for_an_earlier_one_of_the_same_customer_only(world: World, receiver: Receiver) -> None:
    make_webhook(world.org, receiver.url)
    first, second = happen(world, 2)
    [other] = happen(world)
    receiver.answer = lambda received: (500 if received.number == first else 200, {}, "")
    assert deliver() == outcomes(delivered=1, failed=1)
    assert sorted(receiver.numbers) == [first, other]
    receiver.answers(200)
    with time_machine.travel(timezone.now() + timedelta(seconds=2)):
        deliver()
    assert receiver.numbers[2:] == [first, second]


def test_later_events_are_sent_immediately_after_the_earlier_one(world: World, receiver: Receiver) -> None:
    """They become due together with it, so that no earlier claim reads them."""
    make_webhook(world.org, receiver.url)
    numbers = happen(world, 3)
    receiver.answers(503, {"Retry-After": "600"})
    deliver()
    assert not Delivery.objects.filter(due_at__lt=timezone.now() + timedelta(minutes=5)).exists()
    receiver.answers(200)
    delivery.deliver_again(deliveries_of(numbers[0]))
    assert deliver() == outcomes(delivered=3)
    assert receiver.numbers == [numbers[0], *numbers]


def test_another_webhook_of_the_org_does_not_wait(world: World, receiver: Receiver) -> None:
    make_webhook(world.org, closed_url())
    make_webhook(world.org, receiver.url)
    numbers = happen(world, 2)
    deliver()
    assert receiver.numbers == numbers


def failing_half_of_the_time(seed: int) -> Any:
    """Answers at random: success, an error, busy, a redirect, or no answer."""
    chance, lock = random.Random(seed), threading.Lock()
    failures: list[Answered] = [(500, {}, "broken"), (429, {}, ""), (302, {"Location": "/"}, ""), None]

    def answer(received: Received) -> Answered:
        with lock:
            return (200, {}, "") if chance.random() < 0.5 else chance.choice(failures)

    return answer


def test_two_workers_keep_order_and_lose_nothing_if_half_of_the_sends_fail(
    kept: None, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Shortens each delay to a hundredth of a second.
    monkeypatch.setattr(random, "uniform", lambda least, most: 0.01)
    world = make_world()
    make_webhook(world.org, receiver.url)
    expected = {}
    for _ in range(6):
        numbers = happen(world, 5)
        expected[world.asha.public_id] = numbers
    taken: dict[int, list[int]] = defaultdict(list)
    decide = failing_half_of_the_time(seed=4711)

    def answer(received: Received) -> Answered:
        answered = decide(received)
        if answered is not None and answered[0] == 200:
            taken[received.customer_id].append(received.number)
        return answered

    receiver.answer = answer

    def work() -> None:
        give_up_at = time.monotonic() + 60
        while Delivery.objects.filter(org=world.org, status="PENDING").exists() and time.monotonic() < give_up_at:
            Worker().run(once=True)
            time.sleep(0.005)
        connections.close_all()

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert taken == expected
    assert len(receiver.received) > 40
    for customer_id, numbers in expected.items():
        arrived = [received.number for received in receiver.received if received.customer_id == customer_id]
        assert arrived == sorted(arrived)
        assert set(arrived) == set(numbers)


# Outcomes


def test_answer_400_gives_up_the_event_and_sends_the_next(world: World, receiver: Receiver) -> None:
    make_webhook(world.org, receiver.url)
    first, second = happen(world, 2)
    receiver.answer = lambda received: (400 if received.number == first else 200, {}, "no such customer\0")
    assert deliver() == outcomes(delivered=1, given_up=1)
    assert receiver.numbers == [first, second]
    given_up = deliveries_of(first).get()
    assert (given_up.status, given_up.last_status, given_up.last_answer) == ("GIVEN_UP", 400, "no such customer")


def test_answer_410_disables_the_webhook_until_it_is_enabled(world: World, receiver: Receiver) -> None:
    webhook = make_webhook(world.org, receiver.url)
    numbers = happen(world, 2)
    receiver.answers(410)
    assert deliver() == outcomes(failed=1)
    webhook.refresh_from_db()
    assert (webhook.is_active, webhook.disabled_reason) == (False, "The receiver answered 410 Gone.")
    assert happen(world) == []
    receiver.answers(200)
    with time_machine.travel(timezone.now() + timedelta(days=8)):
        assert deliver() == outcomes()
        change_webhook(webhook, url=webhook.url, event_names=["redeemedPointsReversed"], is_active=True)
        assert deliver() == outcomes(delivered=2)
    assert receiver.numbers[1:] == numbers


def test_redirect_counts_as_failure_and_is_not_followed(world: World, receiver: Receiver) -> None:
    make_webhook(world.org, receiver.url)
    happen(world)
    with receiving() as elsewhere:
        receiver.answers(307, {"Location": elsewhere.url})
        assert deliver() == outcomes(failed=1)
        assert elsewhere.received == []
    assert the_delivery().last_status == 307


def test_delivery_is_retried_for_7_days_before_the_next_event_is_sent(world: World, receiver: Receiver) -> None:
    make_webhook(world.org, receiver.url)
    first, second = happen(world, 2)
    happened_at = timezone.now()
    receiver.answers(500)
    with time_machine.travel(happened_at + timedelta(days=6, hours=23)):
        assert deliver() == outcomes(failed=1)
    with time_machine.travel(happened_at + timedelta(days=7, hours=1)):
        receiver.answer = lambda received: (500 if received.number == first else 200, {}, "")
        assert deliver() == outcomes(delivered=1, given_up=1)
    assert receiver.numbers == [first, first, second]


def test_delay_doubles_from_a_quarter_second_to_an_hour() -> None:
    now = timezone.now()
    for tries, seconds in [(1, 0.25), (2, 0.5), (3, 1), (14, 2048), (15, 3600), (200, 3600)]:
        waits = [delivery.delay(tries, FAILED, now=now).total_seconds() for _ in range(50)]
        assert seconds <= min(waits) < max(waits) <= seconds * 1.25


@pytest.mark.parametrize(
    ("retry_after", "least", "most"),
    [
        ("120", 120, 120),
        ("0", 0.25, 0.3125),
        ("99999999999999999999", 3600, 3600),
        ("Fri, 31 Dec 2100 23:59:59 GMT", 3600, 3600),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0.25, 0.3125),
        ("-5", 0.25, 0.3125),
        ("soon", 0.25, 0.3125),
    ],
)
def test_retry_after_is_honoured_up_to_an_hour(retry_after: str, least: float, most: float) -> None:
    answer = Answer(429, "", retry_after=retry_after)
    assert least <= delivery.delay(1, answer, now=timezone.now()).total_seconds() <= most


def test_retry_after_postpones_the_next_try(world: World, receiver: Receiver) -> None:
    make_webhook(world.org, receiver.url)
    happen(world)
    receiver.answers(429, {"Retry-After": "600"})
    deliver()
    assert timedelta(seconds=590) < the_delivery().due_at - timezone.now() <= timedelta(seconds=600)


def test_delivering_again_resends_delivered_and_given_up_events(world: World, receiver: Receiver) -> None:
    make_webhook(world.org, receiver.url)
    first, second = happen(world, 2)
    receiver.answer = lambda received: (400 if received.number == first else 200, {}, "")
    deliver()
    receiver.answers(200)
    with time_machine.travel(timezone.now() + timedelta(days=30)):
        assert delivery.deliver_again(Delivery.objects.filter(org=world.org)) == 2
        assert deliver() == outcomes(delivered=2)
    assert receiver.numbers == [first, second, first, second]


# Leases


def test_delivery_of_a_dead_worker_is_sent_after_its_lease(world: World, receiver: Receiver) -> None:
    webhook = make_webhook(world.org, receiver.url)
    numbers = happen(world, 2)
    assert [claimed.event.number for claimed in claim(webhook, at_most=8)] == numbers[:1]
    assert deliver() == outcomes()
    with time_machine.travel(timezone.now() + delivery.LEASE + timedelta(seconds=1)):
        assert deliver() == outcomes(delivered=2)
    assert receiver.numbers == numbers


def test_late_worker_does_not_overwrite_the_record_of_another(world: World, receiver: Receiver) -> None:
    webhook = make_webhook(world.org, receiver.url)
    happen(world)
    [late] = claim(webhook, at_most=8)
    with time_machine.travel(timezone.now() + delivery.LEASE + timedelta(seconds=1)):
        deliver()
        assert record(late, Answer(410, "")) is None
    assert the_delivery().status == "DELIVERED"
    assert Webhook.objects.get(id=webhook.id).is_active


def test_late_worker_does_not_end_the_lease_of_another(world: World) -> None:
    webhook = make_webhook(world.org)
    happen(world)
    [late] = claim(webhook, at_most=8)
    with time_machine.travel(timezone.now() + delivery.LEASE + timedelta(seconds=1)):
        [held] = claim(webhook, at_most=8)
        assert record(late, FAILED) is None
        assert record(held, Answer(200, "")) == "DELIVERED"


def test_earlier_event_sent_again_waits_for_a_later_one_being_sent(world: World) -> None:
    webhook = make_webhook(world.org)
    first, _ = happen(world, 2)
    deliveries_of(first).update(status="DELIVERED")
    [later] = claim(webhook, at_most=8)
    delivery.deliver_again(deliveries_of(first))
    assert claim(webhook, at_most=8) == []
    record(later, Answer(200, ""))
    assert [claimed.event.number for claimed in claim(webhook, at_most=8)] == [first]


def test_concurrent_workers_claim_each_delivery_once(kept: None, on_postgresql: None) -> None:
    world = make_world()
    webhook = make_webhook(world.org)
    for _ in range(8):
        happen(world)
    barrier, claimed = threading.Barrier(4), []

    def work() -> None:
        barrier.wait(timeout=10)
        claimed.extend(row.event_id for row in claim(webhook, at_most=4))
        connections.close_all()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    claimed += [row.event_id for row in claim(webhook, at_most=8)]
    assert sorted(claimed) == sorted(set(claimed))
    assert len(claimed) == 8


def test_worker_waits_while_the_database_fails(kept: None, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "SECONDS_TO_WAIT_FOR_THE_DATABASE", 0)
    world = make_world()
    make_webhook(world.org, receiver.url)
    happen(world)
    worker, failures = Worker(), [OperationalError("gone"), OperationalError("still gone")]

    def fail_at_first(execute: Any, *rest: Any) -> Any:
        if failures:
            raise failures.pop()
        return execute(*rest)

    def take(received: Received) -> Answered:
        worker.stop()
        return 200, {}, ""

    receiver.answer = take
    with connection.execute_wrapper(fail_at_first):
        worker.run(once=False)
    assert worker.outcomes == outcomes(delivered=1)


# Unreachable receivers


def test_pause_of_an_unreachable_webhook_doubles_each_time(world: World) -> None:
    webhook = make_webhook(world.org, closed_url())
    happen(world, 2)
    for seconds in (1, 2, 4):
        with time_machine.travel(timezone.now() + timedelta(hours=seconds), tick=False):
            assert deliver() == outcomes(failed=1)
            webhook.refresh_from_db()
            assert webhook.rests_until == timezone.now() + timedelta(seconds=seconds)
    assert webhook.failure_count == 3


def test_pause_ends_when_the_webhook_is_reachable_again(world: World, receiver: Receiver) -> None:
    webhook = make_webhook(world.org, closed_url())
    happen(world, 2)
    deliver()
    Webhook.objects.filter(id=webhook.id).update(url=receiver.url)
    with time_machine.travel(timezone.now() + timedelta(minutes=1)):
        assert deliver() == outcomes(delivered=2)
    webhook.refresh_from_db()
    assert (webhook.failure_count, webhook.rests_until) == (0, None)


def test_concurrent_failures_count_once(world: World) -> None:
    webhook = make_webhook(world.org)
    for _ in range(3):
        happen(world)
    for claimed in claim(webhook, at_most=3):
        record(claimed, Answer(None, "", was_reached=False))
    webhook.refresh_from_db()
    assert webhook.failure_count == 1


def test_events_for_an_unreachable_receiver_are_given_up_after_7_days(world: World) -> None:
    make_webhook(world.org, closed_url())
    for _ in range(3):
        happen(world)
    with time_machine.travel(timezone.now() + timedelta(days=7, seconds=1)):
        deliver()
    assert set(Delivery.objects.values_list("status", flat=True)) == {"GIVEN_UP"}


def test_unresponsive_receiver_does_not_delay_other_webhooks(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "SECONDS_FOR_A_SEND", 2)
    other = make_world()
    make_webhook(other.org, receiver.url)
    with dripping(b"", every=0.05) as dead:
        webhook = make_webhook(world.org, dead)
        for _ in range(12):
            happen(world)
        numbers = happen(other, 12)
        started = time.monotonic()
        result = deliver()
    assert receiver.numbers == numbers
    assert receiver.received[-1].at - started < 2
    assert result == outcomes(delivered=12, failed=1)
    assert Delivery.objects.filter(webhook=webhook, tries=0).count() == 11


# Slow and failing receivers


@dataclass
class Slow:
    """A receiver that takes 9 s for each answer, or less if it is released. It counts the requests that it holds."""

    released: threading.Event = field(default_factory=threading.Event)
    held: Counter[str] = field(default_factory=Counter)
    most_held: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, received: Received) -> Answered:
        kinds = [f"org {received.event['orgId']}", f"path {received.path}"]
        with self._lock:
            self.held.update(kinds)
            self.most_held |= self.held
        self.released.wait(9)
        with self._lock:
            self.held.subtract(kinds)
        return 200, {}, ""


@contextmanager
def working(count: int = 1) -> Iterator[None]:
    """Runs workers in threads of their own."""
    workers = [Worker() for _ in range(count)]

    def work(worker: Worker) -> None:
        worker.run(once=False)
        connections.close_all()

    threads = [threading.Thread(target=work, args=[worker]) for worker in workers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for worker in workers:
            worker.stop()
        for thread in threads:
            thread.join()


def seconds_until(condition: Callable[[], bool], *, at_most: float) -> float:
    started = time.monotonic()
    while not condition() and time.monotonic() - started < at_most:
        time.sleep(0.01)
    return time.monotonic() - started


@pytest.mark.parametrize(
    ("orgs", "webhooks"),
    [(1, 20), (20, 1), *(pytest.param(*each, marks=pytest.mark.deep) for each in [(1, 2), (1, 8), (20, 8), (20, 20)])],
)
def test_events_of_an_org_do_not_wait_for_slow_receivers_of_others(
    kept: None, receiver: Receiver, orgs: int, webhooks: int
) -> None:
    slow, other = Slow(), make_world()
    make_webhook(other.org, receiver.url)
    with receiving() as slow_receiver:
        slow_receiver.answer = slow.answer
        slow_worlds = [make_world() for _ in range(orgs)]
        for number, world in enumerate(slow_worlds):
            for path in range(webhooks):
                make_webhook(world.org, f"{slow_receiver.url}/{number}/{path}")
            for _ in range(2):
                happen(world)
        with working():
            try:
                seconds_until(lambda: slow.held.total() >= orgs, at_most=5)
                expected = [number for _ in range(60) for number in happen(other)]
                started = time.monotonic()
                seconds_until(lambda: len(receiver.received) >= 60, at_most=8)
            finally:
                slow.released.set()
                for world in slow_worlds:
                    Webhook.objects.filter(org=world.org).update(is_active=False)
    assert sorted(receiver.numbers) == expected
    assert receiver.received[-1].at - started < 2
    assert max(slow.most_held.values()) == min(webhooks, delivery.UNPROVEN_AT_ONCE_TO_ONE_ORG)
    assert max(count for kind, count in slow.most_held.items() if kind.startswith("path")) == 1


def test_receivers_of_20_orgs_that_become_slow_leave_room_for_another_org() -> None:
    webhooks = [Webhook(id=org_id * 4 + number, org_id=org_id) for org_id in range(20) for number in range(4)]
    other = Webhook(id=1000, org_id=20)
    for proven in ({webhook.id for webhook in webhooks}, set()):
        shares = delivery._Shares([], proven)
        for webhook in webhooks:
            room = max(shares.room_for(webhook), 0)
            shares.take([Delivery(org_id=webhook.org_id, webhook=webhook) for _ in range(room)])
        assert shares.room_for(other) == 1
        assert delivery._Shares([], {other.id}).room_for(other) == delivery.AT_ONCE_TO_ONE_WEBHOOK


def test_webhooks_without_a_fault_get_their_turn_first(world: World) -> None:
    slow, good = Webhook(id=1, org_id=1, failure_count=1), Webhook(id=2, org_id=2)
    assert delivery._Shares([], set()).in_turn([slow, good]) == [good, slow]


def answered(webhook: Webhook, *answers: Answer) -> list[tuple[float, str]]:
    """Records each answer for an event of another customer, and returns each rest in seconds with its reason."""
    rests = []
    for answer in answers:
        webhook.refresh_from_db()
        with time_machine.travel(timezone.now() + timedelta(minutes=5), tick=False):
            [claimed] = claim(webhook, at_most=1)
            record(claimed, answer)
            webhook.refresh_from_db()
            rest = webhook.rests_until - timezone.now() if webhook.rests_until else timedelta(0)
        rests.append((rest.total_seconds(), webhook.rest_reason))
    return rests


def test_rest_of_a_slow_receiver_doubles_from_its_third_slow_answer_up_to_the_time_it_takes(world: World) -> None:
    webhook = make_webhook(world.org)
    for _ in range(8):
        happen(world)
    slow = Answer(200, "", seconds=9.0)
    rests = answered(webhook, *[slow] * 7)
    assert rests == [(seconds, "SLOW") for seconds in (0, 0, 1, 2, 4, 8, 9)]
    assert answered(webhook, Answer(200, "", seconds=1.9)) == [(0, "")]
    assert set(Delivery.objects.values_list("status", flat=True)) == {"DELIVERED"}


def test_rest_of_a_failing_receiver_doubles_from_its_third_error_up_to_5_minutes(world: World) -> None:
    webhook = make_webhook(world.org)
    for _ in range(13):
        happen(world)
    rests = answered(webhook, *[FAILED, Answer(503, "", seconds=9.0), Answer(None, "ReadError")] * 4)
    assert rests == [(seconds, "FAILING") for seconds in (0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300)]
    assert answered(webhook, Answer(200, "")) == [(0, "")]


def test_one_event_that_a_receiver_never_accepts_does_not_rest_its_webhook(world: World) -> None:
    webhook = make_webhook(world.org)
    happen(world)
    for _ in range(5):
        Delivery.objects.update(due_at=timezone.now())
        assert answered(webhook, FAILED) == [(0, "FAILING")]
    assert webhook.failure_count == 1


def test_events_to_a_slow_receiver_are_sent_after_each_rest(world: World, receiver: Receiver) -> None:
    webhook = make_webhook(world.org, receiver.url)
    numbers = [number for _ in range(3) for number in happen(world)]
    Webhook.objects.filter(id=webhook.id).update(
        failure_count=5, rests_until=timezone.now() + timedelta(seconds=4), rest_reason="SLOW"
    )
    assert deliver() == outcomes()
    with time_machine.travel(timezone.now() + timedelta(seconds=5)):
        assert deliver() == outcomes(delivered=3)
    assert sorted(receiver.numbers) == numbers  # of three customers, so in any order
    webhook.refresh_from_db()
    assert (webhook.failure_count, webhook.rests_until, webhook.rest_reason) == (0, None, "")


def test_overdue_events_to_a_failing_receiver_are_given_up_together(world: World) -> None:
    webhook = make_webhook(world.org)
    for _ in range(5):
        happen(world)
    Webhook.objects.update(failure_count=2)
    with time_machine.travel(timezone.now() + timedelta(days=7)):
        answered(webhook, FAILED)
    assert set(Delivery.objects.values_list("status", flat=True)) == {"GIVEN_UP"}


def test_reversal_does_not_wait_for_a_receiver(world: World, receiver: Receiver) -> None:
    make_webhook(world.org, receiver.url)
    happen(world, 3)
    assert receiver.received == []
