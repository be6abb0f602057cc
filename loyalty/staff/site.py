"""The admin site of the back office: its pages beside the lists, its sign-in, and the user's current org."""

from collections.abc import Callable
from functools import update_wrapper, wraps
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.db import Error, connection, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path
from django.utils.decorators import method_decorator
from unfold.sites import UnfoldAdminSite

from loyalty import maintenance
from loyalty.outages import note_outage, outage_of
from loyalty.staff import error_pages
from loyalty.staff.audit import record_change
from loyalty.staff.current_org import choose_org, orgs_for_header
from loyalty.staff.signin import gate, lockout, second_factor, sessions, views
from loyalty.staff.signin.forms import LOCKED_OUT
from loyalty.staff.signin.hashing import HashingBusy

Page = Callable[..., HttpResponseBase]


def explain_outages(page: Page) -> Page:
    """Wraps a page so that it answers 503 with an explanation in an outage or in maintenance.

    A connection that died since the last request is replaced first.
    """

    @wraps(page)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if connection.connection is not None and not connection.in_atomic_block and not connection.is_usable():
            connection.close()  # It dates from before a restart of the database.
        try:
            response = page(request, *args, **kwargs)
            # Render here, because templates query the database too.
            return response.render() if isinstance(response, TemplateResponse) else response
        except maintenance.UnderMaintenance:
            return _form_for_later(request)
        except HashingBusy:
            text = "Nothing was changed. Go back and try again in a few seconds."
            return gate.refuse(503, "Many users are signing in", text, wait=2)
        except Error as error:
            if outage_of(error) is None:
                raise
            note_outage(error)
            return error_pages.unavailable()

    return guarded


class BackOffice(UnfoldAdminSite):
    """Serves /admin/. Apps add their own pages with `add_page`; each page is for signed-in staff only."""

    site_header = site_title = "Loyalty back office"
    index_title = "Home"

    def __init__(self, name: str = "admin") -> None:
        super().__init__(name)
        self.pages: list[tuple[str, Page, str]] = []

    def add_page(self, route: str, page: Page, *, name: str) -> None:
        """Serves `page` at /admin/`route`, with the URL name `admin:name`. The page checks permissions itself."""
        self.pages.append((route, page, name))

    def extra_urls(self) -> list[URLPattern]:
        return [
            path("second-factor/", views.enter_code, name="enter_code"),
            path("second-factor/new/", views.set_up, name="set_up_second_factor"),
            path("second-factor/leave/", views.leave, name="leave"),
            path("choose-org/", self.admin_view(choose_org), name="choose_org"),
            *(path(route, self.admin_view(page), name=name) for route, page, name in self.pages),
        ]

    def get_urls(self) -> list[URLPattern | URLResolver]:
        """Returns the admin's URLs without Django's `view_on_site`, because no row has a page on a public site."""
        return [pattern for pattern in super().get_urls() if getattr(pattern, "name", "") != "view_on_site"]

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        return super().each_context(request) | {
            "version": settings.VERSION,
            "maintenance": maintenance.current(),
            "orgs_for_header": lambda: orgs_for_header(request),
        }

    def has_permission(self, request: HttpRequest) -> bool:
        return super().has_permission(request) and second_factor.is_passed(request.user)

    def admin_view(self, view: Page, cacheable: bool = False) -> Page:
        page = super().admin_view(view, cacheable)

        def within_limits(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            sessions.end_if_over(request)
            if not (_is_form(request) and self.has_permission(request)):
                return page(request, *args, **kwargs)
            with maintenance.refusing_writes():
                if maintenance.is_on():
                    raise maintenance.UnderMaintenance
                return page(request, *args, **kwargs)

        return update_wrapper(explain_outages(within_limits), page)

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Changes the user's own password. Too many wrong old passwords sign the user out and lock the username."""
        with transaction.atomic():
            response: Any = super().password_change(request, extra_context)
            if response.status_code == 302:  # The password was changed.
                _record(request, "password changed", reason="Changed by the user.", after={"password": "changed"})
                return response
        is_wrong = response.context_data["form"].has_error("old_password", "password_incorrect")
        if not (is_wrong and lockout.count_wrong_password(request)):
            return response
        _record(request, "signed out", reason="Too many wrong passwords on the password change page.", after={})
        logout(request)
        messages.error(request, LOCKED_OUT)
        return redirect("admin:login")

    @method_decorator(explain_outages)
    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        sessions.end_if_over(request)
        if request.method == "GET" and views.awaits_second_factor(request):
            return views.second_factor_page(request)
        return super().login(request, extra_context)


def _is_form(request: HttpRequest) -> bool:
    """Whether the request is a form that changes something. Signing out and exports are not refused in maintenance."""
    name = getattr(request.resolver_match, "url_name", None) or ""
    return request.method == "POST" and name != "logout" and not name.endswith("_export")


def _form_for_later(request: HttpRequest) -> HttpResponse:
    """The page that refuses a form in maintenance, with what the user typed, so that it can be sent again later."""
    sent = [(name, value) for name in request.POST for value in request.POST.getlist(name)]
    can_be_kept = not request.FILES and not any("password" in name for name, _ in sent)
    kept = [(name, value) for name, value in sent if name != "csrfmiddlewaretoken"]
    context = {"fields": kept if can_be_kept else [], "can_be_kept": can_be_kept}
    page = render_to_string("admin/maintenance.html", context, request)
    return HttpResponse(page, status=503, headers={"Retry-After": str(maintenance.RETRY_AFTER_SECONDS)})


def _record(request: HttpRequest, action: str, *, reason: str, after: dict[str, Any]) -> None:
    """Records a change that a user made to their own account."""
    user: Any = request.user
    record_change(user, org=None, action=action, made_by=user.username, reason=reason, before={}, after=after)
