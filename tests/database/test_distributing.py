"""`distribute_ledger` without a cluster; tests/cluster.py runs it on one."""

import io

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connection

from loyalty.management.distributing import kind_of

pytestmark = pytest.mark.django_db


def test_database_without_citus_is_refused_with_what_to_do(not_on_cluster: None) -> None:
    expected = "SQLite" if connection.vendor == "sqlite" else "CREATE EXTENSION citus"
    with pytest.raises(CommandError, match=expected):
        call_command("distribute_ledger", "--plan", "--json", stdout=io.StringIO())


def test_tables_of_orgs_are_distributed_and_those_of_staff_are_local() -> None:
    kinds = {model._meta.label: kind_of(model) for model in apps.get_models()}
    assert {label for label, kind in kinds.items() if kind == ""} == {
        *("loyalty.Org", "loyalty.Program", "loyalty.ApiClient", "loyalty.ApiSecret", "loyalty.EmfSetting"),
        *("loyalty.Webhook", "loyalty.ReasonCode", "loyalty.Maintenance"),
    }
    local = {label for label, kind in kinds.items() if kind is None and label.startswith(("loyalty.", "reversals."))}
    assert local == {
        *("loyalty.OrgAccess", "loyalty.ChosenOrg", "loyalty.SavedView", "loyalty.StaffChange"),
        *("reversals.LedgerCheck", "reversals.Export", "reversals.ExportPart", "reversals.Seal", "reversals.Backup"),
        *("reversals.WorkerProcess", "reversals.CheckResult"),
    }
    assert kinds["loyalty.Tally"] == "key"
    assert all(kinds[label] == "org_id" for label in ("loyalty.Lot", "reversals.Attempt", "reversals.SealedRow"))
