"""The pages of changes that a second user must confirm."""

from itertools import chain
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.views.decorators.http import require_POST
from unfold.widgets import UnfoldAdminTextareaWidget

from loyalty.admin.base import OneOrg, PageAdmin
from loyalty.admin.statuses import Status, badge
from loyalty.clients.credentials import fingerprint_of
from loyalty.emf.registry import REGISTRY
from loyalty.emf.stored import settings_of
from loyalty.errors import InvalidOperation
from loyalty.models import ApiClient, HeldChange, Program
from loyalty.staff import held_changes
from loyalty.staff.held_changes import RIGHTS

LONGEST_IN_LIST = 60
TONES = {"WAITING": "warning", "CONFIRMED": "success", "REJECTED": "danger"}


class DecisionForm(forms.Form):
    """The second user's decision and comment."""

    decision = forms.ChoiceField(choices=[("confirm", "confirm"), ("reject", "reject")])
    comment = forms.CharField(
        max_length=500,
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text="Required to reject.",
    )


def waits_for_second_user(held: HeldChange) -> SafeString:
    """Returns the message that nothing was changed yet."""
    address = reverse("admin:loyalty_heldchange_change", args=[held.pk])
    return format_html(
        "Nothing has changed yet: because an approval limit is set, a second user must confirm it."
        ' <a class="text-link" href="{}">Open the request</a>',
        address,
    )


def new_secret(client: ApiClient, secret: str) -> dict[str, Any]:
    """Returns the context of the page that shows a new secret once."""
    title = f"New secret of {client.username}"
    return {"title": title, "client": client, "secret": secret, "fingerprint": fingerprint_of(secret)}


@admin.register(HeldChange)
class HeldChangeAdmin(PageAdmin):
    list_display = ["asked_at", "change", "asked_by", "state", "decided_by", "decided_at"]
    list_display_links = ["asked_at"]
    list_filter = [OneOrg, "status"]
    page_template = "admin/loyalty/heldchange/page.html"

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.decide_view))
        return [path("<path:object_id>/decide/", view, name="loyalty_heldchange_decide"), *super().get_urls()]

    @admin.display(description="change")
    def change(self, held: HeldChange) -> str:
        return Truncator(held.words).chars(LONGEST_IN_LIST)

    @admin.display(description="status")
    def state(self, held: HeldChange) -> str:
        return badge(_status_of(held))

    def page(self, request: HttpRequest, row: HeldChange) -> dict[str, Any]:
        is_waiting = row.status == HeldChange.Status.WAITING and row.lapses_at > timezone.now()
        return {
            "title": row.words,
            "facts": _facts(row),
            "may_decide": is_waiting and _may_decide(request, row),
            "is_own": row.asked_by == request.user.get_username(),
            "gives_secret": row.kind in {HeldChange.Kind.CLIENT, HeldChange.Kind.SECRET},
            "form": DecisionForm(),
        }

    def decide_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Confirms or rejects the change. Shows a new secret once; otherwise returns to the page of the change."""
        held = self.get_object(request, object_id)
        if held is None:
            raise Http404
        if not _may_decide(request, held) or not self.has_view_permission(request, held):
            raise PermissionDenied
        form = DecisionForm(request.POST)
        if not form.is_valid():
            for problem in chain(*form.errors.values()):
                self.message_user(request, problem, messages.ERROR)
            return redirect("admin:loyalty_heldchange_change", held.pk)
        new = self._decide(request, held, form.cleaned_data)
        if new is None:
            return redirect("admin:loyalty_heldchange_change", held.pk)
        # Only this response has the secret, as when an API client is added.
        return self.render_page(request, "admin/loyalty/apiclient/secret.html", held, new_secret(*new))

    def _decide(self, request: HttpRequest, held: HeldChange, given: dict[str, Any]) -> tuple[ApiClient, str] | None:
        is_confirmed = given["decision"] == "confirm"
        decide = held_changes.confirm if is_confirmed else held_changes.reject
        try:
            new = decide(held, decided_by=request.user.get_username(), comment=given["comment"])
        except (InvalidOperation, ValueError, ValidationError) as error:
            text = "; ".join(error.messages) if isinstance(error, ValidationError) else str(error)
            self.message_user(request, f"Nothing was changed: {text}.", messages.ERROR)
            return None
        if new is None:
            done = "Confirmed. The change is in force." if is_confirmed else "Rejected."
            self.message_user(request, done, messages.SUCCESS)
        return new


def _may_decide(request: HttpRequest, held: HeldChange) -> bool:
    return bool(request.user.has_perm(RIGHTS[HeldChange.Kind(held.kind)]))


def _status_of(held: HeldChange) -> Status:
    if held.status == HeldChange.Status.WAITING and held.lapses_at <= timezone.now():
        return Status("lapsed")
    return Status(held.status.lower(), TONES[held.status])


def _facts(held: HeldChange) -> list[tuple[str, Any]]:
    facts: list[tuple[str, Any]] = [
        ("Status", badge(_status_of(held))),
        ("Org", held.org),
        ("Change", held.words),
        *_limit_now(held),
        ("Requested by", held.asked_by),
        ("Requested", f"{held.asked_at:%Y-%m-%d %H:%M} UTC"),
        ("Reason", held.reason),
        ("Lapses", f"{held.lapses_at:%Y-%m-%d %H:%M} UTC"),
    ]
    if held.decided_at is not None:
        facts += [
            ("Decided by", held.decided_by),
            ("Decided", f"{held.decided_at:%Y-%m-%d %H:%M} UTC"),
            ("Comment", held.comment or "none"),
        ]
    return facts


def _limit_now(held: HeldChange) -> list[tuple[str, str]]:
    """Returns the stored value that a change of a limit would replace, and its ticket."""
    if held.kind != HeldChange.Kind.LIMIT:
        return []
    details = held.details
    program = Program.objects.filter(org=held.org, public_id=details["program"] or 0).first()
    now = settings_of(held.org_id).text(REGISTRY[details["key"]], program.id if program is not None else None)
    return [("Value now", now or "not set"), ("Ticket", details["ticket"])]
