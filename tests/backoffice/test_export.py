"""CSV exports: permissions, content, and no formulas that a spreadsheet program would run."""

import csv
import io
import re
from html import unescape
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from loyalty.models import OrgAccess, Redemption, StaffChange
from reversals.admin.export import inert
from reversals.models import Attempt, Correction, Reversal
from tests.builders import World, correct, days_ago, make_customer, make_lot, make_world, redeem, redeemed, staff_of

pytestmark = pytest.mark.django_db

KINDS = ["loyalty_redemption", "reversals_reversal", "reversals_correction", "reversals_attempt"]


@pytest.fixture
def auditor(world: World) -> Client:
    return staff_of(world, "Auditor")


def export(client: Client, name: str, **filters: Any) -> HttpResponse:
    """Exports all columns as CSV."""
    return client.post(reverse(f"admin:{name}_export", query=filters), {"all_columns": "on"})


def rows_of(response: Any) -> list[dict[str, str]]:
    assert response.status_code == 200
    text = b"".join(response.streaming_content).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text)))


def test_reversals_are_exported_with_all_columns(world: World, auditor: Client) -> None:
    redemption = redeemed(world, "10.5")
    world.reverse(redemption, "2.25", key="k")
    reversal = Reversal.objects.get(org=world.org)
    with time_machine.travel(timezone.now(), tick=False):
        response = export(auditor, "reversals_reversal")
        name = f"{world.org.id}-reversals-{timezone.now():%Y-%m-%d}.csv"
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert response["Content-Disposition"] == f'attachment; filename="{name}"'
    assert rows_of(response) == [
        {
            "reversal_id": reversal.public_id,
            "status": "valid",
            "redemption_id": redemption.public_id,
            "customer_id": str(world.asha.public_id),
            "program_id": str(world.program.public_id),
            "points_asked": "2.25",
            "points": "2.25",
            "points_available": "2.25",
            "points_expired": "0",
            "channel": "API",
            "made_by": "till.1",
            "reason": "",
            "created_at": f"{reversal.created_at:%Y-%m-%dT%H:%M:%S}Z",
            "corrected_at": "",
            "corrected_by": "",
        }
    ]
    correct(reversal)
    (exported,) = rows_of(export(auditor, "reversals_reversal"))
    at = Correction.objects.get().created_at
    assert (exported["status"], exported["corrected_at"], exported["corrected_by"]) == (
        "corrected",
        f"{at:%Y-%m-%dT%H:%M:%S}Z",
        "meera",
    )


def test_redemptions_and_attempts_are_exported_with_public_ids_only(world: World, auditor: Client) -> None:
    redemption = redeemed(world, 10, external_reference_number="EXT-1")
    world.reverse(redemption, 99)
    (exported,) = rows_of(export(auditor, "loyalty_redemption"))
    assert (exported["redemption_id"], exported["status"], exported["points"], exported["external_reference"]) == (
        redemption.public_id,
        "open",
        "10",
        "EXT-1",
    )
    (attempt,) = rows_of(export(auditor, "reversals_attempt"))
    assert (attempt["code"], attempt["rule"], attempt["points_asked"]) == ("817", "MORE_THAN_LEFT", "99")
    assert (attempt["dry_run"], attempt["reversal_id"]) == ("no", "")


@pytest.mark.parametrize("name", KINDS)
def test_each_export_is_recorded(world: World, auditor: Client, name: str) -> None:
    rows_of(export(auditor, name, org=world.org.id))
    kept = StaffChange.objects.get(org=world.org)
    kind = name.rpartition("_")[2]
    assert (kept.subject, kept.action, kept.made_by) == ("loyalty.org", f"exported {kind}s", "meera")
    assert (kept.before, kept.after["filters"], kept.after["format"]) == ({}, f"org={world.org.id}", "CSV")
    assert "redemption_id" in kept.after["columns"]


def test_an_export_uses_the_filters_of_the_list(world: World, auditor: Client) -> None:
    for days, rule in ((0, "BUSY"), (0, ""), (60, "BUSY")):
        Attempt.objects.create(
            org=world.org, created_at=days_ago(days), channel="API", made_by="x", rule=rule, redemption_id_asked="R1"
        )
    assert len(rows_of(export(auditor, "reversals_attempt"))) == 2
    assert len(rows_of(export(auditor, "reversals_attempt", rule="BUSY"))) == 1
    assert len(rows_of(export(auditor, "reversals_attempt", rule="BUSY", period="all"))) == 2
    assert len(rows_of(export(auditor, "reversals_attempt", q="R1"))) == 3


@pytest.mark.parametrize("name", ["loyalty_redemption", "reversals_attempt"])
def test_chunks_hold_each_row_once(world: World, auditor: Client, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reversals.admin.export.ROWS_AT_ONCE", 3)
    same_time = timezone.now()
    for _ in range(7):
        redemption = redeemed(world)
        Attempt.objects.create(
            org=world.org, created_at=same_time, channel="API", made_by="x", redemption_id_asked=redemption.public_id
        )
    exported = [row["redemption_id"] for row in rows_of(export(auditor, name))]
    assert sorted(exported) == sorted(Redemption.objects.filter(org=world.org).values_list("public_id", flat=True))


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\rx",
        "\nx",
        "  =1",
        "\u00a0=1",
        "\uff1d1+1",
        "\u200b=1",
        "\uff0b1",
        "\uff20x",
        "\ufeff=1",
    ],
)
def test_text_that_a_spreadsheet_would_run_gets_an_apostrophe(text: str) -> None:
    assert inert(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", " ", "R00001", "1-1", "a=b", "till.1", "'=1", "ünïcode", "5"])
def test_other_text_is_exported_unchanged(text: str) -> None:
    assert inert(text) == text


def test_formulas_in_rows_are_exported_with_an_apostrophe(world: World, auditor: Client) -> None:
    redeemed(world, public_id='=HYPERLINK("http://x")', external_reference_number="\uff1d1")
    (exported,) = rows_of(export(auditor, "loyalty_redemption"))
    assert exported["redemption_id"] == '\'=HYPERLINK("http://x")'
    assert exported["external_reference"] == "'\uff1d1"


def test_no_identifier_is_exported(world: World, auditor: Client) -> None:
    customer = make_customer(world.org, identifiers={"MOBILE": "9876543210"})
    make_lot(customer, 5, program=world.program)
    redeem(customer, 5, program=world.program)
    for name in KINDS:
        assert b"9876543210" not in b"".join(export(auditor, name).streaming_content)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", KINDS)
def test_users_without_permission_cannot_export(world: World, name: str) -> None:
    support = staff_of(world, "Support")
    assert export(support, name).status_code == 403
    assert "Export CSV" not in support.get(reverse(f"admin:{name}_changelist")).content.decode()
    assert not StaffChange.objects.filter(org=world.org).exists()


@pytest.mark.parametrize("name", KINDS)
def test_an_export_requires_post_and_the_csrf_token(world: World, auditor: Client, name: str) -> None:
    assert "Export CSV" in auditor.get(reverse(f"admin:{name}_changelist")).content.decode()
    assert auditor.get(reverse(f"admin:{name}_export")).status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = auditor.cookies
    assert export(strict, name).status_code == 403
    assert not StaffChange.objects.filter(org=world.org).exists()


def test_another_org_is_never_exported(world: World, auditor: Client) -> None:
    stranger = make_world()
    redeemed(stranger)
    own = redeemed(world)
    exported = rows_of(export(auditor, "loyalty_redemption", org=stranger.org.id))
    assert [row["redemption_id"] for row in exported] == [own.public_id]


def test_a_user_without_orgs_exports_nothing(world: World, auditor: Client) -> None:
    world.org.accesses.all().delete()
    assert export(auditor, "loyalty_redemption").status_code == 404


def test_a_file_has_a_length_so_that_an_incomplete_download_is_noticed(world: World, auditor: Client) -> None:
    redeemed(world)
    response = export(auditor, "loyalty_redemption")
    assert int(response["Content-Length"]) == len(b"".join(response.streaming_content))  # type: ignore[attr-defined]


def test_an_outage_during_an_export_returns_no_file(
    world: World, auditor: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reversals.admin.export.ROWS_AT_ONCE", 1)
    redeemed(world), redeemed(world)
    asked = 0

    def fail_second(execute: Any, sql: str, *rest: Any) -> Any:
        nonlocal asked
        asked += sql.startswith("SELECT") and 'FROM "loyalty_redemption"' in sql
        if asked == 3:  # after the count and the first chunk
            raise OperationalError("connection lost")
        return execute(sql, *rest)

    with connection.execute_wrapper(fail_second):
        response = export(auditor, "loyalty_redemption")
    assert (asked, response.status_code) == (3, 503)
    assert not StaffChange.objects.filter(org=world.org).exists()


def test_a_page_exports_the_org_that_it_shows(world: World, auditor: Client) -> None:
    other = make_world()
    OrgAccess.objects.create(user=User.objects.get(username="meera"), org=other.org)
    redeemed(other)
    own = redeemed(world)
    shown = auditor.get(reverse("admin:loyalty_redemption_changelist", query={"org": world.org.id}))
    [address] = re.findall(r'action="([^"]+/export/[^"]*)"', shown.content.decode())
    auditor.get(reverse("admin:loyalty_redemption_changelist", query={"org": other.org.id}))
    exported = rows_of(auditor.post(unescape(address)))
    assert [row["redemption_id"] for row in exported] == [own.public_id]


@pytest.mark.parametrize("filters", [{"points": "9" * 30}, {"redeemed_at__lt": "never"}])
def test_an_impossible_filter_value_redirects_to_the_list(
    world: World, auditor: Client, filters: dict[str, str]
) -> None:
    response = export(auditor, "loyalty_redemption", **filters)
    assert (response.status_code, response["Location"]) == (302, reverse("admin:loyalty_redemption_changelist"))


def test_an_unknown_filter_redirects_to_the_list(world: World, auditor: Client) -> None:
    response = export(auditor, "loyalty_redemption", points="many")
    assert (response.status_code, response["Location"]) == (302, reverse("admin:loyalty_redemption_changelist"))
    assert not StaffChange.objects.filter(org=world.org).exists()
