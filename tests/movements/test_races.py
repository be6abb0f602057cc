"""Tests races of up to fifty clients: no more is reversed than remains, and only because of the lock."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, connections, transaction

from loyalty.ledger import locks
from loyalty.ledger.groups import set_group
from loyalty.models import Customer, Lot, Redemption
from reversals.assurance.verification import broken_laws
from reversals.manual import manual_reversals
from reversals.manual.manual_reversals import ManualReversal
from reversals.models import Approval, Correction, Reversal
from reversals.movements.reverse import rules
from tests.builders import World, correct, make_customer, make_lot, make_world, operator_of, redeem, redeemed

pytestmark = pytest.mark.usefixtures("committed", "on_postgresql")

CLIENTS = 50


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """Runs each call in its own thread. All threads start at the same moment."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        try:
            barrier.wait(timeout=30)
            return call()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def codes(answers: list[Any]) -> Counter[tuple[int, int]]:
    """The number of answers by HTTP status and code, which is 0 for success."""
    return Counter(
        (answer.status_code, answer.json()["errors"][0]["code"] if answer.json()["errors"] else 0) for answer in answers
    )


def assert_ledger_holds(world: World) -> None:
    assert broken_laws(world.org.id) == []


def test_fifty_concurrent_full_reversals_reverse_once() -> None:
    world = make_world()
    redemption = redeemed(world, 10)
    answers = at_once([lambda: world.reverse(redemption)] * CLIENTS)
    assert codes(answers) == {(200, 0): 1, (400, 902): CLIENTS - 1}
    assert Lot.objects.get(org=world.org).points_remaining == 10
    assert_ledger_holds(world)


def test_fifty_concurrent_partial_reversals_reverse_no_more_than_redeemed() -> None:
    world = make_world()
    make_lot(world.asha, 4, program=world.program)
    make_lot(world.asha, 6, program=world.program)
    redemption = redeem(world.asha, 10, program=world.program)
    answers = at_once([lambda n=n: world.reverse(redemption, 0.3, key=f"key-{n}") for n in range(CLIENTS)])
    # 33 times 0.3 is 9.9; the remaining 0.1 is less than requested.
    assert codes(answers) == {(200, 0): 33, (400, 817): CLIENTS - 33}
    assert Redemption.objects.get(id=redemption.id).points_reversed == Decimal("9.9")
    assert_ledger_holds(world)


def test_fifty_requests_with_one_key_make_one_reversal_and_one_reply() -> None:
    world = make_world()
    redemption = redeemed(world, 10)
    answers = at_once([lambda: world.reverse(redemption, 2, key="one")] * CLIENTS)
    assert codes(answers) == {(200, 0): CLIENTS}
    assert len({answer.content for answer in answers}) == 1
    assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
    assert Reversal.objects.filter(org=world.org).count() == 1
    assert_ledger_holds(world)


def test_one_key_for_two_different_requests_makes_one_reversal() -> None:
    world = make_world()
    redemptions = [redeemed(world, 10) for _ in range(2)]
    answers = at_once([lambda r=r: world.reverse(r, 2, key="one") for r in redemptions * 10])
    made = Reversal.objects.get(org=world.org)
    assert codes(answers) == {(200, 0): 10, (422, 887): 10}
    assert made.points == 2
    assert_ledger_holds(world)


def test_limit_holds_across_concurrent_reversals_of_a_customers_redemptions() -> None:
    world = make_world(settings={"Reversal_limit_count": "3"})
    redemptions = [redeemed(world, 10) for _ in range(10)]
    answers = at_once([lambda r=r: world.reverse(r) for r in redemptions])
    assert codes(answers) == {(200, 0): 3, (400, 903): 7}
    assert_ledger_holds(world)


def redeemed_ids(answers: list[Any]) -> set[str]:
    return {answer.json()["redemptionId"] for answer in answers if answer.status_code == 200}


def test_fifty_concurrent_redemptions_draw_no_more_than_available() -> None:
    world = make_world()
    lots = [make_lot(world.asha, 5, program=world.program) for _ in range(2)]
    answers = at_once([lambda n=n: world.redeem(world.asha, 0.3, key=f"key-{n}") for n in range(CLIENTS)])
    assert codes(answers) == {(200, 0): 33, (400, 818): CLIENTS - 33}
    assert sum(Lot.objects.get(id=lot.id).points_remaining for lot in lots) == Decimal("0.1")
    assert len(redeemed_ids(answers)) == 33
    assert_ledger_holds(world)


def test_fifty_redemptions_with_one_reference_number_make_one() -> None:
    world = make_world()
    make_lot(world.asha, 50, program=world.program)
    answers = at_once([lambda: world.redeem(world.asha, 1, externalReferenceNumber="E-1")] * CLIENTS)
    assert codes(answers) == {(200, 0): CLIENTS}
    assert len(redeemed_ids(answers)) == 1
    assert_ledger_holds(world)


def test_ten_equal_redemptions_without_key_make_one() -> None:
    world = make_world()
    make_lot(world.asha, 50, program=world.program)
    answers = at_once([lambda: world.redeem(world.asha, 1, transactionNumber="T-1")] * 10)
    assert codes(answers) == {(200, 0): 1, (400, 902): 9}
    assert_ledger_holds(world)


def wrong_reversal(world: World, redemption: Redemption) -> Reversal:
    assert world.reverse(redemption).status_code == 200
    return Reversal.objects.get(org=world.org, redemption=redemption)


def test_ten_concurrent_corrections_correct_once() -> None:
    world = make_world()
    redemption = redeemed(world, 10)
    redeemed(world, 10)
    reversal = wrong_reversal(world, redemption)
    answers = at_once([lambda: correct(reversal)] * 10)
    assert Counter(answer.attempt.code for answer in answers) == {None: 1, 902: 9}
    assert Correction.objects.filter(org=world.org).count() == 1
    assert Redemption.objects.get(id=redemption.id).points_reversed == 0
    assert sum(Lot.objects.filter(org=world.org).values_list("points_remaining", flat=True)) == 0
    assert_ledger_holds(world)


def test_only_one_of_concurrent_correction_and_redemption_gets_the_points() -> None:
    for _ in range(5):
        world = make_world()
        reversal = wrong_reversal(world, redeemed(world, 10))
        corrected, spent = at_once([lambda r=reversal: correct(r), lambda w=world: w.redeem(w.asha, 1)])
        outcome = corrected.attempt.code, spent.status_code
        assert outcome in {(None, 400), (817, 200)}
        assert Lot.objects.get(org=world.org).points_remaining == (0 if corrected.error is None else 9)
        assert_ledger_holds(world)


def test_corrections_reversals_and_redemptions_of_members_do_not_deadlock() -> None:
    world = make_world(settings={"Enable_cross_member_redemption": "yes"})
    members = [make_customer(world.org) for _ in range(5)]
    set_group(org=world.org, public_id=1, add=[member.public_id for member in members])
    redemptions = []
    for member in members:
        make_lot(member, 30, program=world.program)
        answer = world.redeem(member, 20)
        redemptions.append(Redemption.objects.get(org=world.org, public_id=answer.json()["redemptionId"]))
    for redemption in redemptions:
        for number in range(4):
            assert world.reverse(redemption, 2, key=f"before-{redemption.id}-{number}").status_code == 200
    reversals = list(Reversal.objects.filter(org=world.org))
    calls: list[Callable[[], Any]] = [lambda r=r: correct(r) for r in reversals]
    calls += [lambda r=r: world.reverse(r, 1, key=f"after-{r.id}") for r in redemptions]
    calls += [lambda m=m: world.redeem(m, 2) for m in members]
    answers = at_once(calls)
    # A redemption that runs first may spend the points that a correction needs; no wait for a lock failed.
    assert {answer.attempt.code for answer in answers[: len(reversals)]} <= {None, 817}
    assert codes(answers[len(reversals) :]) == {(200, 0): len(redemptions) + len(members)}
    assert_ledger_holds(world)


def test_two_customers_with_one_reference_number_make_one_redemption() -> None:
    world = make_world()
    customers = [make_customer(world.org) for _ in range(10)]
    for customer in customers:
        make_lot(customer, 5, program=world.program)
    answers = at_once([lambda c=c: world.redeem(c, 1, externalReferenceNumber="E-1", key=f"{c.id}") for c in customers])
    assert codes(answers) == {(200, 0): 1, (422, 887): 9}
    assert_ledger_holds(world)


def test_concurrent_redemptions_and_reversals_of_one_customer_break_no_law() -> None:
    world = make_world()
    make_lot(world.asha, 20, program=world.program)
    redemption = redeem(world.asha, 15, program=world.program)
    calls = [lambda n=n: world.reverse(redemption, 1, key=f"back-{n}") for n in range(CLIENTS // 2)]
    answers = at_once(calls + [lambda n=n: world.redeem(world.asha, 1, key=f"spent-{n}") for n in range(CLIENTS // 2)])
    back, spent = answers[: CLIENTS // 2], answers[CLIENTS // 2 :]
    assert codes(back) == {(200, 0): 15, (400, 902): CLIENTS // 2 - 15}
    made = len(redeemed_ids(spent))
    assert codes(spent) in ({(200, 0): made, (400, 818): CLIENTS // 2 - made}, {(200, 0): made})
    assert sum(Lot.objects.filter(org=world.org).values_list("points_remaining", flat=True)) == 20 - made
    assert_ledger_holds(world)


def test_members_who_redeem_and_reverse_each_others_points_do_not_deadlock() -> None:
    world = make_world(settings={"Enable_cross_member_redemption": "yes"})
    members = [make_customer(world.org) for _ in range(5)]
    set_group(org=world.org, public_id=1, add=[member.public_id for member in members])
    redemptions = []
    for member in members:
        make_lot(member, 30, program=world.program)
        answer = world.redeem(member, 20)
        redemptions.append(Redemption.objects.get(org=world.org, public_id=answer.json()["redemptionId"]))
    calls: list[Callable[[], Any]] = []
    for member, redemption in zip(members, redemptions, strict=True):
        calls += [lambda r=redemption, n=n: world.reverse(r, 2, key=f"{r.id}-{n}") for n in range(5)]
        calls += [lambda m=member, n=n: world.redeem(m, 2, transactionNumber=f"T-{n}") for n in range(5)]
    answers = at_once(calls)
    assert codes(answers) == {(200, 0): CLIENTS}
    assert sum(Lot.objects.filter(org=world.org).values_list("points_remaining", flat=True)) == 50
    assert_ledger_holds(world)


def test_redemption_for_a_locked_customer_row_is_896() -> None:
    world = make_world()
    make_lot(world.asha, 5, program=world.program)
    thread, release = hold(lambda: Customer.objects.select_for_update().get(org=world.org, id=world.asha.id))
    refused = world.redeem(world.asha, 1, key="key-1")
    release.set()
    thread.join()
    assert (refused.status_code, refused.json()["errors"][0]["code"], refused["Retry-After"]) == (503, 896, "1")
    assert world.attempts()[-1].rule == "BUSY"
    assert world.redeem(world.asha, 1, key="key-1").status_code == 200


def test_lock_waits_that_together_exceed_the_statement_timeout_are_896() -> None:
    world = make_world()
    make_lot(world.asha, 5, program=world.program)
    thread, release = hold(lambda: Customer.objects.select_for_update().get(org=world.org, id=world.asha.id))
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '300ms'")
        refused = world.redeem(world.asha, 1)
        cursor.execute("SET statement_timeout = '5s'")
    release.set()
    thread.join()
    assert (refused.status_code, refused.json()["errors"][0]["code"], refused["Retry-After"]) == (503, 896, "1")


def meet_after_reading(monkeypatch: pytest.MonkeyPatch, clients: int) -> list[bool]:
    """Makes each reversal wait after reading its facts, until all have read theirs or 1 s has passed."""
    barrier, met = threading.Barrier(clients), []
    decide = rules.plan_reversal

    def decide_together(facts: rules.Facts) -> rules.Plan:
        try:
            barrier.wait(timeout=1)
            met.append(True)
        except threading.BrokenBarrierError:
            met.append(False)
        return decide(facts)

    monkeypatch.setattr(rules, "plan_reversal", decide_together)
    return met


def test_with_the_lock_two_reversals_never_decide_on_the_same_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world()
    redemption = redeemed(world, 10)
    met = meet_after_reading(monkeypatch, clients=2)
    answers = at_once([lambda: world.reverse(redemption)] * 2)
    assert met == [False, False]
    assert codes(answers) == {(200, 0): 1, (400, 902): 1}


def test_without_the_lock_the_same_race_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proves that the races can fail: without the lock, only constraints prevent a double reversal."""
    monkeypatch.setattr(locks, "REDEMPTION_LOCK", "")
    world = make_world()
    redemption = redeemed(world, 10)
    met = meet_after_reading(monkeypatch, clients=2)
    answers = at_once([lambda: world.reverse(redemption)] * 2)
    assert met == [True, True]
    assert codes(answers) != {(200, 0): 1, (400, 902): 1}
    assert_ledger_holds(world)


def test_without_the_lock_a_limit_is_exceeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "REDEMPTION_LOCK", "")
    world = make_world(settings={"Reversal_limit_count": "1"})
    redemptions = [redeemed(world, 10) for _ in range(2)]
    meet_after_reading(monkeypatch, clients=2)
    answers = at_once([lambda r=r: world.reverse(r) for r in redemptions])
    assert codes(answers) == {(200, 0): 2}


def hold(lock: Callable[[], object]) -> tuple[threading.Thread, threading.Event]:
    """Starts a thread that holds a lock in its own transaction until the event is set."""
    held, release = threading.Event(), threading.Event()

    def run() -> None:
        with transaction.atomic():
            lock()
            held.set()
            release.wait(timeout=30)
            transaction.set_rollback(True)
        connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    assert held.wait(timeout=10)
    return thread, release


def test_reversal_for_a_locked_customer_row_is_896_and_the_key_stays_free() -> None:
    world = make_world()
    redemption = redeemed(world, 10)
    thread, release = hold(lambda: Customer.objects.select_for_update().get(org=world.org, id=world.asha.id))
    refused = world.reverse(redemption, 2, key="key-1")
    release.set()
    thread.join()
    assert (refused.status_code, refused.json()["errors"][0]["code"], refused["Retry-After"]) == (503, 896, "1")
    assert world.attempts()[-1].rule == "BUSY"
    assert world.reverse(redemption, 2, key="key-1").status_code == 200


def test_key_of_a_running_request_is_409() -> None:
    world = make_world()
    redemption = redeemed(world, 10)

    def take_key() -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO reversals_attempt (id, org_id, created_at, request_id, channel, made_by, reason,"
                " redemption_id_asked, external_reference_asked, identifier_type, identifier_masked, idempotency_key,"
                " holds_key, fingerprint, rule, refusal_reason, reply, operation, is_dry_run)"
                " VALUES (%s, %s, now(), '', 'API', '', '', '', '', '', '', 'key-1', TRUE, '', '', '', '',"
                " 'REVERSE', FALSE)",
                [world.org.id, world.org.id],
            )

    thread, release = hold(take_key)
    refused = world.reverse(redemption, 2, key="key-1")
    release.set()
    thread.join()
    assert (refused.status_code, refused.json()["errors"][0]["code"], refused["Retry-After"]) == (409, 896, "1")
    assert world.reverse(redemption, 2, key="key-1").status_code == 200


def test_user_does_not_exceed_the_limit_of_a_day_with_ten_reversals_at_once() -> None:
    world = make_world(settings={"Reversal_approval_points_per_day": "10"})
    user = operator_of(world, username=f"operator of {world.org.id}")
    wanted = [
        ManualReversal(
            org_id=world.org.id,
            redemption_id=redeemed(world_of_another_customer(world), 3).public_id,
            points=None,
            reason="returned",
            made_by=user.username,
            key=f"page-{number}",
        )
        for number in range(10)
    ]
    made = at_once([lambda each=each: manual_reversals.reverse(each) for each in wanted])
    assert Counter(type(each) for each in made) == {Reversal: 3, Approval: 7}
    assert_ledger_holds(world)


def world_of_another_customer(world: World) -> World:
    return replace(world, asha=make_customer(world.org))
