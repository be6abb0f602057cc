"""Finds a redemption, reversal or customer by any of its names, in the orgs that the user may work on."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib.admin import site
from django.core.exceptions import PermissionDenied
from django.db.models import Model, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse

from loyalty.admin.links import link, page_of
from loyalty.ledger.canonical import canonical, searched_spellings, without_blanks
from loyalty.ledger.identifiers import Identifier, IdentifierType, identify, masked
from loyalty.ledger.queries import can_be_stored
from loyalty.models import Customer, CustomerIdentifier, Lot, Org, Redemption
from loyalty.staff.access import orgs_of
from reversals.admin import searches
from reversals.admin.html import in_points
from reversals.models import Reversal

AT_MOST = 20  # of each kind
LONGEST_NAME = 255

# The types whose values are compared as entered.
_AS_WRITTEN = (IdentifierType.EXTERNAL_ID, IdentifierType.CARD_NUMBER, IdentifierType.CARD_EXTERNAL_ID)
_NAMES_OF_REDEMPTION = {
    "public_id": "redemption id",
    "external_reference_number": "external reference",
    "transaction_number": "transaction number",
}


# Searches by these names find a record and tell nothing about a person.
RECORD_IDS = {*_NAMES_OF_REDEMPTION.values(), "reversal id", "lot reference", "customer id"}


@dataclass(frozen=True, slots=True)
class Match:
    """A row with the name, and which of its names matched."""

    row: Redemption | Reversal | Lot | Customer
    kind: str
    by: str
    what: str


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of row, the permission to find it, and its names. `find` takes the name and the orgs by id."""

    permission: str
    names: str
    find: Callable[[str, Mapping[int, Org]], Iterable[Match]]


def find(request: HttpRequest) -> HttpResponse:
    """Redirects to the page of the only match, or lists the matches, at most 20 of each kind.

    Each look-up is exact and reads an index that begins with the org.
    """
    kinds = [kind for kind in KINDS if request.user.has_perm(kind.permission)]
    if not kinds:
        raise PermissionDenied
    as_sent = request.GET.get("q", "")
    orgs = {org.id: org for org in orgs_of(request.user)}
    if canonical(as_sent) and searches.is_over_limit(request):
        return _too_many(request)
    matches = _matches(as_sent, orgs, kinds)
    if _can_match(as_sent) and not any(match.by in RECORD_IDS for match in matches):
        searches.record(request, as_sent, [match.by for match in matches])
    if len(matches) == 1:
        return redirect(page_of(matches[0].row))
    shown = {
        "title": "Find",
        "name": canonical(as_sent),
        "names": ", ".join(kind.names for kind in kinds),
        "org_count": len(orgs),
        "found": {"headers": ["Kind", "Record", "Matched by", "Details", "Org"], "rows": _rows(matches, orgs)},
    }
    return TemplateResponse(request, "admin/find.html", site.each_context(request) | shown)


def _too_many(request: HttpRequest) -> HttpResponse:
    context = site.each_context(request) | {"title": "Find", "limit": searches.limit_of(request)}
    return TemplateResponse(request, "admin/find_limit.html", context, status=429)


def _can_match(name: str) -> bool:
    return bool(canonical(name)) and len(name) <= LONGEST_NAME and can_be_stored(name)


def _matches(name: str, orgs: Mapping[int, Org], kinds: list[Kind]) -> list[Match]:
    if not _can_match(name):
        return []
    return [match for kind in kinds for match in _once_each(kind.find(name, orgs))]


def _once_each(matches: Iterable[Match]) -> list[Match]:
    """The first match of each row, because a row can match by several names."""
    by_row: dict[Model, Match] = {}
    for match in matches:
        by_row.setdefault(match.row, match)
    return list(by_row.values())[:AT_MOST]


def _rows(matches: list[Match], orgs: Mapping[int, Org]) -> list[list[Any]]:
    return [[match.kind, link(match.row), match.by, match.what, orgs[match.row.org_id]] for match in matches]


def _redemptions(name: str, orgs: Mapping[int, Org]) -> Iterable[Match]:
    for column, by in _NAMES_OF_REDEMPTION.items():
        named = Redemption.objects.filter(
            org_id__in=list(orgs), **{f"{column}__in": searched_spellings(name)}
        ).select_related("customer")
        for redemption in named[:AT_MOST]:
            what = f"{in_points(redemption.points)} of customer {redemption.customer}"
            yield Match(redemption, "Redemption", by, f"{what} on {redemption.redeemed_at:%Y-%m-%d}")


def _reversals(name: str, orgs: Mapping[int, Org]) -> Iterable[Match]:
    named = Reversal.objects.filter(org_id__in=list(orgs), public_id__in=searched_spellings(name))
    for reversal in named.select_related("redemption")[:AT_MOST]:
        what = f"{in_points(reversal.points)} of redemption {reversal.redemption}"
        yield Match(reversal, "Reversal", "reversal id", f"{what} on {reversal.created_at:%Y-%m-%d}")


def _lots(name: str, orgs: Mapping[int, Org]) -> Iterable[Match]:
    named = Lot.objects.filter(org_id__in=list(orgs), lot_ref__in=searched_spellings(name)).select_related("customer")
    for lot in named[:AT_MOST]:
        what = f"{in_points(lot.points_awarded)} of customer {lot.customer}"
        yield Match(lot, "Lot", "lot reference", f"{what} on {lot.awarded_at:%Y-%m-%d}")


def _customers(name: str, orgs: Mapping[int, Org]) -> Iterable[Match]:
    number = Identifier(IdentifierType.ID, without_blanks(name)).customer_number
    if number is not None:
        for customer in Customer.objects.filter(org_id__in=list(orgs), public_id=number)[:AT_MOST]:
            yield _customer(customer, "customer id")
    named = CustomerIdentifier.objects.filter(_identified(name, orgs), org_id__in=list(orgs))
    for identifier in named.select_related("customer")[:AT_MOST]:
        kind = identifier.type.lower().replace("_", " ")
        yield _customer(identifier.customer, f"{kind} {masked(identifier.value)}")


def _customer(customer: Customer, by: str) -> Match:
    return Match(customer, "Customer", by, customer.get_status_display().lower())


def _identified(name: str, orgs: Mapping[int, Org]) -> Q:
    """The condition for identifiers with this name. A mobile number is read with the country of each org."""
    email = identify(IdentifierType.EMAIL, name, country="").value
    condition = Q(type__in=_AS_WRITTEN, value__in=searched_spellings(name)) | Q(type=IdentifierType.EMAIL, value=email)
    for digits, org_ids in _mobiles(name, orgs).items():
        condition |= Q(type=IdentifierType.MOBILE, value=digits, org_id__in=org_ids)
    return condition


def _mobiles(name: str, orgs: Mapping[int, Org]) -> dict[str, list[int]]:
    """The mobile numbers that the name can mean, each with the ids of the orgs whose country gives that number."""
    digits = {country: identify(IdentifierType.MOBILE, name, country=country).value for country in _countries(orgs)}
    mobiles = defaultdict(list)
    for org in orgs.values():
        mobiles[digits[org.country]].append(org.id)
    return mobiles


def _countries(orgs: Mapping[int, Org]) -> set[str]:
    return {org.country for org in orgs.values()}


KINDS = (
    Kind("loyalty.view_redemption", "redemption id, external reference, transaction number", _redemptions),
    Kind("reversals.view_reversal", "reversal id", _reversals),
    Kind("loyalty.view_lot", "lot reference", _lots),
    Kind("loyalty.view_customer", "customer id, mobile, email, external id, card number, card external id", _customers),
)

site.add_page("find/", find, name="find")  # type: ignore[attr-defined]
