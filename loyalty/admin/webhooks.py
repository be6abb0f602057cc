"""The pages of webhooks, the addresses to which an org's events are delivered."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from loyalty.admin.base import OneOrg, ReasonedAdmin, ReasonedForm
from loyalty.clients.credentials import webhook_secret
from loyalty.errors import InvalidOperation
from loyalty.models import EventName, Webhook
from loyalty.webhooks import checked_url, end_rest


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
        return ["secret", *state] if self.has_change_permission(request) else state

    @admin.display(description="signing secret")
    def secret(self, webhook: Webhook) -> str:
        return webhook_secret(webhook.id)

    @admin.display(description="rests", empty_value="no")
    def rests(self, webhook: Webhook) -> str | None:
        return webhook.rest() or None

    def save_model(self, request: HttpRequest, obj: Webhook, form: WebhookForm, change: bool) -> None:
        end_rest(obj)
        super().save_model(request, obj, form, change)
