"""Tests laws of the ledger as properties: for any amounts, and against an independent model for any history."""

import csv
import inspect
import json
import logging
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import pytest
import time_machine
from django.db import connection
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from loyalty.emf.stored import set_emf
from loyalty.errors import InvalidOperation
from loyalty.importing.files import REDEMPTIONS
from loyalty.ledger import clock
from loyalty.ledger.groups import set_group
from loyalty.models import Customer, Draw, Lot
from reversals.assurance.verification import broken_laws
from reversals.manual import approvals, manual_reversals
from reversals.manual.manual_reversals import ManualCorrection, ManualReversal
from reversals.models import Approval, Reversal
from reversals.refusals import Refused
from tests.builders import World, make_customer, make_lot, make_program, make_world, redeem
from tests.database.test_import import import_ledger
from tests.ledger_model import NOT_ALONE, Late, Refusal, Request
from tests.ledger_model import Ledger as Model
from tests.ledger_model import Lot as ModelLot
from tests.ledger_model import Redemption as ModelRedemption
from tests.ledger_model import Reversal as ModelReversal

pytestmark = pytest.mark.django_db

START = datetime(2026, 1, 1, tzinfo=UTC)

thousandths = st.integers(min_value=1, max_value=20_000)


def amount(count: int) -> Decimal:
    return Decimal(count).scaleb(-3)


def world_with_lots(sizes: list[int]) -> World:
    """A world with lots that expire in the order of `sizes`, one day apart, and only after all other steps."""
    world = make_world()
    for day, size in enumerate(sizes):
        make_lot(
            world.asha, amount(size), program=world.program, awarded_at=START, expires_at=START + timedelta(9000 + day)
        )
    return world


def remaining(world: World) -> list[Decimal]:
    return list(Lot.objects.filter(org=world.org).order_by("expires_at").values_list("points_remaining", flat=True))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(thousandths, min_size=1, max_size=5), data=st.data())
def test_redeeming_r_and_reversing_p_leaves_what_redeeming_r_minus_p_leaves(
    sizes: list[int], data: st.DataObject
) -> None:
    redeemed = data.draw(st.integers(min_value=1, max_value=sum(sizes)), label="redeemed")
    returned = data.draw(st.integers(min_value=1, max_value=redeemed), label="returned")
    world, other = world_with_lots(sizes), world_with_lots(sizes)
    redemption = redeem(world.asha, amount(redeemed), program=world.program)
    first = data.draw(st.integers(min_value=0, max_value=returned), label="in a first part")
    for number, part in enumerate((first, returned - first)):
        if not part:
            continue
        response = world.reverse(redemption, str(amount(part)), key=f"key-{number}")
        assert response.status_code == 200
    if redeemed > returned:
        redeem(other.asha, amount(redeemed - returned), program=other.program)
    assert remaining(world) == remaining(other)
    assert broken_laws(world.org.id) == []


# The state machine: takes the same steps in the ledger and in the model, and compares their answers


MEMBERS = 4
USERS = ("meera", "arun", "dev")
STATUSES = ("ACTIVE",) * 6 + ("FRAUD", "DEACTIVATED", "MERGED")
CONFIGURATIONS: tuple[tuple[str, str, int | bool | None], ...] = (
    ("Reversal_reissue_days", "reissue_days", 5),
    ("Reversal_reissue_days", "reissue_days", 20),
    ("Reversal_reissue_days", "reissue_days", None),
    ("Enable_cross_member_redemption", "shares", True),
    ("Enable_cross_member_redemption", "shares", False),
    ("Reversal_limit_count", "limit_count", 2),
    ("Reversal_limit_count", "limit_count", 4),
    ("Reversal_limit_count", "limit_count", None),
    ("Reversal_limit_count", "limit_count", None),
    ("Reversal_limit_points", "limit_points", 25_000),
    ("Reversal_limit_points", "limit_points", 8_000),
    ("Reversal_limit_points", "limit_points", None),
    ("Reversal_limit_points", "limit_points", None),
    ("Reversal_limit_days", "limit_days", 3),
    ("Reversal_limit_days", "limit_days", 30),
    ("Reversal_approval_points", "approval_points", 4_000),
    ("Reversal_approval_points", "approval_points", None),
)
SHARES = 3
# The range of each parameter of a step, both ends included. `skew`: hours by which the server's clock is fast.
RANGES = {
    "member": (0, MEMBERS - 1),
    "program": (0, 1),
    "points": (1, 12_000),
    "part": (0, 6_000),
    "awarded": (1, 30_000),
    "lives": (0, 25),
    "ago": (0, 60),
    "which": (0, 9),
    "skew": (-1, 1),
    "kind": (0, 4),
    "user": (0, len(USERS) - 1),
    "status": (0, len(STATUSES) - 1),
    "choice": (0, len(CONFIGURATIONS) - 1),
    "days": (1, 10),
    "rows": (1, 3),
}
Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Step:
    """A step: its weight in random walks, its parameters, and the list of the model that must not be empty."""

    weight: int
    names: list[str]
    needs: str


STEPS: dict[str, Step] = {}


def step(weight: int, *, needs: str = "") -> Callable[[Callable[..., None]], Any]:
    """Registers a rule of the machine. Parameters have the ranges of their names; `needs`: as in `Step`."""

    def decorate(function: Callable[..., None]) -> Any:
        names = list(inspect.signature(function).parameters)[1:]
        STEPS[function.__name__] = Step(weight, names, needs)
        made = rule(**{name: st.integers(*RANGES[name]) for name in names})(function)
        return precondition(lambda machine: bool(getattr(machine.model, needs)))(made) if needs else made

    return decorate


@contextmanager
def clocks(now: datetime, *, skew: int = 0) -> Iterator[None]:
    """Sets the server's clock `skew` hours fast. The database's clock decides; on SQLite the two are the same."""
    with pytest.MonkeyPatch.context() as patch, time_machine.travel(now + timedelta(hours=skew), tick=False):
        patch.setattr(clock, "_clock_of_postgresql", lambda: ("CAST(%s AS timestamptz)", [now]))
        yield


def in_json(time: datetime | None) -> str | None:
    return None if time is None else f"{time:%Y-%m-%dT%H:%M:%SZ}"


def number(count: int) -> float:
    return float(amount(count))


def shares_in(answer: dict[str, Any]) -> dict[int, tuple[int, int]]:
    """The points of each member in the reply, including expired ones, and how many of them have expired."""
    shares: dict[int, tuple[int, int]] = {}
    for row in answer.get("crossMemberReversalBreakup", ()):
        points, expired = shares.get(row["memberId"], (0, 0))
        restored, lost = round(row["pointsRestored"] * 1000), round(row["pointsExpiredByReversal"] * 1000)
        shares[row["memberId"]] = points + restored, expired + lost
    return shares


class Ledger(RuleBasedStateMachine):
    """A group of members, two programs, a till and three users. The model predicts each answer."""

    @initialize(first=st.integers(*RANGES["choice"]), second=st.integers(*RANGES["choice"]))
    def begin(self, first: int, second: int) -> None:
        self.world = make_world()
        self.programs = [self.world.program, make_program(self.world.org)]
        self.customers = [self.world.asha, *(make_customer(self.world.org) for _ in range(MEMBERS - 1))]
        self.public_ids = [customer.public_id for customer in self.customers]
        self.till = self.world.till()  # shared by all calls, because a new client reads every static file
        self.model = Model(MEMBERS)
        self.now, self.count = START, 0
        self.approvals: dict[int, Approval] = {}
        for member in range(MEMBERS - 1):
            self.regroup(member)
        for choice in (0, SHARES, first, second):
            self.configure(choice)

    # Time

    @contextmanager
    def a_moment(self, skew: int = 0) -> Iterator[datetime]:
        """The time of one call. No two calls are made at the same moment."""
        self.count += 1
        with clocks(self.now, skew=skew if connection.vendor == "postgresql" else 0):
            yield self.now
        self.now += timedelta(minutes=1)

    @step(3)
    def wait(self, days: int) -> None:
        self.now += timedelta(days=days)

    @step(3)
    def wait_for_an_expiry(self, which: int, kind: int) -> None:
        self.wait_until_about((lot.expires_at for lot in self.model.lots), which, kind)

    def wait_until_about(self, expiries: Iterable[datetime | None], which: int, kind: int) -> None:
        """Waits until one of the next expiries, or until just before or after it."""
        ahead = sorted({each for each in expiries if each is not None and each > self.now})
        if ahead:
            self.now = ahead[which % min(len(ahead), 3)] + timedelta(microseconds=(kind - 2) * 500_000)

    def send(self, address: str, body: dict[str, Any], *, has_key: bool = True) -> Any:
        headers = {"Idempotency-Key": f"key-{self.count}"} if has_key else {}
        return self.till.post(address, json.dumps(body), content_type="application/json", headers=headers)

    # Configuration by staff

    @step(1)
    def configure(self, choice: int) -> None:
        name, attribute, value = CONFIGURATIONS[choice]
        if value is None and getattr(self.model.settings, attribute) is None:
            return
        setattr(self.model.settings, attribute, value)
        if value is None:
            text = ""
        elif isinstance(value, bool):
            text = "yes" if value else "no"
        else:
            text = str(amount(value)) if name.endswith("_points") else str(value)
        why = {"ticket": "T-1", "reason": "a step", "changed_by": "meera", "is_confirmed": True}
        set_emf(org=self.world.org, key=name, value=text, **why)

    @step(1)
    def mark(self, member: int, status: int) -> None:
        self.model.statuses[member] = STATUSES[status]
        Customer.objects.filter(id=self.customers[member].id).update(status=STATUSES[status])

    @step(1)
    def regroup(self, member: int) -> None:
        """Adds the member to the group, or removes them from it."""
        change = "remove" if member in self.model.group else "add"
        self.model.group ^= {member}
        set_group(org=self.world.org, public_id=77, **{change: [self.public_ids[member]]})

    # Awards and redemptions

    @step(12)
    def award(self, member: int, program: int, awarded: int, lives: int, ago: int) -> None:
        with self.a_moment() as now:
            awarded_at = now - timedelta(hours=ago, milliseconds=ago)  # no two lots tie
            expires_at = now + timedelta(days=lives, hours=12) if lives else None
            lot = make_lot(
                self.customers[member],
                amount(awarded),
                program=self.programs[program],
                awarded_at=awarded_at,
                expires_at=expires_at,
            )
        self.model.lots.append(ModelLot(member, program, lot.lot_ref, awarded, awarded_at, expires_at))

    @step(18)
    def redeem(self, member: int, program: int, points: int, kind: int, skew: int) -> None:
        """Redeems some points, with a reference number or without, or all available points."""
        reference = f"ORD-{self.count}" if kind == 0 else None
        available = self.model.available(member, self.now)
        points = available if kind == 1 and available else points
        self.send_redemption(ModelRedemption(member, program, points, [], reference), skew=skew)

    @step(4, needs="redemptions")
    def redeem_again(self, which: int, kind: int, skew: int) -> None:
        """Repeats the reference number of an earlier redemption, sometimes with other points."""
        named = [redemption for redemption in self.model.redemptions if redemption.reference]
        if not named:
            return
        earlier = recent(named, which)
        points = earlier.points if kind else earlier.points + 1
        self.send_redemption(
            ModelRedemption(earlier.customer, earlier.program, points, [], earlier.reference), skew=skew
        )

    def send_redemption(self, asked: ModelRedemption, *, skew: int) -> None:
        with self.a_moment(skew) as now:
            expected = self.model.redeem(asked, now)
            fields = {"externalReferenceNumber": asked.reference} if asked.reference else {}
            response = self.send(
                f"/v2/customers/{self.public_ids[asked.customer]}/redemptions",
                {"points": str(amount(asked.points)), "programId": self.programs[asked.program].public_id} | fields,
                has_key=asked.reference is None,
            )
            balance = self.model.points_of(asked.customer, now).available
        body = response.json()
        if isinstance(expected, Refusal):
            assert body["errors"][0]["code"] == expected.code
            assert (response.status_code == 422) == (expected.code == 887)
            return
        assert response.status_code == 200, body
        assert response.headers.get("Idempotent-Replayed") == (None if expected is asked else "true")
        if expected is asked:
            asked.id = body["redemptionId"]
        drawn = [(draw.lot.ref, number(draw.points)) for draw in expected.draws if draw.lot is not None]
        assert [(draw["lotRef"], draw["points"]) for draw in body["draws"] if draw["lotRef"]] == drawn
        assert (body["redemptionId"], body["balance"]) == (expected.id, number(balance))

    @step(2)
    def import_late(self, member: int, program: int, part: int, which: int, rows: int) -> None:
        """Imports a file of past redemptions: from just before a lot expired, or from long ago."""
        expired = [lot for lot in self.model.lots if lot.has_expired(self.now)]
        late = []
        for row in range(rows):
            customer, before = (member + row // 2) % MEMBERS, self.now - timedelta(days=row * 7)
            if expired and row < 2:
                lot = recent(expired, which)
                assert lot.expires_at is not None
                customer, before = lot.owner, lot.expires_at
            # No other time of the machine has these microseconds.
            at = before - timedelta(hours=row + 1, microseconds=250)
            redemption = ModelRedemption(customer, program, part + 1, [], id=f"LATE-{self.count}-{row}")
            late.append(Late(redemption, at))
        with self.a_moment(), TemporaryDirectory() as folder:
            self.write_late(Path(folder), late)
            uncovered = self.model.redeem_late(late)
            report = import_ledger(Path(folder))
        missing = sum(draw.points for redemption in uncovered for draw in redemption.draws if draw.lot is None)
        assert report["uncovered_redemptions"] == len(uncovered)
        assert Decimal(report["uncovered_points"]) == amount(missing)

    def write_late(self, folder: Path, late: list[Late]) -> None:
        with (folder / "redemptions.csv").open("w") as file:
            rows = csv.writer(file)
            rows.writerow(REDEMPTIONS)
            for each in late:
                redemption = each.redemption
                rows.writerow(
                    [
                        self.world.org.id,
                        self.programs[redemption.program].public_id,
                        self.public_ids[redemption.customer],
                        redemption.id,
                        amount(redemption.points),
                        each.at.isoformat(),
                        "",
                        "",
                    ]
                )

    # Reversals

    @step(14, needs="redemptions")
    def reverse(self, which: int, part: int, kind: int, skew: int) -> None:
        redemption = recent(self.model.redemptions, which)
        self.send_reversal(redemption, part if kind and part else None, skew=skew)

    def send_reversal(self, redemption: ModelRedemption, points: int | None, *, skew: int) -> None:
        with self.a_moment(skew) as now:
            expected = self.model.reverse(redemption, points, now)
            body = {
                "redemptionId": redemption.id,
                "identifier": {"type": "ID", "value": str(self.public_ids[redemption.customer])},
            }
            if points is not None:
                body["pointsToBeReversed"] = str(amount(points))
            answer = self.send("/v2/points/reverse", body).json()
        if isinstance(expected, Refusal):
            assert answer["errors"][0]["code"] == expected.code, answer
            return
        self.check_reply(answer, expected)

    def check_reply(self, answer: dict[str, Any], expected: ModelReversal) -> None:
        assert not answer["errors"], answer
        expected.set_id(answer["reversalId"])
        points, expired = expected.points, expected.expired
        assert answer["pointsReversed"] == number(points)
        assert answer["pointsReversedDetails"] == {"available": number(points - expired), "expired": number(expired)}
        assert [warning["code"] for warning in answer["warnings"]] == self.model.warnings(expected)
        assert shares_in(answer) == {
            self.public_ids[owner]: shares for owner, shares in expected.shares.items() if expected.is_cross_member
        }

    @step(8, needs="redemptions")
    def reverse_at_an_expiry(self, which: int, part: int, kind: int, skew: int) -> None:
        """Reverses when a drawn lot, preferably a re-issued one, expires, or just before or after it."""
        ending = {each: self.model.expiries_of(each, after=self.now) for each in self.model.redemptions}
        redemptions = [redemption for redemption, lots in ending.items() if lots]
        redemptions = [each for each in redemptions if ending[each][0].is_reissue] or redemptions
        if redemptions:
            redemption = recent(redemptions, which)
            self.wait_until_about([ending[redemption][0].expires_at], 0, kind)
            self.send_reversal(redemption, part if part % 2 else None, skew=skew)

    @step(6, needs="redemptions")
    def reverse_manually(self, which: int, part: int, user: int) -> None:
        redemption = recent(self.model.redemptions, which)
        points = part or None
        asked = redemption.left if points is None else points
        with self.a_moment() as now:
            expected = self.model.reverse(redemption, points, now, is_manual=True)
            outcome = manual_reversals.reverse(
                ManualReversal(
                    org_id=self.world.org.id,
                    redemption_id=redemption.id,
                    points=None if points is None else amount(points),
                    reason="GOODS_RETURNED",
                    made_by=USERS[user],
                    key=f"page-{self.count}",
                )
            )
            if expected == Refusal(NOT_ALONE):
                assert isinstance(outcome, Approval)
                self.expect_waiting(self.model.ask(redemption, asked, USERS[user], now), outcome)
                return
        if isinstance(expected, Refusal):
            assert isinstance(outcome, Refused)
            assert outcome.error.code == expected.code
            return
        assert isinstance(outcome, Reversal)
        expected.set_id(outcome.public_id)
        assert (outcome.points, outcome.points_expired) == (amount(expected.points), amount(expected.expired))

    # Corrections and approvals

    @step(7, needs="reversals")
    def ask_to_correct(self, which: int, user: int, kind: int) -> None:
        """Requests a correction, and in most cases has it approved immediately."""
        reversal = recent(self.model.reversals, which)
        with self.a_moment() as now:
            refusal = self.model.correct(reversal, is_preview=True)
            outcome = manual_reversals.ask_to_correct(
                ManualCorrection(
                    org_id=self.world.org.id,
                    reversal_id=reversal.id,
                    reason="the wrong customer",
                    made_by=USERS[user],
                    key=f"page-{self.count}",
                )
            )
            if refusal is not None:
                assert isinstance(outcome, Refused)
                assert outcome.error.code == refusal.code
                return
            assert isinstance(outcome, Approval)
            request = self.model.ask(reversal.redemption, reversal.points, USERS[user], now, reversal)
            self.expect_waiting(request, outcome)
        if kind > 1:
            self.approve(request, USERS[user - 1])

    def expect_waiting(self, request: Request, approval: Approval) -> None:
        assert (approval.status, approval.points) == ("WAITING", amount(request.points))
        self.approvals[id(request)] = approval

    @step(5, needs="requests")
    def decide(self, which: int, user: int, kind: int) -> None:
        waiting = [each for each in self.model.requests if each.can_be_decided("", self.now)]
        request = recent(waiting or self.model.requests, which)
        if kind:
            self.approve(request, USERS[user])
            return
        with self.a_moment() as now:
            can_be = request.can_be_decided(USERS[user], now)
            with nullcontext() if can_be else pytest.raises(InvalidOperation):
                approvals.reject(self.approvals[id(request)], decided_by=USERS[user], comment="No receipt.")
        request.status = "REJECTED" if can_be else request.status

    def approve(self, request: Request, user: str) -> None:
        with self.a_moment() as now:
            expected = self.model.approve(request, user, now)
            answer = approvals.approve(self.approvals[id(request)], decided_by=user, comment="")
        if isinstance(expected, Refusal):
            assert answer.error is not None
            assert answer.error.code == expected.code
            return
        assert answer.error is None, answer.attempt.refusal_reason
        if expected is not None:
            expected.set_id(answer.attempt.reversal.public_id)

    # Comparisons

    @invariant()
    def one_customer_matches_the_model(self) -> None:
        if hasattr(self, "model"):
            self.compare_points(self.count % MEMBERS)

    def compare_points(self, member: int) -> None:
        expected = self.model.points_of(member, self.now)
        with clocks(self.now):
            points = self.till.get(f"/v2/customers/{self.public_ids[member]}/points").json()
        assert points["byExpiry"] == [
            {"expiresAt": in_json(expires_at), "points": number(part)} for expires_at, part in expected.by_expiry
        ]
        assert (points["available"], points["expired"]) == (number(expected.available), number(expected.expired))

    def compare_all(self) -> None:
        for member in range(MEMBERS):
            self.compare_points(member)
        stored = Lot.objects.filter(org=self.world.org).values_list(
            "lot_ref",
            "customer__public_id",
            "points_awarded",
            "points_remaining",
            "points_reissued",
            "expires_at",
            "is_reissue",
        )
        assert sorted(stored) == sorted(
            (
                lot.ref,
                self.public_ids[lot.owner],
                amount(lot.awarded),
                amount(lot.remaining),
                amount(lot.reissued),
                lot.expires_at,
                lot.is_reissue,
            )
            for lot in self.model.lots
        )
        draws = Draw.objects.filter(org=self.world.org)
        columns = ("redemption__public_id", "position", "lot__lot_ref", "points", "points_reversed")
        assert set(draws.values_list(*columns)) == {
            (redemption.id, position, draw.lot and draw.lot.ref, amount(draw.points), amount(draw.reversed))
            for redemption in self.model.redemptions
            for position, draw in enumerate(redemption.draws, start=1)
        }

    def teardown(self) -> None:
        if hasattr(self, "model"):
            self.compare_all()
            assert broken_laws(self.world.org.id) == []


def recent(things: list[Thing], which: int) -> Thing:
    return things[-1 - which % len(things)]


def random_number(chance: random.Random, name: str) -> int:
    """Draws a number. Recent items are more likely for `which`."""
    first, last = RANGES[name]
    return int(chance.triangular(first, last, first)) if name == "which" else chance.randint(first, last)


def walk(seed: int, steps: int) -> None:
    """Takes this number of random steps. A failure reports the last ones."""
    chance = random.Random(seed)
    machine = Ledger()
    machine.begin(chance.randint(*RANGES["choice"]), chance.randint(*RANGES["choice"]))
    last: deque[str] = deque(maxlen=30)
    # pytest would keep the access log of each call until the test ends.
    logging.disable(logging.INFO)
    try:
        for _ in range(steps):
            (name,) = chance.choices(list(STEPS), [each.weight for each in STEPS.values()])
            arguments = {each: random_number(chance, each) for each in STEPS[name].names}
            last.append(f"{machine.now:%Y-%m-%d %H:%M:%S.%f} {name}({arguments})")
            if not STEPS[name].needs or getattr(machine.model, STEPS[name].needs):
                getattr(machine, name)(**arguments)
            machine.one_customer_matches_the_model()
        machine.teardown()
    except BaseException as error:
        error.add_note(f"seed {seed}, the last steps:\n" + "\n".join(last))
        raise
    finally:
        logging.disable(logging.NOTSET)


def test_any_history_matches_the_model(db: None) -> None:
    run_state_machine_as_test(
        Ledger,
        settings=settings(
            max_examples=8,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.reuse, Phase.generate],  # `make deep` takes the minutes of shrinking
        ),
    )


# Of the first seeds, these detect most of tests/unit/sabotages.
@pytest.mark.parametrize("seed", [0, 4, 5])
def test_random_walk_matches_the_model(db: None, seed: int) -> None:
    walk(seed, 200)
