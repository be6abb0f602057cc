"""Saved views of lists, and the columns that a user chose for a list."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.admin import site
from django.contrib.admin.utils import label_for_field
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from loyalty.ledger.canonical import canonical
from loyalty.models import SavedView
from loyalty.staff.current_org import current_org

# The parameter of a list's address with the names of the columns to show.
COLUMNS = "columns"
KEPT = "_saved_views"
LONGEST_QUERY = 2_000
# What a view does not keep: the search may be for a person, and the rest is of one page.
NOT_KEPT = ("q", "p", "e", "all", "org")


def columns_of(request: HttpRequest, model_admin: Any) -> list[Any]:
    """Returns the columns that the address names, else those that the user chose, else those of the list.

    The first column is always among them, because it links to the row.
    """
    wanted = request.GET.get(COLUMNS)
    if wanted is None:
        chosen = next((each for each in views_of(request, model_admin) if not each.name), None)
        wanted = QueryDict(chosen.query).get(COLUMNS, "") if chosen else ""
    names = wanted.split(",")
    shown = [column for column in offered_columns(model_admin) if name_of(column) in names]
    first: Any = model_admin.list_display[0]
    return [first, *(column for column in shown if column != first)] if shown else list(model_admin.list_display)


def offered_columns(model_admin: Any) -> Sequence[Any]:
    """Returns the columns that a user can choose from."""
    return [*model_admin.list_display, *model_admin.more_columns]


def name_of(column: Any) -> str:
    """Returns the name of a list's column, which is a name or a function."""
    return column if isinstance(column, str) else str(column.__name__)


def views_of(request: HttpRequest, model_admin: Any) -> list[SavedView]:
    """Returns the views of the list that the user saved or that are shared, and the columns that the user chose."""
    if not hasattr(request, KEPT):
        org = current_org(request)
        visible = Q(user=request.user.pk) | Q(is_shared=True)
        views = SavedView.objects.filter(visible, org=org, kind=model_admin.opts.label_lower).select_related("user")
        setattr(request, KEPT, list(views.order_by("name", "id")) if org is not None else [])
    found: list[SavedView] = getattr(request, KEPT)
    return found


def tools_of(request: HttpRequest, changelist: Any) -> dict[str, Any]:
    """Returns the saved views and the columns of a list, for its page."""
    model_admin = changelist.model_admin
    shown = {name_of(column) for column in changelist.list_display}
    first = name_of(model_admin.list_display[0])
    query = query_of(changelist)
    org = current_org(request)
    return {
        "org_id": "" if org is None else org.id,
        "kind": model_admin.opts.label_lower,
        "query": query,
        "views": [
            {"view": view, "is_own": view.user_id == request.user.pk, "is_current": view.query == query}
            for view in views_of(request, model_admin)
            if view.name
        ],
        "columns": [
            (name_of(column), label_for_field(column, changelist.model, model_admin), name_of(column) in shown)
            for column in offered_columns(model_admin)
            if name_of(column) != first
        ],
    }


def query_of(changelist: Any) -> str:
    """Returns the query string of what the list shows: filters, order and columns."""
    names = [name_of(column) for column in changelist.list_display]
    offered = {name_of(column) for column in offered_columns(changelist.model_admin)}
    kept = {name: value for name, value in changelist.params.items() if value and name not in NOT_KEPT}
    order = {"o": f"{'-' if changelist.is_descending else ''}{changelist.newest_by}"} if "o" in kept else {}
    return urlencode(sorted((kept | order | {COLUMNS: ",".join(name for name in names if name in offered)}).items()))


@require_POST
def keep(request: HttpRequest) -> HttpResponse:
    """Saves or removes a view of a list, or the columns that the user chose, and goes back to the list."""
    kind = request.POST.get("list", "")
    model_admin: Any = next((each for model, each in site._registry.items() if model._meta.label_lower == kind), None)
    if not hasattr(model_admin, "more_columns") or not model_admin.has_view_permission(request):
        raise PermissionDenied
    org = current_org(request)
    if org is None:
        raise Http404
    query = QueryDict(request.POST.get("query", "")[:LONGEST_QUERY], mutable=True)
    for each in NOT_KEPT:
        query.pop(each, None)
    own: dict[str, Any] = {"org": org, "kind": kind, "user": request.user}
    name = canonical(request.POST.get("name", "").replace("\0", ""))[:60]
    match request.POST.get("action"):
        case "columns":
            offered = [name_of(column) for column in offered_columns(model_admin)]
            chosen = [name for name in offered if name in {offered[0], *request.POST.getlist("column")}]
            columns = urlencode({COLUMNS: ",".join(chosen)})
            SavedView.objects.update_or_create(**own, name="", defaults={"query": columns})
            query.pop(COLUMNS, None)
            query.pop("o", None)
        case "save":
            if name:
                values = {"query": query.urlencode(), "is_shared": "is_shared" in request.POST}
                SavedView.objects.update_or_create(**own, name=name, defaults=values)
                messages.success(request, f"The view {name} is saved.")
            else:
                messages.error(request, "Enter a name for the view.")
        case "remove":
            SavedView.objects.filter(**own, name=name).exclude(name="").delete()
    if "org" in request.GET:  # the page that was shown may have been of another org than the session's
        query["org"] = str(org.id)
    address = reverse(f"admin:{model_admin.opts.app_label}_{model_admin.opts.model_name}_changelist")
    return redirect(f"{address}?{query.urlencode()}")


site.add_page("views/", keep, name="views")  # type: ignore[attr-defined]
