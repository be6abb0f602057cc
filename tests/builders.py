"""Builds test data. Each world has its own org, so that tests do not affect each other."""

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from loyalty.clients.api_clients import create_api_client
from loyalty.emf.stored import settings_of
from loyalty.ledger.drawing import plan_draws
from loyalty.ledger.identifiers import IdentifierType, identify
from loyalty.ledger.snapshots import LotFacts
from loyalty.models import (
    Customer,
    CustomerIdentifier,
    Draw,
    EmfChange,
    EmfSetting,
    LedgerImport,
    Lot,
    Org,
    OrgAccess,
    Program,
    Redemption,
    Webhook,
)
from loyalty.webhooks import create_webhook
from reversals.manual.approvals import Approved
from reversals.models import Approval, Attempt, Channel, Reversal, ReversalLine
from reversals.movements import engine
from reversals.movements.correct.movement import ApprovedBy, Correct
from reversals.movements.correct.requests import CorrectionRequest
from reversals.movements.engine import Outcome
from reversals.operations.worker import queue, tasks

ON = "Allow_points_redemption_reversal"
ADDRESS = "/v2/points/reverse"
BUILT = "BUILT"
ZERO = Decimal(0)

_org_ids = count(1_000)
_customer_ids = count(564_000_001)
_names = count(1)


def points(amount: object) -> Decimal:
    return Decimal(str(amount))


def days_ago(days: float) -> datetime:
    return timezone.now() - timedelta(days=days)


def in_days(days: float) -> datetime:
    return timezone.now() + timedelta(days=days)


@dataclass
class World:
    """An org with reversals on, one program, one API client (a till) and one customer, Asha."""

    org: Org
    program: Program
    asha: Customer
    secret: str
    username: str = "till.1"

    # Sending requests

    def ask(self, body: Any = None, *, key: str | None = None, **options: Any) -> HttpResponse:
        """POSTs the body (JSON, or bytes unchanged) with the till's credentials, or with `user` and `password`."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Authorization": basic(options.pop("user", self.username), options.pop("password", self.secret))}
        if key is not None:
            headers["Idempotency-Key"] = key
        headers |= options.pop("headers", {})
        content_type = options.pop("content_type", "application/json")
        address = options.pop("address", ADDRESS)
        return Client().post(address, content, content_type=content_type, headers=headers, **options)

    def reverse(self, redemption: Redemption, amount: object = None, **options: Any) -> HttpResponse:
        return self.ask(request_for(redemption, amount), **options)

    def redeem(self, customer: Customer, amount: object, **options: Any) -> HttpResponse:
        """POSTs a redemption; `key`, `headers`, `user`, `password` are as for `ask`, other options are body fields."""
        sending = {name: options.pop(name) for name in ("key", "headers", "user", "password") if name in options}
        address = f"/v2/customers/{customer.public_id}/redemptions"
        return self.ask({"points": amount} | options, address=address, **sending)

    def till(self) -> Client:
        """An HTTP client that sends the till's credentials."""
        return Client(headers={"Authorization": basic(self.username, self.secret)})

    def read(self, address: str, **parameters: Any) -> HttpResponse:
        """GETs the address as the till."""
        return self.till().get(address, parameters)

    # Reading what was written

    def written(self) -> tuple[int, int, Decimal]:
        """The numbers of reversals and of their lines, and the points remaining in lots."""
        remaining = sum((lot.points_remaining for lot in Lot.objects.filter(org=self.org)), Decimal(0))
        return (
            Reversal.objects.filter(org=self.org).count(),
            ReversalLine.objects.filter(org=self.org).count(),
            remaining,
        )

    def attempts(self) -> list[Attempt]:
        return list(Attempt.objects.filter(org=self.org).order_by("id"))


def basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def request_for(redemption: Redemption, amount: object = None, **changes: Any) -> dict[str, Any]:
    """The request body that reverses `amount` of the redemption, or all of it if None."""
    body: dict[str, Any] = {
        "redemptionId": redemption.public_id,
        "identifier": {"type": "ID", "value": str(redemption.customer.public_id)},
    }
    if amount is not None:
        body["pointsToBeReversed"] = amount
    return body | changes


def make_org(*, country: str = "IN", **options: Any) -> Org:
    org_id = next(_org_ids)
    return Org.objects.create(id=org_id, name=f"Brand {org_id}", country=country, **options)


def make_program(org: Org, **options: Any) -> Program:
    return Program.objects.create(org=org, public_id=next(_names), name="Main", **options)


def make_world(*, settings: dict[str, str] | None = None, country: str = "IN", **org_options: Any) -> World:
    """A world with reversals on and these further settings."""
    org = make_org(country=country, **org_options)
    for key, value in ({ON: "yes"} | (settings or {})).items():
        set_value(org, key, value)
    _, secret = create_api_client(org=org, username=World.username, is_confirmed=True)
    return World(org, make_program(org), make_customer(org), secret)


def staff_of(world: World, *roles: str, username: str = "meera") -> Client:
    """The client of a signed-in user who has these roles and access to the world's org."""
    user = User.objects.create_user(username, password="a long password", is_staff=True)
    user.groups.set(Group.objects.filter(name__in=roles))
    OrgAccess.objects.create(user=user, org=world.org)
    client = Client()
    client.force_login(user)
    return client


def operator_of(world: World, *, username: str = "ravi") -> User:
    """The user with this username, who may reverse points of the world's org."""
    user, _ = User.objects.get_or_create(username=username, defaults={"is_staff": True})
    user.groups.add(Group.objects.get(name="Reversal operator"))
    OrgAccess.objects.get_or_create(user=user, org=world.org)
    return user


def set_value(org: Org, key: str, value: str, *, program: Program | None = None) -> None:
    """Stores the text of a setting, valid or not, and the record of its change."""
    setting = EmfSetting.objects.filter(org=org, program=program, key=key).first()
    setting = setting or EmfSetting(org=org, program=program, key=key)
    old_value, setting.value = setting.value, value
    setting.save()
    EmfChange.objects.create(
        org=org,
        program=program,
        key=key,
        old_value=old_value,
        new_value=value,
        ticket=BUILT,
        reason="for a test",
        changed_by="builders",
        changed_at=timezone.now(),
    )


def changes_of(org: Org) -> QuerySet[EmfChange]:
    """The changes of the org's settings in order, without those of the builders."""
    return EmfChange.objects.filter(org=org).exclude(ticket=BUILT).order_by("id")


def make_import(
    org_id: int, *, lots: int = 0, awarded: Decimal = ZERO, redemptions: int = 0, redeemed: Decimal = ZERO
) -> LedgerImport:
    """The record of an import that added these numbers of lots and redemptions, with these total points."""
    return LedgerImport.objects.create(
        org_id=org_id,
        imported_at=timezone.now(),
        made_by="builders",
        lots_added=lots,
        points_awarded=awarded,
        redemptions_added=redemptions,
        points_redeemed=redeemed,
    )


def make_customer(org: Org, *, identifiers: dict[str, str] | None = None, **options: Any) -> Customer:
    customer = Customer.objects.create(org=org, public_id=next(_customer_ids), **options)
    for kind, value in (identifiers or {}).items():
        named = identify(IdentifierType(kind), value, country=org.country)
        CustomerIdentifier.objects.create(org=org, customer=customer, type=kind, value=named.value)
    return customer


def make_webhook(org: Org, url: str = "https://shop.example/events", **options: Any) -> Webhook:
    return create_webhook(org=org, name=f"webhook {next(_names)}", url=url, **options)


def make_lot(
    customer: Customer,
    amount: object,
    *,
    program: Program,
    expires_at: datetime | None = None,
    awarded_at: datetime | None = None,
) -> Lot:
    return Lot.objects.create(
        org_id=customer.org_id,
        program=program,
        customer=customer,
        lot_ref=f"LOT-{next(_names)}",
        points_awarded=points(amount),
        points_remaining=points(amount),
        awarded_at=awarded_at or days_ago(100),
        expires_at=expires_at,
        ledger_import=make_import(customer.org_id, lots=1, awarded=points(amount)),
    )


def make_small_lots(world: World, count: int) -> None:
    """Creates `count` lots of Asha's, of one point each."""
    ledger_import = make_import(world.org.id, lots=count, awarded=points(count))
    Lot.objects.bulk_create(
        Lot(
            org=world.org,
            program=world.program,
            customer=world.asha,
            lot_ref=f"LOT-{next(_names)}",
            points_awarded=1,
            points_remaining=1,
            awarded_at=days_ago(100),
            ledger_import=ledger_import,
        )
        for _ in range(count)
    )


@transaction.atomic
def redeem(
    customer: Customer,
    amount: object,
    *,
    program: Program,
    at: datetime | None = None,
    public_id: str | None = None,
    external_reference_number: str | None = None,
) -> Redemption:
    """A redemption drawn on the customer's lots as of `at`. Points that they do not cover come from no lot."""
    at = at or days_ago(1)
    redemption = Redemption.objects.create(
        org_id=customer.org_id,
        program=program,
        customer=customer,
        public_id=public_id or f"R{next(_names):05d}",
        points=points(amount),
        redeemed_at=at,
        external_reference_number=external_reference_number,
        ledger_import=make_import(customer.org_id, redemptions=1, redeemed=points(amount)),
    )
    lots = {lot.id: lot for lot in Lot.objects.filter(org_id=customer.org_id, customer=customer)}
    facts = [
        LotFacts(lot.id, customer.public_id, lot.points_remaining, lot.awarded_at, lot.expires_at)
        for lot in lots.values()
    ]
    for position, draw in enumerate(plan_draws(facts, points(amount), at=at), start=1):
        Draw.objects.create(
            org_id=customer.org_id, redemption=redemption, lot_id=draw.lot_id, position=position, points=draw.points
        )
        if draw.lot_id is not None:
            lots[draw.lot_id].points_remaining -= draw.points
            lots[draw.lot_id].save(update_fields=["points_remaining"])
    return redemption


def redeemed(world: World, amount: object = 10, **options: Any) -> Redemption:
    """A redemption of Asha's on a lot that never expires and holds exactly the redeemed points."""
    make_lot(world.asha, amount, program=world.program)
    return redeem(world.asha, amount, program=world.program, **options)


def ask_to_correct(reversal: Reversal, *, asked_by: str = "meera") -> Approval:
    """Creates the approval request to correct the reversal. It waits for a second user."""
    return Approval.objects.create(
        org_id=reversal.org_id,
        redemption_id=reversal.redemption_id,
        corrects=reversal,
        points=reversal.points,
        key=f"page-{next(_names)}",
        channel=Channel.ADMIN,
        reason="the wrong customer",
        asked_by=asked_by,
        asked_at=timezone.now(),
        lapses_at=in_days(7),
    )


def correct(reversal: Reversal, *, approved_by: str = "arun") -> Outcome[Any]:
    """Corrects the reversal: Meera requests it, and another user approves it."""
    return approve_correction(ask_to_correct(reversal), reversal, approved_by=approved_by)


def approve_correction(approval: Approval, reversal: Reversal, *, approved_by: str = "arun") -> Outcome[Any]:
    """Approves the request to correct the reversal, which corrects it."""
    request, settings = CorrectionRequest(reversal.public_id), settings_of(reversal.org_id)
    movement = Correct(request, settings, approved_by=ApprovedBy(approval.id, approved_by))
    return engine.run(Approved(movement, approval, approved_by, ""), attempt_to_correct(reversal))


def attempt_to_correct(reversal: Reversal, **options: Any) -> Attempt:
    """A new attempt of Meera's to correct the reversal."""
    return Attempt(
        org_id=reversal.org_id,
        created_at=timezone.now(),
        channel=Channel.ADMIN,
        made_by="meera",
        reason="the wrong customer",
        **options,
    )


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def make_task(**columns: Any) -> queue.Row:
    """Adds a task of the worker that is due, unless the columns say otherwise."""
    about = {"task_path": tasks.clear_sessions.module_path, "queue_name": queue.SCHEDULED, "backend_name": "default"}
    about |= {"args_kwargs": {"args": [], "kwargs": {}}, "run_after": timezone.now()}
    return DBTaskResult.objects.create(**about | columns)


def work(steps: int | None = None) -> None:
    """Runs tasks that users requested until none is due, or so many."""
    queue.report("one", "host")
    while steps != 0 and (row := queue.claim([queue.REQUESTED], "one")) is not None:
        queue.run(row)
        steps = None if steps is None else steps - 1
