"""Builds the sidebar of the back office: the pages that the user may open."""

from typing import Any

from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from reversals.admin.inbox import badge


def sections(request: HttpRequest) -> list[dict[str, Any]]:
    """The sections of the sidebar in django-unfold's format, without pages that the user may not see."""
    found = [
        _section(
            "Work",
            _with_badge(_link("Home", "home", "index"), badge(request)),
            _link("Find", "search", "find", _may(request, "loyalty.view_redemption")),
            _list(request, "Approvals", "approval_delegation", "reversals.approval"),
            _list(request, "Changes to confirm", "rule", "loyalty.heldchange"),
            _list(request, "Bulk reversals", "playlist_add_check", "reversals.bulkrun"),
            _link("Exports", "download", "exports", _may(request, "reversals.export_ledger")),
        ),
        _section(
            "Ledger",
            _list(request, "Customers", "person", "loyalty.customer"),
            _list(request, "Groups", "group", "loyalty.customergroup"),
            _list(request, "Lots", "toll", "loyalty.lot"),
            _list(request, "Redemptions", "shopping_bag", "loyalty.redemption"),
            _list(request, "Reversals", "undo", "reversals.reversal"),
            _list(request, "Corrections", "redo", "reversals.correction"),
            _list(request, "Attempts", "receipt_long", "reversals.attempt"),
        ),
        _section(
            "Settings",
            _list(request, "Orgs", "storefront", "loyalty.org"),
            _list(request, "Programs", "loyalty", "loyalty.program"),
            _link("EMF settings", "tune", "emf", _may(request, "loyalty.view_emfsetting")),
            _list(request, "EMF changes", "history", "loyalty.emfchange"),
            _list(request, "Reason codes", "label", "loyalty.reasoncode"),
        ),
        _section(
            "Connections",
            _list(request, "API clients", "key", "loyalty.apiclient"),
            _list(request, "Webhooks", "webhook", "loyalty.webhook"),
            _list(request, "Events", "bolt", "reversals.event"),
            _list(request, "Deliveries", "outgoing_mail", "reversals.delivery"),
        ),
        _administration(request),
    ]
    return [section for section in found if section["items"]]


def _administration(request: HttpRequest) -> dict[str, Any]:
    return _section(
        "Administration",
        _list(request, "Users", "badge", "auth.user"),
        _list(request, "Roles", "shield_person", "auth.group"),
        _list(request, "Changes", "manage_history", "loyalty.staffchange"),
        _link("Searches", "search_insights", "searches", _may(request, "loyalty.view_staffchange")),
        _list(request, "Ledger checks", "fact_check", "reversals.ledgercheck"),
        _list(request, "Background tasks", "schedule", "django_tasks_database.dbtaskresult"),
    )


def _section(title: str, *links: dict[str, Any] | None) -> dict[str, Any]:
    return {"title": title, "separator": True, "items": [link for link in links if link is not None]}


def _link(title: str, icon: str, page: str, is_allowed: bool = True) -> dict[str, Any] | None:
    if not is_allowed:
        return None
    try:
        return {"title": title, "icon": icon, "link": reverse(f"admin:{page}")}
    except NoReverseMatch:
        return None


def _list(request: HttpRequest, title: str, icon: str, model: str) -> dict[str, Any] | None:
    app, _, name = model.partition(".")
    return _link(title, icon, f"{app}_{name}_changelist", _may(request, f"{app}.view_{name}"))


def _with_badge(item: dict[str, Any] | None, text: str) -> dict[str, Any] | None:
    """Shows a number beside the link, if there is one."""
    if item is not None and text:
        item |= {"badge": text, "badge_style": "solid"}
    return item


def _may(request: HttpRequest, permission: str) -> bool:
    return bool(request.user.has_perm(permission))
