"""The ledger in the admin: settings change with a ticket and a reason, and rows of the ledger are only read."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db import models
from django.http import HttpRequest

from loyalty.credentials import webhook_secret
from loyalty.emf import REGISTRY, InvalidSetting, check_value, known_key
from loyalty.models import (
    ApiClient,
    Customer,
    CustomerGroup,
    CustomerIdentifier,
    EmfChange,
    EmfSetting,
    EventName,
    GroupMember,
    Lot,
    Org,
    Program,
    Webhook,
)
from loyalty.service import NotPossible, change_webhook, checked_url, create_webhook, set_emf

admin.site.site_header = admin.site.site_title = "Loyalty back office"


class ReadOnly:
    """Rows that staff read and never write."""

    def has_add_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False


class Undeletable:
    """Rows that others refer to for ever."""

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False


@admin.register(Org)
class OrgAdmin(Undeletable, admin.ModelAdmin):
    list_display = ["id", "name", "country", "v2_enabled", "is_active"]
    search_fields = ["=id", "name"]

    def get_readonly_fields(self, request: HttpRequest, obj: Org | None = None) -> list[str]:
        return [] if obj is None else ["id"]


@admin.register(Program)
class ProgramAdmin(Undeletable, admin.ModelAdmin):
    list_display = ["public_id", "name", "org", "is_active"]
    list_select_related = ["org"]
    search_fields = ["=public_id", "name"]

    def get_readonly_fields(self, request: HttpRequest, obj: Program | None = None) -> list[str]:
        return [] if obj is None else ["org", "public_id"]


class EmfSettingForm(forms.ModelForm):
    """One setting, with the ticket and the reason that its history keeps."""

    value = forms.CharField(
        max_length=500,
        required=False,
        help_text="Empty: remove it, so that the org's value or the default is in force again.",
    )
    ticket = forms.CharField(max_length=100, help_text="The ticket that asks for this change.")
    reason = forms.CharField(max_length=500, widget=forms.Textarea(attrs={"rows": 2}))

    class Meta:
        model = EmfSetting
        fields = ["org", "program", "key", "value"]

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        key = values.get("key") or self.instance.key
        program = values.get("program", self.instance.program)
        org = values.get("org") or (self.instance.org if self.instance.org_id else None)
        if program is not None and org is not None and program.org_id != org.id:
            self.add_error("program", "This program is of another org.")
        if key and values.get("value"):
            try:
                check_value(known_key(key), values["value"], for_program=program is not None)
            except InvalidSetting as error:
                self.add_error("value", str(error))
        return values


@admin.register(EmfSetting)
class EmfSettingAdmin(Undeletable, admin.ModelAdmin):
    form = EmfSettingForm
    list_display = ["org", "program", "key", "value", "meaning"]
    list_filter = ["key"]
    list_select_related = ["org", "program"]

    def get_readonly_fields(self, request: HttpRequest, obj: EmfSetting | None = None) -> list[str]:
        return [] if obj is None else ["org", "program", "key", "meaning"]

    @admin.display(description="what it does")
    def meaning(self, setting: EmfSetting) -> str:
        return REGISTRY[setting.key].meaning if setting.key in REGISTRY else ""

    def save_model(self, request: HttpRequest, obj: EmfSetting, form: EmfSettingForm, change: bool) -> None:
        set_emf(
            org=obj.org,
            program=obj.program,
            key=obj.key,
            value=form.cleaned_data["value"],
            ticket=form.cleaned_data["ticket"],
            reason=form.cleaned_data["reason"],
            changed_by=request.user.get_username(),
        )
        stored = EmfSetting.objects.filter(org=obj.org, program=obj.program, key=obj.key).first()
        obj.pk = stored.pk if stored is not None else obj.pk


@admin.register(EmfChange)
class EmfChangeAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ["changed_at", "org", "program", "key", "old_value", "new_value", "ticket", "reason", "changed_by"]
    list_filter = ["key"]
    list_select_related = ["org", "program"]
    ordering = ["-id"]


@admin.register(ApiClient)
class ApiClientAdmin(Undeletable, admin.ModelAdmin):
    """Made by `create_api_client`, which shows the secret once; revoked here."""

    list_display = ["username", "org", "is_active", "created_at"]
    list_select_related = ["org"]
    readonly_fields = ["org", "username", "created_at"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


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
class WebhookAdmin(Undeletable, admin.ModelAdmin):
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


class IdentifierInline(ReadOnly, admin.TabularInline):
    model = CustomerIdentifier
    fields = ["type", "value"]


@admin.register(Customer)
class CustomerAdmin(Undeletable, admin.ModelAdmin):
    list_display = ["public_id", "org", "status", "reversals_locked", "reversals_locked_until"]
    list_select_related = ["org"]
    search_fields = ["=public_id"]
    readonly_fields = ["org", "public_id"]
    inlines = [IdentifierInline]
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


class MemberInline(ReadOnly, admin.TabularInline):
    model = GroupMember
    fields = ["customer", "joined_at", "left_at"]


@admin.register(CustomerGroup)
class CustomerGroupAdmin(Undeletable, admin.ModelAdmin):
    """Made by `set_group`, which also changes who is in it; turned on and off here."""

    list_display = ["public_id", "name", "org", "is_active"]
    list_select_related = ["org"]
    search_fields = ["=public_id"]
    readonly_fields = ["org", "public_id"]
    inlines = [MemberInline]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


@admin.register(Lot)
class LotAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ["lot_ref", "org", "customer", "points_awarded", "points_remaining", "awarded_at", "expires_at"]
    list_select_related = ["org", "customer"]
    search_fields = ["=lot_ref", "=customer__public_id"]
    show_full_result_count = False
    ordering = ["-id"]
