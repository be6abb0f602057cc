"""The shipped alerts and the runbook use metrics, labels and commands that exist."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings as project
from django.core.management import call_command, get_commands
from django.test import Client
from django.utils import timezone

from reversals.models import Backup, LedgerCheck
from reversals.operations.doctor import examination
from reversals.operations.doctor.findings import fine
from reversals.operations.worker import queue
from tests.api.test_monitoring import Samples, ask_for_approval, metrics
from tests.builders import World, in_days, make_task, make_webhook, redeemed

RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((project.BASE_DIR / "docs" / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
RUNBOOK = (project.BASE_DIR / "docs" / "runbook.md").read_text()
SECTIONS = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.+)$", RUNBOOK, re.MULTILINE)}
# A metric with an optional label: name{label="value"}.
USED = re.compile(r"(loyalty_\w+)(?:\{(\w+)=~?\"[^\"]*\"\})?")


@pytest.fixture
def samples(world: World, client: Client, tmp_path: Path) -> Samples:
    """All metrics, after one event of each kind."""
    make_webhook(world.org)
    world.reverse(redeemed(world, 10))
    ask_for_approval(world, lapses_at=in_days(1))
    now = timezone.now()
    LedgerCheck.objects.create(started_at=now, finished_at=now, broken_count=0)
    Backup.objects.create(kind="full")
    make_task()
    queue.report("worker", "host")
    call_command("seal_ledger", "--anchor", str(tmp_path / "anchor"))
    examination.store([fine("disk", "half of it is free", value=0.5)])
    return metrics(client)


def test_each_alert_uses_metrics_and_labels_that_exist(samples: Samples) -> None:
    labels_of = {name: {label for label, _ in labels} for name, labels in samples}
    for rule in RULES:
        used = USED.findall(rule["expr"])
        assert used or rule["expr"] == 'up{job="loyalty"} == 0', rule["alert"]
        for name, label in used:
            assert name in labels_of, rule["alert"]
            assert not label or label in labels_of[name], rule["alert"]


def test_each_alert_has_a_unique_name_and_a_section_of_the_runbook() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert set(rule["annotations"]) == {"summary", "runbook"}
        document, _, section = rule["annotations"]["runbook"].partition("#")
        assert document == "docs/runbook.md"
        assert section in SECTIONS


def test_the_runbook_names_commands_and_metrics_that_exist(samples: Samples) -> None:
    commands = set(get_commands())
    assert set(re.findall(r"manage\.py (\w+)", RUNBOOK)) <= commands
    assert set(re.findall(r"loyalty_\w+", RUNBOOK)) <= {name for name, _ in samples} | {
        "loyalty_sessions_waiting_for_locks"
    }
    files = set(re.findall(r"`?(deploy/\w+(?:\.\w+)?)", RUNBOOK))
    assert all((project.BASE_DIR / name).exists() for name in files)
    named = set(re.findall(r"alerts? (\w+)(?: and (\w+))?", RUNBOOK))
    assert {name for names in named for name in names if name} == {rule["alert"] for rule in RULES}
