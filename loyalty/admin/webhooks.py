"""Webhooks: where an org's events go."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db import models
from django.http import HttpRequest

from loyalty.admin.base import BackOfficeAdmin, Undeletable
from loyalty.credentials import webhook_secret
from loyalty.models import EventName, Webhook
from loyalty.service import NotPossible, change_webhook, checked_url, create_webhook


class WebhookForm(forms.ModelForm):
    """One webhook, with its events to choose from."""

    event_names = forms.MultipleChoiceField(
        label="Events", choices=EventName.choices, initial=EventName.values, widget=forms.CheckboxSelectMultiple
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
        except NotPossible as error:
            raise forms.ValidationError(str(error)) from error

    def clean_event_names(self) -> str:
        return ",".join(self.cleaned_data["event_names"])


@admin.register(Webhook)
class WebhookAdmin(Undeletable, BackOfficeAdmin):
    """Saving an active webhook ends its rest, and what its receiver did to disable it."""

    form = WebhookForm
    list_display = ["name", "org", "url", "is_active", "disabled_reason", "unreachable_count", "rests_until"]
    list_filter = ["is_active"]
    list_select_related = ["org"]
    search_fields = ["=org__id", "name"]
    ordering = ["-id"]
    actions = ["enable"]

    def get_fields(self, request: HttpRequest, obj: Webhook | None = None) -> list[Any]:
        given = ["org", "name", "url", "event_names"]
        return given if obj is None else [*given, "is_active", *self._shown(request)]

    def get_readonly_fields(self, request: HttpRequest, obj: Webhook | None = None) -> list[str]:
        return [] if obj is None else ["org", "name", *self._shown(request)]

    def _shown(self, request: HttpRequest) -> list[str]:
        state = ["disabled_at", "disabled_reason", "unreachable_count", "rests_until", "created_at"]
        return ["secret", *state] if self.has_change_permission(request) else state

    @admin.display(description="signing secret")
    def secret(self, webhook: Webhook) -> str:
        return webhook_secret(webhook.id)

    @admin.action(description="Enable, and end the rest", permissions=["change"])
    def enable(self, request: HttpRequest, webhooks: models.QuerySet[Webhook]) -> None:
        for webhook in webhooks:
            names = webhook.event_names.split(",")
            change_webhook(webhook, url=webhook.url, event_names=names, is_active=True)
            self.message_user(request, f"{webhook} is active.")

    def save_model(self, request: HttpRequest, obj: Webhook, form: WebhookForm, change: bool) -> None:
        event_names = obj.event_names.split(",")
        if change:
            change_webhook(obj, url=obj.url, event_names=event_names, is_active=obj.is_active)
        else:
            obj.pk = create_webhook(org=obj.org, name=obj.name, url=obj.url, event_names=event_names).pk
