"""Tests the move of an org to another cell: closing, export and import, without lost or duplicated rows."""

import io
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import Error, connection, connections, transaction
from django.utils import timezone

from loyalty.emf.stored import set_emf
from loyalty.ledger.customers import lock_reversals, unlock_reversals
from loyalty.ledger.groups import set_group
from loyalty.ledger.merging import merge_customers
from loyalty.models import Customer, Org, OrgMove, ReasonCode, Webhook
from loyalty.moves import closed_orgs, is_of_closed_org, skipping_closed_orgs
from loyalty.staff.held_changes import hold_client
from reversals.assurance.sealing.checking import check_seals
from reversals.assurance.sealing.seals import seal_ledger
from reversals.manual.covering import cover_redemptions
from reversals.models import BulkRow, BulkRun, DayTotals, Delivery, Event, Reversal
from reversals.movements import attempts
from reversals.moving.tables import OF_THE_CELL, column_of_org, guarded_models, moved_models, rows_of
from reversals.webhooks import outbox
from reversals.webhooks.delivery import claim, webhooks_with_something_due
from tests.builders import (
    World,
    ask_to_correct,
    correct,
    days_ago,
    make_customer,
    make_lot,
    make_webhook,
    make_world,
    redeem,
    redeemed,
    staff_of,
)
from tests.cells import asked, postgresql_cell, sqlite_cell
from tests.movements.test_races import at_once
from tests.system.faults.machines import wait_until

pytestmark = pytest.mark.usefixtures("committed")

# Models without an org: staff and their sign-in, counts of calls, maintenance, the chain of seals.
SHARED = {
    *("admin.LogEntry", "auth.Group", "auth.Group_permissions", "auth.Permission", "auth.User", "auth.User_groups"),
    *("auth.User_user_permissions", "axes.AccessAttempt", "axes.AccessAttemptExpiration", "axes.AccessFailureLog"),
    *("axes.AccessLog", "contenttypes.ContentType", "loyalty.Maintenance", "loyalty.Tally"),
    "otp_static.StaticDevice",
    *("otp_static.StaticToken", "otp_totp.TOTPDevice", "reversals.Backup", "reversals.Seal", "sessions.Session"),
    *("django_tasks_database.DBTaskResult", "reversals.WorkerProcess", "reversals.CheckResult"),
}
TABLES = [model._meta.label for model in guarded_models()]


def run(command: str, *words: object) -> dict[str, Any]:
    """Runs the command and returns its JSON object."""
    stdout = io.StringIO()
    call_command(command, *map(str, words), "--json", stdout=stdout, stderr=io.StringIO())
    result: dict[str, Any] = json.loads(stdout.getvalue())
    return result


def refusal(command: str, *words: object) -> str:
    with pytest.raises(CommandError) as refused:
        run(command, *words)
    return str(refused.value)


@pytest.fixture(autouse=True)
def _nothing_left_to_deliver(committed: None) -> Iterator[None]:
    """Deletes the deliveries of open orgs, because the worker of a later test would deliver them."""
    yield
    Delivery.objects.exclude(org_id__in=closed_orgs()).delete()


@pytest.fixture(scope="module")
def cell(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Creates another cell on the same kind of database."""
    with django_db_blocker.unblock():
        folder = tmp_path_factory.mktemp("cell")
        with sqlite_cell(folder) if connection.vendor == "sqlite" else postgresql_cell("other_cell") as cell:
            yield cell


@pytest.fixture(scope="module")
def sqlite(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Creates another cell on SQLite."""
    with django_db_blocker.unblock(), sqlite_cell(tmp_path_factory.mktemp("sqlite")) as cell:
        yield cell


def full_world() -> World:
    """Creates an org with rows of every kind."""
    world = make_world()
    make_webhook(world.org)
    ReasonCode.objects.create(org=world.org, code="GOODS_RETURNED", meaning='Sent back: "NULL", \\N, é\n')
    set_emf(org=world.org, key="Reversal_window_days", value="90", ticket="T-1", reason="why", changed_by="meera")
    hold_client(org=world.org, username="till.2", reason="a new till", asked_by="meera")
    ravi = make_customer(world.org, identifiers={"EMAIL": "ravi@shop.example"})
    make_lot(ravi, "7.001", program=world.program, expires_at=days_ago(2))
    redemption = redeem(ravi, "7.001", program=world.program, at=days_ago(3), external_reference_number="\\N")
    assert world.reverse(redemption, "1.500", key="key-1").status_code == 200
    assert world.reverse(redemption, 900, key="key-2").status_code == 400
    assert world.reverse(redemption, 900).status_code == 400
    Delivery.objects.filter(org=world.org).update(status="DELIVERED")
    set_group(org=world.org, public_id=7, name="Family", add=[world.asha.public_id, ravi.public_id])
    lock_reversals(world.asha, until=None, reason="a call", made_by="meera")
    unlock_reversals(world.asha, reason="cleared", made_by="meera")
    corrected = redeemed(world)
    assert world.reverse(corrected).status_code == 200
    assert correct(Reversal.objects.get(org=world.org, redemption=corrected)).error is None
    older = make_customer(world.org)
    make_lot(older, 3, program=world.program)
    merge_customers(
        org=world.org,
        source_id=older.public_id,
        target_id=make_customer(world.org).public_id,
        ticket="T-1",
        reason="the same customer twice",
        made_by="meera",
    )
    late = redeem(world.asha, 2, program=world.program, at=days_ago(90))
    make_lot(world.asha, 2, program=world.program)
    cover_redemptions(world.org, made_by="meera", reason="points came later", dry_run=False)
    assert late.draws.get().lot is not None
    waiting = redeemed(world)
    assert world.reverse(waiting).status_code == 200
    approval = ask_to_correct(Reversal.objects.get(org=world.org, redemption=waiting))
    bulk = BulkRun.objects.create(org=world.org, key="run", name="file.csv", made_by="meera", made_at=timezone.now())
    BulkRow.objects.create(org=world.org, run=bulk, position=2, redemption_id=waiting.public_id, approval=approval)
    DayTotals.objects.create(org=world.org, day=days_ago(1).date(), rule="", count=2)
    return world


def export(world: World, folder: Path) -> Path:
    """Exports the org and returns the folder of the export."""
    run("export_org", world.org.id, folder / "export", "--to", "two.example")
    return folder / "export"


def counts(world: World) -> dict[str, int]:
    return {model._meta.label: rows_of(model, world.org.id).count() for model in moved_models()}


# What moves


def test_every_model_belongs_to_an_org_or_is_shared() -> None:
    known = {model._meta.label for model in (*moved_models(), *OF_THE_CELL)} | SHARED
    assert {model._meta.label for model in apps.get_models(include_auto_created=True)} == known


def test_test_world_has_rows_in_every_moved_table(tmp_path: Path) -> None:
    assert [label for label, count in counts(full_world()).items() if not count] == []


def test_parents_are_loaded_before_their_children() -> None:
    models = moved_models()
    for model in models:
        parents = {field.related_model for field in model._meta.concrete_fields} & set(models) - {model}
        assert all(models.index(parent) < models.index(model) for parent in parents)


def test_moved_org_is_complete_and_keeps_every_law(cell: Any, tmp_path: Path) -> None:
    world = full_world()
    before = counts(world)
    rows = sum(before.values())
    folder = tmp_path / "export"
    message = run("export_org", world.org.id, folder, "--to", "two.example")
    assert message == {
        "org": world.org.id,
        "closed": True,
        "host": "two.example",
        "rows": rows,
        "ledger": "all laws hold",
    }
    with asked(cell):
        assert run("import_org", folder) == {
            "org": world.org.id,
            "imported": True,
            "rows": rows,
            "ledger": "all laws hold",
        }
        assert counts(world) == before
        assert run("verify_ledger", "--org", world.org.id)["ok"]
    assert run("verify_ledger", "--org", world.org.id)["ok"]
    assert run("export_org", world.org.id, folder, "--check")["rows"] == rows


def test_moved_org_accepts_its_credentials_and_replays_its_keys(cell: Any, tmp_path: Path) -> None:
    world = full_world()
    redemption = redeemed(world)
    first = world.reverse(redemption, 2, key="till-1")
    refused = world.reverse(redemption, 900, key="till-2")
    with asked(cell):
        assert world.reverse(redemption, 2, key="till-1").status_code == 401
    folder = export(world, tmp_path)
    with asked(cell):
        run("import_org", folder)
        for answer, amount, key in ((first, 2, "till-1"), (refused, 900, "till-2")):
            repeated = world.reverse(redemption, amount, key=key)
            assert (repeated.content, repeated["Idempotent-Replayed"]) == (answer.content, "true")
        assert world.reverse(redemption, 3, key="till-3").json()["pointsReversed"] == 3.0
        assert Event.objects.filter(org=world.org).order_by("id").last().deliveries.count() == 1
        assert run("verify_ledger", "--org", world.org.id)["ok"]


def test_org_moves_between_sqlite_and_postgresql(sqlite: Any, cell: Any, tmp_path: Path) -> None:
    """In the run on SQLite, both cells are SQLite files."""
    world = full_world()
    first = export(world, tmp_path / "1")
    with asked(sqlite):
        rows = run("import_org", first)["rows"]
        second = export(world, tmp_path / "2")
    with asked(cell):
        assert run("import_org", second)["rows"] == rows
    manifests = [json.loads((folder / "manifest.json").read_text()) for folder in (first, second)]
    assert manifests[0]["tables"] == manifests[1]["tables"]


def test_moved_events_keep_their_order_among_those_of_the_new_cell(cell: Any, tmp_path: Path) -> None:
    worlds = [full_world(), full_world()]
    for number, world in enumerate(worlds):
        event_ids = list(Event.objects.filter(org=world.org).order_by("id").values_list("event_id", flat=True))
        folder = export(world, tmp_path / str(number))
        with asked(cell):
            run("import_org", folder)
            assert (
                list(Event.objects.filter(org=world.org).order_by("id").values_list("event_id", flat=True)) == event_ids
            )
            assert Delivery.objects.filter(org=world.org, event__org=world.org).count() == len(event_ids)


# A closed org


@pytest.fixture(scope="module")
def closed(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with django_db_blocker.unblock():
        world = full_world()
        export(world, tmp_path_factory.mktemp("closed"))
        yield world
        connections.close_all()


@pytest.mark.parametrize("label", TABLES)
def test_the_database_refuses_to_change_a_row_of_a_closed_org(label: str, closed: World) -> None:
    model = apps.get_model(label)
    table, of_org = model._meta.db_table, f"{column_of_org(model)} = {closed.org.id}"
    columns = ", ".join(field.column for field in model._meta.concrete_fields)
    for statement in (
        f"UPDATE {table} SET {model._meta.pk.column} = {model._meta.pk.column} WHERE {of_org}",
        f"DELETE FROM {table} WHERE {of_org}",
        f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {table} WHERE {of_org}",
    ):
        with pytest.raises(Error) as refused, transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)
        is_history = "append_only" in str(refused.value) and not statement.startswith("INSERT")
        assert is_of_closed_org(refused.value) or is_history, (statement, refused.value)


def test_closed_org_answers_898_and_replays_its_keys(closed: World) -> None:
    reversal = Reversal.objects.filter(org=closed.org, has_key=True).get()
    redemption, before = reversal.redemption, closed.written()
    body = {"redemptionId": redemption.public_id, "identifier": {"type": "EMAIL", "value": "ravi@shop.example"}}
    for asked_for in (body, body | {"pointsToBeReversed": 900}):
        for key in (None, "new-key"):
            answer = closed.ask(asked_for, key=key)
            assert (answer.status_code, answer.json()["errors"][0]["code"], answer["Retry-After"]) == (503, 898, "30")
    assert closed.redeem(closed.asha, 1).json()["errors"][0]["code"] == 898
    assert closed.reverse(redemption, "1.500", key="key-1")["Idempotent-Replayed"] == "true"
    assert closed.written() == before
    assert closed.read(f"/v2/points/reversals/{reversal.public_id}").status_code == 200


def test_back_office_shows_that_an_org_is_closed(closed: World) -> None:
    staff = staff_of(closed, "Back-end team", username=f"meera of {closed.org.id}")
    code = ReasonCode.objects.get(org=closed.org)
    fields = {"code": code.code, "meaning": "another", "is_active": "on", "change_reason": "why", "reason": "why"}
    page = staff.post(f"/admin/loyalty/reasoncode/{code.id}/change/", fields)
    assert (page.status_code, b"This org is closed for a move" in page.content) == (503, True)


def test_commands_refuse_to_write_for_a_closed_org(closed: World) -> None:
    message = "the org is closed, because it is being moved or was moved to another cell"
    emf = ("set_emf", closed.org.id, "Reversal_window_days", "30", "--ticket", "T-1", "--reason", "why")
    assert refusal(*emf) == message
    assert refusal("create_program", closed.org.id, 99, "New") == message
    assert refusal("create_api_client", closed.org.id, "till.9") == message


def test_maintenance_skips_a_closed_org(closed: World) -> None:
    other, before = full_world(), counts(closed)
    assert Delivery.objects.filter(org=closed.org, status="PENDING", due_at__lte=timezone.now()).exists()
    assert closed.org.id not in {webhook.org_id for webhook in webhooks_with_something_due()}
    with transaction.atomic():
        assert attempts.purge(before=timezone.now()) + outbox.purge(before=timezone.now()) > 0
        assert counts(closed) == before != counts(other)
        attempts.forget_addresses(before=timezone.now())
        transaction.set_rollback(True)
    with skipping_closed_orgs():
        claim(Webhook.objects.get(org=closed.org), at_most=1)
    assert not Delivery.objects.filter(org=closed.org, leased_until__isnull=False).exists()


def test_other_orgs_are_served_while_one_is_closed(closed: World) -> None:
    other = make_world()
    assert other.reverse(redeemed(other), 2).status_code == 200
    other.org.name = "Renamed"
    other.org.save()


def test_cancel_reopens_a_closed_org(tmp_path: Path) -> None:
    world = make_world()
    redemption = redeemed(world)
    export(world, tmp_path)
    assert world.reverse(redemption, 2, key="key").status_code == 503
    assert run("export_org", world.org.id, "--cancel") == {"org": world.org.id, "closed": False}
    assert world.reverse(redemption, 2, key="key").status_code == 200
    assert refusal("export_org", world.org.id, "--cancel") == f"org {world.org.id} is not closed"
    steps = OrgMove.objects.filter(org=world.org).order_by("id").values_list("step", "host")
    assert list(steps) == [("CLOSED", "two.example"), ("REOPENED", "")]


def test_reopening_the_last_org_removes_the_guards(sqlite: Any, tmp_path: Path) -> None:
    with asked(sqlite):
        world = make_world()
        folder = export(world, tmp_path)
        assert "closed_org" in triggers(sqlite)
        for org_id in closed_orgs():
            run("export_org", org_id, "--cancel")
        assert "closed_org" not in triggers(sqlite)
        assert "is not closed here" in refusal("export_org", world.org.id, folder, "--check")


def triggers(cell: Any) -> str:
    with cell.cursor() as cursor:
        cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        return " ".join(name for [name] in cursor.fetchall())


@contextmanager
def writing(world: World) -> Iterator[Callable[[], None]]:
    """Runs another session with an open transaction that has written to the org; the yielded function commits it."""
    ready, over = threading.Event(), threading.Event()

    def write() -> None:
        with transaction.atomic():
            Customer.objects.filter(id=world.asha.id).update(status="FRAUD")
            ready.set()
            assert over.wait(60)
        connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        session = pool.submit(write)

        def commit() -> None:
            over.set()
            session.result(60)

        try:
            assert ready.wait(60)
            yield commit
        finally:
            over.set()


def someone_waits_for_a_table() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = database"
            " WHERE NOT granted AND locktype = 'relation' AND datname = current_database())"
        )
        [waits] = cursor.fetchone()
    return bool(waits)


@pytest.mark.usefixtures("on_postgresql")
def test_closing_waits_for_open_writes_and_exports_them(tmp_path: Path) -> None:
    world = make_world()
    with writing(world) as commit, ThreadPoolExecutor(1) as pool:
        exporting = pool.submit(lambda: (export(world, tmp_path), connections.close_all())[0])
        wait_until(someone_waits_for_a_table)
        commit()
        exported = exporting.result(60)
    assert '"FRAUD"' in (exported / "loyalty.customer.jsonl").read_text()
    assert run("export_org", world.org.id, exported, "--check")["closed"]


@pytest.mark.usefixtures("on_postgresql")
def test_closing_stops_at_a_long_write_and_continues_later(tmp_path: Path) -> None:
    world = make_world()
    with writing(world) as commit:
        message = refusal("export_org", world.org.id, tmp_path / "export", "--to", "two.example")
        assert message == "a long write holds a table; run the same command again after that write has ended"
        commit()
    assert run("export_org", world.org.id, tmp_path / "export", "--to", "two.example")["closed"]
    assert OrgMove.objects.filter(org=world.org).count() == 1


@pytest.mark.usefixtures("on_postgresql")
def test_call_during_closing_is_complete_or_898(tmp_path: Path) -> None:
    world = make_world()
    redemptions = [redeemed(world) for _ in range(40)]
    calls = [lambda each=each: world.reverse(each, 1, key=each.public_id) for each in redemptions]
    *answers, folder = at_once([*calls, lambda: export(world, tmp_path)])
    accepted = {answer.json()["reversalId"] for answer in answers if answer.status_code == 200}
    refused = {answer.json()["errors"][0]["code"] for answer in answers if answer.status_code != 200}
    lines = (folder / "reversals.reversal.jsonl").read_text().splitlines()
    public_id = [field.name for field in Reversal._meta.concrete_fields].index("public_id")
    assert {json.loads(line)[public_id] for line in lines} == accepted
    assert refused <= {896, 898}  # 896: it waited too long for the closing
    assert run("export_org", world.org.id, folder, "--check")["closed"]


# Refusals


def test_an_export_is_not_overwritten(tmp_path: Path) -> None:
    world = make_world()
    folder = export(world, tmp_path)
    message = refusal("export_org", world.org.id, folder, "--to", "two.example")
    assert message == f"{folder} already holds an export; give a new folder"
    assert folder.stat().st_mode & 0o777 == 0o700


def test_second_import_changes_nothing_and_reports_it(cell: Any, tmp_path: Path) -> None:
    world = full_world()
    folder = export(world, tmp_path)
    with asked(cell):
        run("import_org", folder)
        before = counts(world)
        again = run("import_org", folder)
        assert (again["imported"], again["note"], counts(world)) == (False, "already imported", before)


def test_existing_org_is_not_imported(tmp_path: Path) -> None:
    world = make_world()
    assert refusal("import_org", export(world, tmp_path)) == f"org {world.org.id} is in this cell already"


def test_export_with_a_different_pepper_is_refused(cell: Any, tmp_path: Path, settings: Any) -> None:
    folder = export(make_world(), tmp_path)
    settings.API_PEPPER = "another pepper of more than 32 characters"
    with asked(cell):
        assert refusal("import_org", folder).startswith("this cell has another API_PEPPER")


def test_export_with_a_different_schema_is_refused(cell: Any, tmp_path: Path) -> None:
    folder = export(make_world(), tmp_path)
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"loyalty": "0', '"loyalty": "1'))
    with asked(cell):
        assert refusal("import_org", folder).startswith("the export is of schema {'loyalty': '1")


@pytest.mark.parametrize("damage", ["changed", "cut", "missing", "unfinished"])
def test_damaged_export_is_refused_and_imports_nothing(damage: str, cell: Any, tmp_path: Path) -> None:
    world = full_world()
    folder = export(world, tmp_path)
    file = folder / "loyalty.lot.jsonl"
    match damage:
        case "changed":
            file.write_bytes(file.read_bytes().replace(b"7.001", b"7.002"))
        case "cut":
            file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
        case "missing":
            file.unlink()
        case "unfinished":
            (folder / "manifest.json").unlink()
    with asked(cell):
        refusal("import_org", folder)
        assert not Org.objects.filter(id=world.org.id).exists()


def test_existing_row_is_refused_and_imports_nothing(cell: Any, tmp_path: Path) -> None:
    world = make_world()
    folder = export(world, tmp_path)
    with asked(cell):
        other = make_world()
        Customer.objects.create(id=world.asha.id, org=other.org, public_id=1)
        assert refusal("import_org", folder).startswith("a row of the org is in this cell already")
        assert not Org.objects.filter(id=world.org.id).exists()


def test_change_that_bypasses_the_guards_is_reported(tmp_path: Path) -> None:
    world = make_world()
    folder = export(world, tmp_path)
    run("export_org", world.org.id, "--cancel")
    Org.objects.filter(id=world.org.id).update(name="Renamed")
    run("export_org", world.org.id, tmp_path / "second", "--to", "two.example")
    assert refusal("export_org", world.org.id, folder, "--check") == "changed since the export: loyalty.org"
    assert run("export_org", world.org.id, tmp_path / "second", "--check")["closed"]


# Seals


@contextmanager
def hours_ago(hours: int) -> Iterator[None]:
    """Sets the clock back by this number of hours within the block."""
    with patch("django.utils.timezone.now", lambda: datetime.now(UTC) - timedelta(hours=hours)):
        yield


def test_new_cell_seals_moved_rows_and_still_detects_tampering(sqlite: Any, tmp_path: Path) -> None:
    anchor = tmp_path / "anchor"
    world = make_world()
    with hours_ago(3):
        assert world.reverse(redeemed(world), 1).status_code == 200
    folder = export(world, tmp_path)
    with asked(sqlite):
        native = make_world()
        assert native.reverse(redeemed(native), 1).status_code == 200
        seal_ledger(anchor)
        run("import_org", folder)
        assert check_seals(anchor).problems == []
        assert seal_ledger(anchor).rows >= 1
        assert check_seals(anchor).problems == []
        for org in (native, world):
            redemption = redeemed(org)
            with hours_ago(3):
                assert org.reverse(redemption, 1).status_code == 200
        named = [problem.split(" is dated")[0] for problem in check_seals(anchor).problems]
        added = Reversal.objects.filter(org__in=[native.org, world.org]).order_by("-id")[:2]
        assert sorted(named) == sorted(
            f"unsealed: reversal {each.id} ({each.public_id}) of org {each.org_id}" for each in added
        )
        seal_ledger(anchor)
        assert len(check_seals(anchor).problems) == 2
