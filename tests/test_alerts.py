"""The alerts that ship: they ask for metrics that exist, with labels that those have."""

import re
from typing import Any

import pytest
import yaml
from django.conf import settings as project
from django.test import Client
from django.utils import timezone

from reversals.models import LedgerCheck
from tests.builders import World, in_days, make_webhook, redeemed
from tests.test_monitoring import Samples, ask_for_approval, metrics

RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((project.BASE_DIR / "docs" / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
# A metric with the labels that are looked at: name{label="value"}.
ASKED = re.compile(r"(loyalty_\w+)(?:\{(\w+)=~?\"[^\"]*\"\})?")


@pytest.fixture
def told(world: World, client: Client) -> Samples:
    """Every metric that there is, once something of each kind has happened."""
    make_webhook(world.org)
    world.reverse(redeemed(world, 10))
    ask_for_approval(world, lapses_at=in_days(1))
    now = timezone.now()
    LedgerCheck.objects.create(started_at=now, finished_at=now, broken_count=0)
    return metrics(client)


def test_each_alert_asks_for_metrics_and_labels_that_exist(told: Samples) -> None:
    labels_of = {name: {label for label, _ in labels} for name, labels in told}
    for rule in RULES:
        asked = ASKED.findall(rule["expr"])
        assert asked, rule["alert"]
        for name, label in asked:
            assert name in labels_of, rule["alert"]
            assert not label or label in labels_of[name], rule["alert"]


def test_each_alert_has_a_name_of_its_own_and_says_what_to_do() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert set(rule["annotations"]) == {"summary", "runbook"}
        assert re.fullmatch(r"docs/runbook\.md#[a-z-]+", rule["annotations"]["runbook"])
