"""Tests erase_customer and export_customer: the identity leaves every table, and the history stays."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.db import IntegrityError, connection, transaction
from django.http import HttpResponse
from django.utils import timezone

from loyalty.emf.stored import set_emf
from loyalty.ledger.customers import lock_reversals, unlock_reversals
from loyalty.models import (
    Customer,
    CustomerGroup,
    CustomerIdentifier,
    EmfChange,
    GroupMember,
    Redemption,
    StaffChange,
)
from loyalty.privacy.erased import erased
from loyalty.staff.audit import record_change
from reversals.assurance.sealing.checking import check_seals
from reversals.assurance.sealing.seals import seal_ledger
from reversals.assurance.verification import broken_laws
from reversals.models import Approval, Attempt, BulkRow, BulkRun, Delivery, Event, Reversal
from tests.builders import (
    World,
    correct,
    make_customer,
    make_lot,
    make_webhook,
    make_world,
    operator_of,
    redeem,
    redeemed,
    request_for,
)
from tests.database.test_commands import refusal_of, run, verify

pytestmark = pytest.mark.django_db

MOBILE = "919812345670"
NATIONAL = "9812345670"
IDENTITY = {
    "MOBILE": MOBILE,
    "EMAIL": "asha.rao@example.com",
    "EXTERNAL_ID": "CRM-778812",
    "CARD_NUMBER": "6011-7788-99",
}
VALUES = [*IDENTITY.values(), NATIONAL]
WORDS = ("--ticket", "T-1", "--reason", "asked by the customer", "--by", "meera")


@dataclass
class Known:
    """A world in which every column that can hold an identifier of the customer Asha holds one."""

    world: World
    redemption: Redemption
    request: dict[str, Any]
    reply: HttpResponse

    def erase(self) -> dict[str, Any]:
        return run("erase_customer", self.world.org.id, self.world.asha.public_id, *WORDS)


@pytest.fixture
def known() -> Known:
    world = make_world()
    world.asha = make_customer(world.org, identifiers=IDENTITY)
    make_webhook(world.org)
    redemption = redeemed(world, 10)
    request = request_for(redemption, 2) | {"identifier": {"type": "MOBILE", "value": NATIONAL}}
    reply = world.ask(request, key="key-1")
    assert reply.status_code == 200
    assert world.ask(request | {"redemptionId": MOBILE}, key="key-2").status_code == 400
    write_as_staff(world, redemption)
    return Known(world, redemption, request, reply)


def write_as_staff(world: World, redemption: Redemption) -> None:
    """Writes every text that staff or a webhook's receiver can write, each with an identifier."""
    text = "called by {}".format
    org, asha = world.org, world.asha
    operator_of(world, username="meera")
    manual = ("reverse_points", org.id, redemption.public_id, "--points", 1, "--by", "meera", "--reason")
    run(*manual, text(NATIONAL))
    reversal = redemption.reversals.get(channel="COMMAND")
    approval = Approval.objects.create(
        org=org,
        redemption=redemption,
        points=1,
        key="page-of-asha",
        channel="ADMIN",
        reason=text(MOBILE),
        asked_by="meera",
        asked_at=timezone.now(),
        lapses_at=timezone.now(),
        comment=text("ASHA.RAO@example.com"),
    )
    name = f"returns of {IDENTITY['EMAIL']}.csv"
    bulk = BulkRun.objects.create(org=org, name=name, made_by="meera", made_at=timezone.now())
    BulkRow.objects.create(
        org=org,
        run=bulk,
        position=2,
        redemption_id=MOBILE,
        reason=text(MOBILE),
        outcome=text("CRM-778812"),
        reversal=reversal,
        approval=approval,
    )
    lock_reversals(asha, until=None, reason=text(IDENTITY["CARD_NUMBER"]), made_by="meera")
    unlock_reversals(asha, reason=text(MOBILE), made_by="meera")
    lock_reversals(asha, until=None, reason=text(IDENTITY["EMAIL"]), made_by="meera")
    group = CustomerGroup.objects.create(org=org, public_id=7, name=text(NATIONAL))
    GroupMember.objects.create(org=org, group=group, customer=asha, joined_at=timezone.now())
    set_emf(org=org, key="Reversal_window_days", value="90", ticket="T", reason=text(MOBILE), changed_by="meera")
    Delivery.objects.filter(org=org).update(last_answer=text(MOBILE))


def texts_holding(values: list[str]) -> list[str]:
    """Returns each column of any table that holds one of the values, ignoring case."""
    found = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            names = [column[0] for column in cursor.description]
            for row in cursor.fetchall():
                for name, value in zip(names, row, strict=True):
                    if any(each.lower() in str(value).lower() for each in values):
                        found.append(f"{table}.{name}")
    return sorted(set(found))


def test_no_column_of_any_table_holds_an_identifier_after_erasure(known: Known) -> None:
    assert texts_holding(VALUES) == [
        "loyalty_customer.reversals_lock_reason",
        "loyalty_customergroup.name",
        "loyalty_customeridentifier.value",
        "loyalty_emfchange.reason",
        "loyalty_staffchange.after",
        "loyalty_staffchange.before",
        "loyalty_staffchange.reason",
        "reversals_approval.comment",
        "reversals_approval.reason",
        "reversals_attempt.reason",
        "reversals_attempt.redemption_id_asked",
        "reversals_bulkrow.outcome",
        "reversals_bulkrow.reason",
        "reversals_bulkrow.redemption_id",
        "reversals_bulkrun.name",
        "reversals_delivery.last_answer",
        "reversals_event.data",
        "reversals_reversal.reason",
    ]
    known.erase()
    assert texts_holding(VALUES) == []
    assert list(Attempt.objects.filter(org=known.world.org).exclude(identifier_masked="")) == []


def test_erasure_keeps_points_and_history_and_laws_and_seals_still_hold(known: Known, tmp_path: Path) -> None:
    anchor = tmp_path / "ledger.anchor"
    seal_ledger(anchor)
    before = known.world.written()
    known.erase()
    assert known.world.written() == before
    assert broken_laws(known.world.org.id) == []
    assert check_seals(anchor).problems == []


def test_rows_sealed_after_erasure_pass_the_check(known: Known, tmp_path: Path) -> None:
    known.erase()
    seal_ledger(tmp_path / "ledger.anchor")
    assert check_seals(tmp_path / "ledger.anchor").problems == []


def test_seal_of_a_correction_holds_after_its_reason_is_erased(known: Known, tmp_path: Path) -> None:
    anchor, reversal = tmp_path / "ledger.anchor", Reversal.objects.get(org=known.world.org, channel="API")
    unlock_reversals(known.world.asha, reason="served", made_by="meera")
    assert correct(reversal).error is None
    correction = reversal.corrections.get()
    CustomerIdentifier.objects.create(
        org=known.world.org, customer=known.world.asha, type="CARD_EXTERNAL_ID", value=correction.reason
    )
    seal_ledger(anchor)
    known.erase()
    correction.refresh_from_db()
    assert correction.reason.startswith("[erased ")
    assert check_seals(anchor).problems == []


def test_seal_of_a_setting_change_holds_after_its_reason_is_erased(known: Known, tmp_path: Path) -> None:
    anchor, change = tmp_path / "ledger.anchor", EmfChange.objects.get(org=known.world.org, key="Reversal_window_days")
    seal_ledger(anchor)
    before = change.reason
    known.erase()
    change.refresh_from_db()
    assert change.reason == erased(before)
    assert verify("--anchor", anchor)[1:] == ([], 0)
    seal_ledger(anchor)
    assert check_seals(anchor).problems == []


def test_erase_customer_reports_counts_and_records_the_change(known: Known) -> None:
    done = known.erase()
    assert done == {
        "org_id": known.world.org.id,
        "customer_id": known.world.asha.public_id,
        "identifiers": 4,
        "texts": 20,
        "attempts": 2,
        "events": 1,
    }
    change = StaffChange.objects.get(org=known.world.org, action="erased identity")
    assert (change.reason, change.made_by) == ("T-1: asked by the customer", "meera")
    assert change.before == {"identifiers": ["CARD_NUMBER", "EMAIL", "EXTERNAL_ID", "MOBILE"]}
    erased_at = Customer.objects.get(id=known.world.asha.id).erased_at
    assert erased_at is not None
    assert erased_at <= change.made_at


def test_after_erasure_an_old_key_replays_and_a_new_request_is_804(known: Known) -> None:
    unlock_reversals(known.world.asha, reason="served", made_by="meera")
    known.erase()
    before = known.world.written()
    repeated = known.world.ask(known.request, key="key-1")
    assert (repeated.status_code, repeated.content) == (200, known.reply.content)
    assert repeated.headers["Idempotent-Replayed"] == "true"
    refused = known.world.ask(known.request, key="key-3")
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (400, 804)
    assert known.world.written() == before
    assert known.world.reverse(known.redemption, 1.5).status_code == 200  # by customer id, which stays


def test_undelivered_events_of_an_erased_customer_hold_only_the_customer_id(known: Known) -> None:
    known.erase()
    identifiers = [json.loads(event.data)["customerIdentifiers"] for event in Event.objects.filter(org=known.world.org)]
    assert identifiers == [{"customerId": known.world.asha.public_id, "instore": {}}] * len(identifiers)
    assert identifiers


def test_erasure_does_not_affect_other_customers_or_orgs(known: Known) -> None:
    stranger = make_world()
    namesake = make_customer(stranger.org, identifiers=IDENTITY)
    ravi = make_customer(known.world.org, identifiers={"EMAIL": "ravi@example.com"})
    note = record_change(
        ravi, org=known.world.org, action="noted", made_by="meera", reason="ravi@example.com", before={}, after={}
    )
    known.erase()
    kept = CustomerIdentifier.objects.filter(customer__in=[namesake, ravi]).values_list("value", flat=True)
    assert sorted(kept) == sorted([*IDENTITY.values(), "ravi@example.com"])
    assert StaffChange.objects.get(id=note.id).reason == "ravi@example.com"


def test_short_identifier_is_not_erased_from_texts(known: Known) -> None:
    value = CustomerIdentifier.objects.filter(customer=known.world.asha, type="EXTERNAL_ID")
    value.update(value="by")
    CustomerIdentifier.objects.filter(customer=known.world.asha).exclude(type="EXTERNAL_ID").delete()
    assert known.erase()["texts"] == 0
    assert BulkRow.objects.get(org=known.world.org).outcome == "called by CRM-778812"


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("--ticket", " ", "erasing a customer's identity needs a ticket"),
        ("--reason", "", "erasing a customer's identity needs a reason"),
        ("--by", "", "erasing a customer's identity needs a user name"),
        (
            "--reason",
            f"+{MOBILE} asked",
            "the reason contains an identifier of the customer, and it would be kept forever",
        ),
    ],
)
def test_erasure_without_valid_ticket_reason_and_user_is_refused(
    known: Known, option: str, text: str, message: str
) -> None:
    words = [*WORDS]
    words[words.index(option) + 1] = text
    assert refusal_of("erase_customer", known.world.org.id, known.world.asha.public_id, *words) == message
    assert CustomerIdentifier.objects.filter(customer=known.world.asha).count() == 4


def test_second_erasure_and_erasure_of_an_unknown_customer_are_refused(known: Known) -> None:
    with time_machine.travel(timezone.now(), tick=False):
        known.erase()
        today = f"{timezone.now():%Y-%m-%d}"
    org_id, public_id = known.world.org.id, known.world.asha.public_id
    again = refusal_of("erase_customer", org_id, public_id, *WORDS)
    assert again == f"the identity of customer {public_id} was erased on {today} already"
    assert refusal_of("erase_customer", org_id, 1, *WORDS) == f"org {org_id} has no customer 1"


# The append-only constraint of the database, with its one exception


@pytest.mark.parametrize("text", ["other words", "[erased] and more", "[erased 12]", ""])
def test_update_of_a_reversals_reason_is_refused_unless_it_is_an_erasure(known: Known, text: str) -> None:
    with pytest.raises(IntegrityError, match="reversal_append_only"), transaction.atomic():
        Reversal.objects.filter(org=known.world.org).update(reason=text)


@pytest.mark.parametrize("column", ["points", "made_by", "created_at"])
def test_erasing_a_reason_cannot_change_other_columns(known: Known, column: str) -> None:
    sql = f"UPDATE reversals_reversal SET reason = '[erased]', {column} = %s WHERE org_id = %s"
    changed = {"points": 3_001, "made_by": "x", "created_at": "2026-01-01 00:00:00+00"}[column]
    with pytest.raises(IntegrityError, match="append_only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql, [changed, known.world.org.id])


# Importing


def write_customers(world: World, tmp_path: Path, mobile: str) -> None:
    header = "org_id,customer_id,status,mobile,email,external_id,card_number"
    row = f"{world.org.id},{world.asha.public_id},ACTIVE,{mobile},,,"
    (tmp_path / "customers.csv").write_text(f"{header}\n{row}\n")


def import_customers(world: World, tmp_path: Path, mobile: str, *options: str) -> dict[str, Any]:
    write_customers(world, tmp_path, mobile)
    return run("import_ledger", tmp_path, *options)


def test_import_does_not_restore_an_erased_identity(known: Known, tmp_path: Path) -> None:
    known.erase()
    write_customers(known.world, tmp_path, MOBILE)
    message = refusal_of("import_ledger", tmp_path)
    assert message.splitlines()[1:] == [
        "customers.csv line 2, column customer_id: expected no identifiers, because the customer's identity was erased"
    ]
    assert import_customers(known.world, tmp_path, MOBILE, "--skip-bad")["files"]["customers"]["bad"] == 1
    assert import_customers(known.world, tmp_path, "")["files"]["customers"]["already_there"] == 1
    assert texts_holding(VALUES) == []


# Exporting


def test_export_holds_all_stored_data_of_the_customer_only(known: Known) -> None:
    world, redemption = known.world, known.redemption
    stranger = make_customer(world.org, identifiers={"EMAIL": "ravi@example.com"})
    make_lot(stranger, 3, program=world.program)
    redeem(stranger, 3, program=world.program)
    document = run("export_customer", world.org.id, world.asha.public_id)
    assert {kind: len(rows) for kind, rows in document.items() if isinstance(rows, list)} == {
        "identifiers": 4,
        "groups": 1,
        "lots": 1,
        "redemptions": 1,
        "draws": 1,
        "reversals": 2,
        "lines": 2,
        "coverings": 0,
        "corrections": 0,
        "approvals": 1,
        "attempts": 2,
        "bulk_rows": 0,
        "events": 2,
        "staff_changes": 3,
        "merges": 0,
    }
    assert (document["org_id"], document["customer_id"]) == (world.org.id, world.asha.public_id)
    assert sorted(each["value"] for each in document["identifiers"]) == sorted(IDENTITY.values())
    assert document["redemptions"] == [
        {
            "public_id": redemption.public_id,
            "program_public_id": world.program.public_id,
            "points": "10",
            "points_reversed": "3",
            "redeemed_at": redemption.redeemed_at.isoformat(),
            "transaction_number": "",
            "external_reference_number": None,
        }
    ]
    assert "ravi@example.com" not in json.dumps(document)


def test_export_after_erasure_holds_no_identifier(known: Known) -> None:
    known.erase()
    document = run("export_customer", known.world.org.id, known.world.asha.public_id)
    assert document["identifiers"] == []
    assert [value for value in VALUES if value in json.dumps(document)] == []
    assert document["erased_at"] is not None
