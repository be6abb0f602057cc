"""Maintenance: calls, pages and commands write nothing while it is on, whichever server or entry point they use."""

import io
import json
from threading import Event, Thread
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, connections, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from loyalty import maintenance
from loyalty.emf.registry import ALLOW_REVERSAL
from loyalty.emf.stored import settings_of
from loyalty.models import ApiSecret, EmfChange, Maintenance, Redemption
from reversals.manual.manual_reversals import ManualReversal, reverse
from reversals.models import Attempt, Delivery
from reversals.movements import attempts, engine
from reversals.movements.attempts import new_attempt
from reversals.movements.reverse.movement import Reverse
from reversals.movements.reverse.requests import ReversalRequest
from reversals.operations.worker import queue
from reversals.operations.worker.schedule import Schedule
from reversals.refusals import ErrorCode, Refused
from reversals.webhooks import delivery
from tests.builders import ADDRESS, ON, World, make_lot, make_webhook, make_world, points, redeemed, set_value, staff_of


def switch(*words: str) -> dict[str, Any]:
    said = io.StringIO()
    call_command("maintenance", *words, "--json", stdout=said)
    return dict(json.loads(said.getvalue()))


@pytest.fixture
def on(db: None) -> None:
    maintenance.switch_on(reason="moving the database", made_by="meera", wait_seconds=0)


def code_of(reply: Any) -> tuple[int, int]:
    return reply.status_code, reply.json()["errors"][0]["code"]


@pytest.mark.parametrize("dry_run", [False, True])
def test_movements_are_898_with_retry_after_and_nothing_is_written(world: World, on: None, dry_run: bool) -> None:
    redemption = redeemed(world, 10)
    make_lot(world.asha, 10, program=world.program)
    before = world.written()
    address = ADDRESS + ("?dryRun=true" if dry_run else "")
    with CaptureQueriesContext(connection) as captured:
        reversal = world.reverse(redemption, 2, address=address)
    assert [each["sql"].split()[0] for each in captured.captured_queries] == ["SELECT"]
    assert (code_of(reversal), reversal["Retry-After"]) == ((503, 898), "30")
    redeeming = world.redeem(world.asha, 2)
    assert (code_of(redeeming), redeeming["Retry-After"]) == ((503, 898), "30")
    assert (world.written(), world.attempts()) == (before, [])
    assert not Redemption.objects.filter(org=world.org, ledger_import__isnull=True).exists()
    assert not ApiSecret.objects.filter(org=world.org, last_used_at__isnull=False).exists()


def test_refusals_before_row_3_precede_898_and_later_ones_follow_it(on: None) -> None:
    off = make_world(settings={ON: "no", "Reversal_window_days": "none"})
    redemption = redeemed(off, 10)
    assert off.reverse(redemption, 2).json()["errors"][0]["code"] == 898
    assert off.reverse(redemption, -1).json()["errors"][0]["code"] == 887
    assert off.reverse(redemption, "1.0001").json()["errors"][0]["code"] == 878
    assert off.reverse(redemption, 2, key="not a key").json()["errors"][0]["code"] == 887
    off.org.v2_enabled = False
    off.org.save()
    assert code_of(off.reverse(redemption, -1)) == (403, 403)
    off.secret = "wrong"
    assert code_of(off.reverse(redemption, 2)) == (401, 401)
    assert off.attempts() == []


def test_a_key_replays_its_reply_and_refuses_another_request(world: World) -> None:
    redemption = redeemed(world, 10)
    first = world.reverse(redemption, 2, key="key-1")
    maintenance.switch_on(reason="moving", made_by="meera", wait_seconds=0)
    again = world.reverse(redemption, 2, key="key-1")
    assert (again.status_code, again.content, again["Idempotent-Replayed"]) == (200, first.content, "true")
    assert code_of(world.reverse(redemption, 3, key="key-1")) == (422, 887)
    assert code_of(world.reverse(redemption, 3, key="key-2")) == (503, 898)
    maintenance.switch_off(reason="", made_by="meera")
    assert world.reverse(redemption, 3, key="key-2").status_code == 200


def test_reading_goes_on(world: World, on: None) -> None:
    redemption = redeemed(world, 10)
    assert world.read(f"/v2/points/redemptions/{redemption.public_id}").status_code == 200
    assert world.read(f"/v2/customers/{world.asha.public_id}/points").status_code == 200
    assert Client().get("/health/ready").status_code == 200
    assert "loyalty_maintenance 1.0" in Client().get("/metrics").content.decode()
    maintenance.switch_off(reason="", made_by="meera")
    assert "loyalty_maintenance 0.0" in Client().get("/metrics").content.decode()


def test_manual_reversal_is_refused_and_not_recorded(world: World, on: None) -> None:
    wanted = ManualReversal(
        org_id=world.org.id, reason="r", made_by="meera", key="admin#1", redemption_id="R1", points=None
    )
    answer = reverse(wanted)
    assert isinstance(answer, Refused)
    assert answer.error is ErrorCode.UNAVAILABLE
    assert "Maintenance is in progress" in answer.reason
    assert world.attempts() == []


def test_call_that_began_before_maintenance_writes_nothing_afterwards(world: World) -> None:
    redemption = redeemed(world, 10)

    class Late(Reverse):
        """Maintenance is switched on after the call's settings were read and before it writes."""

        def decide(self, moment: Any) -> Any:
            decision = super().decide(moment)
            Maintenance.objects.create(is_on=True, reason="r", made_by="m", made_at=redemption.redeemed_at)
            return decision

    wanted = ReversalRequest(redemption.public_id, None, None, points(2))
    before = world.written()
    movement = Late(wanted, settings_of(world.org.id))
    outcome = engine.run(movement, new_attempt(world.org.id, channel="API", made_by="till"), in_maintenance=False)
    assert outcome.error is ErrorCode.UNAVAILABLE
    assert (world.written(), world.attempts()) == (before, [])


@pytest.mark.usefixtures("committed", "on_postgresql")
def test_switching_on_waits_for_transactions_that_began_before() -> None:
    began, may_end = Event(), Event()

    def hold() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            began.set()
            may_end.wait(20)
        connections.close_all()

    def wait() -> None:
        maintenance.switch_on(reason="r", made_by="m", wait_seconds=20)
        connections.close_all()

    holder = Thread(target=hold)
    holder.start()
    try:
        assert began.wait(20)
        row, running = maintenance.switch_on(reason="r", made_by="m", wait_seconds=0)
        assert [each.statement for each in running] == ["SELECT 1"]
        waiting = Thread(target=wait)
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        may_end.set()
        waiting.join(20)
        assert not waiting.is_alive()
        again, running = maintenance.switch_on(reason="other", made_by="n", wait_seconds=5)
        assert (again.pk, running) == (row.pk, [])
    finally:
        may_end.set()
        holder.join()
        maintenance.switch_off(reason="", made_by="m")


def test_command_switches_on_and_off_and_keeps_the_history(world: World) -> None:
    assert switch() == {"on": False}
    on = switch("on", "--reason", "new disk", "--by", "meera")
    assert (on["on"], on["reason"], on["by"], on["running"]) == (True, "new disk", "meera", [])
    assert switch("status")["reason"] == "new disk"
    assert switch("on", "--reason", "again")["reason"] == "new disk"
    assert switch("off", "--by", "ravi") == {"on": False}
    with pytest.raises(CommandError, match="off already"):
        switch("off")
    with pytest.raises(CommandError, match="needs a reason"):
        switch("on", "--reason", " ")
    rows = Maintenance.objects.order_by("id").values_list("is_on", "reason", "made_by")
    assert list(rows) == [(True, "new disk", "meera"), (False, "", "ravi")]


def test_commands_that_write_are_refused_unless_they_say_otherwise(world: World, on: None) -> None:
    words = ["set_emf", str(world.org.id), ON, "no", "--ticket", "T", "--reason", "R"]
    before = EmfChange.objects.count()
    with pytest.raises(CommandError, match="maintenance is on, so nothing was written"):
        call_command(*words, stdout=io.StringIO())
    assert EmfChange.objects.count() == before
    call_command(*words, "--in-maintenance", stdout=io.StringIO())
    assert settings_of(world.org.id).get(ALLOW_REVERSAL) is False
    call_command("verify_ledger", stdout=io.StringIO())


def test_command_that_began_before_maintenance_is_refused_at_its_first_write(world: World) -> None:
    with maintenance.refusing_writes():
        set_value(world.org, ON, "no")
        Maintenance.objects.bulk_create([Maintenance(is_on=True, reason="r", made_by="m", made_at=timezone.now())])
        with pytest.raises(maintenance.UnderMaintenance):
            set_value(world.org, ON, "yes")


def test_events_wait_until_maintenance_has_ended(world: World) -> None:
    make_webhook(world.org)
    assert world.reverse(redeemed(world, 10), 2).status_code == 200
    [webhook] = delivery.webhooks_with_something_due().filter(org=world.org)
    maintenance.switch_on(reason="r", made_by="m", wait_seconds=0)
    assert not delivery.webhooks_with_something_due().filter(org=world.org).exists()
    assert delivery.claim(webhook, at_most=1) == []
    maintenance.switch_off(reason="", made_by="m")
    assert len(delivery.claim(webhook, at_most=1)) == Delivery.objects.filter(org=world.org).count() == 1


def test_tasks_of_the_worker_wait_except_the_proofs_of_the_ledger(on: None) -> None:
    Schedule().add_due(timezone.now())
    claimed = []
    while (task := queue.claim(queue.QUEUES, "worker")) is not None:
        claimed.append(task.task_path)
    assert set(claimed) == queue.RUN_IN_MAINTENANCE


def test_pages_show_a_banner_and_refuse_forms_without_losing_what_was_typed(world: World, on: None) -> None:
    staff = staff_of(world, "Back-end team")
    page = staff.get("/admin/").content.decode()
    assert "moving the database" in page
    assert "changes are refused" in page
    form = {"key": ON, "value": "no", "ticket": "T-9", "reason": 'all "stop"'}
    before = EmfChange.objects.count()
    refused = staff.post(f"/admin/loyalty/org/{world.org.id}/emf/", form)
    shown = refused.content.decode()
    assert (refused.status_code, refused["Retry-After"]) == (503, "30")
    assert "Maintenance is in progress" in shown
    assert "Nothing was changed" in shown
    assert 'name="reason" value="all &quot;stop&quot;"' in shown
    assert "csrfmiddlewaretoken" in shown
    assert EmfChange.objects.count() == before


def test_a_refused_form_with_a_password_is_not_kept_in_the_page(world: World, on: None) -> None:
    staff = staff_of(world, "Back-end team")
    shown = staff.post("/admin/password_change/", {"old_password": "a secret one"}).content.decode()
    assert "Go back and submit the form again" in shown
    assert "a secret one" not in shown


def test_staff_sign_in_and_out_during_maintenance(world: World, on: None, settings: Any) -> None:
    settings.STAFF_SECOND_FACTOR = False
    User.objects.create_superuser("root", password="a long password")
    client = Client()
    reply = client.post("/admin/login/", {"username": "root", "password": "a long password"})
    assert reply.status_code == 302
    assert client.get("/admin/").status_code == 200
    assert client.post("/admin/logout/").status_code in {200, 302}
    assert client.get("/admin/").status_code == 302


@pytest.mark.django_db
def test_database_refuses_an_attempt_while_maintenance_is_on(world: World, on: None) -> None:
    attempt = new_attempt(world.org.id, channel="API", made_by="till")
    with pytest.raises(IntegrityError) as refused, transaction.atomic():
        attempts.record(attempt)
    assert maintenance.was_refused(refused.value)
    assert not Attempt.objects.filter(org=world.org).exists()
