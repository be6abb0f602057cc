"""A manual reversal of more points than one user may reverse alone waits for a second user's approval."""

import threading
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection

from loyalty.errors import InvalidOperation
from loyalty.models import Redemption, StaffChange
from reversals.manual import approvals, manual_reversals
from reversals.manual.bulk import runs as bulk
from reversals.manual.manual_reversals import ManualReversal
from reversals.models import Approval, Attempt, Channel, Reversal
from reversals.movements.reverse.movement import Accepted
from reversals.refusals import ErrorCode, Refused
from tests.builders import ON, World, correct, make_world, redeemed, set_value

LIMIT = "Reversal_approval_points"


@pytest.fixture
def world(db: None) -> World:
    return make_world(settings={ON: "yes", LIMIT: "5"})


def wanted(redemption: Redemption, points: object = None, **changes: str) -> ManualReversal:
    return ManualReversal(
        org_id=redemption.org_id,
        redemption_id=redemption.public_id,
        points=None if points is None else Decimal(str(points)),
        reason=changes.get("reason", "GOODS_RETURNED: receipt 17"),
        made_by=changes.get("made_by", "meera"),
        key=changes.get("key", "page-1"),
    )


def asked(redemption: Redemption, points: object = None, **changes: str) -> Approval:
    approval = manual_reversals.reverse(wanted(redemption, points, **changes))
    assert isinstance(approval, Approval)
    return approval


def refusal_of(approval: Approval, *, by: str = "arun") -> tuple[ErrorCode | None, str]:
    answer = approvals.approve(approval, decided_by=by, comment="")
    return answer.error, answer.attempt.refusal_reason


def test_points_up_to_the_limit_are_reversed_immediately(world: World) -> None:
    reversal = manual_reversals.reverse(wanted(redeemed(world), 5))
    assert isinstance(reversal, Reversal)
    assert (reversal.points, reversal.made_by, reversal.channel) == (5, "meera", Channel.ADMIN)
    assert not Approval.objects.exists()


def test_points_over_the_limit_wait_for_approval_and_move_nothing(world: World) -> None:
    redemption = redeemed(world)
    approval = asked(redemption, "5.001")
    assert (approval.status, approval.points_asked, approval.points) == ("WAITING", Decimal("5.001"), Decimal("5.001"))
    assert (approval.asked_by, approval.reason) == ("meera", "GOODS_RETURNED: receipt 17")
    assert approval.lapses_at - approval.asked_at == timedelta(days=7)
    redemption.refresh_from_db()
    assert redemption.points_reversed == 0
    assert not Reversal.objects.exists()


def test_parts_of_one_redemption_count_together(world: World) -> None:
    redemption = redeemed(world)
    assert isinstance(manual_reversals.reverse(wanted(redemption, 3, key="page-1")), Reversal)
    outcome = manual_reversals.preview(wanted(redemption, 3, key="page-2"))
    assert isinstance(outcome, Accepted)
    assert outcome.why_approval
    second = asked(redemption, "2.001", key="page-2")
    assert (second.status, second.points) == ("WAITING", Decimal("2.001"))
    assert isinstance(manual_reversals.reverse(wanted(redemption, 2, key="page-3")), Reversal)
    assert Reversal.objects.count() == 2


def test_api_approved_and_corrected_reversals_do_not_count_against_the_limit(world: World) -> None:
    redemption = redeemed(world, 30)
    world.reverse(redemption, 6)
    approvals.approve(asked(redemption, 7, key="page-1"), decided_by="arun", comment="")
    mistaken = manual_reversals.reverse(wanted(redemption, 4, key="page-2"))
    assert isinstance(mistaken, Reversal)
    correct(mistaken)
    assert isinstance(manual_reversals.reverse(wanted(redemption, 5, key="page-3")), Reversal)
    assert isinstance(manual_reversals.reverse(wanted(redemption, "0.001", key="page-4")), Approval)


def test_a_resent_page_is_the_same_request(world: World) -> None:
    redemption = redeemed(world)
    assert asked(redemption) == asked(redemption)
    assert Approval.objects.count() == 1


def test_a_resent_page_is_the_same_request_even_after_the_limit_was_raised(world: World) -> None:
    redemption = redeemed(world)
    approval = asked(redemption, 6)
    set_value(world.org, LIMIT, "100")
    assert manual_reversals.reverse(wanted(redemption, 6)) == approval
    assert not Reversal.objects.exists()


def test_approval_reverses_the_points_in_the_name_of_the_requester(world: World) -> None:
    redemption = redeemed(world)
    approval = asked(redemption, 6)
    answer = approvals.approve(approval, decided_by="arun", comment="Receipt seen.")
    assert answer.error is None
    reversal = Reversal.objects.get()
    assert (reversal.points, reversal.made_by, reversal.reason) == (6, "meera", "GOODS_RETURNED: receipt 17")
    approval.refresh_from_db()
    assert (approval.status, approval.decided_by, approval.comment) == ("APPROVED", "arun", "Receipt seen.")
    assert approval.reversal == reversal
    assert manual_reversals.reverse(wanted(redemption, 6)) == approval


def test_requester_cannot_approve_or_reject(world: World) -> None:
    approval = asked(redeemed(world))
    assert refusal_of(approval, by="meera") == (
        ErrorCode.NOT_APPROVABLE,
        "meera took part in this request; a second user must decide it.",
    )
    with pytest.raises(InvalidOperation, match="a second user must decide"):
        approvals.reject(approval, decided_by="meera", comment="changed my mind")
    assert not Reversal.objects.exists()
    assert Approval.objects.get().status == "WAITING"


def test_a_request_is_approved_only_once(world: World) -> None:
    approval = asked(redeemed(world), 6)
    approvals.approve(approval, decided_by="arun", comment="")
    assert refusal_of(approval) == (ErrorCode.NOT_APPROVABLE, "arun has already approved the request.")
    assert Reversal.objects.count() == 1


def test_a_rejected_request_cannot_be_approved(world: World) -> None:
    approval = asked(redeemed(world))
    with pytest.raises(InvalidOperation, match="needs a comment"):
        approvals.reject(approval, decided_by="arun", comment=" ")
    approvals.reject(approval, decided_by="arun", comment="No receipt.")
    assert refusal_of(approval) == (ErrorCode.NOT_APPROVABLE, "arun has already rejected the request.")
    approval.refresh_from_db()
    assert (approval.status, approval.comment, approval.reversal) == ("REJECTED", "No receipt.", None)
    change = StaffChange.objects.get()
    assert (change.action, change.made_by, change.reason) == ("rejected", "arun", "No receipt.")
    assert (change.before, change.after) == ({"status": "WAITING"}, {"status": "REJECTED"})
    assert not Reversal.objects.exists()


def test_a_lapsed_request_cannot_be_approved(world: World) -> None:
    approval = asked(redeemed(world))
    approval.lapses_at = approval.asked_at
    approval.save()
    error, reason = refusal_of(approval)
    assert error is ErrorCode.NOT_APPROVABLE
    assert reason.startswith("The request lapsed on ")
    assert not Reversal.objects.exists()


def test_all_rules_are_applied_again_at_approval(world: World) -> None:
    redemption = redeemed(world)
    approval = asked(redemption, 8)
    assert world.reverse(redemption, 3).status_code == 200
    error, reason = refusal_of(approval)
    assert (error, reason) == (ErrorCode.MORE_THAN_LEFT, "8 points requested, 7 remaining to reverse.")
    approval.refresh_from_db()
    assert approval.status == "WAITING"


def test_a_refused_approval_can_be_retried_after_its_cause_is_fixed(world: World) -> None:
    approval = asked(redeemed(world))
    set_value(world.org, ON, "no")
    assert refusal_of(approval)[0] is ErrorCode.OFF_FOR_ORG
    set_value(world.org, ON, "yes")
    assert refusal_of(approval)[0] is None


def test_a_reversal_made_without_approval_is_not_made_again_on_approval(world: World) -> None:
    """The limit was raised between two submissions of one page: one asked for approval, the other needed none."""
    redemption = redeemed(world)
    approval = asked(redemption, 6)
    Approval.objects.update(key="elsewhere")
    set_value(world.org, LIMIT, "100")
    assert isinstance(manual_reversals.reverse(wanted(redemption, 6)), Reversal)
    Approval.objects.update(key="page-1")
    assert refusal_of(approval)[0] is ErrorCode.NOT_APPROVABLE
    assert Reversal.objects.count() == 1


def test_a_preview_shows_the_points_and_the_need_for_approval_and_moves_nothing(world: World) -> None:
    redemption = redeemed(world)
    outcome = manual_reversals.preview(wanted(redemption))
    assert isinstance(outcome, Accepted)
    assert outcome.plan.points == 10
    assert outcome.why_approval == (
        "Reversal_approval_points allows 5 points of a redemption without approval: 10 requested."
    )
    outcome = manual_reversals.preview(wanted(redemption, 5))
    assert isinstance(outcome, Accepted)
    assert outcome.why_approval is None
    assert not Reversal.objects.exists()
    assert not Approval.objects.exists()


def test_a_refused_reversal_creates_no_approval_request(world: World) -> None:
    refusal = manual_reversals.reverse(wanted(redeemed(world), 11))
    assert isinstance(refusal, Refused)
    assert refusal.error is ErrorCode.MORE_THAN_LEFT
    assert not Approval.objects.exists()


def test_attempts_of_an_approval_hold_no_key(world: World) -> None:
    approval = asked(redeemed(world))
    set_value(world.org, ON, "no")
    refusal_of(approval)
    assert not Attempt.objects.filter(holds_key=True).exists()


@pytest.fixture
def committed_world(committed: None, on_postgresql: None) -> World:
    return make_world(settings={ON: "yes", LIMIT: "5"})


def test_ten_concurrent_approvals_reverse_the_points_once(committed_world: World) -> None:
    world = committed_world
    approval = asked(redeemed(world), 6)
    answers = []

    def approve(number: int) -> None:
        answers.append(approvals.approve(approval, decided_by=f"approver {number}", comment=""))
        connection.close()

    threads = [threading.Thread(target=approve, args=[number]) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.error for answer in answers].count(None) == 1
    assert Reversal.objects.filter(org=world.org).count() == 1
    assert Approval.objects.get(org=world.org).reversal == Reversal.objects.get(org=world.org)


def test_approval_never_reverses_more_than_the_approved_points(world: World) -> None:
    redemption = redeemed(world)
    first = world.reverse(redemption, 1).json()["reversalId"]
    approval = asked(redemption)
    assert (approval.points_asked, approval.points) == (9, 9)
    correct(Reversal.objects.get(org=world.org, public_id=first))
    approvals.approve(approval, decided_by="arun", comment="")
    approval.refresh_from_db()
    assert approval.reversal is not None
    assert approval.reversal.points == 9


def test_an_edited_page_with_the_key_of_an_earlier_one_is_refused(world: World) -> None:
    redemption = redeemed(world)
    asked(redemption, 6)
    refusal = manual_reversals.reverse(wanted(redemption, 2))
    assert isinstance(refusal, Refused)
    assert refusal.error is ErrorCode.KEY_OF_ANOTHER_REQUEST
    assert isinstance(manual_reversals.reverse(wanted(redeemed(world), 6)), Refused)
    assert not Reversal.objects.exists()


def test_users_who_created_confirmed_or_ran_a_bulk_run_cannot_approve_its_rows(world: World) -> None:
    redemption = redeemed(world)
    run = bulk.start_from_redemptions(
        org=world.org, key="page-1", redemptions=[redemption], reason="why", made_by="asha"
    )
    bulk.check_some(run, made_by="asha")
    bulk.confirm(run, made_by="ravi")
    bulk.run_some(run, made_by="meera")
    approval = Approval.objects.get()
    assert approval.asked_by == "meera"
    for person in ("asha", "ravi", "meera"):
        assert refusal_of(approval, by=person)[0] is ErrorCode.NOT_APPROVABLE
    assert refusal_of(approval, by="arun")[0] is None
    assert bulk.totals_of(run).points_reversed == 10
