"""Tests seal_ledger and the seals in verify_ledger, which detect changes of sealed rows and rewritten seals."""

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError
from django.db import connection, connections, transaction

from loyalty.errors import InvalidOperation
from loyalty.models import EmfChange
from reversals.assurance.sealing import anchor, seals
from reversals.assurance.sealing.checking import check_seals
from reversals.assurance.sealing.entries import KINDS
from reversals.assurance.sealing.entries import rows_of as sealed_rows_of
from reversals.assurance.sealing.owner import this_database
from reversals.assurance.sealing.seals import seal_ledger
from reversals.models import Reversal, Seal, SealedRow
from tests.builders import ON, World, correct, make_customer, make_lot, make_world, redeem, redeemed, set_value
from tests.database.test_commands import guards_lifted, lift_triggers, run, verify
from tests.movements.test_races import at_once


@dataclass
class History:
    """Two reversals in the first seal, a third in the second, and a correction of the third in the last seal."""

    world: World
    file: Path
    reversals: list[Reversal]
    seals: list[Seal]

    @property
    def names(self) -> dict[str, Any]:
        first, second, third = self.reversals
        draw = first.redemption.draws.get(position=1)
        return {
            "org": self.world.org.id,
            "first_name": first.public_id,
            "second_name": second.public_id,
            "redemption": first.redemption_id,
            "redemption_name": first.redemption.public_id,
            "other_redemption": second.redemption_id,
            "other_redemption_name": second.redemption.public_id,
            "draw": draw.id,
            "lot": draw.lot_id,
            "lot_name": draw.lot.lot_ref,
            "import": draw.lot.ledger_import_id,
            "customer": self.world.asha.id,
            "customer_name": self.world.asha.public_id,
            "program": self.world.program.id,
            "program_name": self.world.program.public_id,
            "change": EmfChange.objects.get(org=self.world.org, key=ON).id,
            "first": first.id,
            "second": second.id,
            "third": third.id,
            "line": first.lines.order_by("id")[0].id,
            "correction": third.corrections.get().id,
            **{f"seal_{place}": seal.id for place, seal in enumerate(self.seals, start=1)},
        }

    def problems(self) -> list[str]:
        return check_seals(self.file).problems


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "anchors" / "ledger.anchor"


def reversal_of_two_lines(world: World) -> Reversal:
    make_lot(world.asha, 4, program=world.program)
    make_lot(world.asha, 6, program=world.program)
    redemption = redeem(world.asha, 10, program=world.program)
    assert world.reverse(redemption, 8).status_code == 200
    return redemption.reversals.get()


@pytest.fixture
def history(world: World, file: Path) -> History:
    seal_ledger(file)  # rows that earlier tests committed
    reversals = [reversal_of_two_lines(world), reversal_of_two_lines(world)]
    seals = [seal_ledger(file).head]
    reversals.append(reversal_of_two_lines(world))
    seals.append(seal_ledger(file).head)
    assert correct(reversals[-1]).error is None
    seals.append(seal_ledger(file).head)
    return History(world, file, reversals, [seal for seal in seals if seal is not None])


def execute(sql: str, *params: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


# Sealing


def test_seal_ledger_seals_each_row_once(history: History) -> None:
    kinds = [list(seal.rows.order_by("position").values_list("kind", flat=True)) for seal in history.seals]
    a_reversal = ["IMPORT"] * 3 + ["LOT"] * 2 + ["REDEMPTION", "REVERSAL"]
    assert kinds[1:] == [a_reversal, ["CORRECTION"]]
    assert kinds[0] == sorted(2 * a_reversal, key=SealedRow.Kind.values.index)
    assert [seal.count for seal in history.seals] == [14, 7, 1]
    head = history.seals[-1]
    nothing = {"seals": 0, "rows": 0, "last_seal": head.id, "hash": head.hash, "anchor": str(history.file)}
    assert run("seal_ledger", "--anchor", history.file) == nothing
    assert history.problems() == []


@pytest.mark.django_db
def test_seal_ledger_of_an_empty_ledger_creates_no_seal(file: Path) -> None:
    with guards_lifted():
        for kind in KINDS:
            execute(f"DELETE FROM {kind.row.table}")
        nothing = {"seals": 0, "rows": 0, "last_seal": None, "hash": None, "anchor": str(file)}
        assert run("seal_ledger", "--anchor", file) == nothing
        assert check_seals(file).problems == []


def test_run_in_several_batches_seals_every_row(world: World, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seal_ledger(file)
    reversals = [reversal_of_two_lines(world) for _ in range(5)]
    assert correct(reversals[-1]).error is None
    monkeypatch.setattr(seals, "ENTRIES_AT_ONCE", 2)
    sealed = seal_ledger(file)
    assert (sealed.seals, sealed.rows) == (18, 36)
    rows = SealedRow.objects.filter(seal__gt=sealed.head.id - 18).order_by("seal", "position")
    counts = Counter(rows.values_list("kind", flat=True))
    assert counts == {"IMPORT": 15, "LOT": 10, "REDEMPTION": 5, "REVERSAL": 5, "CORRECTION": 1}
    assert [row.row_id for row in rows if row.kind == "REVERSAL"] == [each.id for each in reversals]
    complete = Seal.objects.filter(id__gt=sealed.head.id - 18, is_complete=True)
    assert list(complete) == [sealed.head]
    assert check_seals(file).problems == []


def test_rows_not_sealed_yet_are_not_reported(history: History) -> None:
    reversal_of_two_lines(history.world)
    set_value(history.world.org, "Reversal_limit_days", "7")
    assert verify("--anchor", history.file)[1:] == ([], 0)


def test_old_rows_in_the_first_run_are_not_reported_as_backdated(
    world: World, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        reversal_of_two_lines(world)
    monkeypatch.setattr(seals, "ENTRIES_AT_ONCE", 2)
    with guards_lifted():
        execute("UPDATE reversals_reversal SET created_at = '2026-01-01 00:00:00'")
        execute("DELETE FROM reversals_correction")
        assert seal_ledger(file).seals > 2
        assert check_seals(file).problems == []


def test_history_of_an_org_that_was_imported_whole_is_not_reported_as_backdated(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived = make_world()
    for _ in range(5):
        reversal_of_two_lines(arrived)
    monkeypatch.setattr(seals, "ENTRIES_AT_ONCE", 2)
    with guards_lifted():
        execute("UPDATE reversals_reversal SET created_at = '2026-01-01 00:00:00' WHERE org_id = %s", arrived.org.id)
        assert seal_ledger(history.file).seals > 2
        assert history.problems() == []
        later = reversal_of_two_lines(arrived)
        execute("UPDATE reversals_reversal SET created_at = '2026-01-01 00:00:00' WHERE id = %s", later.id)
        seal_ledger(history.file)
        [problem] = history.problems()
    assert f"reversal {later.id} ({later.public_id}) of org {arrived.org.id} is backdated" in problem


def test_the_anchor_has_a_line_for_each_seal(history: History) -> None:
    owner, *lines = [json.loads(line) for line in history.file.read_text().splitlines()]
    assert owner == {"owner": this_database()}
    assert lines[-3:] == [
        {"seal": seal.id, "sealed_at": seal.sealed_at.isoformat(), "rows": seal.count, "hash": seal.hash}
        for seal in history.seals
    ]
    assert [line["seal"] for line in lines] == list(range(1, history.seals[-1].id + 1))


# An auditor's program, based only on the description in reversals/assurance/sealing/entries.py


def hashed(text: str) -> str:
    return sha256(text.encode("utf-8")).hexdigest()


def rows_of(sql: str, *params: object) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return [tuple(row) for row in cursor.fetchall()]


def micros(time: Any) -> int:
    parsed = datetime.fromisoformat(time) if isinstance(time, str) else time
    return int((parsed.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))


def plain(value: Any) -> str:
    return "" if value is None else str(int(value) if isinstance(value, bool) else value)


def counted(text: str | None) -> str:
    return "" if text is None else f"{len(text)}:{text}"


def micros_or_none(time: Any) -> str:
    return "" if time is None else str(micros(time))


FORMS: dict[str, Callable[[Any], str]] = {"": plain, "time": micros_or_none, "hash": hashed, "counted": counted}
# By kind: the word that begins each line, the table, the column with the id of the entry, and the columns.
DESCRIBED = {
    "IMPORT": [
        (
            "import loyalty_ledgerimport id",
            "org_id id imported_at:time made_by:hash lots_added points_awarded redemptions_added points_redeemed",
        )
    ],
    "LOT": [
        (
            "lot loyalty_lot id",
            "org_id id program_id customer_id lot_ref:counted points_awarded awarded_at:time expires_at:time"
            " is_reissue ledger_import_id",
        )
    ],
    "REDEMPTION": [
        (
            "redemption loyalty_redemption id",
            "org_id id program_id customer_id public_id:counted points redeemed_at:time transaction_number:counted"
            " external_reference_number:counted ledger_import_id",
        ),
        ("draw loyalty_draw redemption_id", "org_id id redemption_id lot_id position points"),
    ],
    "REVERSAL": [
        (
            "reversal reversals_reversal id",
            "org_id id public_id redemption_id customer_id points_asked points points_available points_expired has_key"
            " channel client_id made_by:hash reason:hash created_at:time",
        ),
        (
            "line reversals_reversalline reversal_id",
            "org_id id reversal_id draw_id points points_available points_expired reissued_lot_id",
        ),
    ],
    "CORRECTION": [
        (
            "correction reversals_correction id",
            "org_id id reversal_id approval_id points made_by:hash approved_by:hash reason:hash created_at:time",
        )
    ],
    "SETTING_CHANGE": [
        (
            "setting loyalty_emfchange id",
            "org_id id program_id key:counted old_value:counted new_value:counted ticket:counted reason:hash"
            " changed_by:hash changed_at:time request_id:counted",
        )
    ],
    "CUSTOMER": [("customer loyalty_customer id", "org_id id public_id")],
    "PROGRAM": [("program loyalty_program id", "org_id id public_id")],
}


def text_of(kind: str, row_id: int) -> str:
    lines = []
    for named, described in DESCRIBED[kind]:
        word, table, key = named.split()
        names, forms = zip(*(column.partition(":")[::2] for column in described.split()), strict=True)
        for row in rows_of(f"SELECT {', '.join(names)} FROM {table} WHERE {key} = %s ORDER BY id", row_id):
            lines.append("|".join([word, *(FORMS[form](value) for form, value in zip(forms, row, strict=True))]))
    return "\n".join(lines)


def test_independent_program_computes_the_same_chain_from_the_tables(history: History) -> None:
    previous = "0" * 64
    seals = "SELECT id, sealed_at, count, is_complete, hash FROM reversals_seal ORDER BY id"
    for number, sealed_at, count, is_complete, stored in rows_of(seals):
        listed: Any = rows_of("SELECT kind, row_id FROM reversals_sealedrow WHERE seal_id=%s ORDER BY position", number)
        digests = [hashed(text_of(kind, row_id)) for kind, row_id in listed]
        assert len(listed) == count
        head = f"seal|{number}|{micros(sealed_at)}|{count}|{int(is_complete)}|{previous}"
        previous = hashed("\n".join([head, *digests]))
        assert previous == stored
    assert previous == history.seals[-1].hash


# Tampering by an attacker who bypasses every trigger and constraint

CHANGED = "seal {seal_1}: reversal {first} ({first_name}) of org {org} has changed since it was sealed"
HASH_OF_1 = "seal {seal_1}: its hash does not match its rows and the previous seal"
HASH_OF_3 = "seal {seal_3}: its hash does not match its rows and the previous seal"
LINE = "id, org_id, reversal_id, draw_id, points, points_available, points_expired"
REVERSAL = (
    "id, org_id, redemption_id, customer_id, public_id, points, points_available, points_expired, has_key, channel,"
    " made_by, reason, created_at"
)
TAMPERINGS: list[tuple[str, list[str], list[str]]] = [
    ("points of a reversal", ["UPDATE reversals_reversal SET points = points + 1 WHERE id = {first}"], [CHANGED]),
    ("the user of a reversal", ["UPDATE reversals_reversal SET made_by = 'x' WHERE id = {first}"], [CHANGED]),
    ("the reason of a reversal", ["UPDATE reversals_reversal SET reason = 'x' WHERE id = {first}"], [CHANGED]),
    (
        "the time of a reversal",
        ["UPDATE reversals_reversal SET created_at = '2026-01-01 00:00:00' WHERE id = {first}"],
        [CHANGED],
    ),
    ("the customer of a reversal", ["UPDATE reversals_reversal SET customer_id = 1 WHERE id = {first}"], [CHANGED]),
    (
        "the public id of a reversal",
        ["UPDATE reversals_reversal SET public_id = 'other1' WHERE id = {first}"],
        [CHANGED.replace("{first_name}", "other1")],
    ),
    ("points of a line", ["UPDATE reversals_reversalline SET points = points + 1 WHERE id = {line}"], [CHANGED]),
    ("a line deleted", ["DELETE FROM reversals_reversalline WHERE id = {line}"], [CHANGED]),
    (
        "a line moved to another reversal",
        ["UPDATE reversals_reversalline SET reversal_id = {second} WHERE id = {line}"],
        [CHANGED, "seal {seal_1}: reversal {second} ({second_name}) of org {org} has changed since it was sealed"],
    ),
    (
        "a line added",
        [
            f"INSERT INTO reversals_reversalline ({LINE}) SELECT 1, org_id, reversal_id, 1, 1, 1, 0"
            " FROM reversals_reversalline WHERE id = {line}"
        ],
        [CHANGED],
    ),
    (
        "a reversal deleted",
        [
            "DELETE FROM reversals_reversalline WHERE reversal_id = {first}",
            "DELETE FROM reversals_reversal WHERE id = {first}",
        ],
        ["seal {seal_1}: reversal {first} of org {org} is gone"],
    ),
    (
        "points of a correction",
        ["UPDATE reversals_correction SET points = points + 1 WHERE id = {correction}"],
        ["seal {seal_3}: correction {correction} of org {org} has changed since it was sealed"],
    ),
    (
        "a correction deleted",
        ["DELETE FROM reversals_correction WHERE id = {correction}"],
        ["seal {seal_3}: correction {correction} of org {org} is gone"],
    ),
    (
        "two rows of a seal swapped",
        [
            "UPDATE reversals_sealedrow SET position = 99 WHERE seal_id = {seal_1} AND position = 1",
            "UPDATE reversals_sealedrow SET position = 1 WHERE seal_id = {seal_1} AND position = 2",
        ],
        [HASH_OF_1],
    ),
    (
        "a reversal deleted, and removed from its seal",
        [
            "DELETE FROM reversals_sealedrow WHERE row_id = {first}",
            "DELETE FROM reversals_reversalline WHERE reversal_id = {first}",
            "DELETE FROM reversals_reversal WHERE id = {first}",
        ],
        [HASH_OF_1],
    ),
    (
        "the digest of a row",
        ["UPDATE reversals_sealedrow SET digest = '0' WHERE row_id = {first}"],
        [CHANGED, HASH_OF_1],
    ),
    ("the time of a seal", ["UPDATE reversals_seal SET sealed_at = '2031-01-01' WHERE id = {seal_3}"], [HASH_OF_3]),
    (
        "a seal deleted",
        [
            "DELETE FROM reversals_sealedrow WHERE seal_id = {seal_2}",
            "DELETE FROM reversals_seal WHERE id = {seal_2}",
        ],
        [
            "anchor: seal {seal_2} is in the file but no longer in the database",
            "seal {seal_3}: the previous seal is gone",
            HASH_OF_3,
        ],
    ),
    (
        "the last seal deleted with its rows",
        [
            "DELETE FROM reversals_correction WHERE id = {correction}",
            "DELETE FROM reversals_sealedrow WHERE seal_id = {seal_3}",
            "DELETE FROM reversals_seal WHERE id = {seal_3}",
        ],
        ["anchor: seal {seal_3} is in the file but no longer in the database"],
    ),
    (
        "a row listed by a seal that does not exist",
        ["INSERT INTO reversals_sealedrow VALUES (1, 1, 'REVERSAL', 77, '0', {org}, 99999)"],
        ["seal 99999 is gone, but 1 sealed row refers to it"],
    ),
    (
        "a backdated reversal inserted",
        [
            f"INSERT INTO reversals_reversal ({REVERSAL}) SELECT 1, org_id, redemption_id, customer_id, 'other1',"
            " points, points_available, points_expired, has_key, channel, made_by, reason, '2026-01-01 00:00:00'"
            " FROM reversals_reversal WHERE id = {first}"
        ],
        ["unsealed: reversal 1 (other1) of org {org} is dated 2026-01-01 00:00, before seal {seal_3}"],
    ),
]


@pytest.mark.parametrize(("name", "statements", "found"), TAMPERINGS, ids=[name for name, *_ in TAMPERINGS])
def test_tampering_with_sealed_rows_is_reported(
    history: History, name: str, statements: list[str], found: list[str]
) -> None:
    names = history.names
    with guards_lifted():
        for statement in statements:
            execute(statement.format(**names))
        problems = history.problems()
    assert problems == [problem.format(**names) for problem in found]


# Tampering with points: name, statements, and messages that must be reported before and after the next seal.

LOT_CHANGED = "lot {lot} ({lot_name}) of org {org} has changed since it was sealed"
REDEMPTION_CHANGED = "redemption {redemption} ({redemption_name}) of org {org} has changed since it was sealed"
LOT = "id, org_id, program_id, customer_id, lot_ref, points_awarded, points_remaining, awarded_at, is_reissue"
NEW_LOT = f"INSERT INTO loyalty_lot ({LOT}, ledger_import_id) SELECT 1, org_id, program_id, customer_id, 'NEW'"
REDEMPTION = "id, org_id, program_id, customer_id, public_id, points, points_reversed, redeemed_at, transaction_number"
POINTS_TAMPERINGS: list[tuple[str, list[str], list[str]]] = [
    (
        "a lot inserted without an import",
        [f"{NEW_LOT}, 9000, 9000, awarded_at, FALSE, NULL FROM loyalty_lot WHERE id = {{lot}}"],
        ["a lot either refers to the import that added it or is a re-issue: NEW of org {org}"],
    ),
    (
        "a lot inserted with the import of another lot",
        [f"{NEW_LOT}, 9000, 9000, awarded_at, FALSE, ledger_import_id FROM loyalty_lot WHERE id = {{lot}}"],
        [
            "import.lots_added = number of its lots: {import} of org {org} (1 against 2)",
            "lot 1 (NEW) of org {org} was added to import {import} after seal {seal_1}",
        ],
    ),
    (
        "a lot inserted, and its import changed to match",
        [
            f"{NEW_LOT}, 9000, 9000, awarded_at, FALSE, ledger_import_id FROM loyalty_lot WHERE id = {{lot}}",
            "UPDATE loyalty_ledgerimport SET lots_added = lots_added + 1, points_awarded = points_awarded + 9000"
            " WHERE id = {import}",
        ],
        [
            "seal {seal_1}: import {import} of org {org} has changed since it was sealed",
            "lot 1 (NEW) of org {org} was added to import {import} after seal {seal_1}",
        ],
    ),
    (
        "a lot inserted as a re-issue",
        [f"{NEW_LOT}, 9000, 9000, awarded_at, TRUE, NULL FROM loyalty_lot WHERE id = {{lot}}"],
        ["a lot is marked as a re-issue if and only if a reversal awarded it: NEW of org {org}"],
    ),
    (
        "points of a lot",
        [
            "UPDATE loyalty_lot SET points_awarded = points_awarded + 1, points_remaining = points_remaining + 1"
            " WHERE id = {lot}"
        ],
        [LOT_CHANGED],
    ),
    (
        "the expiry of a lot",
        ["UPDATE loyalty_lot SET expires_at = '2040-01-01 00:00:00' WHERE id = {lot}"],
        [LOT_CHANGED],
    ),
    (
        "the award time of a lot",
        ["UPDATE loyalty_lot SET awarded_at = '2020-01-01 00:00:00' WHERE id = {lot}"],
        [LOT_CHANGED],
    ),
    ("the customer of a lot", ["UPDATE loyalty_lot SET customer_id = 1 WHERE id = {lot}"], [LOT_CHANGED]),
    ("the program of a lot", ["UPDATE loyalty_lot SET program_id = 1 WHERE id = {lot}"], [LOT_CHANGED]),
    ("the re-issue flag of a lot", ["UPDATE loyalty_lot SET is_reissue = TRUE WHERE id = {lot}"], [LOT_CHANGED]),
    ("the import of a lot", ["UPDATE loyalty_lot SET ledger_import_id = NULL WHERE id = {lot}"], [LOT_CHANGED]),
    (
        "the reference of a lot",
        ["UPDATE loyalty_lot SET lot_ref = 'OTHER' WHERE id = {lot}"],
        ["lot {lot} (OTHER) of org {org} has changed since it was sealed"],
    ),
    ("a lot deleted", ["DELETE FROM loyalty_lot WHERE id = {lot}"], ["lot {lot} of org {org} is gone"]),
    (
        "points added to a lot",
        ["UPDATE loyalty_lot SET points_remaining = points_remaining + 1 WHERE id = {lot}"],
        ["{lot_name} of org {org}"],
    ),
    (
        "the customer of a redemption",
        ["UPDATE loyalty_redemption SET customer_id = 1 WHERE id = {redemption}"],
        [REDEMPTION_CHANGED],
    ),
    (
        "points of a redemption",
        ["UPDATE loyalty_redemption SET points = 11000 WHERE id = {redemption}"],
        [REDEMPTION_CHANGED],
    ),
    (
        "the time of a redemption",
        ["UPDATE loyalty_redemption SET redeemed_at = '2040-01-01 00:00:00' WHERE id = {redemption}"],
        [REDEMPTION_CHANGED],
    ),
    (
        "the reference number of a redemption",
        ["UPDATE loyalty_redemption SET external_reference_number = 'X' WHERE id = {redemption}"],
        [REDEMPTION_CHANGED],
    ),
    (
        "a redemption deleted with its dependent rows",
        [
            "DELETE FROM reversals_attempt WHERE reversal_id = {first}",
            "DELETE FROM reversals_reversalline WHERE reversal_id = {first}",
            "DELETE FROM reversals_reversal WHERE id = {first}",
            "UPDATE loyalty_lot SET points_remaining = points_awarded WHERE id IN"
            " (SELECT lot_id FROM loyalty_draw WHERE redemption_id = {redemption})",
            "DELETE FROM loyalty_draw WHERE redemption_id = {redemption}",
            "DELETE FROM loyalty_redemption WHERE id = {redemption}",
        ],
        ["redemption {redemption} of org {org} is gone", "reversal {first} of org {org} is gone"],
    ),
    (
        "a redemption inserted without an import",
        [
            f"INSERT INTO loyalty_redemption ({REDEMPTION}) SELECT 1, org_id, program_id, customer_id, 'NEW', 1000,"
            " 0, '2040-01-01 00:00:00', '' FROM loyalty_redemption WHERE id = {redemption}",
        ],
        ["a redemption refers to the import that added it, or an attempt refers to the redemption: NEW of org {org}"],
    ),
    (
        "a redemption inserted with the import of another redemption",
        [
            f"INSERT INTO loyalty_redemption ({REDEMPTION}, ledger_import_id) SELECT 1, org_id, program_id,"
            " customer_id, 'NEW', 1000, 0, redeemed_at, '', ledger_import_id"
            " FROM loyalty_redemption WHERE id = {redemption}",
        ],
        ["redemption 1 (NEW) of org {org} was added to import"],
    ),
    ("points of a draw", ["UPDATE loyalty_draw SET points = points + 1 WHERE id = {draw}"], [REDEMPTION_CHANGED]),
    ("the lot of a draw", ["UPDATE loyalty_draw SET lot_id = NULL WHERE id = {draw}"], [REDEMPTION_CHANGED]),
    ("the order of draws", ["UPDATE loyalty_draw SET position = 7 WHERE id = {draw}"], [REDEMPTION_CHANGED]),
    ("a draw deleted", ["DELETE FROM loyalty_draw WHERE id = {draw}"], [REDEMPTION_CHANGED]),
    (
        "a draw added",
        [
            "INSERT INTO loyalty_draw (id, org_id, redemption_id, lot_id, position, points, points_reversed)"
            " SELECT 1, org_id, redemption_id, NULL, 9, 1000, 0 FROM loyalty_draw WHERE id = {draw}"
        ],
        [REDEMPTION_CHANGED],
    ),
    (
        "a draw moved to another redemption",
        ["UPDATE loyalty_draw SET redemption_id = {other_redemption}, lot_id = NULL, position = 9 WHERE id = {draw}"],
        [
            REDEMPTION_CHANGED,
            "redemption {other_redemption} ({other_redemption_name}) of org {org} has changed since it was sealed",
        ],
    ),
    (
        "an import deleted",
        ["DELETE FROM loyalty_ledgerimport WHERE id = {import}"],
        ["seal {seal_1}: import {import} of org {org} is gone"],
    ),
    (
        "a setting inserted without a change",
        ["INSERT INTO loyalty_emfsetting (id, org_id, key, value) VALUES (1, {org}, 'Reversal_reissue_days', '9')"],
        [
            "setting.value = new_value of the last change of that setting:"
            " Reversal_reissue_days of org {org} (9 against missing)"
        ],
    ),
    (
        "a setting of a program inserted without a change",
        [
            "INSERT INTO loyalty_emfsetting (id, org_id, program_id, key, value)"
            " VALUES (1, {org}, {program}, 'Reversal_reissue_days', '')"
        ],
        [
            "setting.value = new_value of the last change of that setting:"
            " Reversal_reissue_days of org {org} ( against missing)"
        ],
    ),
    (
        "the value of a setting",
        [f"UPDATE loyalty_emfsetting SET value = 'no' WHERE org_id = {{org}} AND key = '{ON}'"],
        [f"setting.value = new_value of the last change of that setting: {ON} of org {{org}} (no against yes)"],
    ),
    (
        "a setting deleted",
        [f"DELETE FROM loyalty_emfsetting WHERE org_id = {{org}} AND key = '{ON}'"],
        [f"setting.value = new_value of the last change of that setting: {ON} of org {{org}} (missing against yes)"],
    ),
    (
        "the value of a setting, and its change to match",
        [
            f"UPDATE loyalty_emfsetting SET value = 'no' WHERE org_id = {{org}} AND key = '{ON}'",
            "UPDATE loyalty_emfchange SET new_value = 'no' WHERE id = {change}",
        ],
        [f"setting change {{change}} ({ON}) of org {{org}} has changed since it was sealed"],
    ),
    (
        "the reason of a setting change",
        ["UPDATE loyalty_emfchange SET reason = 'another' WHERE id = {change}"],
        [f"setting change {{change}} ({ON}) of org {{org}} has changed since it was sealed"],
    ),
    (
        "a setting change deleted",
        ["DELETE FROM loyalty_emfchange WHERE id = {change}"],
        ["setting change {change} of org {org} is gone"],
    ),
    (
        "the public id of a customer",
        ["UPDATE loyalty_customer SET public_id = 1 WHERE id = {customer}"],
        ["customer {customer} (1) of org {org} has changed since it was sealed"],
    ),
    (
        "the public id of a program",
        ["UPDATE loyalty_program SET public_id = 9999999 WHERE id = {program}"],
        ["program {program} (9999999) of org {org} has changed since it was sealed"],
    ),
]


@pytest.mark.parametrize(
    ("name", "statements", "found"), POINTS_TAMPERINGS, ids=[name for name, *_ in POINTS_TAMPERINGS]
)
def test_tampering_with_points_is_reported_before_and_after_the_next_seal(
    history: History, name: str, statements: list[str], found: list[str]
) -> None:
    assert verify("--anchor", history.file)[1:] == ([], 0)
    names = history.names
    with guards_lifted():
        for statement in statements:
            execute(statement.format(**names))
        before = verify("--anchor", history.file)
        seal_ledger(history.file)
        after = verify("--anchor", history.file)
    for _, errors, exit_code in (before, after):
        missing = [problem for problem in found if not any(problem.format(**names) in error for error in errors)]
        assert (missing, exit_code) == ([], 1), errors


def test_texts_that_shift_between_columns_change_the_sealed_text(history: History) -> None:
    names = history.names
    with guards_lifted():
        execute("UPDATE loyalty_redemption SET transaction_number = 'a|1:b' WHERE id = %s", names["redemption"])
        execute("UPDATE loyalty_redemption SET external_reference_number = 'c' WHERE id = %s", names["redemption"])
        one = text_of("REDEMPTION", names["redemption"])
        execute("UPDATE loyalty_redemption SET transaction_number = 'a' WHERE id = %s", names["redemption"])
        execute("UPDATE loyalty_redemption SET external_reference_number = 'b|1:c' WHERE id = %s", names["redemption"])
        assert text_of("REDEMPTION", names["redemption"]) != one


@pytest.mark.django_db
def test_digests_of_reversals_and_corrections_match_those_of_earlier_versions() -> None:
    """Compares with digests of an earlier version, which sealed only reversals and corrections."""
    with guards_lifted():
        execute(
            f"INSERT INTO reversals_reversal ({REVERSAL}, points_asked) VALUES (11, 22, 33, 44, 'aB3xYz', 2500, 2000,"
            " 500, TRUE, 'API', 'till.1', 'gêne|x', '2026-03-04 05:06:07.000089', NULL)"
        )
        execute(f"INSERT INTO reversals_reversalline ({LINE}) VALUES (12, 22, 11, 55, 2500, 2000, 500)")
        execute(
            "INSERT INTO reversals_correction (id, org_id, reversal_id, approval_id, points, made_by, approved_by,"
            " reason, created_at) VALUES (13, 22, 11, 66, 2500, 'ravi', 'meera', 'wrong', '2026-03-05 00:00:00')"
        )
        digests: list[tuple[str, str]] = []
        for kind in KINDS:
            with connection.cursor() as cursor:
                cursor.execute(kind.sql(f"SELECT org_id, id FROM {kind.row.table} WHERE org_id = %s"), [22])
                digests += [(kind.kind.value, entry.digest) for entry in kind.entries_of(sealed_rows_of(cursor))]
    assert digests == [
        ("REVERSAL", "05f675c172b6cbbfc797387a6695c447c6cf1e134b8010aebf8d746d2c5be6da"),
        ("CORRECTION", "8b8474638b5d8459ede7f2739fc432609bac94861d8b5ea96b427b0749eca11d"),
    ]


def test_import_that_was_open_across_a_seal_is_not_reported(world: World, file: Path) -> None:
    """Its row ids and time are older than the seal, but all of its rows are committed together after it."""
    lots = [make_lot(world.asha, 1, program=world.program) for _ in range(3)]
    seal_ledger(file)
    with guards_lifted():
        for lot in lots:
            execute("DELETE FROM reversals_sealedrow WHERE row_id IN (%s, %s)", lot.id, lot.ledger_import_id)
        unsealed = [problem for problem in check_seals(file).problems if problem.startswith("unsealed")]
    assert unsealed == []


def reseal(seal: Seal) -> None:
    """Hides a change as an attacker who knows this code would: recomputes the digests and the hash of the seal."""
    digests = [hashed(text_of(row.kind, row.row_id)) for row in seal.rows.order_by("position")]
    for row, digest in zip(seal.rows.order_by("position"), digests, strict=True):
        execute("UPDATE reversals_sealedrow SET digest = %s WHERE id = %s", digest, row.id)
    previous = Seal.objects.get(id=seal.id - 1).hash if seal.id > 1 else "0" * 64
    text = f"seal|{seal.id}|{micros(seal.sealed_at)}|{seal.count}|{int(seal.is_complete)}|{previous}"
    execute("UPDATE reversals_seal SET hash = %s WHERE id = %s", hashed("\n".join([text, *digests])), seal.id)


def test_change_with_a_rewritten_seal_is_detected_by_the_next_seal(history: History) -> None:
    with guards_lifted():
        execute("UPDATE reversals_reversal SET points = points + 1 WHERE id = %s", history.reversals[0].id)
        reseal(history.seals[0])
        problems = check_seals().problems
    number = history.seals[1].id
    assert problems == [f"seal {number}: its hash does not match its rows and the previous seal"]


def test_change_with_a_rewritten_chain_is_detected_by_the_anchor(history: History) -> None:
    with guards_lifted():
        execute("UPDATE reversals_reversal SET points = points + 1 WHERE id = %s", history.reversals[0].id)
        for seal in history.seals:
            reseal(seal)
        assert check_seals().problems == []
        problems = history.problems()
    assert problems == [
        f"anchor: seal {seal.id} has a different hash in the database than in the file" for seal in history.seals
    ]


def test_backdated_reversal_is_reported_after_it_is_sealed(history: History) -> None:
    names = history.names
    with guards_lifted():
        execute(TAMPERINGS[-1][1][0].format(**names))
        number = seal_ledger(history.file).head.id
        problems = history.problems()
    assert problems == [
        f"seal {number}: reversal 1 (other1) of org {names['org']} is backdated to before seal {names['seal_3']}"
    ]


# The anchor


def test_verify_ledger_compares_the_seals_with_the_anchor_and_exits_with_1(history: History) -> None:
    names = history.names
    found = f"anchor: seal {names['seal_3']} is in the file but no longer in the database"
    assert verify("--anchor", history.file)[0]["checked"]["seals"] == Seal.objects.count()
    with guards_lifted():
        for statement in next(statements for name, statements, _ in TAMPERINGS if name.startswith("the last seal")):
            execute(statement.format(**names))
        result, errors, exit_code = verify("--anchor", history.file)
    assert (found in result["broken"], found in errors, exit_code) == (True, True, 1)


def test_verify_ledger_without_an_anchor_checks_only_the_seals(history: History) -> None:
    history.file.unlink()
    assert verify()[1:] == ([], 0)
    assert verify("--anchor", history.file)[1:] == ([f"anchor: the file {history.file} does not exist"], 1)


def test_verify_ledger_refuses_org_together_with_anchor(history: History) -> None:
    with pytest.raises(CommandError, match="not allowed with argument --org"):
        verify("--org", history.world.org.id, "--anchor", history.file)


def test_changed_line_of_the_anchor_is_reported(history: History) -> None:
    text = history.file.read_text()
    history.file.write_text(text.replace(history.seals[1].hash, "f" * 64))
    number = history.seals[1].id
    assert history.problems() == [f"anchor: seal {number} has a different hash in the database than in the file"]


@pytest.mark.parametrize("tamper", [lambda seals: seals[1:], lambda seals: [seals[1], seals[0], *seals[2:]]])
def test_missing_or_reordered_line_of_the_anchor_is_reported(
    history: History, tamper: Callable[[list[str]], list[str]]
) -> None:
    owner, *seals = history.file.read_text().splitlines(keepends=True)
    history.file.write_text("".join([owner, *tamper(seals)]))
    assert history.problems() == ["anchor: line 2 is not seal 1, the next in order"]


def test_seal_not_anchored_before_a_crash_is_anchored_by_the_next_run(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = history.file.read_text()
    reversal_of_two_lines(history.world)

    def crash(self: anchor.Anchor) -> None:
        if Seal.objects.count() > history.seals[-1].id:
            raise OSError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(anchor.Anchor, "append_missing", crash)
        with pytest.raises(CommandError, match="No space left on device"):
            run("seal_ledger", "--anchor", history.file)
    assert (history.file.read_text(), Seal.objects.count()) == (before, history.seals[-1].id + 1)
    assert history.problems() == []
    assert run("seal_ledger", "--anchor", history.file)["seals"] == 0
    assert [seal.number for seal in anchor.read(history.file)[0]] == [*range(1, history.seals[-1].id + 2)]


@pytest.mark.parametrize("kept", [1, 40, 100])
def test_line_left_unfinished_by_a_crash_is_written_again_below_it(history: History, kept: int) -> None:
    *lines, last = history.file.read_text().splitlines(keepends=True)
    history.file.write_text("".join([*lines, last[:kept]]))
    assert history.problems() == []
    assert run("seal_ledger", "--anchor", history.file)["seals"] == 0
    assert history.file.read_text() == "".join([*lines, last[:kept], "\n", last])
    assert anchor.read(history.file)[0][-1] == anchor.AnchoredSeal(history.seals[-1].id, history.seals[-1].hash)
    assert history.problems() == []


def test_seal_ledger_refuses_an_anchor_that_contradicts_the_chain(history: History) -> None:
    reversal_of_two_lines(history.world)
    history.file.write_text(history.file.read_text().replace(history.seals[1].hash, "f" * 64))
    before = (Seal.objects.count(), history.file.read_text())
    with pytest.raises(InvalidOperation, match=f"seal {history.seals[1].id} has a different hash"):
        seal_ledger(history.file)
    assert (Seal.objects.count(), history.file.read_text()) == before


def test_new_anchor_file_starts_with_the_first_seal(history: History) -> None:
    new = history.file.with_name("new.anchor")
    seal_ledger(new)
    assert new.read_text() == history.file.read_text()


# The database that owns the anchor


@contextmanager
def as_a_copy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lets the database have another name within the block, as a restored copy of it has."""
    with monkeypatch.context() as patched:
        patched.setattr(anchor, "this_database", lambda: "PostgreSQL 1, timeline 2, database 5")
        yield


def test_restored_copy_cannot_append_to_the_anchor_of_the_original(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    reversal_of_two_lines(history.world)
    before = (Seal.objects.count(), history.file.read_bytes())
    refusal = rf"belongs to another database \({re.escape(this_database())}\), and this is PostgreSQL 1, timeline 2"
    with as_a_copy(monkeypatch), pytest.raises(CommandError, match=refusal):
        run("seal_ledger", "--anchor", history.file)
    assert (Seal.objects.count(), history.file.read_bytes()) == before
    assert run("seal_ledger", "--anchor", history.file)["seals"] == 1


def test_database_that_takes_over_owns_the_anchor_from_then_on(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = history.file.read_text()
    with as_a_copy(monkeypatch):
        assert run("seal_ledger", "--anchor", history.file, "--take-over")["seals"] == 0
        reversal_of_two_lines(history.world)
        assert run("seal_ledger", "--anchor", history.file)["seals"] == 1
    owner, seal = map(json.loads, history.file.read_text().removeprefix(before).splitlines())
    assert (owner, seal["seal"]) == ({"owner": "PostgreSQL 1, timeline 2, database 5"}, history.seals[-1].id + 1)
    assert history.problems() == []
    with pytest.raises(CommandError, match="belongs to another database"):
        run("seal_ledger", "--anchor", history.file)


def test_take_over_of_a_contradicting_anchor_is_refused(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    history.file.write_text(history.file.read_text().replace(history.seals[1].hash, "f" * 64))
    before = history.file.read_bytes()
    with as_a_copy(monkeypatch), pytest.raises(CommandError, match="has a different hash"):
        run("seal_ledger", "--anchor", history.file, "--take-over")
    assert history.file.read_bytes() == before


def test_anchor_without_an_owner_gets_the_first_database_that_seals(history: History) -> None:
    _, *seals = history.file.read_text().splitlines(keepends=True)  # as versions up to 0.2 wrote it
    history.file.write_text("".join(seals))
    assert run("seal_ledger", "--anchor", history.file)["seals"] == 0
    assert history.file.read_text() == "".join([*seals, json.dumps({"owner": this_database()}), "\n"])
    assert history.problems() == []


@pytest.mark.parametrize("kept", [1, 14, 30])
def test_owner_left_unfinished_by_a_crash_is_written_again_below_it(history: History, kept: int) -> None:
    owner, *seals = history.file.read_text().splitlines(keepends=True)
    history.file.write_text(owner[:kept])
    assert run("seal_ledger", "--anchor", history.file)["seals"] == 0
    assert history.file.read_text() == "".join([owner[:kept], "\n", owner, *seals])
    assert history.problems() == []


# Concurrent runs


@pytest.fixture
def seals_removed(committed: None) -> Iterator[None]:
    """Deletes the committed seals after the test, because later tests would start from them."""
    yield
    with transaction.atomic(), connection.cursor() as cursor:
        lift_triggers(cursor)
        cursor.execute("DELETE FROM reversals_sealedrow")
        cursor.execute("DELETE FROM reversals_seal")


def sealed_rows(world: World) -> list[int]:
    return sorted(SealedRow.objects.filter(org=world.org, kind="REVERSAL").values_list("row_id", flat=True))


def test_transaction_open_across_a_seal_is_sealed_by_the_next_run(
    on_postgresql: None, seals_removed: None, file: Path
) -> None:
    world = make_world()
    slow = redeemed(world, 10)
    world.asha = make_customer(world.org)  # another customer, so that the two reversals do not wait for each other
    quick = redeemed(world, 10)
    written, sealed = threading.Event(), threading.Event()

    def reverse_slowly() -> int:
        try:
            with transaction.atomic():
                assert world.reverse(slow, 3).status_code == 200
                execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                written.set()
                assert sealed.wait(timeout=60)
            return slow.reversals.get().id
        finally:
            connections.close_all()

    def seal_meanwhile() -> list[int]:
        try:
            assert written.wait(timeout=60)
            assert world.reverse(quick, 2).status_code == 200
            seal_ledger(file)
            return sealed_rows(world)
        finally:
            sealed.set()
            connections.close_all()

    late, sealed_first = at_once([reverse_slowly, seal_meanwhile])
    early = quick.reversals.get().id
    assert late < early  # the reversal that is committed later has the smaller id
    assert sealed_first == [early]
    seal_ledger(file)
    assert sealed_rows(world) == [late, early]
    assert check_seals(file).problems == []


def test_concurrent_runs_create_one_chain(on_postgresql: None, seals_removed: None, tmp_path: Path) -> None:
    world = make_world()
    for _ in range(5):
        world.reverse(redeemed(world, 10), 1)
    one, other = tmp_path / "one", tmp_path / "other"
    at_once([lambda file=file: seal_ledger(file) for file in (one, other, one, other)])
    assert sealed_rows(world) == sorted(Reversal.objects.filter(org=world.org).values_list("id", flat=True))
    assert check_seals(one).problems == []
    seal_ledger(other)
    assert one.read_text() == other.read_text()
