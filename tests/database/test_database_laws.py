"""Tests the constraints of the database by writing rows without the services and the validation of models."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import User
from django.db import IntegrityError, NotSupportedError, connection, models, transaction

from loyalty.emf.stored import set_emf
from loyalty.fields import new_row_id, new_row_ids
from loyalty.ledger.merging import merge_customers
from loyalty.models import (
    ApiClient,
    ApiSecret,
    ChosenOrg,
    Covering,
    CoveringLine,
    Customer,
    CustomerGroup,
    CustomerIdentifier,
    CustomerMerge,
    Draw,
    EmfChange,
    EmfSetting,
    GroupMember,
    HeldChange,
    LedgerImport,
    LedgerUpload,
    Lot,
    Maintenance,
    Org,
    OrgAccess,
    Program,
    ReasonCode,
    Redemption,
    SavedView,
    StaffChange,
    Tally,
    Webhook,
)
from loyalty.staff.audit import record_change
from reversals.models import (
    Approval,
    Attempt,
    Backup,
    BulkRow,
    BulkRun,
    CheckResult,
    Correction,
    DayTotals,
    Delivery,
    Event,
    Export,
    ExportPart,
    LedgerCheck,
    Reversal,
    ReversalLine,
    Seal,
    SealedRow,
    WorkerProcess,
)
from tests.builders import ON, World, days_ago, make_customer, make_lot, make_webhook, make_world, redeem, utc
from tests.templates import copy_migrated_sqlite

Model = type[models.Model]
Changes = dict[str, Any]

MODELS: list[Model] = [
    *apps.get_app_config("loyalty").get_models(),
    *apps.get_app_config("reversals").get_models(),
]
THOUSANDTH = Decimal("0.001")
POINTS = 10

# The values that make a copy of a row a valid new row. Rows that need another parent get it in `make_family`.
FRESH: dict[Model, Changes] = {
    Org: {},
    Program: {"public_id": 987_654},
    EmfSetting: {"key": "Reversal_limit_days"},
    EmfChange: {},
    HeldChange: {},
    Maintenance: {},
    SavedView: {"name": "another"},
    ReasonCode: {"code": "ANOTHER"},
    StaffChange: {},
    ApiClient: {"username": "till.2"},
    ApiSecret: {"digest": "another"},
    Tally: {"key": "another"},
    Webhook: {"name": "another"},
    Customer: {"public_id": 1},
    CustomerIdentifier: {"value": "C-2"},
    CustomerGroup: {"public_id": 1},
    GroupMember: {"left_at": utc("2026-02-01")},
    LedgerImport: {},
    LedgerUpload: {},
    Lot: {"lot_ref": "L-2"},
    Redemption: {"public_id": "R-2", "external_reference_number": None},
    Draw: {"position": 9, "lot_id": None},
    Covering: {},
    Reversal: {"public_id": "Zzzzzz"},
    Attempt: {"idempotency_key": "key-2"},
    Approval: {"key": "another"},
    BulkRun: {"key": "another"},
    BulkRow: {"position": 2},
    LedgerCheck: {},
    Backup: {},
    CheckResult: {"name": "another"},
    DayTotals: {"rule": "NOT_FOUND"},
    Event: {"event_id": "another"},
    Export: {},
    ExportPart: {"number": 2},
    Seal: {},
    SealedRow: {"position": 2, "row_id": 2},
    WorkerProcess: {"id": "another"},
}

# Constraint, the model of the row that is written, and the values that break this constraint and no other.
UNIQUE: list[tuple[str, Model, Changes]] = [
    ("checkresult_unique", CheckResult, {}),
    ("program_public_id_unique", Program, {}),
    ("emf_setting_once_per_org", EmfSetting, {"program_id": None, "key": ON}),
    ("emf_setting_once_per_program", EmfSetting, {}),
    ("api_client_username_unique", ApiClient, {}),
    ("api_secret_once_per_client", ApiSecret, {}),
    ("tally_once_a_minute", Tally, {}),
    ("customer_public_id_unique", Customer, {}),
    ("customer_merged_once", CustomerMerge, {}),
    ("identifier_names_one_customer", CustomerIdentifier, {}),
    ("group_public_id_unique", CustomerGroup, {}),
    ("member_of_one_group", GroupMember, {}),
    ("lot_ref_unique", Lot, {}),
    ("redemption_public_id_unique", Redemption, {"external_reference_number": None}),
    ("redemption_external_reference_unique", Redemption, {"public_id": "R-2"}),
    ("draw_position_unique", Draw, {"lot_id": None}),
    ("draw_once_per_lot", Draw, {"position": 9}),
    ("covering_once_per_lot", CoveringLine, {}),
    ("reversal_public_id_unique", Reversal, {}),
    ("line_once_per_draw", ReversalLine, {}),
    ("idempotency_key_held_once", Attempt, {}),
    ("webhook_name_unique", Webhook, {}),
    ("event_id_unique", Event, {}),
    ("delivery_once_per_webhook", Delivery, {}),
    ("org_access_once", OrgAccess, {}),
    ("reason_code_once_per_list", ReasonCode, {}),
    ("approval_asked_once", Approval, {}),
    ("bulk_run_made_once", BulkRun, {}),
    ("correction_once_per_reversal", Correction, {}),
    ("bulk_row_position_unique", BulkRow, {}),
    ("day_totals_once", DayTotals, {}),
    ("export_part_once", ExportPart, {}),
    ("saved_view_name_unique", SavedView, {}),
    ("sealed_position_unique", SealedRow, {"row_id": 2}),
    ("row_sealed_once", SealedRow, {"position": 2}),
]
CHECKED: list[tuple[str, Model, Changes]] = [
    ("org_id_positive", Org, {"id": 0}),
    ("emf_change_says_why", EmfChange, {"ticket": ""}),
    ("emf_change_says_why", EmfChange, {"reason": ""}),
    ("customer_status_known", Customer, {"status": "GONE", "merged_into_id": None}),
    ("customer_merged_into_another", Customer, {"status": "ACTIVE"}),
    ("customer_merge_says_why", CustomerMerge, {"ticket": ""}),
    ("customer_merge_says_why", CustomerMerge, {"reason": ""}),
    ("maintenance_says_why", Maintenance, {"is_on": True}),
    ("held_change_status_known", HeldChange, {"status": "MAYBE", "decided_by": "asha", "decided_at": days_ago(0)}),
    ("held_change_says_who_decided", HeldChange, {"status": "CONFIRMED"}),
    (
        "held_change_by_another_user",
        HeldChange,
        {"status": "CONFIRMED", "decided_by": "ravi", "decided_at": days_ago(0)},
    ),
    ("covering_says_why", Covering, {"reason": ""}),
    ("covering_says_why", Covering, {"points": 0}),
    ("covering_line_points_positive", CoveringLine, {"points": 0}),
    ("member_left_after_joining", GroupMember, {"left_at": utc("2025-12-31")}),
    ("ledger_import_points_of_lots", LedgerImport, {"lots_added": 0}),
    ("ledger_import_points_of_lots", LedgerImport, {"points_awarded": 0}),
    ("ledger_import_points_of_redemptions", LedgerImport, {"redemptions_added": 1}),
    ("ledger_import_points_of_redemptions", LedgerImport, {"points_redeemed": 1}),
    ("lot_awarded_positive", Lot, {"points_awarded": 0, "points_remaining": 0}),
    ("lot_remaining_within_awarded", Lot, {"points_remaining": -THOUSANDTH}),
    ("lot_reissued_within_awarded", Lot, {"points_reissued": -THOUSANDTH}),
    ("lot_reissued_within_awarded", Lot, {"points_reissued": THOUSANDTH}),
    ("redemption_points_positive", Redemption, {"points": 0, "points_reversed": 0}),
    ("redemption_reversed_within_points", Redemption, {"points_reversed": -THOUSANDTH}),
    ("redemption_reversed_within_points", Redemption, {"points_reversed": POINTS + THOUSANDTH}),
    ("draw_points_positive", Draw, {"points": 0, "points_reversed": 0}),
    ("draw_reversed_within_points", Draw, {"points_reversed": -THOUSANDTH}),
    ("draw_reversed_within_points", Draw, {"points_reversed": POINTS + THOUSANDTH}),
    ("reversal_points_positive", Reversal, {"points": 0, "points_available": 0, "points_expired": 0}),
    ("reversal_points_positive", Reversal, {"points": 1, "points_available": -1, "points_expired": 2}),
    ("reversal_points_positive", Reversal, {"points": 1, "points_available": 2, "points_expired": -1}),
    ("reversal_is_available_and_expired", Reversal, {"points": 3, "points_available": 1, "points_expired": 1}),
    ("line_points_positive", ReversalLine, {"points": 0, "points_available": 0, "points_expired": 0}),
    ("line_points_positive", ReversalLine, {"points": 1, "points_available": -1, "points_expired": 2}),
    ("line_points_positive", ReversalLine, {"points": 1, "points_available": 2, "points_expired": -1}),
    ("line_is_available_and_expired", ReversalLine, {"points": 3, "points_available": 1, "points_expired": 1}),
    ("delivery_status_known", Delivery, {"status": "LOST"}),
    ("approval_status_known", Approval, {"status": "GONE"}),
    ("export_status_known", Export, {"status": "LOST"}),
    ("ledger_upload_status_known", LedgerUpload, {"status": "LOST"}),
    ("approval_by_another_person", Approval, {"decided_by": "ravi"}),
    ("approval_says_who_decided", Approval, {"decided_by": ""}),
    ("approval_says_who_decided", Approval, {"decided_at": None}),
    ("approval_says_who_decided", Approval, {"status": "WAITING"}),
    ("correction_points_positive", Correction, {"points": 0}),
    ("correction_by_two_persons", Correction, {"approved_by": "ravi"}),
    ("bulk_row_status_known", BulkRow, {"status": "LOST"}),
]
# The unique keys that the constraints of the next table reference.
IN_ORG: list[tuple[str, Model]] = [
    ("program_in_org", Program),
    ("api_client_in_org", ApiClient),
    ("customer_in_org", Customer),
    ("group_in_org", CustomerGroup),
    ("ledger_import_in_org", LedgerImport),
    ("lot_in_org", Lot),
    ("redemption_in_org", Redemption),
    ("draw_in_org", Draw),
    ("reversal_in_org", Reversal),
    ("webhook_in_org", Webhook),
    ("event_in_org", Event),
    ("covering_in_org", Covering),
    ("approval_in_org", Approval),
    ("bulk_run_in_org", BulkRun),
]
SAME_ORG: list[tuple[str, Model, str, Model]] = [
    ("emf_setting_program_of_org", EmfSetting, "program_id", Program),
    ("emf_change_program_of_org", EmfChange, "program_id", Program),
    ("api_secret_client_of_org", ApiSecret, "client_id", ApiClient),
    ("customer_merged_into_of_org", Customer, "merged_into_id", Customer),
    ("customer_merge_source_of_org", CustomerMerge, "source_id", Customer),
    ("customer_merge_target_of_org", CustomerMerge, "target_id", Customer),
    ("identifier_customer_of_org", CustomerIdentifier, "customer_id", Customer),
    ("member_group_of_org", GroupMember, "group_id", CustomerGroup),
    ("member_customer_of_org", GroupMember, "customer_id", Customer),
    ("lot_program_of_org", Lot, "program_id", Program),
    ("lot_customer_of_org", Lot, "customer_id", Customer),
    ("lot_first_customer_of_org", Lot, "first_customer_id", Customer),
    ("lot_ledger_import_of_org", Lot, "ledger_import_id", LedgerImport),
    ("redemption_ledger_import_of_org", Redemption, "ledger_import_id", LedgerImport),
    ("redemption_program_of_org", Redemption, "program_id", Program),
    ("redemption_customer_of_org", Redemption, "customer_id", Customer),
    ("redemption_first_customer_of_org", Redemption, "first_customer_id", Customer),
    ("draw_redemption_of_org", Draw, "redemption_id", Redemption),
    ("draw_lot_of_org", Draw, "lot_id", Lot),
    ("covering_redemption_of_org", Covering, "redemption_id", Redemption),
    ("covering_line_covering_of_org", CoveringLine, "covering_id", Covering),
    ("covering_line_draw_of_org", CoveringLine, "draw_id", Draw),
    ("covering_line_lot_of_org", CoveringLine, "lot_id", Lot),
    ("reversal_redemption_of_org", Reversal, "redemption_id", Redemption),
    ("reversal_customer_of_org", Reversal, "customer_id", Customer),
    ("line_reversal_of_org", ReversalLine, "reversal_id", Reversal),
    ("line_draw_of_org", ReversalLine, "draw_id", Draw),
    ("line_reissued_lot_of_org", ReversalLine, "reissued_lot_id", Lot),
    ("attempt_reversal_of_org", Attempt, "reversal_id", Reversal),
    ("attempt_redemption_of_org", Attempt, "redemption_id", Redemption),
    ("event_customer_of_org", Event, "customer_id", Customer),
    ("delivery_event_of_org", Delivery, "event_id", Event),
    ("delivery_webhook_of_org", Delivery, "webhook_id", Webhook),
    ("delivery_customer_of_org", Delivery, "customer_id", Customer),
    ("approval_redemption_of_org", Approval, "redemption_id", Redemption),
    ("approval_corrects_of_org", Approval, "corrects_id", Reversal),
    ("approval_reversal_of_org", Approval, "reversal_id", Reversal),
    ("correction_reversal_of_org", Correction, "reversal_id", Reversal),
    ("correction_approval_of_org", Correction, "approval_id", Approval),
    ("bulk_row_run_of_org", BulkRow, "run_id", BulkRun),
    ("bulk_row_reversal_of_org", BulkRow, "reversal_id", Reversal),
    ("bulk_row_approval_of_org", BulkRow, "approval_id", Approval),
]
# These references have no constraint, because it would make each call lock the row of its API client, and all calls of
# the client would wait for each other. verify_ledger checks them instead.
CLIENT_OF_MOVEMENT = {(Reversal, "client_id"), (Attempt, "client_id")}
APPEND_ONLY: dict[Model, str] = {
    Covering: "covering_append_only",
    CoveringLine: "covering_line_append_only",
    CustomerMerge: "customer_merge_append_only",
    EmfChange: "emf_change_append_only",
    LedgerImport: "ledger_import_append_only",
    Maintenance: "maintenance_append_only",
    Reversal: "reversal_append_only",
    ReversalLine: "line_append_only",
    Correction: "correction_append_only",
    StaffChange: "staff_change_append_only",
    Seal: "seal_append_only",
    SealedRow: "sealed_row_append_only",
}


def test_every_constraint_of_every_model_has_a_test_case() -> None:
    cases = {name for table in (UNIQUE, CHECKED, IN_ORG, SAME_ORG) for name, *_ in table} | {*APPEND_ONLY.values()}
    assert cases == {constraint.name for model in MODELS for constraint in model._meta.constraints}


def test_every_reference_within_an_org_has_a_same_org_constraint() -> None:
    references = {
        (model, field.column)
        for model in MODELS
        for field in model._meta.concrete_fields
        if isinstance(field, models.ForeignKey) and field.remote_field.model not in {Org, User, Seal, Export}
    }
    assert {(model, column) for _, model, column, _ in SAME_ORG} == references - CLIENT_OF_MOVEMENT


# Valid rows, from which the tests derive invalid ones


@dataclass
class Family:
    """One row of each model, all of one org, and the values that make a copy of each a valid new row."""

    rows: dict[Model, models.Model]
    fresh: dict[Model, Changes]

    def copy_of(self, model: Model, changes: Changes) -> models.Model:
        """Returns an unsaved copy of the family's row, with a new id and the changes."""
        row = self.rows[model]
        values = {field.attname: getattr(row, field.attname) for field in model._meta.concrete_fields}
        return model(**(values | {model._meta.pk.attname: new_row_id()} | changes))

    def fresh_copy_of(self, model: Model, changes: Changes) -> models.Model:
        """Returns an unsaved copy that is valid except for the changes."""
        return self.copy_of(model, self.fresh[model] | changes)

    def id_of(self, model: Model) -> Any:
        return self.rows[model].pk


def make_family() -> Family:
    """Creates a family around an API call with a key that reversed 2 points of a redemption.

    Their lot had expired, so they were re-issued in a new lot. The event is still to be delivered to a webhook.
    """
    world = make_world(settings={"Reversal_reissue_days": "30"})
    webhook = make_webhook(world.org)
    lot = make_lot(world.asha, POINTS, program=world.program, expires_at=days_ago(1))
    redemption = redeem(world.asha, POINTS, program=world.program, at=days_ago(2), external_reference_number="E-1")
    spare_draw = redeem(world.asha, POINTS, program=world.program).draws.get()
    assert world.reverse(redemption, 2, key="key-1").status_code == 200
    reversal = redemption.reversals.get()
    line = reversal.lines.get()
    delivery = Delivery.objects.get(webhook=webhook)
    rows = [
        *setup_of(world),
        lot.ledger_import,
        redemption,
        line.draw,
        line.reissued_lot,
        reversal,
        line,
        reversal.attempts.get(),
    ]
    covering = Covering.objects.create(
        org=world.org, redemption=redemption, points=1, reason="found later", made_by="ravi", made_at=days_ago(0)
    )
    rows += [covering, CoveringLine.objects.create(org=world.org, covering=covering, draw=line.draw, lot=lot, points=1)]
    rows += [webhook, delivery.event, delivery, *kept_by_staff(world), *work_on(reversal)]
    rows.append(Tally.objects.create(minute=world.org.id, key="key", count=1))
    assert world.reverse(redemption, 1, key="key-3").status_code == 200
    fresh: dict[Model, Changes] = {
        CoveringLine: {"lot_id": spare_draw.lot_id or line.reissued_lot_id},
        CustomerMerge: {"source_id": world.asha.id},
        OrgAccess: {"user_id": make_user().id},
        ChosenOrg: {"user_id": make_user().id},
        ReversalLine: {"draw_id": spare_draw.id},
        Correction: {"reversal_id": redemption.reversals.exclude(id=reversal.id).get().id},
        Delivery: {"webhook_id": make_webhook(world.org).id},
    }
    return Family({type(row): row for row in rows}, FRESH | fresh)


def make_user() -> User:
    return User.objects.create(username=f"person {User.objects.count()}")


def kept_by_staff(world: World) -> list[models.Model]:
    """Creates a user's access to the org, and rows that staff and operators add for it."""
    code = ReasonCode.objects.create(org=world.org, code="GOODS_RETURNED", meaning="The goods were returned.")
    change = record_change(code, org=world.org, action="added", made_by="ravi", reason="asked", before={}, after={})
    off = Maintenance.objects.create(is_on=False, made_by="ravi", made_at=days_ago(1))
    held = HeldChange.objects.create(
        org=world.org,
        kind=HeldChange.Kind.CLIENT,
        details={"username": "till.9"},
        reason="why",
        asked_by="ravi",
        asked_at=days_ago(1),
        lapses_at=days_ago(-1),
    )
    of_user = [model.objects.create(user=make_user(), org=world.org) for model in (OrgAccess, ChosenOrg, SavedView)]
    return [*of_user, code, change, off, held]


def work_on(reversal: Reversal) -> list[models.Model]:
    """Creates a correction of the reversal, requested by Ravi, a bulk run, a ledger check and day totals."""
    org, now = reversal.org, days_ago(0)
    approval = Approval.objects.create(
        org=org,
        redemption=reversal.redemption,
        corrects=reversal,
        points=reversal.points,
        key="page-1",
        channel="ADMIN",
        reason="the wrong customer",
        asked_by="ravi",
        asked_at=now,
        lapses_at=now,
        status="APPROVED",
        decided_by="meera",
        decided_at=now,
    )
    correction = Correction.objects.create(
        org=org,
        reversal=reversal,
        approval=approval,
        points=reversal.points,
        made_by="ravi",
        approved_by="meera",
        reason="the wrong customer",
        created_at=now,
    )
    run = BulkRun.objects.create(org=org, key="page", name="returns.csv", made_by="ravi", made_at=now)
    row = BulkRow.objects.create(org=org, run=run, position=1, redemption_id="R-1")
    check = LedgerCheck.objects.create(org=org, started_at=now, finished_at=now, broken_count=0)
    totals = DayTotals.objects.create(org=org, day=now.date(), count=1)
    backup = Backup.objects.create(kind="full", finished_at=now)
    worker = WorkerProcess.objects.create(id=f"of {org.id}", host="host", started_at=now, seen_at=now)
    result = CheckResult.objects.create(host=f"of {org.id}", name="disk", status=0, detail="", checked_at=now)
    rows = [approval, correction, run, row, check, totals, backup, worker, result]
    return [*rows, *exported(org), *sealed(reversal)]


def exported(org: Org) -> list[models.Model]:
    """Creates an export of a list of the org, with one part, and an upload of ledger files."""
    now = days_ago(0)
    export = Export.objects.create(
        org=org, asked_by="ravi", kind="reversals.reversal", task=uuid4(), asked_at=now, expires_at=now
    )
    part = ExportPart.objects.create(export=export, number=1, rows=0, size=0, content=b"")
    return [export, part, LedgerUpload.objects.create(org=org, made_by="ravi", made_at=now)]


def sealed(reversal: Reversal) -> list[models.Model]:
    """Creates a seal that lists the reversal, with dummy hashes, because the database does not check them."""
    seal = Seal.objects.create(
        id=Seal.objects.count() + 1, sealed_at=days_ago(0), count=1, is_complete=True, hash="0" * 64
    )
    row = SealedRow.objects.create(
        org=reversal.org, seal=seal, position=1, kind=SealedRow.Kind.REVERSAL, row_id=reversal.id, digest="0" * 64
    )
    return [seal, row]


def setup_of(world: World) -> list[models.Model]:
    """Sets a setting of the program, and returns the org and the rows that exist before any points move."""
    change = set_emf(
        org=world.org,
        program=world.program,
        key="Reversal_window_days",
        value="90",
        ticket="T-1",
        reason="asked by ops",
        changed_by="ravi",
    )
    client = ApiClient.objects.get(org=world.org)
    group = CustomerGroup.objects.create(org=world.org, public_id=77)
    merge_customers(
        org=world.org,
        source_id=make_customer(world.org).public_id,
        target_id=world.asha.public_id,
        ticket="T-1",
        reason="the same customer twice",
        made_by="ravi",
    )
    merge = CustomerMerge.objects.get(org=world.org)
    return [
        world.org,
        world.program,
        EmfSetting.objects.get(org=world.org, key=change.key),
        change,
        client,
        client.secrets.get(),
        merge,
        merge.source,
        CustomerIdentifier.objects.create(org=world.org, customer=world.asha, type="CARD_NUMBER", value="C-1"),
        group,
        GroupMember.objects.create(org=world.org, group=group, customer=world.asha, joined_at=utc("2026-01-01")),
    ]


@pytest.fixture(scope="module")
def families(django_db_setup: None, django_db_blocker: Any) -> Iterator[tuple[Family, Family]]:
    """Creates two families for all tests of this file, in a transaction that is rolled back after the last test."""
    with django_db_blocker.unblock(), transaction.atomic():
        if connection.vendor == "postgresql":
            execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        yield make_family(), make_family()
        transaction.set_rollback(True)


@pytest.fixture
def _rolled_back(families: tuple[Family, Family]) -> Iterator[None]:
    """Rolls back what the test writes."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


@pytest.fixture
def family(families: tuple[Family, Family], _rolled_back: None) -> Family:
    return families[0]


@pytest.fixture
def stranger(families: tuple[Family, Family], _rolled_back: None) -> Family:
    return families[1]


def insert(row: models.Model) -> None:
    """Inserts the row without the validation of the model."""
    with transaction.atomic():
        type(row).objects.bulk_create([row])


def execute(sql: str, *params: object) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql, params)


def execute_and_check(sql: str, *params: object) -> None:
    """Executes the statement and checks foreign keys, because SQLite checks them at COMMIT and no test commits."""
    with transaction.atomic():
        execute(sql, *params)
        connection.check_constraints()


def constraint_of(model: Model, name: str) -> models.BaseConstraint:
    return next(constraint for constraint in model._meta.constraints if constraint.name == name)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_valid_row_is_accepted(family: Family, model: Model) -> None:
    before = model.objects.count()
    insert(family.fresh_copy_of(model, {}))
    assert model.objects.count() == before + 1


# Constraints on one table


def names_of(cases: list[Any]) -> list[str]:
    return [name for name, *_ in cases]


def without_shard(error: Exception) -> str:
    """Returns the message without the number that a cluster appends to the names of a shard's constraints."""
    return re.sub(r'_\d+"', '"', str(error))


def unique_message(model: Model, name: str) -> str:
    """Returns how the database names the constraint: SQLite names its columns, unless a trigger fails first."""
    constraint = constraint_of(model, name)
    if connection.vendor == "sqlite" and model in APPEND_ONLY:
        return APPEND_ONLY[model]
    if connection.vendor == "postgresql":
        return f'violates unique constraint "{name}"'
    fields = [model._meta.get_field(field) for field in constraint.fields]
    return "UNIQUE constraint failed: " + ", ".join(f"{model._meta.db_table}.{field.column}" for field in fields)


@pytest.mark.parametrize(("name", "model", "changes"), UNIQUE, ids=names_of(UNIQUE))
def test_duplicate_of_a_unique_row_is_refused(family: Family, name: str, model: Model, changes: Changes) -> None:
    with pytest.raises(IntegrityError) as refused:
        insert(family.copy_of(model, changes))
    assert unique_message(model, name) in without_shard(refused.value)


@pytest.mark.parametrize(("name", "model", "changes"), CHECKED, ids=names_of(CHECKED))
def test_insert_that_breaks_a_check_is_refused(family: Family, name: str, model: Model, changes: Changes) -> None:
    message = {"postgresql": f'violates check constraint "{name}"', "sqlite": f"CHECK constraint failed: {name}"}
    with pytest.raises(IntegrityError) as refused:
        insert(family.fresh_copy_of(model, changes))
    assert message[connection.vendor] in without_shard(refused.value)


@pytest.mark.parametrize(
    ("name", "model", "changes"),
    [case for case in CHECKED if case[1] not in APPEND_ONLY],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_update_that_breaks_a_check_is_refused(family: Family, name: str, model: Model, changes: Changes) -> None:
    with pytest.raises(IntegrityError, match=name), transaction.atomic():
        model.objects.filter(id=family.id_of(model)).update(**changes)


@pytest.mark.parametrize(("name", "model"), IN_ORG, ids=names_of(IN_ORG))
def test_org_and_row_id_together_are_a_unique_key(family: Family, name: str, model: Model) -> None:
    with connection.cursor() as cursor:
        constraint = connection.introspection.get_constraints(cursor, model._meta.db_table)[name]
    assert (constraint["unique"], constraint["columns"]) == (True, ["org_id", "id"])
    with pytest.raises(IntegrityError):
        insert(family.fresh_copy_of(model, {"id": family.id_of(model)}))


# References within one org


@pytest.mark.parametrize(("name", "model", "column", "parent"), SAME_ORG, ids=names_of(SAME_ORG))
def test_insert_with_a_parent_of_another_org_is_refused(
    family: Family, stranger: Family, name: str, model: Model, column: str, parent: Model
) -> None:
    with pytest.raises(IntegrityError, match=name):
        insert(family.fresh_copy_of(model, {column: stranger.id_of(parent)}))


@pytest.mark.parametrize(("name", "model", "column", "parent"), SAME_ORG, ids=names_of(SAME_ORG))
def test_update_to_a_parent_of_another_org_is_refused(
    family: Family, stranger: Family, name: str, model: Model, column: str, parent: Model
) -> None:
    with pytest.raises(IntegrityError, match=f"{name}|{APPEND_ONLY.get(model, name)}"), transaction.atomic():
        model.objects.filter(id=family.id_of(model)).update(**{column: stranger.id_of(parent)})


@pytest.mark.parametrize(("name", "model", "column", "parent"), SAME_ORG, ids=names_of(SAME_ORG))
def test_insert_with_a_missing_parent_is_refused(
    family: Family, name: str, model: Model, column: str, parent: Model
) -> None:
    with pytest.raises(IntegrityError, match=name):
        insert(family.fresh_copy_of(model, {column: -1}))


CHILDREN = list(dict.fromkeys(model for _, model, *_ in SAME_ORG))
PARENTS = list(dict.fromkeys(parent for *_, parent in SAME_ORG))


@pytest.mark.parametrize("model", PARENTS, ids=lambda model: model.__name__)
def test_update_of_a_parent_to_another_org_is_refused(family: Family, stranger: Family, model: Model) -> None:
    sql = f"UPDATE {model._meta.db_table} SET org_id = %s WHERE id = %s"
    with pytest.raises((IntegrityError, NotSupportedError)):  # a cluster moves no row to another org
        execute_and_check(sql, stranger.id_of(Org), family.id_of(model))


@pytest.mark.parametrize("model", PARENTS, ids=lambda model: model.__name__)
def test_delete_of_a_parent_with_children_is_refused(family: Family, model: Model) -> None:
    with pytest.raises(IntegrityError):
        execute_and_check(f"DELETE FROM {model._meta.db_table} WHERE id = %s", family.id_of(model))


# Append-only tables


@pytest.mark.parametrize("model", list(APPEND_ONLY), ids=lambda model: model.__name__)
def test_update_of_an_append_only_row_is_refused(family: Family, model: Model) -> None:
    with pytest.raises(IntegrityError, match=APPEND_ONLY[model]):
        execute(f"UPDATE {model._meta.db_table} SET id = id WHERE id = %s", family.id_of(model))


@pytest.mark.parametrize("model", list(APPEND_ONLY), ids=lambda model: model.__name__)
def test_delete_of_an_append_only_row_is_refused(family: Family, model: Model) -> None:
    with pytest.raises(IntegrityError, match=APPEND_ONLY[model]):
        execute(f"DELETE FROM {model._meta.db_table} WHERE id = %s", family.id_of(model))


@pytest.mark.parametrize("model", list(APPEND_ONLY), ids=lambda model: model.__name__)
def test_truncate_of_an_append_only_table_is_refused(on_postgresql: None, family: Family, model: Model) -> None:
    execute("SET CONSTRAINTS ALL IMMEDIATE")
    with pytest.raises(IntegrityError, match=APPEND_ONLY[model]):
        execute(f"TRUNCATE {model._meta.db_table} CASCADE")


# A SQLite file that is opened without Django, and therefore without enforcement of foreign keys


@dataclass
class LedgerFile:
    """A SQLite file, and the row ids of the two families in it by table."""

    path: Path
    own: dict[str, int]
    foreign: dict[str, int]


def fill_database() -> None:
    """Creates two families and prints their row ids. Runs in a separate process."""
    families = [make_family(), make_family()]
    ids = [{model._meta.db_table: family.id_of(model) for model in MODELS} for family in families]
    sys.stdout.write(json.dumps(ids))
    connection.close()


def rebuild_tables() -> None:
    """Rebuilds every table, as a migration that alters it does on SQLite. Runs in a separate process."""
    for model in MODELS:
        with connection.schema_editor() as editor:
            editor._remake_table(model)


def run_in_subprocess(function: str, path: Path) -> str:
    """Runs a function of this file on the SQLite file in a separate process, and returns its output."""
    environment = os.environ | {"DATABASE_URL": f"sqlite:///{path}", "DJANGO_SETTINGS_MODULE": "config.settings"}
    program = f"import django; django.setup(); from {__name__} import {function}; {function}()"
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, cwd=settings.BASE_DIR, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


@pytest.fixture(scope="module")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> LedgerFile:
    if connection.vendor != "sqlite":
        pytest.skip("SQLite only; the run on SQLite has it")
    path = tmp_path_factory.mktemp("ledger") / "migrated.sqlite3"
    copy_migrated_sqlite(path)
    return LedgerFile(path, *json.loads(run_in_subprocess("fill_database", path)))


@pytest.fixture(scope="module")
def rebuilt_file(migrated_file: LedgerFile) -> LedgerFile:
    path = migrated_file.path.with_name("rebuilt.sqlite3")
    shutil.copy(migrated_file.path, path)
    run_in_subprocess("rebuild_tables", path)
    return LedgerFile(path, migrated_file.own, migrated_file.foreign)


@pytest.fixture(params=["migrated_file", "rebuilt_file"])
def ledger_file(request: pytest.FixtureRequest) -> LedgerFile:
    return request.getfixturevalue(request.param)


@pytest.fixture
def raw(ledger_file: LedgerFile) -> Iterator[sqlite3.Connection]:
    """Opens a connection that never commits."""
    with closing(sqlite3.connect(ledger_file.path)) as opened:
        opened.row_factory = sqlite3.Row
        yield opened


def triggers_in(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as opened:
        return dict(opened.execute("SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger'").fetchall())


def foreign_keys_in(path: Path) -> list[tuple[str, ...]]:
    """Returns child, parent and the columns of each, for every foreign key."""
    with closing(sqlite3.connect(path)) as opened:
        return sorted(
            (model._meta.db_table, key[2], key[3], key[4])
            for model in MODELS
            for key in opened.execute(f"PRAGMA foreign_key_list({model._meta.db_table})")
        )


def test_rebuilt_table_keeps_its_foreign_keys(migrated_file: LedgerFile, rebuilt_file: LedgerFile) -> None:
    keys = foreign_keys_in(migrated_file.path)
    for _, model, column, parent in SAME_ORG:
        assert (model._meta.db_table, parent._meta.db_table, column, "id") in keys
    assert foreign_keys_in(rebuilt_file.path) == keys


def test_rebuilt_table_keeps_its_triggers(migrated_file: LedgerFile, rebuilt_file: LedgerFile) -> None:
    expected = {f"{name}_{event}": model for name, model, *_ in SAME_ORG for event in ("insert", "update")}
    events = ("update", "delete", "insert")
    expected |= {f"{name}_{event}": model for model, name in APPEND_ONLY.items() for event in events}
    tables = {name: model._meta.db_table for name, model in expected.items()}
    tables |= {
        f"org_move_append_only_{event}": "loyalty_orgmove" for event in events
    }  # only older code uses this table
    assert triggers_in(migrated_file.path) == tables
    assert triggers_in(rebuilt_file.path) == triggers_in(migrated_file.path)


def test_raw_connection_does_not_enforce_foreign_keys(raw: sqlite3.Connection) -> None:
    assert raw.execute("PRAGMA foreign_keys").fetchone()[0] == 0


@pytest.mark.parametrize(("name", "model", "column", "parent"), SAME_ORG, ids=names_of(SAME_ORG))
def test_raw_insert_with_a_parent_of_another_org_is_refused(
    ledger_file: LedgerFile, raw: sqlite3.Connection, name: str, model: Model, column: str, parent: Model
) -> None:
    table = model._meta.db_table
    row = dict(raw.execute(f"SELECT * FROM {table} WHERE id = ?", [ledger_file.own[table]]).fetchone())
    row |= {"id": 1, column: ledger_file.foreign[parent._meta.db_table]}
    # The copy would share unique values with its original, and another trigger might refuse that first.
    unique = {"public_id", "draw_id", "reversal_id", "source_id", "covering_id"}
    row |= dict.fromkeys(unique & set(row) - {column})
    with pytest.raises(sqlite3.IntegrityError, match=name):
        raw.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", [*row.values()])


@pytest.mark.parametrize(("name", "model", "column", "parent"), SAME_ORG, ids=names_of(SAME_ORG))
def test_raw_update_to_a_parent_of_another_org_is_refused(
    ledger_file: LedgerFile, raw: sqlite3.Connection, name: str, model: Model, column: str, parent: Model
) -> None:
    table, foreign_id = model._meta.db_table, ledger_file.foreign[parent._meta.db_table]
    with pytest.raises(sqlite3.IntegrityError, match=f"{name}|{APPEND_ONLY.get(model, name)}"):
        raw.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", [foreign_id, ledger_file.own[table]])


@pytest.mark.parametrize("model", CHILDREN, ids=lambda model: model.__name__)
def test_raw_update_of_a_row_to_another_org_is_refused(
    ledger_file: LedgerFile, raw: sqlite3.Connection, model: Model
) -> None:
    table, other_org = model._meta.db_table, ledger_file.foreign["loyalty_org"]
    with pytest.raises(sqlite3.IntegrityError, match=r"_of_org$|_append_only$"):
        raw.execute(f"UPDATE {table} SET org_id = ? WHERE id = ?", [other_org, ledger_file.own[table]])


@pytest.mark.parametrize("model", list(APPEND_ONLY), ids=lambda model: model.__name__)
@pytest.mark.parametrize("sql", ["UPDATE {} SET id = id", "DELETE FROM {}"], ids=["update", "delete"])
def test_raw_update_or_delete_of_an_append_only_row_is_refused(raw: sqlite3.Connection, model: Model, sql: str) -> None:
    with pytest.raises(sqlite3.IntegrityError, match=APPEND_ONLY[model]):
        raw.execute(sql.format(model._meta.db_table))


@pytest.mark.parametrize("model", list(APPEND_ONLY), ids=lambda model: model.__name__)
def test_raw_replacement_of_an_append_only_row_is_refused(raw: sqlite3.Connection, model: Model) -> None:
    table = model._meta.db_table
    with pytest.raises(sqlite3.IntegrityError, match=APPEND_ONLY[model]):
        raw.execute(f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}")


def test_row_ids_reserved_in_a_batch_are_unique_and_ascending() -> None:
    ids = [*new_row_ids(3), new_row_id(), *new_row_ids(2), new_row_id()]
    assert sorted(set(ids)) == ids
