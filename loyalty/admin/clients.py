"""The pages of API clients (the tills and back ends that may call the API) and of their secrets."""

from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Max, OuterRef, QuerySet, Subquery
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from loyalty.admin.base import PageAdmin
from loyalty.admin.confirmation import ReasonForm, ask, done
from loyalty.admin.held_changes import new_secret, waits_for_second_user
from loyalty.clients.api_clients import (
    LIVE_SECRETS,
    add_secret,
    create_api_client,
    revoke_secret,
    set_api_client_active,
)
from loyalty.clients.credentials import fingerprint_of, pepper_mark
from loyalty.errors import NeedsSecondUser
from loyalty.models import ApiClient, ApiSecret, HeldChange, Org
from loyalty.staff.access import orgs_of
from loyalty.staff.audit import record_change
from loyalty.staff.current_org import current_org
from loyalty.staff.held_changes import hold_change_of_client, hold_client

ADD, CHANGE = "loyalty.add_apiclient", "loyalty.change_apiclient"
ADDRESSES = {
    "issue": "<str:object_id>/issue/",
    "revoke": "<str:object_id>/revoke/",
    "reinstate": "<str:object_id>/reinstate/",
    "revoke_secret": "<str:object_id>/secrets/<int:secret_id>/revoke/",
}


LABEL = forms.CharField(
    label="Label of the secret",
    required=False,
    max_length=100,
    widget=UnfoldAdminTextInputWidget,
    help_text="What you call it, such as the till or server that uses it.",
)


class SecretForm(ReasonForm):
    """Another secret of an API client."""

    label = LABEL
    field_order = ["label", "reason"]


class NewClientForm(ReasonForm):
    """A new API client of one of the user's orgs."""

    org = forms.ModelChoiceField(Org.objects.none(), widget=UnfoldAdminSelectWidget)
    username = forms.CharField(
        max_length=150,
        widget=UnfoldAdminTextInputWidget,
        help_text="The username that the client sends with each call. Printable characters, no colon.",
    )
    label = LABEL
    field_order = ["org", "username", "label", "reason"]

    def __init__(self, request: HttpRequest) -> None:
        super().__init__(request.POST or None, initial={"org": current_org(request)})
        self.fields["org"].queryset = orgs_of(request.user).order_by("id")  # type: ignore[attr-defined]


@admin.register(ApiClient)
class ApiClientAdmin(PageAdmin):
    """API clients. Each change asks for a reason. A secret is shown once, in the response that issues it."""

    list_display = ["username", "org", "is_active", "live_secrets", "last_used", "created_at"]
    list_select_related = ["org"]
    search_fields = ["=username"]
    search_help_text = "Enter a complete username."
    page_template = "admin/loyalty/apiclient/page.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiClient]:
        secrets = ApiSecret.objects.filter(org=OuterRef("org"), client=OuterRef("pk")).order_by().values("client")
        return (
            super()
            .get_queryset(request)
            .annotate(
                secret_count=Subquery(secrets.annotate(value=Count("pk")).values("value")),
                used_at=Subquery(secrets.annotate(value=Max("last_used_at")).values("value")),
            )
        )

    def get_urls(self) -> list[URLPattern]:
        own = [
            path(address, self.admin_site.admin_view(getattr(self, name)), name=f"loyalty_apiclient_{name}")
            for name, address in ADDRESSES.items()
        ]
        return [*own, *super().get_urls()]

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm(ADD)

    @admin.display(description="live secrets")
    def live_secrets(self, client: ApiClient) -> int:
        return client.secret_count or 0  # type: ignore[attr-defined]

    @admin.display(description="last used (to the hour)")
    def last_used(self, client: ApiClient) -> str:
        return _written(client.used_at)  # type: ignore[attr-defined]

    def page(self, request: HttpRequest, row: ApiClient) -> dict[str, Any]:
        may_change = request.user.has_perm(CHANGE)
        secrets = list(ApiSecret.objects.filter(org_id=row.org_id, client=row).order_by("created_at", "id"))
        return {
            "title": f"API client {row.username}",
            "facts": _facts(row),
            "secrets": _secrets(row, secrets, may_change=may_change),
            "may_change": may_change,
            "may_issue": may_change and len(secrets) < LIVE_SECRETS,
        }

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = NewClientForm(request)

        def add(given: dict[str, Any]) -> tuple[ApiClient, str] | HeldChange:
            about = {"org": given["org"], "username": given["username"], "label": given["label"]}
            try:
                client, secret = create_api_client(**about)
            except NeedsSecondUser:
                return hold_client(**about, reason=given["reason"], asked_by=request.user.get_username())
            after = {"username": client.username, "active": True, "live secrets": 1} | _named(secret, given["label"])
            _record(request, client, "added", given["reason"], before={}, after=after)
            return client, secret

        added = done(form, add)
        if isinstance(added, HeldChange):
            return self._wait(request, added, reverse("admin:loyalty_apiclient_changelist"))
        if added is not None:
            return self._show_once(request, *added)
        text = "A till or a back end that may call the API for the org. The next page shows its secret once."
        back = reverse("admin:loyalty_apiclient_changelist")
        return ask(request, self, form, title="Add an API client", text=text, button="Add API client", back=back)

    def issue(self, request: HttpRequest, object_id: str) -> HttpResponse:
        client = self._client(request, object_id)
        form = SecretForm(request.POST or None)

        def issue(given: dict[str, Any]) -> str | HeldChange:
            try:
                secret = add_secret(client, label=given["label"])
            except NeedsSecondUser:
                return self._hold(request, client, HeldChange.Kind.SECRET, given["reason"], label=given["label"])
            count = ApiSecret.objects.filter(org_id=client.org_id, client=client).count()
            before, after = {"live secrets": count - 1}, {"live secrets": count} | _named(secret, given["label"])
            _record(request, client, "secret issued", given["reason"], before=before, after=after)
            return secret

        secret = done(form, issue)
        if isinstance(secret, HeldChange):
            return self._wait(request, secret, _page_of(client))
        if secret is not None:
            return self._show_once(request, client, secret)
        title, text = (
            f"Issue another secret for {client.username}",
            "The next page shows the new secret once. The present secret keeps working."
            " Revoke it as soon as the client uses the new one.",
        )
        return ask(request, self, form, title=title, text=text, button="Issue secret", back=_page_of(client))

    def revoke_secret(self, request: HttpRequest, object_id: str, secret_id: int) -> HttpResponse:
        client = self._client(request, object_id)
        form = ReasonForm(request.POST or None)

        def revoke(given: dict[str, Any]) -> ApiSecret:
            secret = revoke_secret(client, secret_id)
            kept = {"issued": _written(secret.created_at), "last used": _written(secret.last_used_at)}
            kept |= {"fingerprint": secret.fingerprint, "label": secret.label}
            _record(request, client, "secret revoked", given["reason"], before=kept, after={})
            return secret

        secret = done(form, revoke)
        if secret is not None:
            self.message_user(
                request, f"The secret issued on {_written(secret.created_at)} is revoked.", messages.SUCCESS
            )
            return redirect(_page_of(client))
        title, text = f"Revoke a secret of {client.username}", "Calls with this secret are refused (401) from now on."
        back = _page_of(client)
        return ask(request, self, form, title=title, text=text, button="Revoke secret", back=back, is_dangerous=True)

    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponse:
        text = "Its calls are refused (401) from now on, with any secret. You can reinstate the client later."
        return self._set_active(request, object_id, False, action="revoked", button="Revoke client", text=text)

    def reinstate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        text = "Its calls are accepted again, with the secrets that it has."
        return self._set_active(request, object_id, True, action="reinstated", button="Reinstate client", text=text)

    def _set_active(
        self, request: HttpRequest, object_id: str, is_active: bool, *, action: str, button: str, text: str
    ) -> HttpResponse:
        client = self._client(request, object_id)
        form = ReasonForm(request.POST or None)

        def change(given: dict[str, Any]) -> ApiClient | HeldChange:
            try:
                set_api_client_active(client, is_active=is_active)
            except NeedsSecondUser:
                return self._hold(request, client, HeldChange.Kind.REINSTATE, given["reason"])
            before, after = {"active": not is_active}, {"active": is_active}
            _record(request, client, action, given["reason"], before=before, after=after)
            return client

        changed = done(form, change)
        if isinstance(changed, HeldChange):
            return self._wait(request, changed, _page_of(client))
        if changed is not None:
            self.message_user(request, f"{client.username} is {action}.", messages.SUCCESS)
            return redirect(_page_of(client))
        title, back = f"{button.split()[0]} {client.username}", _page_of(client)
        return ask(
            request,
            self,
            form,
            title=title,
            text=text,
            button=button,
            back=back,
            is_dangerous=not is_active,
        )

    def _client(self, request: HttpRequest, object_id: str) -> ApiClient:
        """Returns the client, if the user may change it."""
        if not request.user.has_perm(CHANGE):
            raise PermissionDenied
        client: ApiClient | None = self.get_object(request, object_id)
        if client is None:
            raise Http404
        return client

    def _hold(
        self, request: HttpRequest, client: ApiClient, kind: HeldChange.Kind, reason: str, *, label: str = ""
    ) -> HeldChange:
        asked_by = request.user.get_username()
        return hold_change_of_client(client, kind, label=label, reason=reason, asked_by=asked_by)

    def _wait(self, request: HttpRequest, held: HeldChange, back: str) -> HttpResponse:
        self.message_user(request, waits_for_second_user(held), messages.INFO)
        return redirect(back)

    def _show_once(self, request: HttpRequest, client: ApiClient, secret: str) -> HttpResponse:
        # The response to the POST itself shows the secret, so that no session, message or address ever contains it.
        # `admin_view` tells the browser not to store the page.
        return self.render_page(request, "admin/loyalty/apiclient/secret.html", client, new_secret(client, secret))


def _record(
    request: HttpRequest,
    client: ApiClient,
    action: str,
    reason: str,
    *,
    before: dict[str, Any],
    after: dict[str, Any],
) -> None:
    made_by = request.user.get_username()
    record_change(client, org=client.org, action=action, made_by=made_by, reason=reason, before=before, after=after)


def _facts(client: ApiClient) -> list[tuple[str, Any]]:
    return [
        ("Org", client.org),
        ("Username", client.username),
        ("State", "active" if client.is_active else "revoked: its calls are refused (401)"),
        (
            "Calls a minute",
            "default" if client.calls_per_minute is None else client.calls_per_minute or "no limit",
        ),
        ("Created", _written(client.created_at)),
    ]


def _secrets(client: ApiClient, secrets: list[ApiSecret], *, may_change: bool) -> dict[str, Any]:
    mark = pepper_mark()
    rows = [
        [
            secret.label or "no label",
            secret.fingerprint or "not known",
            _written(secret.created_at),
            _written(secret.last_used_at),
            secret.last_used_from or "",
            "present pepper" if secret.pepper == mark else "former pepper",
        ]
        for secret in secrets
    ]
    headers = ["Label", "Fingerprint", "Issued", "Last used (to the hour)", "Last used from", "Hashed with"]
    if not may_change:
        return {"headers": headers, "rows": rows}
    for row, secret in zip(rows, secrets, strict=True):
        link = reverse("admin:loyalty_apiclient_revoke_secret", args=[client.pk, secret.pk])
        row.append(format_html('<a class="text-link" href="{}">Revoke the secret issued on {}</a>', link, row[2]))
    return {"headers": [*headers, "Revoke"], "rows": rows}


def _named(secret: str, label: str) -> dict[str, str]:
    """Returns what the record says of a new secret, which is never the secret itself."""
    return {"fingerprint": fingerprint_of(secret)} | ({"label": label} if label else {})


def _page_of(client: ApiClient) -> str:
    return reverse("admin:loyalty_apiclient_change", args=[client.pk])


def _written(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC" if time else "never"
