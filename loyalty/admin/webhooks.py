"""The pages of webhooks, the addresses to which an org's events are delivered."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from loyalty.admin.base import OneOrg, ReasonedAdmin, ReasonedForm
from loyalty.admin.confirmation import ReasonForm, ask, done
from loyalty.clients.credentials import pepper_mark
from loyalty.errors import InvalidOperation
from loyalty.models import EventName, Webhook
from loyalty.webhooks import checked_url, end_former_secret, end_rest, rotate_secret, signing_secrets


class WebhookForm(ReasonedForm):
    """One webhook, with the events that it receives."""

    event_names = forms.MultipleChoiceField(
        label="Events",
        choices=EventName.choices,
        initial=EventName.values,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
    )

    class Meta:
        model = Webhook
        fields = ["org", "name", "url", "is_active"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.event_names:
            self.initial["event_names"] = self.instance.event_names.split(",")

    def clean_url(self) -> str:
        try:
            return checked_url(self.cleaned_data["url"])
        except InvalidOperation as error:
            raise forms.ValidationError(str(error)) from error

    def clean_event_names(self) -> str:
        return ",".join(self.cleaned_data["event_names"])


@admin.register(Webhook)
class WebhookAdmin(ReasonedAdmin):
    """Webhooks. Saving an active one ends its pause in deliveries and enables it if its receiver disabled it."""

    form = WebhookForm
    list_display = ["name", "url", "is_active", "disabled_reason", "failure_count", "rests"]
    list_filter = [OneOrg, "is_active"]
    search_fields = ["name"]
    sortable_by = ()

    def get_fields(self, request: HttpRequest, obj: models.Model | None = None) -> list[Any]:
        given = ["org", "name", "url", "event_names"]
        shown = given if obj is None else [*given, "is_active", *self._shown(request)]
        may_save = obj is None or self.has_change_permission(request, obj)
        return [*shown, "reason"] if may_save else shown

    def get_readonly_fields(self, request: HttpRequest, obj: Webhook | None = None) -> list[str]:
        return [] if obj is None else ["org", "name", *self._shown(request)]

    def _shown(self, request: HttpRequest) -> list[str]:
        state = ["disabled_at", "disabled_reason", "failure_count", "rests", "created_at"]
        return ["secret", "former_secrets", *state] if self.has_change_permission(request) else state

    @admin.display(description="signing secret")
    def secret(self, webhook: Webhook) -> str:
        return signing_secrets(webhook)[0]

    @admin.display(description="former secrets")
    def former_secrets(self, webhook: Webhook) -> SafeString:
        """Shows the other secrets that sign events, and links to what can be done."""
        former = signing_secrets(webhook)[1:]
        page, text = ("end", "End the former secret") if former else ("rotate", "Rotate the secret")
        link = reverse(f"admin:loyalty_webhook_{page}", args=[webhook.pk])
        said = ", ".join(former) if former else "none"
        return format_html('{} <a class="text-link" href="{}">{}</a>', said, link, text)

    def get_urls(self) -> list[URLPattern]:
        own = [
            path(f"<path:object_id>/{name}/", self.admin_site.admin_view(page), name=f"loyalty_webhook_{name}")
            for name, page in (("rotate", self.rotate), ("end", self.end))
        ]
        return [*own, *super().get_urls()]

    def rotate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._change_secrets(
            request,
            object_id,
            rotate_secret,
            title="Rotate the secret of",
            text="Events are signed with a new secret and with the present one, until you end the present one. Give the"
            " new one, which the webhook's page shows, to the receiver first.",
            button="Rotate secret",
        )

    def end(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._change_secrets(
            request,
            object_id,
            end_former_secret,
            title="End the former secret of",
            text="Events are signed with the newest secret only. A receiver that does not know it refuses them.",
            button="End former secret",
        )

    def _change_secrets(
        self, request: HttpRequest, object_id: str, change: Callable[..., object], *, title: str, text: str, button: str
    ) -> HttpResponse:
        webhook = self.get_object(request, object_id)
        if not self.has_change_permission(request):
            raise PermissionDenied
        if webhook is None:
            raise Http404
        form, back = ReasonForm(request.POST or None), reverse("admin:loyalty_webhook_change", args=[webhook.pk])

        def apply(given: dict[str, Any]) -> bool:
            change(webhook, reason=given["reason"], made_by=request.user.get_username())
            return True

        if done(form, apply):
            self.message_user(request, f"The secrets of {webhook.name} are changed.", messages.SUCCESS)
            return redirect(back)
        return ask(request, self, form, title=f"{title} {webhook.name}", text=text, button=button, back=back)

    @admin.display(description="rests", empty_value="no")
    def rests(self, webhook: Webhook) -> str | None:
        return webhook.rest() or None

    def save_model(self, request: HttpRequest, obj: Webhook, form: WebhookForm, change: bool) -> None:
        end_rest(obj)
        if not change:
            obj.pepper = pepper_mark()
        super().save_model(request, obj, form, change)
