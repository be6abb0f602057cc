"""Every statement of a call names the org of each distributed table. On a cluster it is one task on one shard."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.apps import apps
from django.db import connection
from django.test.utils import CaptureQueriesContext

from loyalty.ledger.distribution import is_distributed
from loyalty.ledger.groups import set_group
from loyalty.management.distributing import kind_of
from loyalty.models import Lot, Redemption, Webhook
from reversals.models import Reversal
from reversals.webhooks import delivery
from reversals.webhooks.network import Answer
from tests.builders import (
    ADDRESS,
    World,
    approve_correction,
    ask_to_correct,
    days_ago,
    make_customer,
    make_lot,
    make_webhook,
    make_world,
    redeemed,
)

pytestmark = pytest.mark.usefixtures("committed", "on_postgresql")

DISTRIBUTED = {model._meta.db_table for model in apps.get_models() if kind_of(model) == "org_id"}
OF_TRANSACTIONS = {"BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "SET"}
SETTINGS = {
    "Allow_points_redemption_reversal": "true",
    "Reversal_reissue_days": "30",
    "Reversal_limit_count": "100",
    "Reversal_limit_points": "1000000",
    "Enable_cross_member_redemption": "yes",
}


def statements_of(call: Callable[[], Any]) -> list[str]:
    with CaptureQueriesContext(connection) as captured:
        call()
    # In a cluster, all writes are sent in one text.
    found = [sql for query in captured.captured_queries for sql in re.split("; (?=UPDATE|INSERT)", query["sql"])]
    return [sql for sql in found if sql.split()[0] not in OF_TRANSACTIONS]


def tables_of(sql: str) -> list[str]:
    return [table for table in re.findall(r'"?\b((?:loyalty|reversals)_[a-z]+)\b"?', sql) if table in DISTRIBUTED]


def tasks_of(sql: str) -> int:
    """The number of tasks into which the cluster divides the statement; 0 if the node answers it alone."""
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN (COSTS OFF) " + sql.replace("%", "%%"))
        plan = "\n".join(line for (line,) in cursor.fetchall())
    return sum(map(int, re.findall(r"Task Count: (\d+)", plan)))


def expired(world: World) -> Redemption:
    """A redemption whose lot has expired since, so that its points are re-issued."""
    redemption = redeemed(world, 3)
    Lot.objects.filter(org=world.org, id=redemption.draws.get().lot_id).update(expires_at=days_ago(1))
    return redemption


def of_another_member(world: World) -> Redemption:
    ravi = make_customer(world.org)
    set_group(org=world.org, public_id=1, add=[world.asha.public_id, ravi.public_id])
    make_lot(ravi, 10, program=world.program)
    redemption_id = world.redeem(world.asha, 5).json()["redemptionId"]
    return Redemption.objects.select_related("customer").get(org=world.org, public_id=redemption_id)


def reversed_once(world: World, **options: Any) -> Reversal:
    redemption = redeemed(world, 10)
    assert world.reverse(redemption, 2, **options).status_code == 200
    return redemption.reversals.get()


def with_webhook(world: World) -> Redemption:
    make_webhook(world.org)
    return redeemed(world)


def deliveries_of(world: World) -> Webhook:
    webhook = make_webhook(world.org)
    reversed_once(world)
    return webhook


def deliver(webhook: Webhook) -> None:
    for claimed in delivery.claim(webhook, at_most=8):
        assert delivery.record(claimed, Answer(200, "")) == "DELIVERED"


def ready_to_correct(world: World) -> Callable[[], Any]:
    reversal = reversed_once(world)
    approval = ask_to_correct(reversal)
    return lambda: approve_correction(approval, reversal)


def again(world: World) -> Callable[[], Any]:
    reversal = reversed_once(world, key="key-1")
    return lambda: world.reverse(reversal.redemption, 2, key="key-1")


# What a call of each kind needs, and the call.
CALLS: dict[str, tuple[Callable[[World], Any], Callable[[World, Any], Any]]] = {
    "partial reversal": (redeemed, lambda world, made: world.reverse(made, 2)),
    "next partial reversal": (reversed_once, lambda world, made: world.reverse(made.redemption, 3)),
    "full reversal with a key": (redeemed, lambda world, made: world.reverse(made, key="key-1")),
    "re-issue": (expired, lambda world, made: world.reverse(made)),
    "reversal of another member's points": (of_another_member, lambda world, made: world.reverse(made)),
    "reversal with an event": (with_webhook, lambda world, made: world.reverse(made, 1)),
    "replay": (again, lambda _, call: call()),
    "preview": (redeemed, lambda world, made: world.reverse(made, 1, address=f"{ADDRESS}?dryRun=true")),
    "refused reversal": (redeemed, lambda world, made: world.reverse(made, 11, key="key-2")),
    "redemption": (redeemed, lambda world, _: world.redeem(world.asha, 2)),
    "redemption with a key": (redeemed, lambda world, _: world.redeem(world.asha, 2, key="key-3")),
    "refused redemption": (redeemed, lambda world, _: world.redeem(world.asha, 1_000_000)),
    "correction": (ready_to_correct, lambda _, call: call()),
    "read of a redemption": (
        reversed_once,
        lambda world, made: world.read(f"/v2/points/redemptions/{made.redemption.public_id}"),
    ),
    "read of a reversal": (
        reversed_once,
        lambda world, made: world.read(f"/v2/points/reversals/{made.public_id}"),
    ),
    "list of reversals": (
        reversed_once,
        lambda world, made: world.read("/v2/points/reversals", redemptionId=made.redemption.public_id),
    ),
    "points of a customer": (
        reversed_once,
        lambda world, _: world.read(f"/v2/customers/{world.asha.public_id}/points"),
    ),
    "delivery of an event": (deliveries_of, lambda _, webhook: deliver(webhook)),
}


@pytest.mark.parametrize("kind", CALLS)
def test_each_statement_of_a_call_is_for_one_org_and_one_shard(kind: str) -> None:
    world = make_world(settings=SETTINGS)
    prepare, call = CALLS[kind]
    made = prepare(world)
    statements = statements_of(lambda: call(world, made))
    assert statements
    for sql in statements:
        assert tables_of(sql) == [] or "org_id" in sql, sql
        if is_distributed():
            assert tasks_of(sql) <= 1, sql
