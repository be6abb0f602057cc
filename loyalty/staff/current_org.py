"""The org whose rows the lists show: how it is found, and the page and the header on which a user chooses another."""

from typing import Any
from zoneinfo import ZoneInfo

from django.contrib.admin import site
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme

from loyalty.models import ChosenOrg, Org
from loyalty.staff.access import orgs_of

ORGS_IN_HEADER = 12
ORGS_FOUND = 50
KEPT = "_current_org"
SHOWS_SEVERAL = "_shows_all_orgs"  # set on pages that can show several orgs
ALL = "all"


def current_org(request: HttpRequest) -> Org | None:
    """Returns the org whose rows the lists show, or None if the user has no org.

    It is the org that `?org=` names, for this page only, else the one in the session, else the one that the user chose
    last, else the one with the lowest id. Ignores an org that the user may not work on. Looks it up once a request.
    """
    if not hasattr(request, KEPT):
        setattr(request, KEPT, _look_up(request))
    org: Org | None = getattr(request, KEPT)
    return org


def zone_of(org: Org | None) -> ZoneInfo:
    """Returns the time zone in which lists of the org show times and read days."""
    return ZoneInfo(org.time_zone if org is not None else "UTC")


def _look_up(request: HttpRequest) -> Org | None:
    orgs = orgs_of(request.user)
    for named in (request.GET.get("org"), request.session.get("org")):
        if (org := _find(orgs, named)) is not None:
            return org
    return orgs.filter(chosen_by__user=request.user.pk).first() or orgs.order_by("id").first()


def orgs_shown(request: HttpRequest) -> list[Org]:
    """Returns the orgs that a page shows which can show several: all of the user's orgs, or the one that they chose.

    The header of such a page offers all orgs. Until a user chooses one, they see all.
    """
    orgs = list(orgs_of(request.user).order_by("id"))
    named = _find(orgs_of(request.user), request.GET.get("org")) if "org" in request.GET else None
    shows_all = len(orgs) > 1 and named is None
    shows_all = shows_all and not ChosenOrg.objects.filter(user=request.user.pk, shows_all=False).exists()
    setattr(request, SHOWS_SEVERAL, shows_all)
    org = current_org(request)
    return orgs if shows_all or org is None else [org]


def orgs_for_header(request: HttpRequest) -> dict[str, Any] | None:
    """Returns the current org and the first of the user's orgs, or None if the user has no org."""
    org = current_org(request)
    if org is None:
        return None
    orgs = list(orgs_of(request.user).order_by("name", "id")[: ORGS_IN_HEADER + 1])
    return {
        "org": org,
        "orgs": orgs[:ORGS_IN_HEADER],
        "has_more": len(orgs) > ORGS_IN_HEADER,
        "is_choice": len(orgs) > 1,
        "offers_all": hasattr(request, SHOWS_SEVERAL),
        "shows_all": getattr(request, SHOWS_SEVERAL, False),
    }


def choose_org(request: HttpRequest) -> HttpResponse:
    """Searches the user's orgs. On POST, keeps which one, or all, the user chose, and goes back to the page before."""
    back = request.POST.get("next") or request.GET.get("next") or ""
    if not url_has_allowed_host_and_scheme(back, allowed_hosts=None):
        back = reverse("admin:index")
    orgs = orgs_of(request.user)
    if request.method == "POST":
        _keep(request, request.POST.get("org"))
        # The filters of a list belong to the rows of the org that it showed.
        return redirect(back.partition("?")[0])
    query = request.GET.get("q", "").strip()
    if query:
        named = _find(orgs, query)
        orgs = orgs.filter(Q(name__icontains=query) | Q(id__in=[] if named is None else [named.id]))
    found = list(orgs.order_by("name", "id")[: ORGS_FOUND + 1])
    context = {
        "title": "Choose an org",
        "orgs": found[:ORGS_FOUND],
        "has_more": len(found) > ORGS_FOUND,
        "query": query,
        "next": back,
    }
    return TemplateResponse(request, "admin/choose_org.html", site.each_context(request) | context)


def _keep(request: HttpRequest, chosen: str | None) -> None:
    """Keeps the org that the user chose, or that they chose all. Raises PermissionDenied for another org."""
    user: Any = request.user
    org = current_org(request) if chosen == ALL else _find(orgs_of(user), chosen)
    if org is None:
        raise PermissionDenied
    ChosenOrg.objects.update_or_create(user=user, defaults={"org": org, "shows_all": chosen == ALL})
    request.session["org"] = org.id


def _find(orgs: Any, org_id: Any) -> Org | None:
    text = str(org_id)
    return orgs.filter(id=int(text)).first() if text.isascii() and text.isdigit() and len(text) <= 18 else None
