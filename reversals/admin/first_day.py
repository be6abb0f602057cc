"""The checklist of a new org on the home page: from the org to a first call. It ticks itself off."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.conf import settings as project
from django.db.models import Exists, F, OuterRef, Q, Subquery
from django.http import HttpRequest
from django.urls import reverse

from loyalty.emf.registry import ALLOW_REVERSAL, ReversalState
from loyalty.emf.stored import settings_of_orgs
from loyalty.ledger.distribution import is_distributed
from loyalty.models import ApiClient, Customer, Org, OrgAccess, Program, Redemption
from reversals.operations.ledger_uploads import RIGHT as IMPORT

NEW_FOR = timedelta(days=30)
NEWEST = 20
ADD_ORG, ADD_PROGRAM, SWITCH = "loyalty.add_org", "loyalty.add_program", "loyalty.change_emfsetting"
ADD_CLIENT, ADD_USER = "loyalty.add_apiclient", "auth.add_user"
RIGHTS = (ADD_ORG, ADD_PROGRAM, SWITCH, ADD_CLIENT)


@dataclass(frozen=True, slots=True)
class Step:
    """A line of the checklist: what to do, the button that does it, and who may if the user may not."""

    name: str
    text: str
    is_done: bool
    button: str
    address: str
    may: bool


@dataclass(frozen=True, slots=True)
class Checklist:
    """The steps of one org, and a first call to paste if it has a client."""

    org: Org | None
    steps: list[Step]
    call: str = ""

    @property
    def done(self) -> int:
        return sum(step.is_done for step in self.steps)

    @property
    def next(self) -> Step | None:
        return next((step for step in self.steps if not step.is_done), None)


def checklist(request: HttpRequest, orgs: Sequence[Org], now: datetime) -> Checklist | None:
    """Returns the checklist of the page's org or, of several, of the newest one that is not set up.

    Returns None if the user may do none of its steps, or if the org was added long ago and works.
    """
    if not any(request.user.has_perm(right) for right in RIGHTS):
        return None
    if not orgs:
        return Checklist(None, _steps(request, None))
    newest = sorted(orgs, key=lambda org: org.created_at, reverse=True)[:NEWEST]
    settings, is_only = settings_of_orgs([org.id for org in newest]), len(orgs) == 1
    for org in _with_what_there_is(request, newest):
        is_on = settings[org.id].state() in {ReversalState.ON, ReversalState.PARTLY}
        steps, is_new = _steps(request, org, is_on=is_on), now - org.created_at < NEW_FOR
        *needed, people = [step.is_done for step in steps]
        if (is_new and (is_only or not all([*needed, people]))) or (is_only and not all(needed)):
            return Checklist(org, steps, _call(request, org))
    return None


def _with_what_there_is(request: HttpRequest, orgs: Sequence[Org]) -> list[Any]:
    """Returns the orgs in the same order, each with what exists of it, in one query."""
    here = {"org": OuterRef("pk")}
    clients = ApiClient.objects.filter(**here, is_active=True).order_by("id")
    colleagues = OrgAccess.objects.filter(**here, user__is_active=True, user__groups__isnull=False)
    found = Org.objects.filter(id__in=[org.id for org in orgs]).annotate(
        has_program=Exists(Program.objects.filter(**here)),
        has_customer=_has_customer([org.id for org in orgs]),
        client=Subquery(clients.values("username")[:1]),
        has_people=Exists(colleagues.exclude(user=request.user.pk)),
    )
    by_id = {org.id: org for org in found}
    return [by_id[org.id] for org in orgs]


def _has_customer(org_ids: Sequence[int]) -> Q | Exists:
    """Returns whether one of these orgs has a customer. A cluster cannot join the orgs with customers, so it is asked
    first which of them have one.
    """
    if not is_distributed():
        return Exists(Customer.objects.filter(org=OuterRef("pk")))
    first, *others = [Customer.objects.filter(org_id=each).order_by().values_list("org_id")[:1] for each in org_ids]
    return Q(pk__in=[org_id for (org_id,) in first.union(*others, all=True)])


def _steps(request: HttpRequest, org: Any | None, *, is_on: bool = False) -> list[Step]:
    """The steps in order. Those after the first need an org."""
    switch = f"{reverse('admin:org_emf_change', args=[org.id, ALLOW_REVERSAL.name])}?value=yes" if org else ""
    program = "Customers earn and redeem points in a program of the org."
    ledger = "Customers, their points and what they redeemed: three CSV files, or calls of the API."
    client = "A till or a back end that calls the API. Its secret is shown once."
    people = "Colleagues who reverse and approve, each with a role and the orgs that they work on."
    return [
        _step(
            request, "Org", "The business that runs the loyalty program.", org, "Add an org", "loyalty_org_add", ADD_ORG
        ),
        _step(
            request,
            "Program",
            program,
            org and org.has_program,
            "Add a program",
            "loyalty_program_add",
            ADD_PROGRAM,
            org,
        ),
        _step(request, "Ledger", ledger, org and org.has_customer, "Import ledger files", "import_ledger", IMPORT, org),
        Step(
            "Switch",
            "Tills and users can reverse points only while it is on.",
            is_on,
            "Switch on",
            switch,
            request.user.has_perm(SWITCH),
        ),
        _step(
            request, "API client", client, org and org.client, "Add a client", "loyalty_apiclient_add", ADD_CLIENT, org
        ),
        _step(request, "People", people, org and org.has_people, "Add a user", "auth_user_add", ADD_USER),
    ]


def _step(
    request: HttpRequest, name: str, text: str, is_done: Any, button: str, page: str, right: str, org: Org | None = None
) -> Step:
    query = f"?{urlencode({'org': org.id})}" if org is not None else ""
    return Step(name, text, bool(is_done), button, reverse(f"admin:{page}") + query, request.user.has_perm(right))


def _call(request: HttpRequest, org: Any) -> str:
    """Returns a call that reverses a point of the org's latest redemption, for a shell; empty without a client."""
    if org.client is None:
        return ""
    open_ones = (
        Redemption.objects.filter(org=org, points_reversed__lt=F("points"))
        if _sees(request)
        else Redemption.objects.none()
    )
    redemption = open_ones.select_related("customer").order_by("-redeemed_at").first()
    body = {
        "redemptionId": redemption.public_id if redemption else "REDEMPTION",
        "pointsToBeReversed": 1,
        "identifier": {"type": "ID", "value": str(redemption.customer.public_id) if redemption else "CUSTOMER"},
    }
    address = f"{project.PUBLIC_URL or request.build_absolute_uri('/').rstrip('/')}/v2/points/reverse"
    words = [
        "curl",
        "-i",
        "-u",
        f"{org.client}:SECRET",
        "-H",
        "Content-Type: application/json",
        "-d",
        json.dumps(body),
        address,
    ]
    return shlex.join(words)


def _sees(request: HttpRequest) -> bool:
    return request.user.has_perms(["loyalty.view_redemption", "loyalty.view_customer"])
