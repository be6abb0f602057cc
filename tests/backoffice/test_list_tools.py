"""What all lists offer: days in the org's time zone, search, order, count, columns, saved views and exact exports."""

import csv
import io
import re
import zipfile
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import pytest
from django.contrib.admin.sites import site
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from loyalty.admin.views import name_of, offered_columns
from loyalty.ledger.canonical import searched_spellings
from loyalty.models import Lot, OrgAccess, Redemption, SavedView
from reversals.admin.export import EXPORTS
from reversals.manual.bulk.runs import make_run
from reversals.manual.bulk.uploads import FileRow
from reversals.models import Approval, Attempt, Correction, Export, Reversal
from tests.builders import World, ask_to_correct, correct, days_ago, make_world, redeemed, staff_of, work

pytestmark = pytest.mark.django_db

KOLKATA = ZoneInfo("Asia/Kolkata")
REDEMPTIONS, REVERSALS = "loyalty_redemption", "reversals_reversal"


@pytest.fixture
def auditor(world: World) -> Client:
    return staff_of(world, "Auditor")


def address_of(name: str) -> str:
    return reverse(f"admin:{name}_changelist")


def page(client: Client, name: str, /, **parameters: Any) -> HttpResponse:
    response = client.get(address_of(name), parameters)
    assert response.status_code == 200, response.headers.get("Location")
    return response


def listed(client: Client, name: str, /, **parameters: Any) -> list[Any]:
    return list(page(client, name, **parameters).context["cl"].result_list)


def export(client: Client, name: str, *, query: dict[str, Any], **options: str) -> bytes:
    response: Any = client.post(reverse(f"admin:{name}_export", query=query), options)
    assert response.status_code == 200
    return b"".join(response.streaming_content)


def csv_rows(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode("utf-8-sig"))))


def xlsx_rows(content: bytes) -> list[list[tuple[str, str]]]:
    """The type and text of each cell. Texts have the type inlineStr, numbers the type n."""
    sheet = ElementTree.fromstring(zipfile.ZipFile(io.BytesIO(content)).read("xl/worksheets/sheet1.xml"))  # noqa: S314
    name = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
    assert not list(sheet.iter(f"{name}f")), "a formula"
    return [
        [(cell.get("t", "n"), "".join(cell.itertext())) for cell in row.iter(f"{name}c")]
        for row in sheet.iter(f"{name}row")
    ]


def keep(client: Client, action: str, **values: Any) -> HttpResponse:
    form = {"action": action, "list": "loyalty.redemption", "query": ""} | values
    return client.post(reverse("admin:views"), form)


@pytest.fixture
def at_midnight(world: World) -> list[Redemption]:
    """Redemptions a second before and after each midnight in Kolkata around 2 March."""
    world.org.time_zone = "Asia/Kolkata"
    world.org.save()
    times = [(1, 23, 59, 59), (2, 0, 0, 0), (2, 23, 59, 59), (3, 0, 0, 0)]
    return [redeemed(world, at=datetime(2026, 3, *time, tzinfo=KOLKATA)) for time in times]


def test_days_of_a_list_begin_and_end_in_the_time_zone_of_the_org(
    auditor: Client, at_midnight: list[Redemption]
) -> None:
    before, first, last, after = at_midnight
    assert listed(auditor, REDEMPTIONS, **{"from": "2026-03-02", "to": "2026-03-02"}) == [last, first]
    assert listed(auditor, REDEMPTIONS, **{"from": "2026-03-02"}) == [after, last, first]
    assert listed(auditor, REDEMPTIONS, to="2026-03-01") == [before]
    shown = page(auditor, REDEMPTIONS, to="2026-03-01").content.decode()
    assert "2026-03-01 23:59:59" in shown
    assert "time zone Asia/Kolkata" in shown
    assert "to 2026-03-01" in shown
    content = export(auditor, REDEMPTIONS, query={"to": "2026-03-01", "columns": "public_id,redeemed_at"})
    assert csv_rows(content)[1:] == [[before.public_id, "2026-03-01T23:59:59+05:30"]]


def test_list_is_ordered_by_time_in_both_directions_and_by_nothing_else(
    auditor: Client, at_midnight: list[Redemption]
) -> None:
    assert listed(auditor, REDEMPTIONS, o="redeemed_at") == at_midnight
    assert listed(auditor, REDEMPTIONS, o="6") == at_midnight
    for order in ("-6", "0", "-4", "99", "points", "x"):
        assert listed(auditor, REDEMPTIONS, o=order) == at_midnight[::-1], order


@pytest.fixture
def history(world: World) -> tuple[Redemption, Reversal]:
    redemption = redeemed(world, public_id="aB3x Yz".replace(" ", ""), external_reference_number="till-7/0042")
    Redemption.objects.filter(pk=redemption.pk).update(transaction_number="TX77")
    world.reverse(redemption, 4)
    reversal = Reversal.objects.get(org=world.org)
    correct(reversal)
    rows = [FileRow(2, redemption.public_id, "", "why")]
    make_run(org=world.org, key="k", name="returns.csv", rows=rows, made_by="meera")
    redeemed(world)
    return redemption, reversal


def test_every_list_finds_any_id_in_any_case_and_with_blanks(
    world: World, auditor: Client, history: tuple[Redemption, Reversal]
) -> None:
    redemption, reversal = history
    lot, correction = Lot.objects.get(draws__redemption=redemption), Correction.objects.get()
    attempts = list(Attempt.objects.filter(redemption_id_asked=redemption.public_id))
    of_redemption = ["AB3 XYZ", " ab3xyz ", "TILL-7/0042", "tx 77"]
    expected: dict[str, tuple[list[str], list[Any]]] = {
        REDEMPTIONS: ([*of_redemption, reversal.public_id.swapcase()], [redemption]),
        REVERSALS: ([*of_redemption, reversal.public_id.swapcase(), str(world.asha.public_id)], [reversal]),
        "reversals_correction": ([*of_redemption, reversal.public_id.lower()], [correction]),
        "reversals_approval": ([*of_redemption, reversal.public_id.upper()], [Approval.objects.get()]),
        "reversals_attempt": (of_redemption, attempts),
        "reversals_bulkrun": (["ab3 xyz"], list(redemption.org.bulkrun_set.all())),
        "loyalty_customer": ([*of_redemption, f" {world.asha.public_id} ", lot.lot_ref.lower()], [world.asha]),
        "loyalty_lot": ([*of_redemption, lot.lot_ref.lower()], [lot]),
    }
    for name, (texts, rows) in expected.items():
        for text in texts:
            assert listed(auditor, name, q=text) == rows, (name, text)
        assert listed(auditor, name, q="ab3xy") == [], name
    assert set(attempts) < set(
        listed(auditor, "reversals_attempt", q=reversal.public_id.swapcase())
    )  # and a correction
    for text in (*of_redemption, reversal.public_id.swapcase(), lot.lot_ref.lower()):
        assert auditor.get(reverse("admin:find"), {"q": text}).status_code == 302, text


def test_search_of_a_list_finds_nothing_of_a_foreign_org(world: World, auditor: Client) -> None:
    foreign = redeemed(make_world(), public_id="FOREIGN")
    for name in (REDEMPTIONS, "loyalty_customer", "loyalty_lot"):
        assert listed(auditor, name, q=foreign.public_id) == []


def test_text_with_many_letters_is_searched_in_few_spellings() -> None:
    assert len(searched_spellings("a" * 8)) == 256
    assert searched_spellings("Abcdefghi j") == [
        "Abcdefghi j",
        "ABCDEFGHI J",
        "abcdefghi j",
        "ABCDEFGHIJ",
        "abcdefghij",
    ]


def test_list_says_its_count_and_links_to_other_pages_only_if_there_are_any(
    world: World, auditor: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    redeemed(world)
    shown = page(auditor, REDEMPTIONS).content.decode()
    assert "1 redemption<" in shown
    assert ">Next<" not in shown
    assert ">Previous<" not in shown
    for _ in range(3):
        redeemed(world)
    monkeypatch.setattr("reversals.admin.redemptions.RedemptionAdmin.list_per_page", 2)
    monkeypatch.setattr("loyalty.admin.lists.COUNTED", 3)
    first, second = (page(auditor, REDEMPTIONS, p=number).content.decode() for number in (1, 2))
    assert "1 to 2 of more than 3 redemptions" in first
    assert (">Next<" in first, ">Previous<" in first) == (True, False)
    assert "3 to 4 of more than 3 redemptions" in second
    assert (">Next<" in second, ">Previous<" in second) == (False, True)


def test_rows_are_filtered_by_status_amount_and_user(world: World, auditor: Client) -> None:
    waiting, partly, whole, opened = (redeemed(world, amount) for amount in (10, 20, 30, "40.5"))
    world.reverse(partly, 1)
    world.reverse(whole, 30)
    request = ask_to_correct(Reversal.objects.get(redemption=partly))
    Approval.objects.filter(pk=request.pk).update(corrects=None, redemption=waiting)
    for status, rows in {"waiting": [waiting], "partly": [partly], "reversed": [whole]}.items():
        assert listed(auditor, REDEMPTIONS, status=status) == rows, status
    assert listed(auditor, REDEMPTIONS, points_from="20", points_to="40") == [whole, partly]
    assert listed(auditor, REDEMPTIONS, points_from="40.5", status="open") == [opened]
    assert [row.redemption for row in listed(auditor, REVERSALS, made_by="till.1", points_from=30)] == [whole]
    assert listed(auditor, REVERSALS, made_by="nobody") == []
    assert listed(auditor, "reversals_approval", made_by="meera") == [request]
    lots = {status: len(listed(auditor, "loyalty_lot", status=status)) for status in ("available", "spent", "expired")}
    assert lots == {"available": 2, "spent": 2, "expired": 0}


def test_chosen_columns_stay_for_the_user_and_the_org(world: World, auditor: Client) -> None:
    redeemed(world, external_reference_number="EXT-1")
    assert "EXT-1" not in page(auditor, REDEMPTIONS).content.decode()
    response = keep(auditor, "columns", query="period=7&q=Asha", column=["external_reference_number", "invented"])
    assert (response.status_code, response["Location"]) == (302, f"{address_of(REDEMPTIONS)}?period=7")
    shown = page(auditor, REDEMPTIONS)
    assert [name_of(each) for each in shown.context["cl"].list_display] == ["public_id", "external_reference_number"]
    assert "EXT-1" in shown.content.decode()
    other = staff_of(world, "Auditor", username="ravi")
    assert "EXT-1" not in page(other, REDEMPTIONS).content.decode()


def test_export_has_exactly_the_shown_rows_columns_and_order(world: World, auditor: Client) -> None:
    for number, amount in enumerate(("7.5", "12", "100000000000.125"), start=1):
        redeemed(world, amount, at=days_ago(number), public_id=f"=R{number}", external_reference_number=f"00{number}")
    query = {"columns": "points,external_reference_number,redeemed_at", "o": "redeemed_at", "points_from": "10"}
    header, *rows = csv_rows(export(auditor, REDEMPTIONS, query=query))
    assert header == ["redemption_id", "points", "redeemed_at", "external_reference"]
    amounts = ["100000000000.125", "12"]
    assert [(row[0], row[1], row[3]) for row in rows] == [("'=R3", amounts[0], "003"), ("'=R2", amounts[1], "002")]
    found = xlsx_rows(export(auditor, REDEMPTIONS, query=query, format="xlsx"))
    assert [[text for _, text in row] for row in found] == [header, *([row[0][1:], *row[1:]] for row in rows)]
    assert [[kind for kind, _ in row] for row in found[1:]] == [["inlineStr", "n", "inlineStr", "inlineStr"]] * 2


@pytest.mark.parametrize("file_format", Export.Format.values)
def test_large_export_has_exactly_the_shown_rows_columns_and_order(
    world: World, auditor: Client, monkeypatch: pytest.MonkeyPatch, file_format: str
) -> None:
    monkeypatch.setattr("reversals.admin.export.ROWS_AT_ONCE", 1)
    monkeypatch.setattr("reversals.admin.large_exports.CHUNKS_IN_A_PART", 2)
    monkeypatch.setattr("reversals.admin.exports.MOST_ROWS_AT_ONCE", 2)
    rows = [redeemed(world, 20, at=days_ago(number)) for number in range(5)]
    keep(auditor, "columns", column=["points", "redeemed_at"])
    address = reverse(f"admin:{REDEMPTIONS}_export", query={"o": "redeemed_at", "points_from": "10"})
    auditor.post(address, {"format": file_format.lower()})
    keep(auditor, "columns", column=["status"])
    work(steps=1)
    redeemed(world, 99, at=days_ago(0))
    redeemed(world, 99, at=days_ago(-1))  # after the request
    work()
    export = Export.objects.get(org=world.org)
    response: Any = auditor.post(reverse("admin:export_download", args=[export.id]))
    content = b"".join(response.streaming_content)
    assert len(content) == int(response["Content-Length"])
    assert response["Content-Disposition"].endswith(f'.{file_format.lower()}"')
    found = csv_rows(content) if file_format == "CSV" else [[text for _, text in row] for row in xlsx_rows(content)]
    assert found[0] == ["redemption_id", "points", "redeemed_at"]
    assert [row[0] for row in found[1:] if row[1] == "20"] == [row.public_id for row in reversed(rows)]


def test_every_column_of_an_export_can_be_shown(world: World) -> None:
    for model, model_admin in site._registry.items():
        columns = EXPORTS.get(model._meta.label_lower)
        if columns is not None:
            assert {name_of(column) for column in offered_columns(model_admin)} == set(columns), model
    assert len(EXPORTS) == 4


def test_all_columns_of_every_list_can_be_shown(world: World, auditor: Client, history: Any) -> None:
    for model, model_admin in site._registry.items():
        if getattr(model_admin, "more_columns", ()):
            names = ",".join(name_of(column) for column in offered_columns(model_admin))
            shown = page(auditor, model._meta.label_lower.replace(".", "_"), columns=names, period="all")
            assert shown.context["cl"].result_list, model


def test_saved_view_is_seen_by_its_user_and_if_shared_by_the_org(world: World, auditor: Client) -> None:
    ravi = staff_of(world, "Auditor", username="ravi")
    kept = "columns=public_id%2Cpoints&status=open"
    for name, more in {"Mine": {}, "Ours": {"is_shared": "on"}}.items():
        response = keep(auditor, "save", query=f"{kept}&q=%2B919812345678&p=2&org=1", name=name, **more)
        assert response["Location"] == f"{address_of(REDEMPTIONS)}?{kept}"
    assert set(SavedView.objects.values_list("query", flat=True)) == {kept}
    own, others = (page(client, REDEMPTIONS).content.decode() for client in (auditor, ravi))
    assert all(f'href="?org={world.org.id}&amp;{kept.replace("&", "&amp;")}"' in shown for shown in (own, others))
    assert ("Mine</a>" in own, "Ours</a>" in own) == (True, True)
    assert ("Mine</a>" in others, "Ours</a>" in others) == (False, True)
    assert "shared by meera" in others
    assert "Ours</a>" not in page(ravi, REVERSALS).content.decode()
    keep(ravi, "remove", name="Ours")
    assert SavedView.objects.count() == 2
    keep(auditor, "remove", name="Ours")
    assert list(SavedView.objects.values_list("name", flat=True)) == ["Mine"]


def test_saved_view_of_an_org_is_not_seen_in_another(world: World, auditor: Client) -> None:
    keep(auditor, "save", name="Ours", is_shared="on")
    other = make_world()
    stranger = staff_of(other, "Auditor", username="ravi")
    OrgAccess.objects.create(user=User.objects.get(username="meera"), org=other.org)
    for client in (stranger, auditor):
        assert "Ours</a>" not in page(client, REDEMPTIONS, org=other.org.id).content.decode()


def test_view_is_refused_without_a_name_or_the_permission_to_see_the_list(world: World, auditor: Client) -> None:
    keep(auditor, "save", name=" ")
    assert keep(auditor, "save", list="auth.user", name="x").status_code == 403
    assert keep(auditor, "save", list="none", name="x").status_code == 403
    assert not SavedView.objects.exists()


def test_row_of_a_redemption_links_to_its_reversal_for_those_who_may_reverse(world: World, auditor: Client) -> None:
    whole, opened = redeemed(world, 5), redeemed(world, 5)
    world.reverse(whole, 5)

    def links(client: Client) -> Iterator[str]:
        return re.finditer(r'href="(\S+/reverse/)"', page(client, REDEMPTIONS).content.decode())  # type: ignore[return-value]

    operator = staff_of(world, "Reversal operator", username="ravi")
    assert [each.group(1) for each in links(operator)] == [
        reverse("admin:loyalty_redemption_reverse", args=[opened.pk])
    ]  # type: ignore[attr-defined]
    assert list(links(auditor)) == []
