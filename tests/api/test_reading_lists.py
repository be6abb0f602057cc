"""`GET /v2/points/reversals`: its filters, its pages, and reversals of redemptions by other group members."""

from datetime import datetime, timedelta
from itertools import chain
from typing import Any
from urllib.parse import quote

import pytest
import time_machine
from django.db import connection
from django.http import HttpResponse
from django.test.utils import CaptureQueriesContext

from loyalty.models import Customer, CustomerGroup, GroupMember, Redemption
from reversals.models import Reversal
from tests.builders import (
    World,
    days_ago,
    in_days,
    make_customer,
    make_lot,
    make_world,
    redeem,
    redeemed,
    request_for,
    set_value,
    utc,
)

pytestmark = pytest.mark.django_db

ADDRESS = "/v2/points/reversals"
NOON = utc("2026-04-10T12:00:00")
MICROSECOND = timedelta(microseconds=1)


def reverse_at(time: datetime, world: World, redemption: Redemption, amount: object = 1) -> str:
    """Makes a reversal at `time` and returns its id."""
    with time_machine.travel(time, tick=False):
        key = f"key-{Reversal.objects.filter(org=world.org).count()}"
        return str(world.reverse(redemption, amount, key=key).json()["reversalId"])


def listed(world: World, **parameters: Any) -> list[str]:
    """Returns the ids of the only page."""
    body = world.read(ADDRESS, **parameters).json()
    assert body["nextCursor"] is None
    return [item["reversalId"] for item in body["reversals"]]


def period(*, since: datetime | None = None, until: datetime | None = None) -> dict[str, str]:
    return {name: time.isoformat() for name, time in (("from", since), ("to", until)) if time is not None}


def pages(world: World, **parameters: Any) -> list[list[str]]:
    """Returns the ids of each page, in order."""
    found, cursor = [], {}
    while True:
        body = world.read(ADDRESS, **parameters, **cursor).json()
        found.append([item["reversalId"] for item in body["reversals"]])
        if body["nextCursor"] is None:
            return found
        cursor = {"cursor": body["nextCursor"]}


def test_reversals_are_listed_newest_first(world: World) -> None:
    for amount, expires_at in ((2, NOON), (8, None)):
        make_lot(world.asha, amount, program=world.program, awarded_at=utc("2026-01-01"), expires_at=expires_at)
    bought = redeem(world.asha, 10, program=world.program, at=utc("2026-04-01"))
    other = redeemed(world, 20)
    first = reverse_at(NOON, world, other, "2.5")
    last = reverse_at(NOON + timedelta(seconds=1), world, bought, 9)
    assert world.read(ADDRESS).json() == {
        "orgId": world.org.id,
        "reversals": [
            {
                "reversalId": last,
                "redemptionId": bought.public_id,
                "customerId": world.asha.public_id,
                "pointsReversed": 9.0,
                "pointsReversedDetails": {"available": 8.0, "expired": 1.0},
                "reversedAt": "2026-04-10T12:00:01Z",
                "channel": "API",
                "madeBy": "till.1",
                "correction": None,
            },
            {
                "reversalId": first,
                "redemptionId": other.public_id,
                "customerId": world.asha.public_id,
                "pointsReversed": 2.5,
                "pointsReversedDetails": {"available": 2.5, "expired": 0.0},
                "reversedAt": "2026-04-10T12:00:00Z",
                "channel": "API",
                "madeBy": "till.1",
                "correction": None,
            },
        ],
        "nextCursor": None,
        "warnings": [],
        "errors": [],
    }


def test_an_org_without_reversals_has_an_empty_list(world: World) -> None:
    world.reverse(redeemed(world), 1)
    stranger = make_world()
    assert stranger.read(ADDRESS).json() == {
        "orgId": stranger.org.id,
        "reversals": [],
        "nextCursor": None,
        "warnings": [],
        "errors": [],
    }


# Filters


def test_filters_are_combined(world: World) -> None:
    order, other = redeemed(world, 10, external_reference_number="ORD-1"), redeemed(world, 10)
    early, late = reverse_at(NOON, world, order), reverse_at(NOON + timedelta(hours=1), world, order)
    apart = reverse_at(NOON, world, other)
    by_id, by_reference = {"redemptionId": order.public_id}, {"externalReferenceNumber": "ORD-1"}
    asha = {"customerId": world.asha.public_id}
    assert listed(world, **by_id) == listed(world, **by_reference) == listed(world, **by_id, **by_reference)
    assert listed(world, **by_id) == [late, early]
    assert listed(world, **asha) == [late, apart, early]
    assert listed(world, **asha, **by_id, **by_reference, **period(since=NOON + MICROSECOND)) == [late]
    assert listed(world, redemptionId=other.public_id, **by_reference) == []
    assert listed(world, **by_id, customerId=make_customer(world.org).public_id) == []


@pytest.mark.parametrize("name", ["redemptionId", "externalReferenceNumber", "customerId"])
@pytest.mark.parametrize("value", ["unknown", "\0", "x" * 5000, "a/b", "9" * 30, "٣", "' OR 1=1 --", "-1"])
def test_filter_with_an_unknown_id_lists_nothing(world: World, name: str, value: str) -> None:
    world.reverse(redeemed(world), 1)
    assert listed(world, **{name: value}) == []


def test_filter_with_an_id_of_another_org_lists_nothing(world: World) -> None:
    redemption = redeemed(world, external_reference_number="ORD-1")
    reversal_id = reverse_at(NOON, world, redemption)
    stranger = make_world()
    reverse_at(NOON, stranger, redeemed(stranger))
    assert listed(stranger, redemptionId=redemption.public_id) == []
    assert listed(stranger, externalReferenceNumber="ORD-1") == []
    assert listed(stranger, customerId=world.asha.public_id) == []
    unknown, foreign = (stranger.read(ADDRESS, cursor=cursor) for cursor in ("aaaaaa", reversal_id))
    assert (foreign.status_code, foreign.content) == (unknown.status_code, unknown.content)


def test_period_includes_its_start_and_excludes_its_end(world: World) -> None:
    redemption = redeemed(world)
    before, first, last, after = (
        reverse_at(time, world, redemption)
        for time in (NOON - MICROSECOND, NOON, NOON + timedelta(hours=1) - MICROSECOND, NOON + timedelta(hours=1))
    )
    whole = period(since=NOON, until=NOON + timedelta(hours=1))
    assert listed(world, **whole) == [last, first]
    assert listed(world, to=whole["to"]) == [last, first, before]
    assert listed(world, **{"from": whole["from"]}) == [after, last, first]
    assert listed(world, **whole, customerId=world.asha.public_id) == [last, first]
    assert listed(world, **period(since=NOON, until=NOON)) == []
    assert listed(world, **period(since=NOON, until=NOON + MICROSECOND)) == [first]


@pytest.mark.parametrize(
    "time",
    [
        "2026-04-10T12:00:00Z",
        "2026-04-10T12:00Z",
        "2026-04-10T12:00:00.000000+00:00",
        "2026-04-10T17:30:00+05:30",
        "2026-04-10T17:30:00.0+0530",
        "2026-04-09T23:00:00-13:00",
    ],
)
def test_times_may_have_any_utc_offset(world: World, time: str) -> None:
    redemption = redeemed(world)
    reverse_at(NOON - MICROSECOND, world, redemption)
    assert listed(world, **{"from": time}) == []
    assert listed(world, to=time) != []


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-05:00"])
def test_period_may_have_the_first_and_last_possible_time(world: World, time: str) -> None:
    reversal_id = reverse_at(NOON, world, redeemed(world))
    assert listed(world, **{"from" if time < "2026" else "to": time}) == [reversal_id]


BAD_TIMES = [
    *("2026-04-10", "2026-04-10T12:00:00", "2026-04-10T12:00:00 05:30", "2026-04-10 12:00:00Z", "20260410T120000Z"),
    *("2026-02-30T00:00:00Z", "2026-04-10T25:00:00Z", "2026-04-10T12:00:00+24:00", "2026-04-10T12:00:00z"),
    *("1775822400", "yesterday", "٢٠٢٦-04-10T12:00:00Z", "2026-04-10T12:00:00.1234567Z", "2026-04-10T12:00:00Z\0"),
    *("0000-01-01T00:00:00Z", "0001-01-01T00:00:00+00:01", "Z", "2026-W15-5T12:00:00Z"),
]
BAD = [
    *(("limit", value) for value in ("0", "-1", "201", "1.0", "1e1", "ten", " 1", "+1", "01", "٣", "9" * 5000, "\0")),
    *(("from", value) for value in BAD_TIMES),
    *(("to", value) for value in BAD_TIMES[:3]),
    *(("cursor", value) for value in ("unknown", "\0", "x" * 5000, "0", "null")),
]
NAMES = ["redemptionId", "customerId", "externalReferenceNumber", "from", "to", "limit", "cursor"]


def assert_invalid(response: HttpResponse, name: str) -> None:
    (error,) = response.json()["errors"]
    assert (response.status_code, error["code"]) == (400, 887)
    assert error["message"] == "Request failed due to validation error"
    assert error["reason"].startswith(f"{name}: expected ")
    assert "orgId" not in response.json()


@pytest.mark.parametrize(("name", "value"), BAD, ids=lambda text: ascii(text)[:40])
def test_invalid_parameter_is_887_and_named(world: World, name: str, value: str) -> None:
    assert_invalid(world.read(ADDRESS, **{name: value}), name)


@pytest.mark.parametrize("name", NAMES)
def test_empty_or_repeated_parameter_is_887_and_named(world: World, name: str) -> None:
    assert_invalid(world.till().get(f"{ADDRESS}?{name}="), name)
    assert_invalid(world.till().get(f"{ADDRESS}?{name}"), name)
    assert_invalid(world.read(ADDRESS, **{name: " \u200b\u3000"}), name)
    value = quote("2026-04-10T12:00:00Z") if name in {"from", "to"} else "1"
    assert_invalid(world.till().get(f"{ADDRESS}?{name}={value}&{name}={value}"), name)


def test_invalid_cursor_is_887_even_if_a_filter_matches_nothing(world: World) -> None:
    assert_invalid(world.read(ADDRESS, cursor="unknown", redemptionId="unknown"), "cursor")


def test_unknown_parameters_are_ignored(world: World) -> None:
    reversal_id = reverse_at(NOON, world, redeemed(world))
    assert listed(world, page="2", Limit="0", orgId="7", redemptionid="") == [reversal_id]


def test_too_many_parameters_are_887(world: World) -> None:
    query = "x=1&" * 1001
    for response in (
        world.till().get(f"{ADDRESS}?{query}"),
        world.ask(request_for(redeemed(world)), address=f"/v2/points/reverse?{query}"),
    ):
        assert (response.status_code, response.json()["errors"][0]["code"]) == (400, 887)


# Pages


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 200])
def test_pages_have_each_reversal_once_even_with_equal_times(world: World, limit: int) -> None:
    redemption = redeemed(world)
    hours = (2, 1, 1, 3, 1, 1, 2)
    made = [
        (hour, number, reverse_at(NOON + timedelta(hours=hour), world, redemption)) for number, hour in enumerate(hours)
    ]
    newest_first = [reversal_id for *_, reversal_id in sorted(made, reverse=True)]
    for filters in ({}, {"customerId": world.asha.public_id}, {"redemptionId": redemption.public_id}):
        found = pages(world, limit=limit, **filters)
        assert [*chain(*found)] == newest_first
        assert all(len(page) == limit for page in found[:-1])
        assert 1 <= len(found[-1]) <= limit


def test_page_has_fifty_reversals_by_default(world: World) -> None:
    redemption = redeemed(world, 60)
    for _ in range(51):
        reverse_at(NOON, world, redemption)
    assert [len(page) for page in pages(world)] == [50, 1]


def test_new_reversals_between_two_pages_do_not_change_the_next_page(world: World) -> None:
    redemption = redeemed(world)
    first, second, third = (reverse_at(NOON, world, redemption) for _ in range(3))
    body = world.read(ADDRESS, limit=1).json()
    newer = [reverse_at(NOON, world, redemption), reverse_at(NOON + timedelta(hours=1), world, redemption)]
    assert ([body["reversals"][0]["reversalId"]], body["nextCursor"]) == ([third], third)
    assert listed(world, cursor=third) == [second, first]
    assert listed(world) == [newer[1], newer[0], third, second, first]


def test_cursor_need_not_match_the_filters(world: World) -> None:
    redemption, other = redeemed(world), redeemed(world)
    older, cursor = reverse_at(NOON, world, redemption), reverse_at(NOON + MICROSECOND, world, other)
    reverse_at(NOON + 2 * MICROSECOND, world, redemption)
    assert listed(world, cursor=cursor, redemptionId=redemption.public_id) == [older]


def test_pages_use_indexes(on_sqlite: None, world: World) -> None:
    """SQLite only, because PostgreSQL scans small tables instead of using an index."""
    redemption = redeemed(world)
    reversal_id = reverse_at(NOON, world, redemption)
    for filters, indexes in (
        ({}, ["reversals_by_time"]),
        (period(since=days_ago(900), until=in_days(1)), ["reversals_by_time"]),
        ({"redemptionId": redemption.public_id}, ["reversals_of_redemption"]),
        (
            {"customerId": world.asha.public_id},
            ["reversals_of_customer", "lots_of_customer", "draws_of_lot", "lines_of_draw"],
        ),
    ):
        plans = plans_of_pages(world, cursor=reversal_id, **filters)
        assert "SCAN" not in plans
        assert [index for index in indexes if index not in plans] == []


def plans_of_pages(world: World, **parameters: Any) -> str:
    """Returns the query plans of a page."""
    with CaptureQueriesContext(connection) as captured:
        world.read(ADDRESS, **parameters)
    pages = [query["sql"] for query in captured.captured_queries if query["sql"].endswith("LIMIT 51")]
    with connection.cursor() as cursor:
        return "\n".join(row[3] for sql in pages for row in cursor.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall())


# Groups


@pytest.fixture
def ravi(world: World) -> Customer:
    """Returns a member of Asha's group. Each of them can redeem the points of both."""
    ravi = make_customer(world.org)
    group = CustomerGroup.objects.create(org=world.org, public_id=1)
    for member in (world.asha, ravi):
        GroupMember.objects.create(org=world.org, group=group, customer=member, joined_at=days_ago(9))
    set_value(world.org, "Enable_cross_member_redemption", "yes")
    return ravi


def redeemed_of_both(world: World, ravi: Customer) -> Redemption:
    """Makes a redemption by Asha of 10 points: 4 of her own, then 3 and 3 of Ravi's."""
    for owner, amount, days in ((world.asha, 4, 1), (ravi, 3, 2), (ravi, 3, 3)):
        make_lot(owner, amount, program=world.program, expires_at=in_days(days))
    made = world.redeem(world.asha, 10).json()
    return Redemption.objects.get(org=world.org, public_id=made["redemptionId"])


def listed_for(world: World, customer: Customer, **parameters: Any) -> list[tuple[str, str, float, float, float]]:
    """Returns id, role, points, available and expired points of each reversal listed for the customer."""
    body = world.read(ADDRESS, customerId=customer.public_id, **parameters).json()
    return [
        (item["reversalId"], item["role"], item["pointsReversed"], *item["pointsReversedDetails"].values())
        for item in body["reversals"]
    ]


def test_source_customer_sees_only_the_points_reversed_to_their_lots(world: World, ravi: Customer) -> None:
    redemption = redeemed_of_both(world, ravi)
    stranger = make_customer(world.org)
    with time_machine.travel(in_days(2.5)):
        expired_too = world.reverse(redemption, 8).json()["reversalId"]
    own_only = world.reverse(redemption, 2).json()["reversalId"]
    assert listed_for(world, world.asha) == [
        (expired_too, "TRANSACTING", 8.0, 3.0, 5.0),
        (own_only, "TRANSACTING", 2.0, 2.0, 0.0),
    ]
    assert listed_for(world, ravi) == [(expired_too, "SOURCE", 6.0, 3.0, 3.0)]
    assert listed_for(world, ravi, redemptionId=redemption.public_id) == listed_for(world, ravi)
    assert listed_for(world, stranger) == []
    (item,) = world.read(ADDRESS, customerId=ravi.public_id).json()["reversals"]
    assert (item["redemptionId"], item["customerId"]) == (redemption.public_id, world.asha.public_id)
    assert all("role" not in item for item in world.read(ADDRESS).json()["reversals"])


def test_list_of_a_customer_has_both_roles_on_all_pages(world: World, ravi: Customer) -> None:
    of_both = redeemed_of_both(world, ravi)
    make_lot(ravi, 5, program=world.program)
    made = world.redeem(ravi, 5).json()
    his = Redemption.objects.get(org=world.org, public_id=made["redemptionId"])
    order = [of_both, his, his, of_both, of_both, his]
    ids = [reverse_at(NOON + timedelta(minutes=number // 2), world, each) for number, each in enumerate(order)]
    assert [each[:2] for each in listed_for(world, ravi)] == [
        (reversal_id, "TRANSACTING" if redemption == his else "SOURCE")
        for reversal_id, redemption in reversed(list(zip(ids, order, strict=True)))
    ]
    for limit in range(1, 7):
        assert [*chain(*pages(world, limit=limit, customerId=ravi.public_id))] == ids[::-1]
    assert [each[0] for each in listed_for(world, ravi, **period(since=NOON + timedelta(minutes=1)))] == ids[:1:-1]


def test_redemption_and_reversal_have_the_owner_of_each_lot(world: World, ravi: Customer) -> None:
    redemption = redeemed_of_both(world, ravi)
    reversal_id = world.reverse(redemption, 7).json()["reversalId"]
    draws = world.read(f"/v2/points/redemptions/{redemption.public_id}").json()["draws"]
    lines = world.read(f"{ADDRESS}/{reversal_id}").json()["lines"]
    asha, his = world.asha.public_id, ravi.public_id
    assert [(draw["memberId"], draw["points"], draw["pointsReversed"]) for draw in draws] == [
        (asha, 4.0, 1.0),
        (his, 3.0, 3.0),
        (his, 3.0, 3.0),
    ]
    assert [(line["position"], line["memberId"], line["points"]) for line in lines] == [
        (3, his, 3.0),
        (2, his, 3.0),
        (1, asha, 1.0),
    ]
