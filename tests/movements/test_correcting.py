"""Tests corrections: a correction draws the points of a wrong reversal again from the lots that they went to."""

from decimal import Decimal
from typing import Any

import pytest
import time_machine

from loyalty.emf.stored import settings_of
from loyalty.ledger.groups import set_group
from loyalty.models import Lot, Redemption
from reversals.assurance.verification import broken_laws
from reversals.manual.approvals import Approved
from reversals.models import Approval, Attempt, Correction, Event, Reversal
from reversals.movements import engine
from reversals.movements.correct.movement import Accepted, ApprovedBy, Correct
from reversals.movements.correct.requests import CorrectionRequest
from reversals.movements.engine import Outcome
from reversals.refusals import CorrectionError, Refused
from tests.builders import (
    ON,
    World,
    ask_to_correct,
    attempt_to_correct,
    correct,
    days_ago,
    in_days,
    make_customer,
    make_lot,
    make_webhook,
    make_world,
    redeem,
    redeemed,
    set_value,
    utc,
)


def reversed_of(world: World, redemption: Redemption, amount: object = None) -> Reversal:
    """Reverses the redemption as the till, with a new key."""
    answer = world.reverse(redemption, amount, key=f"key-{Attempt.objects.count()}")
    assert answer.status_code == 200
    return Reversal.objects.get(org=world.org, public_id=answer.json()["reversalId"])


def remaining(world: World) -> list[Decimal]:
    return list(Lot.objects.filter(org=world.org).order_by("id").values_list("points_remaining", flat=True))


def reissued(world: World) -> list[Decimal]:
    return list(Lot.objects.filter(org=world.org).order_by("id").values_list("points_reissued", flat=True))


def left(redemption: Redemption) -> Decimal:
    redemption.refresh_from_db()
    return redemption.points - redemption.points_reversed


def moved(world: World) -> tuple[Any, ...]:
    """Everything that a correction would change."""
    redemptions = Redemption.objects.filter(org=world.org).order_by("id")
    return (
        remaining(world),
        list(redemptions.values_list("points_reversed", "draws__points_reversed")),
        Correction.objects.filter(org=world.org).count(),
    )


def refusal_of(answer: Outcome[Any]) -> tuple[str, int, str]:
    return answer.attempt.rule, answer.attempt.http_status, answer.attempt.refusal_reason


def preview(reversal: Reversal) -> Accepted | Refused:
    outcome = engine.run(correction_of(reversal), attempt_to_correct(reversal, is_dry_run=True))
    assert outcome.result is not None
    return outcome.result


def correction_of(reversal: Reversal, **options: Any) -> Correct:
    return Correct(CorrectionRequest(reversal.public_id), settings_of(reversal.org_id), **options)


# Effects


def test_correction_draws_points_again_from_the_lots_they_went_to(world: World) -> None:
    make_lot(world.asha, 4, program=world.program, expires_at=in_days(10))
    make_lot(world.asha, 6, program=world.program, expires_at=in_days(20))
    redemption = redeem(world.asha, 10, program=world.program)
    reversal = reversed_of(world, redemption, 8)
    assert remaining(world) == [2, 6]
    assert correct(reversal).error is None
    assert remaining(world) == [0, 0]
    assert list(redemption.draws.order_by("position").values_list("points_reversed", flat=True)) == [0, 0]
    assert left(redemption) == 10
    assert broken_laws(world.org.id) == []


def test_correction_records_requester_approver_and_reason(world: World) -> None:
    reversal = reversed_of(world, redeemed(world), 3)
    answer = correct(reversal)
    correction = reversal.corrections.get()
    assert (correction.points, correction.made_by, correction.approved_by) == (3, "meera", "arun")
    assert (correction.reason, correction.approval.corrects) == ("the wrong customer", reversal)
    attempt = Attempt.objects.get(id=answer.attempt.id)
    assert (attempt.operation, attempt.reversal, attempt.made_by) == ("CORRECT", reversal, "meera")
    assert (attempt.redemption_id_asked, attempt.http_status, attempt.rule) == (reversal.public_id, 200, "")


def test_correction_leaves_the_reversal_unchanged(world: World) -> None:
    reversal = reversed_of(world, redeemed(world), 3)
    before = Reversal.objects.values().get(id=reversal.id), list(reversal.lines.values())
    correct(reversal)
    assert (Reversal.objects.values().get(id=reversal.id), list(reversal.lines.values())) == before


def test_correction_draws_expired_points_from_the_expired_lot(world: World) -> None:
    make_lot(world.asha, 10, program=world.program, expires_at=days_ago(1))
    redemption = redeem(world.asha, 10, program=world.program, at=days_ago(2))
    reversal = reversed_of(world, redemption, 7)
    assert (reversal.points_expired, remaining(world)) == (7, [7])
    assert correct(reversal).error is None
    assert (remaining(world), left(redemption)) == ([0], 10)
    assert broken_laws(world.org.id) == []


def test_correction_draws_points_that_expired_since_the_reversal(world: World) -> None:
    make_lot(world.asha, 10, program=world.program, expires_at=in_days(1))
    reversal = reversed_of(world, redeem(world.asha, 10, program=world.program))
    with time_machine.travel(in_days(2)):
        assert correct(reversal).error is None
    assert remaining(world) == [0]


def test_correction_of_reissue_empties_new_lot_and_draws_points_from_their_own_lot(db: None) -> None:
    world = make_world(settings={"Reversal_reissue_days": "30"})
    make_lot(world.asha, 6, program=world.program, expires_at=days_ago(1))
    redemption = redeem(world.asha, 10, program=world.program, at=days_ago(2))
    reversal = reversed_of(world, redemption, 7)
    assert (remaining(world), reissued(world)) == ([0, 7], [6, 0])
    assert correct(reversal).error is None
    assert (remaining(world), reissued(world), left(redemption)) == ([0, 0], [0, 7], 10)
    assert broken_laws(world.org.id) == []
    again = reversed_of(world, redemption, 10)
    assert (again.points_available, remaining(world), reissued(world)) == (10, [0, 0, 10], [6, 7, 0])
    assert broken_laws(world.org.id) == []


def test_correction_of_points_that_were_reissued_since_is_817(world: World) -> None:
    """A point is in one lot only, so a re-issued point cannot be taken twice."""
    set_value(world.org, "Reversal_reissue_days", "30")
    make_lot(world.asha, 100, program=world.program, expires_at=in_days(1))
    first = redeem(world.asha, 60, program=world.program)
    wrong = reversed_of(world, first)
    second = redeem(world.asha, 100, program=world.program)
    with time_machine.travel(in_days(2)):
        assert world.reverse(second).json()["pointsReversedDetails"] == {"available": 100.0, "expired": 0.0}
        assert correct(wrong).attempt.code == 817
        assert world.reverse(first).json()["errors"][0]["code"] == 902
    assert (remaining(world), reissued(world)) == ([0, 100], [100, 0])
    assert broken_laws(world.org.id) == []


def test_correction_draws_points_of_other_members_again(db: None) -> None:
    world = make_world(settings={"Enable_cross_member_redemption": "yes"})
    ravi = make_customer(world.org)
    set_group(org=world.org, public_id=1, add=[world.asha.public_id, ravi.public_id])
    make_lot(world.asha, 4, program=world.program)
    make_lot(ravi, 6, program=world.program)
    made = world.redeem(world.asha, 10).json()
    redemption = Redemption.objects.get(org=world.org, public_id=made["redemptionId"])
    reversal = reversed_of(world, redemption, 8)
    assert sum(remaining(world)) == 8
    assert correct(reversal).error is None
    assert (remaining(world), left(redemption)) == ([0, 0], 10)
    assert broken_laws(world.org.id) == []


def test_earlier_reversal_can_be_corrected_before_a_later_one(world: World) -> None:
    make_lot(world.asha, 4, program=world.program, expires_at=in_days(10))
    make_lot(world.asha, 6, program=world.program, expires_at=in_days(20))
    redemption = redeem(world.asha, 10, program=world.program)
    first, second = reversed_of(world, redemption, 6), reversed_of(world, redemption, 3)
    assert correct(first).error is None
    assert (remaining(world), left(redemption)) == ([3, 0], 7)
    assert broken_laws(world.org.id) == []
    reversed_of(world, redemption)
    assert (remaining(world), left(redemption)) == ([4, 6], 0)
    assert correct(second).error is None
    assert (remaining(world), left(redemption)) == ([1, 6], 3)
    assert broken_laws(world.org.id) == []


def test_correction_sends_no_event(world: World) -> None:
    make_webhook(world.org)
    reversal = reversed_of(world, redeemed(world))
    before = Event.objects.filter(org=world.org).count()
    correct(reversal)
    assert Event.objects.filter(org=world.org).count() == before


def test_correction_works_while_reversals_are_off(world: World) -> None:
    reversal = reversed_of(world, redeemed(world))
    set_value(world.org, ON, "no")
    assert correct(reversal).error is None


# Refusals, in order of precedence


def test_correction_while_reversals_are_paused_is_898(world: World) -> None:
    reversal = reversed_of(world, redeemed(world))
    set_value(world.org, "Reversal_paused", "yes")
    before = moved(world)
    reason = "Reversals and corrections are paused for this org. Try again later."
    assert refusal_of(correct(reversal)) == ("UNAVAILABLE", 503, reason)
    assert moved(world) == before


def test_correction_with_an_invalid_pause_setting_is_888(world: World) -> None:
    reversal = reversed_of(world, redeemed(world))
    set_value(world.org, "Reversal_paused", "perhaps")
    before = moved(world)
    rule, status, reason = refusal_of(correct(reversal))
    assert (rule, status) == ("INVALID_SETTING", 500)
    assert "Reversal_paused" in reason
    assert moved(world) == before


def test_correction_of_another_orgs_reversal_is_804(world: World) -> None:
    reversal = reversed_of(world, redeemed(world))
    stranger = make_world()
    before = moved(world)
    attempt = attempt_to_correct(reversal)
    attempt.org_id = stranger.org.id
    approved_by = ApprovedBy(ask_to_correct(reversal).id, "arun")
    answer = engine.run(correction_of(reversal, approved_by=approved_by), attempt)
    assert refusal_of(answer) == ("NOT_FOUND", 400, "The org has no reversal with this id. Check the reversal id.")
    assert moved(world) == before


def test_correction_for_a_merged_customer_is_901(world: World) -> None:
    reversal = reversed_of(world, redeemed(world))
    world.asha.status = "MERGED"
    world.asha.save()
    before = moved(world)
    reason = "The customer was merged into another customer, so the reversal cannot be corrected."
    assert refusal_of(correct(reversal)) == ("CUSTOMER_NOT_ELIGIBLE", 400, reason)
    assert moved(world) == before


@pytest.mark.parametrize("status", ["FRAUD", "DEACTIVATED"])
def test_correction_works_for_a_blocked_customer(world: World, status: str) -> None:
    reversal = reversed_of(world, redeemed(world))
    world.asha.status, world.asha.reversals_locked = status, True
    world.asha.save()
    assert correct(reversal).error is None


def test_second_correction_is_902_with_the_time_of_the_first(world: World) -> None:
    reversal = reversed_of(world, redeemed(world))
    with time_machine.travel("2026-05-01T10:00:00Z", tick=False):
        correct(reversal)
    before = moved(world)
    reason = f"Reversal {reversal.public_id} was already corrected at 2026-05-01T10:00:00Z."
    assert refusal_of(correct(reversal)) == ("ALREADY_CORRECTED", 400, reason)
    assert moved(world) == before


def test_correction_of_spent_points_is_817_with_their_number(world: World) -> None:
    redemption = redeemed(world)
    reversal = reversed_of(world, redemption, 8)
    redeem(world.asha, "2.5", program=world.program)
    before = moved(world)
    lot = redemption.draws.get().lot
    reason = (
        f"2.5 of 8 reversed points cannot be taken back (2.5 of lot {lot.lot_ref}): they were redeemed or"
        " re-issued since. A reversal can only be corrected in full."
    )
    assert refusal_of(correct(reversal)) == ("MORE_THAN_REMAINING", 400, reason)
    assert moved(world) == before
    assert Approval.objects.get().status == "WAITING"


def test_refusal_names_at_most_three_lots_that_lack_points(world: World) -> None:
    for _ in range(5):
        make_lot(world.asha, 1, program=world.program)
    reversal = reversed_of(world, redeem(world.asha, 5, program=world.program))
    redeem(world.asha, 5, program=world.program)
    _, _, reason = refusal_of(correct(reversal))
    assert reason.startswith("5 of 5 reversed points cannot be taken back (1 of lot ")
    assert " and 2 more lots):" in reason


def test_correction_without_approval_is_refused(world: World) -> None:
    reversal = reversed_of(world, redeemed(world))
    before = moved(world)
    answer = engine.run(correction_of(reversal), attempt_to_correct(reversal))
    reason = "A second user must approve a correction."
    assert refusal_of(answer) == ("NEEDS_APPROVAL", 403, reason)
    assert moved(world) == before


def test_correction_with_a_lapsed_approval_is_refused_and_moves_nothing(world: World) -> None:
    reversal = reversed_of(world, redeemed(world))
    before = moved(world)
    approval = ask_to_correct(reversal)
    Approval.objects.filter(id=approval.id).update(lapses_at=utc("2026-01-02"))
    correction = correction_of(reversal, approved_by=ApprovedBy(approval.id, "arun"))
    answer = engine.run(Approved(correction, approval, "arun", ""), attempt_to_correct(reversal))
    lapsed = "The request lapsed on 2026-01-02; create a new one."
    assert refusal_of(answer) == ("NOT_APPROVABLE", 403, lapsed)
    assert moved(world) == before


def test_database_refuses_a_correction_approved_by_its_requester(world: World) -> None:
    reversal = reversed_of(world, redeemed(world))
    before = moved(world)
    approval = ask_to_correct(reversal, asked_by="another user")
    correction = correction_of(reversal, approved_by=ApprovedBy(approval.id, "meera"))
    answer = engine.run(Approved(correction, approval, "meera", ""), attempt_to_correct(reversal))
    assert answer.error is CorrectionError.UNFORESEEN
    assert moved(world) == before


# Preview


def test_dry_run_shows_what_each_lot_would_lose_and_moves_nothing(world: World) -> None:
    make_lot(world.asha, 4, program=world.program, expires_at=in_days(10))
    make_lot(world.asha, 6, program=world.program, expires_at=in_days(20))
    reversal = reversed_of(world, redeem(world.asha, 10, program=world.program), 8)
    before = moved(world)
    outcome = preview(reversal)
    assert isinstance(outcome, Accepted)
    assert outcome.plan.points == 8
    losses = [(taking.lot.facts.points_remaining, taking.points) for taking in outcome.plan.takings]
    assert losses == [(6, 6), (2, 2)]
    assert moved(world) == before
    attempt = Attempt.objects.get(operation="CORRECT")
    assert (attempt.is_dry_run, attempt.reversal) == (True, None)


def test_dry_run_is_refused_like_the_correction(world: World) -> None:
    reversal = reversed_of(world, redeemed(world))
    redeem(world.asha, 1, program=world.program)
    outcome = preview(reversal)
    assert isinstance(outcome, Refused)
    assert outcome.error is CorrectionError.MORE_THAN_REMAINING


# After a correction


def test_corrected_points_can_be_reversed_again(world: World) -> None:
    redemption = redeemed(world)
    correct(reversed_of(world, redemption))
    assert (remaining(world), left(redemption)) == ([0], 10)
    assert reversed_of(world, redemption, 10).points == 10
    assert (remaining(world), left(redemption)) == ([10], 0)
    assert broken_laws(world.org.id) == []


def test_request_like_a_corrected_one_is_no_duplicate(world: World) -> None:
    redemption = redeemed(world)
    reversed_of(world, redemption, 1)  # because duplicates are looked up only if points were reversed before
    assert world.reverse(redemption, 2).status_code == 200
    assert world.reverse(redemption, 2).json()["errors"][0]["code"] == 902
    correct(Reversal.objects.get(org=world.org, points=2))
    assert world.reverse(redemption, 2).status_code == 200


@pytest.mark.parametrize("limit", ["Reversal_limit_count", "Reversal_limit_points"])
def test_limits_do_not_count_corrected_reversals(world: World, limit: str) -> None:
    set_value(world.org, limit, "1")
    redemption = redeemed(world)
    first = reversed_of(world, redemption, 1)
    assert world.reverse(redemption, 1, key="other").json()["errors"][0]["code"] == 903
    correct(first)
    assert world.reverse(redemption, 1, key="third").status_code == 200


def test_refusal_of_a_fully_reversed_redemption_names_the_last_uncorrected_reversal(world: World) -> None:
    redemption = redeemed(world)
    stands, corrected = reversed_of(world, redemption, 4), reversed_of(world, redemption, 6)
    correct(corrected)
    last = reversed_of(world, redemption, 6)
    correct(stands)
    final = reversed_of(world, redemption)
    correct(last)
    assert correct(last).error is CorrectionError.ALREADY_CORRECTED
    again = reversed_of(world, redemption)
    reason = world.reverse(redemption).json()["errors"][0]["reason"]
    assert reason.endswith(f"The last reversal is {again.public_id}.")
    assert final.corrections.count() == 0


def test_key_still_repeats_the_reply_of_a_corrected_reversal(world: World) -> None:
    redemption = redeemed(world)
    first = world.reverse(redemption, 2, key="key-1")
    correct(Reversal.objects.get(org=world.org))
    second = world.reverse(redemption, 2, key="key-1")
    assert (second.content, second["Idempotent-Replayed"]) == (first.content, "true")
    assert left(redemption) == 10


# The reading API


def test_reading_api_shows_time_and_points_of_a_correction(world: World) -> None:
    redemption = redeemed(world)
    reversal = reversed_of(world, redemption, 3)
    with time_machine.travel("2026-05-01T10:00:00Z", tick=False):
        correct(reversal)
    expected = {"correctedAt": "2026-05-01T10:00:00Z", "pointsCorrected": 3.0}
    one = world.read(f"/v2/points/reversals/{reversal.public_id}").json()
    assert (one["correction"], one["pointsReversed"]) == (expected, 3.0)
    assert [each["correction"] for each in world.read("/v2/points/reversals").json()["reversals"]] == [expected]
    read = world.read(f"/v2/points/redemptions/{redemption.public_id}").json()
    assert (read["pointsReversed"], read["pointsLeft"]) == (0.0, 10.0)
    assert [each["correction"] for each in read["reversals"]] == [expected]
    assert world.read(f"/v2/customers/{world.asha.public_id}/points").json()["available"] == 0.0


def test_reading_api_shows_each_members_part_of_a_correction(db: None) -> None:
    world = make_world(settings={"Enable_cross_member_redemption": "yes"})
    ravi = make_customer(world.org)
    set_group(org=world.org, public_id=1, add=[world.asha.public_id, ravi.public_id])
    make_lot(world.asha, 4, program=world.program, expires_at=in_days(5))
    make_lot(ravi, 6, program=world.program, expires_at=in_days(9))
    made = world.redeem(world.asha, 10).json()
    correct(reversed_of(world, Redemption.objects.get(org=world.org, public_id=made["redemptionId"]), 8))
    for customer, part in ((world.asha, 8.0), (ravi, 6.0)):
        (listed,) = world.read("/v2/points/reversals", customerId=customer.public_id).json()["reversals"]
        assert listed["correction"]["pointsCorrected"] == part
