"""Tests import_ledger: the imported rows, the draws of redemptions, and the reports about bad rows."""

import csv
import gzip
import io
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from loyalty.importing.files import CUSTOMERS, POINTS, REDEMPTIONS
from loyalty.ledger.merging import merge_customers
from loyalty.models import Customer, CustomerIdentifier, Draw, Lot, Org, Redemption
from reversals.assurance.verification import broken_laws
from reversals.privacy.erasing import erase_customer
from tests.builders import (
    World,
    make_customer,
    make_lot,
    make_org,
    make_program,
    make_world,
    points,
    redeem,
    redeemed,
    utc,
)

pytestmark = pytest.mark.django_db

COLUMNS = {"customers": list(CUSTOMERS), "points": list(POINTS), "redemptions": list(REDEMPTIONS)}
NOON = "2026-03-01T12:00:00Z"
Rows = list[dict[str, Any]]


def customer_row(world: World, customer_id: int, **changes: Any) -> dict[str, Any]:
    unknown = dict.fromkeys(("mobile", "email", "external_id", "card_number"), "")
    return {"org_id": world.org.id, "customer_id": customer_id, "status": "ACTIVE"} | unknown | changes


def lot_row(world: World, lot_ref: str, amount: object, **changes: Any) -> dict[str, Any]:
    return {
        "org_id": world.org.id,
        "program_id": world.program.public_id,
        "customer_id": world.asha.public_id,
        "lot_ref": lot_ref,
        "points": amount,
        "awarded_at": "2026-01-01T00:00:00Z",
        "expires_at": "",
    } | changes


def redemption_row(world: World, redemption_id: str, amount: object, **changes: Any) -> dict[str, Any]:
    return {
        "org_id": world.org.id,
        "program_id": world.program.public_id,
        "customer_id": world.asha.public_id,
        "redemption_id": redemption_id,
        "points": amount,
        "redeemed_at": NOON,
        "transaction_number": "",
        "external_reference_number": "",
    } | changes


def as_csv(name: str, rows: Rows) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS[name])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def write(folder: Path, **files: Rows) -> Path:
    """Writes files with these rows to the folder. The header is line 1, and the first row is line 2."""
    for name, rows in files.items():
        (folder / f"{name}.csv").write_bytes(as_csv(name, rows))
    return folder


def write_gzipped(folder: Path, **files: Rows) -> Path:
    for name, rows in files.items():
        (folder / f"{name}.csv.gz").write_bytes(gzip.compress(as_csv(name, rows)))
    return folder


def import_ledger(folder: Path, *options: str) -> dict[str, Any]:
    output = io.StringIO()
    call_command("import_ledger", str(folder), "--json", *options, stdout=output)
    return json.loads(output.getvalue())


def refusal_of_import(folder: Path, *options: str) -> str:
    """Returns the error message of an import that exits with 1 and prints nothing on stdout."""
    output = io.StringIO()
    with pytest.raises(CommandError) as refused:
        call_command("import_ledger", str(folder), "--json", *options, stdout=output)
    assert refused.value.returncode == 1
    assert output.getvalue() == ""
    return str(refused.value)


def counts(read: int, *, added: int = 0, already_there: int = 0, bad: int = 0) -> dict[str, int]:
    return {"read": read, "added": added, "already_there": already_there, "bad": bad}


def report(
    files: dict[str, dict[str, int]],
    *,
    bad_rows: tuple[str, ...] = (),
    uncovered: tuple[int, str] = (0, "0"),
    dry_run: bool = False,
) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "files": files,
        "bad_rows": list(bad_rows),
        "uncovered_redemptions": uncovered[0],
        "uncovered_points": uncovered[1],
    }


def row_counts(world: World) -> dict[str, int]:
    """Counts the rows of each kind in the org."""
    models = (Customer, CustomerIdentifier, Lot, Redemption, Draw)
    return {model.__name__: model.objects.filter(org=world.org).count() for model in models}


def draws_of(world: World, redemption_id: str) -> list[tuple[int, str | None, Decimal]]:
    """Returns position, lot and points of each draw, in order of position."""
    draws = Draw.objects.filter(org=world.org, redemption__public_id=redemption_id).order_by("position")
    return [(draw.position, draw.lot.lot_ref if draw.lot else None, draw.points) for draw in draws]


def remaining(world: World) -> dict[str, Decimal]:
    return dict(Lot.objects.filter(org=world.org).values_list("lot_ref", "points_remaining"))


def names_of(customer_id: int, world: World) -> dict[str, str]:
    named = CustomerIdentifier.objects.filter(org=world.org, customer__public_id=customer_id)
    return dict(named.values_list("type", "value"))


def assert_all_laws_hold(world: World) -> None:
    call_command("verify_ledger", "--org", str(world.org.id), stdout=io.StringIO())


# Imported rows


@pytest.mark.parametrize("write_files", [write, write_gzipped], ids=["plain", "gzipped"])
def test_every_row_of_all_three_files_is_added(world: World, tmp_path: Path, write_files: Callable[..., Path]) -> None:
    ravi = 700
    write_files(
        tmp_path,
        customers=[
            customer_row(
                world, ravi, mobile="98765 43210", email="Ravi@Example.com", external_id="X-1", card_number="C-1"
            )
        ],
        points=[lot_row(world, "L1", "10.5", customer_id=ravi), lot_row(world, "L2", 5)],
        redemptions=[
            redemption_row(
                world, "R1", "4.25", customer_id=ravi, transaction_number="T-1", external_reference_number="E-1"
            )
        ],
    )
    assert import_ledger(tmp_path) == report(
        {"customers": counts(1, added=1), "points": counts(2, added=2), "redemptions": counts(1, added=1)}
    )
    assert row_counts(world) == {"Customer": 2, "CustomerIdentifier": 4, "Lot": 2, "Redemption": 1, "Draw": 1}
    assert names_of(ravi, world) == {
        "MOBILE": "919876543210",
        "EMAIL": "ravi@example.com",
        "EXTERNAL_ID": "X-1",
        "CARD_NUMBER": "C-1",
    }
    assert remaining(world) == {"L1": points("6.25"), "L2": points(5)}
    assert draws_of(world, "R1") == [(1, "L1", points("4.25"))]
    assert_all_laws_hold(world)


def test_customer_gets_the_status_in_the_file(world: World, tmp_path: Path) -> None:
    statuses = ["ACTIVE", "FRAUD", "DEACTIVATED", "MERGED"]
    rows = [customer_row(world, 700 + place, status=status) for place, status in enumerate(statuses)]
    import_ledger(write(tmp_path, customers=rows))
    imported = Customer.objects.filter(org=world.org, public_id__lt=1_000).order_by("public_id")
    assert [customer.status for customer in imported] == statuses


def test_lot_gets_every_column_in_the_file(world: World, tmp_path: Path) -> None:
    row = lot_row(world, "L1", "12.345", awarded_at="2026-01-01T05:30:00+05:30", expires_at="2026-07-01T00:00:00.5Z")
    import_ledger(write(tmp_path, points=[row]))
    lot = Lot.objects.get(org=world.org)
    assert (lot.program, lot.customer, lot.lot_ref) == (world.program, world.asha, "L1")
    assert (lot.points_awarded, lot.points_remaining) == (points("12.345"), points("12.345"))
    assert (lot.awarded_at, lot.expires_at) == (utc("2026-01-01T00:00:00"), utc("2026-07-01T00:00:00.5"))


def test_redemption_gets_every_column_in_the_file(world: World, tmp_path: Path) -> None:
    row = redemption_row(
        world,
        "R1",
        "2.5",
        redeemed_at="2026-03-01T17:30:00+05:30",
        transaction_number="T-1",
        external_reference_number="E-1",
    )
    import_ledger(write(tmp_path, redemptions=[row]))
    redemption = Redemption.objects.get(org=world.org)
    assert (redemption.program, redemption.customer, redemption.public_id) == (world.program, world.asha, "R1")
    assert (redemption.points, redemption.points_reversed) == (points("2.5"), 0)
    assert redemption.redeemed_at == utc("2026-03-01T12:00:00")
    assert (redemption.transaction_number, redemption.external_reference_number) == ("T-1", "E-1")


def test_redemptions_without_an_external_reference_do_not_clash(world: World, tmp_path: Path) -> None:
    rows = [redemption_row(world, "R1", 1), redemption_row(world, "R2", 1)]
    import_ledger(write(tmp_path, redemptions=rows))
    references = Redemption.objects.filter(org=world.org).values_list("external_reference_number", flat=True)
    assert list(references) == [None, None]


@pytest.mark.parametrize("missing", ["customers", "points", "redemptions"])
def test_any_file_may_be_missing(world: World, tmp_path: Path, missing: str) -> None:
    files = {
        "customers": [customer_row(world, 700)],
        "points": [lot_row(world, "L1", 10)],
        "redemptions": [redemption_row(world, "R1", 10)],
    }
    make_lot(world.asha, 10, program=world.program, awarded_at=utc("2026-01-01T00:00:00"))
    del files[missing]
    assert import_ledger(write(tmp_path, **files)) == report({name: counts(1, added=1) for name in files})


def test_columns_can_be_in_any_order_after_a_byte_order_mark(world: World, tmp_path: Path) -> None:
    header = "points,lot_ref,expires_at,awarded_at,customer_id,program_id,org_id"
    row = f"10,L1,,2026-01-01T00:00:00Z,{world.asha.public_id},{world.program.public_id},{world.org.id}"
    (tmp_path / "points.csv").write_text(f"\ufeff{header}\n{row}\n", encoding="utf-8")
    assert import_ledger(tmp_path) == report({"points": counts(1, added=1)})
    assert remaining(world) == {"L1": points(10)}


def test_a_file_with_a_header_only_adds_nothing(world: World, tmp_path: Path) -> None:
    assert import_ledger(write(tmp_path, points=[])) == report({"points": counts(0)})


def test_summary_without_json_lists_each_file(world: World, tmp_path: Path) -> None:
    output = io.StringIO()
    folder = write(tmp_path, points=[lot_row(world, "L1", 2)], redemptions=[redemption_row(world, "R1", 5)])
    call_command("import_ledger", str(folder), stdout=output)
    assert output.getvalue().splitlines()[:2] == [
        "points: 1 read, 1 added, 0 already there, 0 bad",
        "redemptions: 1 read, 1 added, 0 already there, 0 bad",
    ]


# Draws of redemptions


@pytest.mark.parametrize("tail", [{}, {"expires_at": "2026-12-01T00:00:00Z"}], ids=["never", "later"])
def test_lots_are_drawn_by_expiry_and_lots_without_expiry_last(
    world: World, tmp_path: Path, tail: dict[str, str]
) -> None:
    lots = [
        lot_row(world, "TAIL", 10, **tail),
        lot_row(world, "SECOND", 10, expires_at="2026-06-02T00:00:00Z"),
        lot_row(world, "FIRST", 10, expires_at="2026-06-01T00:00:00Z"),
    ]
    import_ledger(write(tmp_path, points=lots, redemptions=[redemption_row(world, "R1", 25)]))
    assert draws_of(world, "R1") == [(1, "FIRST", points(10)), (2, "SECOND", points(10)), (3, "TAIL", points(5))]
    assert remaining(world) == {"FIRST": 0, "SECOND": 0, "TAIL": points(5)}


@pytest.mark.parametrize("expires_at", ["", "2026-06-01T00:00:00Z"], ids=["never", "same expiry"])
def test_lots_with_the_same_expiry_are_drawn_by_award_time_then_file_order(
    world: World, tmp_path: Path, expires_at: str
) -> None:
    awards = {"THIRD": "2026-01-02", "FOURTH": "2026-01-02", "FIRST": "2026-01-01", "SECOND": "2026-01-01"}
    lots = [
        lot_row(world, lot_ref, 1, awarded_at=f"{day}T00:00:00Z", expires_at=expires_at)
        for lot_ref, day in awards.items()
    ]
    import_ledger(write(tmp_path, points=lots, redemptions=[redemption_row(world, "R1", "3.5")]))
    assert draws_of(world, "R1") == [
        (1, "FIRST", points(1)),
        (2, "SECOND", points(1)),
        (3, "THIRD", points(1)),
        (4, "FOURTH", points("0.5")),
    ]


def test_only_lots_awarded_and_unexpired_at_the_redemption_are_drawn(world: World, tmp_path: Path) -> None:
    lots = [
        lot_row(world, "AWARDED AT THAT MOMENT", 1, awarded_at=NOON),
        lot_row(world, "AWARDED LATER", 10, awarded_at="2026-03-01T12:00:01Z"),
        lot_row(world, "EXPIRED AT THAT MOMENT", 10, expires_at=NOON),
        lot_row(world, "EXPIRED", 10, expires_at="2026-03-01T11:59:59Z"),
        lot_row(world, "JUST AWARDED", 1, awarded_at="2026-03-01T11:59:59.999999Z"),
        lot_row(world, "ABOUT TO EXPIRE", 1, expires_at="2026-03-01T12:00:00.000001Z"),
    ]
    import_ledger(write(tmp_path, points=lots, redemptions=[redemption_row(world, "R1", 4)]))
    assert draws_of(world, "R1") == [
        (1, None, points(1)),
        (2, "ABOUT TO EXPIRE", points(1)),
        (3, "JUST AWARDED", points(1)),
        (4, "AWARDED AT THAT MOMENT", points(1)),
    ]


def test_lots_of_another_customer_are_not_drawn(world: World, tmp_path: Path) -> None:
    ravi = make_customer(world.org)
    lots = [lot_row(world, "RAVI", 10, customer_id=ravi.public_id), lot_row(world, "ASHA", 10)]
    import_ledger(write(tmp_path, points=lots, redemptions=[redemption_row(world, "R1", 11)]))
    assert draws_of(world, "R1") == [(1, None, points(1)), (2, "ASHA", points(10))]


def test_uncovered_points_are_a_draw_without_a_lot_at_position_1(world: World, tmp_path: Path) -> None:
    lots = [lot_row(world, "L1", 4), lot_row(world, "L2", "3.5")]
    redemptions = [redemption_row(world, "R1", 10), redemption_row(world, "R2", 1)]
    summary = import_ledger(write(tmp_path, points=lots, redemptions=redemptions))
    assert summary == report({"points": counts(2, added=2), "redemptions": counts(2, added=2)}, uncovered=(2, "3.5"))
    assert draws_of(world, "R1") == [(1, None, points("2.5")), (2, "L1", points(4)), (3, "L2", points("3.5"))]
    assert draws_of(world, "R2") == [(1, None, points(1))]
    assert_all_laws_hold(world)


def test_redemptions_are_drawn_by_time_not_file_order(world: World, tmp_path: Path) -> None:
    lots = [lot_row(world, "SOON", 10, expires_at="2026-06-01T00:00:00Z"), lot_row(world, "LATE", 10)]
    redemptions = [
        redemption_row(world, "R3", 5, redeemed_at="2026-03-01T12:00:00.5Z"),
        redemption_row(world, "R2", 5, redeemed_at=NOON),
        redemption_row(world, "R1", 6, redeemed_at="2026-03-01T17:29:59+05:30"),
    ]
    import_ledger(write(tmp_path, points=lots, redemptions=redemptions))
    assert draws_of(world, "R1") == [(1, "SOON", points(6))]
    assert draws_of(world, "R2") == [(1, "SOON", points(4)), (2, "LATE", points(1))]
    assert draws_of(world, "R3") == [(1, "LATE", points(5))]
    assert_all_laws_hold(world)


def test_redemptions_at_the_same_time_are_drawn_in_file_order(world: World, tmp_path: Path) -> None:
    redemptions = [redemption_row(world, "R2", 6), redemption_row(world, "R1", 6)]
    import_ledger(write(tmp_path, points=[lot_row(world, "L1", 10)], redemptions=redemptions))
    assert draws_of(world, "R2") == [(1, "L1", points(6))]
    assert draws_of(world, "R1") == [(1, None, points(2)), (2, "L1", points(4))]


def test_later_import_draws_from_remaining_points(world: World, tmp_path: Path) -> None:
    import_ledger(write(tmp_path, points=[lot_row(world, "L1", 10)], redemptions=[redemption_row(world, "R1", 7)]))
    earlier = redemption_row(world, "R0", 5, redeemed_at="2026-02-01T00:00:00Z")
    summary = import_ledger(write(tmp_path, redemptions=[redemption_row(world, "R1", 7), earlier]))
    assert summary == report(
        {"points": counts(1, already_there=1), "redemptions": counts(2, added=1, already_there=1)},
        uncovered=(1, "2"),
    )
    assert draws_of(world, "R1") == [(1, "L1", points(7))]
    assert draws_of(world, "R0") == [(1, None, points(2)), (2, "L1", points(3))]
    assert_all_laws_hold(world)


def test_a_later_import_draws_from_new_and_old_lots_together(world: World, tmp_path: Path) -> None:
    old = make_lot(world.asha, 10, program=world.program, awarded_at=utc("2026-01-01T00:00:00"))
    redeem(world.asha, 4, program=world.program, at=utc("2026-02-01T00:00:00"))
    new = lot_row(world, "NEW", 10, expires_at="2026-06-01T00:00:00Z")
    import_ledger(write(tmp_path, points=[new], redemptions=[redemption_row(world, "R1", 12)]))
    assert draws_of(world, "R1") == [(1, "NEW", points(10)), (2, old.lot_ref, points(2))]
    assert remaining(world) == {"NEW": 0, old.lot_ref: points(4)}
    assert_all_laws_hold(world)


# Repeats


def whole_ledger(world: World, folder: Path) -> Path:
    return write(
        folder,
        customers=[customer_row(world, 700, mobile="9876543210", email="ravi@example.com"), customer_row(world, 701)],
        points=[lot_row(world, "L1", 10, customer_id=700), lot_row(world, "L2", 5, expires_at="2026-06-01T00:00:00Z")],
        redemptions=[
            redemption_row(world, "R1", 4, customer_id=700, external_reference_number="E-1"),
            redemption_row(world, "R2", 9, transaction_number="T-2"),
        ],
    )


def test_importing_the_same_files_again_changes_nothing(world: World, tmp_path: Path) -> None:
    import_ledger(whole_ledger(world, tmp_path))
    before = (row_counts(world), remaining(world), draws_of(world, "R2"))
    summary = import_ledger(tmp_path)
    assert summary == report({name: counts(2, already_there=2) for name in COLUMNS})
    assert (row_counts(world), remaining(world), draws_of(world, "R2")) == before


def test_rows_with_equal_values_in_another_notation_are_already_there(world: World, tmp_path: Path) -> None:
    import_ledger(whole_ledger(world, tmp_path))
    again = write(
        tmp_path,
        customers=[customer_row(world, 700, mobile="+91 98765 43210", email="RAVI@example.com")],
        points=[lot_row(world, "L1", "10.000", customer_id=700, awarded_at="2026-01-01T05:30:00+05:30")],
        redemptions=[
            redemption_row(world, "R2", "9.0", transaction_number="T-2", redeemed_at="2026-03-01T12:00+00:00")
        ],
    )
    assert import_ledger(again) == report({name: counts(1, already_there=1) for name in COLUMNS})


def test_identifier_that_is_empty_in_a_later_import_is_kept(world: World, tmp_path: Path) -> None:
    import_ledger(whole_ledger(world, tmp_path))
    again = write(tmp_path, customers=[customer_row(world, 700, mobile="9876543210")])
    assert import_ledger(again)["files"]["customers"] == counts(1, already_there=1)
    assert names_of(700, world) == {"MOBILE": "919876543210", "EMAIL": "ravi@example.com"}


CUSTOMER_CONTENT = (
    "the same content as the stored row with this id;"
    " to change an identifier, run set_identifier ORG_ID CUSTOMER_ID TYPE VALUE;"
    " to merge the customer, run merge_customers ORG_ID FROM_ID INTO_ID"
)
TAKEN = "a value that no other customer has; if the other customer has it by mistake, run set_identifier"
IMPORTED_CONTENT = "the same content as the stored row with this id"
EARLIER_CONTENT = "the same content as the earlier row with this id"

# File, the change to its first row, the column that is reported.
OTHER_CONTENT: list[tuple[str, dict[str, Any], str]] = [
    ("customers", {"status": "FRAUD"}, "customer_id"),
    ("customers", {"mobile": "9876500000"}, "customer_id"),
    ("customers", {"email": "other@example.com"}, "customer_id"),
    ("customers", {"external_id": "X-9"}, "customer_id"),
    ("customers", {"card_number": "C-9"}, "customer_id"),
    ("points", {"points": "10.001"}, "lot_ref"),
    ("points", {"customer_id": 701}, "lot_ref"),
    ("points", {"awarded_at": "2026-01-01T00:00:00.000001Z"}, "lot_ref"),
    ("points", {"expires_at": "2026-06-01T00:00:00Z"}, "lot_ref"),
    ("redemptions", {"points": "3.999"}, "redemption_id"),
    ("redemptions", {"customer_id": 701}, "redemption_id"),
    ("redemptions", {"redeemed_at": "2026-03-01T12:00:01Z"}, "redemption_id"),
    ("redemptions", {"transaction_number": "T-9"}, "redemption_id"),
    ("redemptions", {"external_reference_number": ""}, "redemption_id"),
    ("redemptions", {"external_reference_number": "E-9"}, "redemption_id"),
]


def first_row(world: World, name: str) -> dict[str, Any]:
    """Returns the first row of the file in `whole_ledger`."""
    if name == "customers":
        return customer_row(world, 700, mobile="9876543210", email="ravi@example.com")
    if name == "points":
        return lot_row(world, "L1", 10, customer_id=700)
    return redemption_row(world, "R1", 4, customer_id=700, external_reference_number="E-1")


def create_customers(world: World, name: str) -> None:
    """Creates the customers to which the rows of this file refer, unless the file itself adds them."""
    if name != "customers":
        Customer.objects.bulk_create(Customer(org=world.org, public_id=public_id) for public_id in (700, 701))


def case_name(case: object) -> str | None:
    return "-".join(case) if isinstance(case, dict) else None


@pytest.mark.parametrize(("name", "changes", "column"), OTHER_CONTENT, ids=case_name)
def test_id_imported_before_with_different_content_is_refused(
    world: World, tmp_path: Path, name: str, changes: dict[str, Any], column: str
) -> None:
    import_ledger(whole_ledger(world, tmp_path))
    expected = CUSTOMER_CONTENT if name == "customers" else IMPORTED_CONTENT
    message = refusal_of_import(write(tmp_path, **{name: [first_row(world, name) | changes]}))
    assert message == f"nothing was imported; bad rows:\n{name}.csv line 2, column {column}: expected {expected}"


def test_customer_imported_before_with_another_customers_identifier_is_refused(world: World, tmp_path: Path) -> None:
    import_ledger(whole_ledger(world, tmp_path))
    message = refusal_of_import(write(tmp_path, customers=[customer_row(world, 701, mobile="9876543210")]))
    assert message.splitlines()[1:] == [f"customers.csv line 2, column customer_id: expected {CUSTOMER_CONTENT}"]


@pytest.mark.parametrize("name", ["points", "redemptions"])
def test_id_imported_before_in_another_program_is_refused(world: World, tmp_path: Path, name: str) -> None:
    import_ledger(whole_ledger(world, tmp_path))
    other = make_program(world.org)
    message = refusal_of_import(write(tmp_path, **{name: [first_row(world, name) | {"program_id": other.public_id}]}))
    column = {"points": "lot_ref", "redemptions": "redemption_id"}[name]
    assert message.splitlines()[1:] == [f"{name}.csv line 2, column {column}: expected {IMPORTED_CONTENT}"]


@pytest.mark.parametrize("name", list(COLUMNS))
def test_repeated_row_in_a_file_is_added_once(world: World, tmp_path: Path, name: str) -> None:
    create_customers(world, name)
    summary = import_ledger(write(tmp_path, **{name: [first_row(world, name)] * 3}))
    assert summary["files"] == {name: counts(3, added=1, already_there=2)}


@pytest.mark.parametrize(("name", "changes", "column"), OTHER_CONTENT, ids=case_name)
def test_id_repeated_in_a_file_with_different_content_is_refused(
    world: World, tmp_path: Path, name: str, changes: dict[str, Any], column: str
) -> None:
    create_customers(world, name)
    before = row_counts(world)
    rows = [first_row(world, name), first_row(world, name) | changes]
    message = refusal_of_import(write(tmp_path, **{name: rows}))
    assert message == f"nothing was imported; bad rows:\n{name}.csv line 3, column {column}: expected {EARLIER_CONTENT}"
    assert row_counts(world) == before


def test_day_is_its_end_in_the_time_zone_of_the_org(world: World, tmp_path: Path) -> None:
    Org.objects.filter(pk=world.org.pk).update(time_zone="Asia/Kolkata")
    import_ledger(write(tmp_path, points=[lot_row(world, "L1", 10, expires_at="2030-03-21")]))
    lot = Lot.objects.get(org=world.org)
    assert lot.expires_at == datetime(2030, 3, 21, 18, 29, 59, 999_999, tzinfo=UTC)


# Bad rows

NUMBER = "a whole number from 1 to 9007199254740991, the largest that every API client can read"
SPREADSHEETS = (
    "spreadsheets change long numbers (9.19812E+11, a decimal point, =, an apostrophe), so format the column as text"
)
MOBILE = (
    "a mobile number that is possible in IN or starts with its country code, such as +91 98765 00001, without an"
    f" extension; {SPREADSHEETS}"
)
AS_TEXT = f"the value as text; {SPREADSHEETS}"
STATUS = "ACTIVE, FRAUD, DEACTIVATED or MERGED"
TIME = "a day, or a time in ISO 8601 with offset, such as 2026-03-21T00:00:00Z"
POINTS_TEXT = "points, such as 12.5"

# File, column, the bad value, and the expected one.
BAD_TEXTS = [
    ("customers", "org_id", "", NUMBER),
    ("customers", "org_id", "0", NUMBER),
    ("customers", "customer_id", "-1", NUMBER),
    ("customers", "customer_id", "1.0", NUMBER),
    ("customers", "customer_id", "\u0967", NUMBER),
    ("customers", "customer_id", "9007199254740992", NUMBER),
    ("customers", "customer_id", "9223372036854775808", NUMBER),
    ("customers", "customer_id", "1" * 5_000, NUMBER),
    ("customers", "status", "", STATUS),
    ("customers", "status", "active", STATUS),
    ("customers", "mobile", "1" * 256, "text of 1 to 255 characters"),
    ("customers", "mobile", "9.19812E+11", MOBILE),
    ("customers", "mobile", "9,19812E+11", MOBILE),
    ("customers", "mobile", "919812306010.0", MOBILE),
    ("customers", "mobile", "'+919812306011", MOBILE),
    ("customers", "mobile", '="+919812306012"', MOBILE),
    ("customers", "mobile", "#NUM!", MOBILE),
    ("customers", "mobile", "12", MOBILE),
    ("customers", "mobile", "front desk", MOBILE),
    ("customers", "mobile", "98765", MOBILE),
    ("customers", "email", "e" * 256, "text of 1 to 255 characters"),
    ("customers", "external_id", "x" * 256, "text of 1 to 255 characters"),
    ("customers", "external_id", "1.23457E+15", AS_TEXT),
    ("customers", "card_number", '="004711"', AS_TEXT),
    ("customers", "card_number", "c\0", "text without NUL characters"),
    ("points", "org_id", "x", NUMBER),
    ("points", "program_id", "x", NUMBER),
    ("points", "customer_id", "x", NUMBER),
    ("points", "lot_ref", "", "text of 1 to 64 characters"),
    ("points", "lot_ref", " \u200b\u3000", "text of 1 to 64 characters"),
    ("points", "lot_ref", "l" * 65, "text of 1 to 64 characters"),
    ("points", "points", "", POINTS_TEXT),
    ("points", "points", "-1", POINTS_TEXT),
    ("points", "points", "1e3", POINTS_TEXT),
    ("points", "points", "1,5", POINTS_TEXT),
    ("points", "points", "NaN", POINTS_TEXT),
    ("points", "points", "\u0967", POINTS_TEXT),
    ("points", "points", "0", "points, more than 0"),
    ("points", "points", "0.000", "points, more than 0"),
    ("points", "points", "1.0001", "points, at most 3 decimals"),
    ("points", "points", "1000000000000", "points, at most 12 digits before the decimal point"),
    ("points", "awarded_at", "", TIME),
    ("points", "awarded_at", "2026-01-01T00:00:00", TIME),
    ("points", "awarded_at", "2026-02-30", TIME),
    ("points", "awarded_at", "0001-01-01", TIME),
    ("points", "awarded_at", "2026-02-30T00:00:00Z", TIME),
    ("points", "awarded_at", "0001-01-01T00:00:00+14:00", TIME),
    ("points", "expires_at", "2026-01-01T00:00:00", TIME),
    ("points", "expires_at", "never", TIME),
    ("customers", "customer_id", "5.64E+08", f"{NUMBER}; {SPREADSHEETS}"),
    ("customers", "customer_id", "564000001.0", f"{NUMBER}; {SPREADSHEETS}"),
    ("customers", "email", "TRUE", "one email address, such as asha@example.com"),
    ("redemptions", "org_id", "x", NUMBER),
    ("redemptions", "program_id", "x", NUMBER),
    ("redemptions", "customer_id", "x", NUMBER),
    ("redemptions", "redemption_id", "", "text of 1 to 64 characters"),
    ("redemptions", "redemption_id", "4.00012E+15", AS_TEXT),
    ("redemptions", "transaction_number", "4711000815.0", AS_TEXT),
    ("redemptions", "redemption_id", "r" * 65, "text of 1 to 64 characters"),
    ("redemptions", "points", "0", "points, more than 0"),
    ("redemptions", "points", "2.0005", "points, at most 3 decimals"),
    ("redemptions", "redeemed_at", "2026-03-01T12:00:00", TIME),
    ("redemptions", "transaction_number", "t" * 129, "text of 0 to 128 characters"),
    ("redemptions", "external_reference_number", "e" * 129, "text of 0 to 128 characters"),
]


@pytest.mark.parametrize(
    ("name", "column", "text", "expected"), BAD_TEXTS, ids=[f"{name}-{column}" for name, column, *_ in BAD_TEXTS]
)
def test_bad_value_is_reported_with_file_line_and_column(
    world: World, tmp_path: Path, name: str, column: str, text: str, expected: str
) -> None:
    create_customers(world, name)
    good = first_row(world, name)
    before = row_counts(world)
    message = refusal_of_import(write(tmp_path, **{name: [good, good | {column: text}]}))
    assert message == f"nothing was imported; bad rows:\n{name}.csv line 3, column {column}: expected {expected}"
    assert row_counts(world) == before


@pytest.mark.parametrize("name", list(COLUMNS))
@pytest.mark.parametrize("difference", [-1, 1], ids=["too few", "too many"])
def test_row_with_the_wrong_number_of_fields_is_bad(world: World, tmp_path: Path, name: str, difference: int) -> None:
    columns = COLUMNS[name]
    fields = ["1"] * (len(columns) + difference)
    (tmp_path / f"{name}.csv").write_text(f"{','.join(columns)}\n{','.join(fields)}\n")
    assert refusal_of_import(tmp_path).splitlines()[1:] == [
        f"{name}.csv line 2, column {columns[-1]}: expected {len(columns)} fields in the row, not {len(fields)}"
    ]


def unknown_org(world: World) -> dict[str, Any]:
    return {"org_id": world.org.id + 900_000_000}


@pytest.mark.parametrize("name", list(COLUMNS))
def test_a_row_of_an_unknown_org_is_bad(world: World, tmp_path: Path, name: str) -> None:
    row = first_row(world, name) | unknown_org(world)
    assert refusal_of_import(write(tmp_path, **{name: [row]})).splitlines()[1:] == [
        f"{name}.csv line 2, column org_id: expected an org that exists, not {row['org_id']}"
    ]


@pytest.mark.parametrize("name", ["points", "redemptions"])
def test_a_row_of_another_orgs_program_is_bad(world: World, tmp_path: Path, name: str) -> None:
    foreign = make_program(make_org())
    row = first_row(world, name) | {"program_id": foreign.public_id}
    assert refusal_of_import(write(tmp_path, **{name: [row]})).splitlines()[1:] == [
        f"{name}.csv line 2, column program_id: expected a program of org {world.org.id}, not {foreign.public_id}"
    ]


@pytest.mark.parametrize("name", ["points", "redemptions"])
def test_a_row_of_another_orgs_customer_is_bad(world: World, tmp_path: Path, name: str) -> None:
    foreign = make_customer(make_org())
    row = first_row(world, name) | {"customer_id": foreign.public_id}
    assert refusal_of_import(write(tmp_path, **{name: [row]})).splitlines()[1:] == [
        f"{name}.csv line 2, column customer_id: expected a customer that exists"
    ]


IDENTIFIERS = {
    "mobile": ("MOBILE", "9876543210"),
    "email": ("EMAIL", "asha@example.com"),
    "external_id": ("EXTERNAL_ID", "X-1"),
    "card_number": ("CARD_NUMBER", "C-1"),
}


@pytest.mark.parametrize("column", list(IDENTIFIERS))
def test_an_identifier_of_another_customer_is_bad(world: World, tmp_path: Path, column: str) -> None:
    kind, value = IDENTIFIERS[column]
    make_customer(world.org, identifiers={kind: value})
    row = customer_row(world, 700, **{column: value.upper()})
    assert refusal_of_import(write(tmp_path, customers=[row])).splitlines()[1:] == [
        f"customers.csv line 2, column {column}: expected {TAKEN}"
    ]


@pytest.mark.parametrize("column", list(IDENTIFIERS))
def test_an_identifier_of_an_earlier_row_is_bad(world: World, tmp_path: Path, column: str) -> None:
    value = IDENTIFIERS[column][1]
    rows = [customer_row(world, customer_id, **{column: value}) for customer_id in (700, 701, 702)]
    assert refusal_of_import(write(tmp_path, customers=rows)).splitlines()[1:] == [
        f"customers.csv line 3, column {column}: expected {TAKEN}",
        f"customers.csv line 4, column {column}: expected {TAKEN}",
    ]


def test_an_external_reference_of_another_redemption_is_bad(world: World, tmp_path: Path) -> None:
    redeem(world.asha, 1, program=world.program, external_reference_number="E-1")
    row = redemption_row(world, "R1", 1, external_reference_number="E-1")
    assert refusal_of_import(write(tmp_path, redemptions=[row])).splitlines()[1:] == [
        "redemptions.csv line 2, column external_reference_number: expected a number that no other redemption has"
    ]


def test_an_external_reference_of_an_earlier_row_is_bad(world: World, tmp_path: Path) -> None:
    rows = [redemption_row(world, public_id, 1, external_reference_number="E-1") for public_id in ("R1", "R2")]
    assert refusal_of_import(write(tmp_path, redemptions=rows)).splitlines()[1:] == [
        "redemptions.csv line 3, column external_reference_number: expected a number that no other redemption has"
    ]


def test_two_orgs_can_have_the_same_ids_identifiers_and_references(world: World, tmp_path: Path) -> None:
    stranger = make_world()
    for each in (world, stranger):
        assert import_ledger(whole_ledger(each, tmp_path)) == report(
            {name: counts(2, added=2) for name in COLUMNS}, uncovered=(1, "4")
        )
    assert remaining(world) == remaining(stranger) == {"L1": points(6), "L2": 0}


def test_at_most_20_bad_rows_are_named_and_the_rest_counted(world: World, tmp_path: Path) -> None:
    rows = [lot_row(world, f"L{line}", 0) for line in range(2, 25)]
    assert refusal_of_import(write(tmp_path, points=rows)).splitlines() == [
        "nothing was imported; bad rows:",
        *(f"points.csv line {line}, column points: expected points, more than 0" for line in range(2, 22)),
        "and 3 more",
    ]


def test_line_numbers_count_quoted_line_breaks(world: World, tmp_path: Path) -> None:
    rows = [lot_row(world, "L\n1", 1), lot_row(world, "L2", 0)]
    assert refusal_of_import(write(tmp_path, points=rows)).splitlines()[1:] == [
        "points.csv line 4, column points: expected points, more than 0"
    ]


# Bad rows with and without --skip-bad


def ledger_with_bad_rows(world: World, folder: Path) -> Path:
    return write(
        folder,
        customers=[customer_row(world, 700), customer_row(world, 701, status="GONE")],
        points=[
            lot_row(world, "L1", 10),
            lot_row(world, "L2", "0"),
            lot_row(world, "L3", 10, customer_id=701),
            lot_row(world, "L4", 10, customer_id=700),
        ],
        redemptions=[
            redemption_row(world, "R1", 8, redeemed_at="yesterday"),
            redemption_row(world, "R2", 6),
            redemption_row(world, "R3", 6, customer_id=701),
        ],
    )


BAD_ROWS_OF_LEDGER = (
    "customers.csv line 3, column status: expected ACTIVE, FRAUD, DEACTIVATED or MERGED",
    "points.csv line 3, column points: expected points, more than 0",
    f"redemptions.csv line 2, column redeemed_at: expected {TIME}",
    "points.csv line 4, column customer_id: expected a customer that exists",
    "redemptions.csv line 4, column customer_id: expected a customer that exists",
)


def test_without_skip_bad_a_file_with_bad_rows_imports_nothing(world: World, tmp_path: Path) -> None:
    before = row_counts(world)
    message = refusal_of_import(ledger_with_bad_rows(world, tmp_path))
    assert message.splitlines() == ["nothing was imported; bad rows:", *BAD_ROWS_OF_LEDGER]
    assert row_counts(world) == before


def test_with_skip_bad_good_rows_are_imported_and_bad_rows_reported(world: World, tmp_path: Path) -> None:
    files = {
        "customers": counts(2, added=1, bad=1),
        "points": counts(4, added=2, bad=2),
        "redemptions": counts(3, added=1, bad=2),
    }
    summary = import_ledger(ledger_with_bad_rows(world, tmp_path), "--skip-bad")
    assert summary == report(files, bad_rows=BAD_ROWS_OF_LEDGER)
    assert row_counts(world) == {"Customer": 2, "CustomerIdentifier": 0, "Lot": 2, "Redemption": 1, "Draw": 1}
    assert remaining(world) == {"L1": points(4), "L4": points(10)}
    assert_all_laws_hold(world)


def test_with_skip_bad_the_first_content_of_a_repeated_id_is_imported(world: World, tmp_path: Path) -> None:
    rows = [lot_row(world, "L1", 10), lot_row(world, "L1", 11)]
    summary = import_ledger(write(tmp_path, points=rows), "--skip-bad")
    bad = f"points.csv line 3, column lot_ref: expected {EARLIER_CONTENT}"
    assert summary == report({"points": counts(2, added=1, bad=1)}, bad_rows=(bad,))
    assert remaining(world) == {"L1": points(10)}


def test_import_of_a_repaired_file_adds_the_skipped_rows(world: World, tmp_path: Path) -> None:
    import_ledger(write(tmp_path, points=[lot_row(world, "L1", 1), lot_row(world, "L2", 0)]), "--skip-bad")
    summary = import_ledger(write(tmp_path, points=[lot_row(world, "L1", 1), lot_row(world, "L2", 2)]))
    assert summary == report({"points": counts(2, added=1, already_there=1)})
    assert remaining(world) == {"L1": points(1), "L2": points(2)}


def test_summary_without_json_lists_skipped_rows(world: World, tmp_path: Path) -> None:
    output = io.StringIO()
    folder = write(tmp_path, points=[lot_row(world, "L1", 0)])
    call_command("import_ledger", str(folder), "--skip-bad", stdout=output)
    assert output.getvalue().splitlines() == [
        "points: 1 read, 0 added, 0 already there, 1 bad",
        "skipped: points.csv line 2, column points: expected points, more than 0",
    ]


# Dry runs


def test_dry_run_reports_the_same_summary_as_an_import(world: World, tmp_path: Path) -> None:
    before = row_counts(world)
    summary = import_ledger(whole_ledger(world, tmp_path), "--dry-run")
    assert row_counts(world) == before
    assert summary == import_ledger(tmp_path) | {"dry_run": True}


def test_dry_run_does_not_change_lots(world: World, tmp_path: Path) -> None:
    lot = make_lot(world.asha, 10, program=world.program, awarded_at=utc("2026-01-01T00:00:00"))
    import_ledger(whole_ledger(world, tmp_path), "--dry-run")
    assert remaining(world) == {lot.lot_ref: points(10)}


def test_dry_run_reports_bad_rows(world: World, tmp_path: Path) -> None:
    message = refusal_of_import(ledger_with_bad_rows(world, tmp_path), "--dry-run")
    assert message.splitlines()[1:] == list(BAD_ROWS_OF_LEDGER)


def test_dry_run_with_skip_bad_imports_nothing_and_reports_bad_rows(world: World, tmp_path: Path) -> None:
    before = row_counts(world)
    summary = import_ledger(ledger_with_bad_rows(world, tmp_path), "--dry-run", "--skip-bad")
    assert summary["bad_rows"] == list(BAD_ROWS_OF_LEDGER)
    assert row_counts(world) == before


def test_summary_without_json_marks_a_dry_run(world: World, tmp_path: Path) -> None:
    output = io.StringIO()
    call_command("import_ledger", str(write(tmp_path, points=[])), "--dry-run", stdout=output)
    assert output.getvalue().splitlines() == [
        "dry run: nothing was imported",
        "points: 0 read, 0 added, 0 already there, 0 bad",
    ]


# Files that cannot be read


HEADER = ",".join(COLUMNS["points"])
EXPECTED_COLUMNS = ", ".join(COLUMNS["points"])


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("", f": expected the columns {EXPECTED_COLUMNS}; the file is empty"),
        ("\n;;\n", f": expected the columns {EXPECTED_COLUMNS}; the file is empty"),
        ("org_id,program_id", f": the column customer_id is missing; expected {EXPECTED_COLUMNS}"),
        (HEADER + ",note", f", column 8: 'note' is unknown; expected {EXPECTED_COLUMNS}"),
        (HEADER.replace("expires_at", "Points"), f", column 7: 'Points' is a duplicate; expected {EXPECTED_COLUMNS}"),
    ],
    ids=["empty", "only separators", "too few", "too many", "one repeated"],
)
def test_wrong_header_is_refused(world: World, tmp_path: Path, header: str, problem: str) -> None:
    (tmp_path / "points.csv").write_text(header)
    assert refusal_of_import(tmp_path) == f"points.csv line 1{problem}"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\r"),
        lambda text: text.replace(",", ";"),
        lambda text: text.replace(",", "\t"),
        lambda text: "\ufeffsep=;\r\n" + text.replace(",", ";"),
        lambda text: '"SEP=|"\n' + text.replace(",", "|"),
        lambda text: text.replace(HEADER, HEADER.upper().replace(",", " , ")),
        lambda text: text.replace("\n", "\n\n,,,,,,\n \n"),
        lambda text: ",,,,,,\n" + text,
        lambda text: "\ufeff\ufeff" + text,
        lambda text: text.replace("\n", "\n\ufeff", 1),
        lambda text: text.replace("org_id", "\u200borg_id\u00a0"),
        lambda text: text.replace("\n", ",,\n"),
        lambda text: text.replace("\n", ", ,\n").replace(", ,\n", "\n", 1),
        lambda text: "\n".join('"' + line.replace(",", '", "') + '"' for line in text.split("\n")),
        lambda text: text.replace("\n", "\r\n", 1).replace("\r\n", "\r", 1),
        lambda text: "\n".join(",".join(reversed(line.split(","))) for line in text.split("\n")),
    ],
    ids=[
        *("bom", "crlf", "cr", "semicolon", "tab", "sep", "sep quoted", "capitals", "only separators", "before header"),
        *("two boms", "bom in the middle", "invisible", "unnamed columns", "empty fields", "blank before quotes"),
        "mixed line ends",
        "other order",
    ],
)
def test_every_usual_form_of_csv_is_read(world: World, tmp_path: Path, change: Callable[[str], str]) -> None:
    text = as_csv("points", [lot_row(world, "L1", 1), lot_row(world, "L\u00fc", 2)]).decode().replace("\r\n", "\n")
    (tmp_path / "Points.CSV").write_bytes(change(text).encode())
    assert import_ledger(tmp_path) == report({"points": counts(2, added=2)})
    assert set(Lot.objects.filter(org=world.org).values_list("lot_ref", flat=True)) == {"L1", "L\u00fc"}


@pytest.mark.parametrize("name", ["REDEMPTIONS.csv.GZ", "redemptions.Csv"])
def test_file_names_may_be_in_any_case(world: World, tmp_path: Path, name: str) -> None:
    content = as_csv("redemptions", [redemption_row(world, "R1", 1)])
    (tmp_path / name).write_bytes(gzip.compress(content) if name.lower().endswith(".gz") else content)
    assert import_ledger(tmp_path)["files"] == {"redemptions": counts(1, added=1)}


@pytest.mark.parametrize(
    "name", ["lots.csv", "point.csv", "points.csv.bak", "points.xlsx", "points(1).csv", "notes.txt"]
)
def test_unknown_file_in_the_folder_is_refused(world: World, tmp_path: Path, name: str) -> None:
    (write(tmp_path, points=[lot_row(world, "L1", 1)]) / name).write_text("")
    assert refusal_of_import(tmp_path) == (
        f"{tmp_path} contains {name}, which is not a ledger file; expected customers.csv, points.csv, redemptions.csv"
        " (or .csv.gz). Rename the file, or move it out of the folder"
    )


def test_hidden_files_and_texts_about_the_data_may_be_in_the_folder(world: World, tmp_path: Path) -> None:
    write(tmp_path, points=[lot_row(world, "L1", 1)])
    for name in (".DS_Store", "README.md", "LICENSE", "reversal_requests.csv.gz"):
        (tmp_path / name).write_text("")
    (tmp_path / "old").mkdir()
    assert import_ledger(tmp_path) == report({"points": counts(1, added=1)})


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.mkdir(),
        lambda path: path.symlink_to(path.parent / "missing"),
        lambda path: path.symlink_to(path.parent),
        lambda path: path.symlink_to(path),
        lambda path: os.mkfifo(path),
    ],
    ids=["folder", "broken link", "link to a folder", "link to itself", "pipe"],
)
def test_name_of_a_ledger_file_that_is_no_file_is_refused(
    world: World, tmp_path: Path, make: Callable[[Path], object]
) -> None:
    make(tmp_path / "points.csv")
    write(tmp_path, redemptions=[redemption_row(world, "R1", 1)])
    assert refusal_of_import(tmp_path) == f"{tmp_path} contains points.csv, which is not a file that can be read"


def test_link_to_a_ledger_file_is_read(world: World, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "points.csv").symlink_to(write(tmp_path / "real", points=[lot_row(world, "L1", 1)]) / "points.csv")
    assert import_ledger(tmp_path) == report({"points": counts(1, added=1)})


@pytest.mark.parametrize(
    ("name", "change", "found"),
    [
        ("points.csv", gzip.compress, "gzip; name the file .csv.gz, or unpack it"),
        ("points.csv.gz", lambda data: gzip.compress(gzip.compress(data)), "gzip; name the file .csv.gz, or unpack it"),
        (
            "points.csv",
            lambda data: b"PK\x03\x04" + data,
            "a workbook (.xlsx) or another zip file; save it as CSV UTF-8",
        ),
    ],
)
def test_compressed_file_is_refused_and_named(
    world: World, tmp_path: Path, name: str, change: Callable[[bytes], bytes], found: str
) -> None:
    (tmp_path / name).write_bytes(change(as_csv("points", [lot_row(world, "L1", 1)])))
    assert refusal_of_import(tmp_path) == f"{name} line 1: expected CSV text, found {found}"


@pytest.mark.parametrize("encoding", ["utf-32", "utf-32-le", "utf-32-be"])
def test_utf_32_file_is_refused_and_named(world: World, tmp_path: Path, encoding: str) -> None:
    (tmp_path / "points.csv").write_bytes(as_csv("points", [lot_row(world, "L1", 1)]).decode().encode(encoding))
    assert "expected UTF-8, found UTF-32" in refusal_of_import(tmp_path)


@pytest.mark.parametrize("before", [1, 5_000])
@pytest.mark.parametrize(
    ("byte", "found"), [(b"\xe9", "'é' in Windows-1252"), (b"\x80", "'€' in Windows-1252"), (b"\x81", "the byte 81")]
)
def test_text_that_is_not_utf_8_is_named_with_its_line(
    world: World, tmp_path: Path, before: int, byte: bytes, found: str
) -> None:
    rows = [lot_row(world, f"L{number}", 1) for number in range(before)]
    (tmp_path / "points.csv").write_bytes(as_csv("points", rows) + b"1,2," + byte + b"\n")
    assert refusal_of_import(tmp_path) == (
        f"points.csv line {before + 2}, character 5: expected UTF-8, found {found}; save the file as CSV UTF-8"
    )


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_file_is_refused_and_named(world: World, tmp_path: Path, encoding: str) -> None:
    (tmp_path / "points.csv").write_bytes(as_csv("points", [lot_row(world, "L1", 1)]).decode().encode(encoding))
    assert refusal_of_import(tmp_path) == (
        "points.csv line 1: expected UTF-8, found UTF-16; save the file as CSV UTF-8"
    )


def test_line_that_is_too_long_is_refused(world: World, tmp_path: Path) -> None:
    (tmp_path / "points.csv.gz").write_bytes(gzip.compress(HEADER.encode() + b"\n" + b"x" * 10_000_000))
    assert refusal_of_import(tmp_path) == (
        "points.csv.gz line 2, character 64001: expected a line of at most 64,000 characters"
    )


def test_a_file_that_is_not_csv_is_refused(world: World, tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text(f'{HEADER}\n"1\n')
    assert (
        refusal_of_import(tmp_path) == "points.csv line 2: expected CSV with every quote closed; unexpected end of data"
    )


@pytest.mark.parametrize(
    "damage",
    [lambda whole: whole[:-20], lambda whole: b"PK" + whole, lambda whole: whole[:-8] + b"12345678", lambda _: b"x"],
    ids=["cut off", "wrong start", "wrong checksum", "not gzip"],
)
def test_a_damaged_gzip_file_is_refused(world: World, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    before = row_counts(world)
    rows = [lot_row(world, f"L{number}", 1) for number in range(6_000)]
    (tmp_path / "points.csv.gz").write_bytes(damage(gzip.compress(as_csv("points", rows))))
    assert refusal_of_import(tmp_path).startswith("points.csv.gz is not a complete gzip file: ")
    assert row_counts(world) == before


def test_plain_and_gzipped_files_of_the_same_name_are_refused(world: World, tmp_path: Path) -> None:
    write(tmp_path, points=[])
    write_gzipped(tmp_path, points=[])
    assert refusal_of_import(tmp_path) == (
        f"{tmp_path} contains both points.csv and points.csv.gz; expected only one of them"
    )


def test_a_folder_without_any_of_the_files_is_refused(world: World, tmp_path: Path) -> None:
    assert refusal_of_import(tmp_path) == (
        f"{tmp_path} contains no customers.csv, points.csv or redemptions.csv (or .csv.gz)"
    )


def test_path_that_is_not_a_folder_is_refused(tmp_path: Path) -> None:
    assert refusal_of_import(tmp_path / "ledger") == f"{tmp_path / 'ledger'} is not a folder"


# Identifiers


@pytest.mark.parametrize(
    ("country", "mobile", "stored"),
    [
        ("IN", "9876543210", "919876543210"),
        ("IN", "098765-43210", "919876543210"),
        ("IN", "+919876543210", "919876543210"),
        ("IN", "919876543210", "919876543210"),
        ("IN", "+84 91 234 56 78", "84912345678"),
        ("VN", "0912345678", "84912345678"),
        ("VN", "84912345678", "84912345678"),
        ("US", "(201) 555-0123", "12015550123"),
        ("IN", "tel:+91-98765-43210", "919876543210"),
        ("IN", "\u202a98765\u00a043210\u202c", "919876543210"),
    ],
)
def test_mobile_numbers_are_normalised_by_the_orgs_country(
    tmp_path: Path, country: str, mobile: str, stored: str
) -> None:
    world = make_world(country=country)
    import_ledger(write(tmp_path, customers=[customer_row(world, 700, mobile=mobile)]))
    assert names_of(700, world) == {"MOBILE": stored}


def test_two_spellings_of_one_mobile_number_are_one_identifier(world: World, tmp_path: Path) -> None:
    rows = [customer_row(world, 700, mobile="9876543210"), customer_row(world, 701, mobile="+91 98765 43210")]
    assert refusal_of_import(write(tmp_path, customers=rows)).splitlines()[1:] == [
        f"customers.csv line 3, column mobile: expected {TAKEN}"
    ]


def test_identifiers_other_than_mobile_and_email_keep_their_case(world: World, tmp_path: Path) -> None:
    row = customer_row(world, 700, email="A@B.example", external_id="aB", card_number="cD")
    import_ledger(write(tmp_path, customers=[row]))
    assert names_of(700, world) == {"EMAIL": "a@b.example", "EXTERNAL_ID": "aB", "CARD_NUMBER": "cD"}


def test_redemption_with_the_id_of_a_reversal_is_bad(world: World, tmp_path: Path) -> None:
    reversal_id = world.reverse(redeemed(world, 10), 1).json()["reversalId"]
    message = refusal_of_import(write(tmp_path, redemptions=[redemption_row(world, reversal_id, 5)]))
    assert (
        "redemptions.csv line 2, column redemption_id: expected an id that is not the id of a reversal of the org"
        in message
    )


def test_repeated_row_is_compared_with_the_imported_row(world: World, tmp_path: Path) -> None:
    rows = [lot_row(world, "L1", 10), lot_row(world, "L1", 11), lot_row(world, "L1", 11), lot_row(world, "L1", 10)]
    summary = import_ledger(write(tmp_path, points=rows), "--skip-bad")
    assert summary["files"]["points"] == counts(4, added=1, already_there=1, bad=2)


def test_bad_row_does_not_make_a_later_row_with_its_id_bad(world: World, tmp_path: Path) -> None:
    unknown = {"customer_id": 4242}
    rows = [lot_row(world, "L1", 10, **unknown), lot_row(world, "L1", 10, **unknown), lot_row(world, "L1", 12)]
    summary = import_ledger(write(tmp_path, points=rows), "--skip-bad")
    assert summary["files"]["points"] == counts(3, added=1, bad=2)
    assert {row.rsplit(": ", 1)[1] for row in summary["bad_rows"]} == {"expected a customer that exists"}


def test_repeated_customer_with_an_empty_identifier_is_already_there(world: World, tmp_path: Path) -> None:
    rows = [customer_row(world, 7, email="a@b.c"), customer_row(world, 7)]
    assert import_ledger(write(tmp_path, customers=rows))["files"]["customers"] == counts(2, added=1, already_there=1)


def test_text_that_is_too_long_after_normalisation_is_bad(world: World, tmp_path: Path) -> None:
    message = refusal_of_import(write(tmp_path, customers=[customer_row(world, 7, email="İ" * 255)]))
    assert "customers.csv line 2, column email: expected text of 1 to 255 characters" in message


def test_merged_customers_of_a_file_have_their_survivor(world: World, tmp_path: Path) -> None:
    """A chain of merges leads to the last survivor, and the rows of a merged customer are the survivor's."""
    merged = [
        customer_row(world, 71, status="MERGED", merged_into=72, email="old@example.com"),
        customer_row(world, 72, status="MERGED", merged_into=world.asha.public_id),
    ]
    rows = {
        "customers": merged,
        "points": [lot_row(world, "L-71", 5, customer_id=71)],
        "redemptions": [redemption_row(world, "R-71", 2, customer_id=71)],
    }
    write(tmp_path, **rows)
    import_ledger(tmp_path)
    lot, redemption = Lot.objects.get(org=world.org), Redemption.objects.get(org=world.org)
    assert (lot.customer, lot.first_customer.public_id, lot.points_remaining) == (world.asha, 71, 3)
    assert (redemption.customer, redemption.first_customer.public_id) == (world.asha, 71)
    assert CustomerIdentifier.objects.get(org=world.org).customer == world.asha
    assert broken_laws(world.org.id) == []
    again = import_ledger(tmp_path)["files"]
    assert [file["already_there"] for file in again.values()] == [2, 1, 1]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"status": "ACTIVE", "merged_into": 564}, "another customer, and the status MERGED"),
        ({"status": "MERGED", "merged_into": 71}, "another customer, and the status MERGED"),
        ({"status": "MERGED", "merged_into": 999_999}, "a customer that exists"),
        ({"status": "MERGED", "merged_into": "x"}, "a whole number"),
    ],
)
def test_wrong_survivor_is_a_bad_row(world: World, tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    write(tmp_path, customers=[customer_row(world, 71, **changes)])
    message = refusal_of_import(tmp_path)
    assert "customers.csv line 2, column merged_into: expected" in message
    assert expected in message


def test_merges_in_a_circle_are_refused(world: World, tmp_path: Path) -> None:
    circle = {71: 72, 72: 73, 73: 71}
    rows = [customer_row(world, source, status="MERGED", merged_into=target) for source, target in circle.items()]
    write(tmp_path, customers=rows)
    assert "merged_into forms a circle from customer 71" in refusal_of_import(tmp_path)
    assert not Customer.objects.filter(org=world.org, public_id__in=circle).exists()


def test_rows_imported_before_a_merge_are_already_there_after_it(world: World, tmp_path: Path) -> None:
    write(
        tmp_path,
        customers=[customer_row(world, 71, email="old@example.com")],
        points=[lot_row(world, "L-71", 5, customer_id=71)],
        redemptions=[redemption_row(world, "R-71", 2, customer_id=71)],
    )
    import_ledger(tmp_path)
    merge_customers(
        org=world.org, source_id=71, target_id=world.asha.public_id, ticket="T-1", reason="twice", made_by="meera"
    )
    again = import_ledger(tmp_path)["files"]
    assert [file["already_there"] for file in again.values()] == [1, 1, 1]


def test_rows_that_name_the_survivor_after_a_merge_are_already_there(world: World, tmp_path: Path) -> None:
    lot, redemption = lot_row(world, "L-71", 5, customer_id=71), redemption_row(world, "R-71", 2, customer_id=71)
    import_ledger(write(tmp_path, customers=[customer_row(world, 71)], points=[lot], redemptions=[redemption]))
    survivor = {"customer_id": world.asha.public_id}
    write(tmp_path, points=[lot | survivor], redemptions=[redemption | survivor])
    assert "column lot_ref: expected the same content" in refusal_of_import(tmp_path)
    merge_customers(
        org=world.org, source_id=71, target_id=world.asha.public_id, ticket="T-1", reason="twice", made_by="meera"
    )
    again = import_ledger(tmp_path)["files"]
    assert [file["already_there"] for file in again.values()] == [1, 1, 1]
    (tmp_path / "redemptions.csv").unlink()
    other = {"customer_id": make_customer(world.org).public_id}
    write(tmp_path, points=[lot | other])
    assert "column lot_ref: expected the same content" in refusal_of_import(tmp_path)


def test_another_survivor_than_the_stored_one_is_other_content(world: World, tmp_path: Path) -> None:
    ravi, zoya = (make_customer(world.org) for _ in range(2))
    unknown, active = make_customer(world.org, status="MERGED"), make_customer(world.org)
    row = customer_row(world, 71, status="MERGED", merged_into=ravi.public_id)
    import_ledger(write(tmp_path, customers=[row]))
    merge_customers(
        org=world.org, source_id=ravi.public_id, target_id=zoya.public_id, ticket="T-1", reason="twice", made_by="meera"
    )
    for same in (row, row | {"merged_into": zoya.public_id}, row | {"merged_into": ""}):
        assert import_ledger(write(tmp_path, customers=[same]))["files"]["customers"] == counts(1, already_there=1)
    for customer_id in (71, unknown.public_id, active.public_id):
        changed = customer_row(world, customer_id, status="MERGED", merged_into=world.asha.public_id)
        assert CUSTOMER_CONTENT in refusal_of_import(write(tmp_path, customers=[changed]))


def test_identifiers_of_a_customer_merged_into_an_erased_one_are_not_stored_again(world: World, tmp_path: Path) -> None:
    old = customer_row(world, 71, email="old@example.com")
    import_ledger(write(tmp_path, customers=[old]))
    merge_customers(
        org=world.org, source_id=71, target_id=world.asha.public_id, ticket="T-1", reason="twice", made_by="meera"
    )
    erase_customer(world.asha, ticket="T-2", reason="asked for it", made_by="meera")
    for row in (old, customer_row(world, 72, email="x@x.org", status="MERGED", merged_into=world.asha.public_id)):
        message = refusal_of_import(write(tmp_path, customers=[row]))
        assert "expected no identifiers, because the customer's identity was erased" in message
    assert not CustomerIdentifier.objects.filter(org=world.org).exists()


def test_padded_and_invisible_characters_of_a_file_are_not_stored(world: World, tmp_path: Path) -> None:
    customer = customer_row(
        world, " 700 ", mobile="\u202a9876543210\u202c", email="A1@x.org ", card_number="CARD1\u3000"
    )
    redemption = redemption_row(world, "R1 ", 1, customer_id=700, external_reference_number="\ufeffORD-77 ")
    import_ledger(write(tmp_path, customers=[customer], redemptions=[redemption]))
    assert names_of(700, world) == {"MOBILE": "919876543210", "EMAIL": "a1@x.org", "CARD_NUMBER": "CARD1"}
    stored = Redemption.objects.get(org=world.org)
    assert (stored.public_id, stored.external_reference_number) == ("R1", "ORD-77")


def test_identifier_of_blanks_is_unknown(world: World, tmp_path: Path) -> None:
    import_ledger(
        write(tmp_path, customers=[customer_row(world, 700, mobile=" ", email="\u200b", external_id="\u00a0")])
    )
    assert names_of(700, world) == {}


def test_decomposed_email_and_unicode_domain_are_one_identifier(world: World, tmp_path: Path) -> None:
    rows = [
        customer_row(world, 700, email="mu\u0308ller@BU\u0308CHER.example"),
        customer_row(world, 701, email="m\u00fcller@xn--bcher-kva.example"),
    ]
    assert refusal_of_import(write(tmp_path, customers=rows)).splitlines()[1:] == [
        f"customers.csv line 3, column email: expected {TAKEN}"
    ]


def test_expiry_before_the_award_is_bad(world: World, tmp_path: Path) -> None:
    row = lot_row(world, "L1", 10, expires_at="2025-12-31T23:59:59Z")
    assert refusal_of_import(write(tmp_path, points=[row])).splitlines()[1:] == [
        "points.csv line 2, column expires_at: expected a time after awarded_at, or nothing"
    ]


def test_expiry_after_the_year_9999_in_utc_is_the_last_possible_time(world: World, tmp_path: Path) -> None:
    row = lot_row(world, "L1", 10, expires_at="9999-12-31T23:59:59-05:00")
    import_ledger(write(tmp_path, points=[row]))
    assert Lot.objects.get(org=world.org).expires_at == datetime.max.replace(tzinfo=UTC)


def test_file_with_padded_names_of_earlier_rows_is_already_there(world: World, tmp_path: Path) -> None:
    """Rows that were imported before the canonical form keep their spelling, because they are sealed."""
    import_ledger(write(tmp_path, points=[lot_row(world, "L1", 10)], redemptions=[redemption_row(world, "R1", 4)]))
    Lot.objects.filter(org=world.org).update(lot_ref="L1 ")
    named = {"public_id": "R1 ", "transaction_number": "T\u200b", "external_reference_number": "E "}
    Redemption.objects.filter(org=world.org).update(**named)
    for end in ("", " "):
        names = {"transaction_number": f"T{end}", "external_reference_number": f"E{end}"}
        files = {
            "points": [lot_row(world, f"L1{end}", 10)],
            "redemptions": [redemption_row(world, f"R1{end}", 4, **names)],
        }
        summary = import_ledger(write(tmp_path, **files))
        assert summary["files"] == {name: counts(1, already_there=1) for name in files}
