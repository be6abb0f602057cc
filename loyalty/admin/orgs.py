"""The pages of orgs, their programs, and their reason codes for manual reversals."""

from typing import Any
from zoneinfo import available_timezones

from django import forms
from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from unfold.widgets import UnfoldAdminSelectWidget

from loyalty.admin import switching
from loyalty.admin.base import OneOrg, ReasonedAdmin, ReasonedForm
from loyalty.admin.statuses import badge, status_of_org
from loyalty.emf.registry import EmfSettings
from loyalty.models import Org, OrgAccess, Program, ReasonCode
from loyalty.orgs import add_first_reason_codes
from loyalty.staff.audit import record_change


class OrgForm(ReasonedForm):
    """An org. Its id must be a positive whole number."""

    time_zone = forms.ChoiceField(
        choices=lambda: [(name, name) for name in sorted(available_timezones())],
        initial="UTC",
        required=False,
        widget=UnfoldAdminSelectWidget,
        help_text=Org._meta.get_field("time_zone").help_text,
    )

    def clean_time_zone(self) -> str:
        return self.cleaned_data["time_zone"] or self.instance.time_zone

    def clean_id(self) -> int:
        org_id: int = self.cleaned_data["id"]
        if org_id < 1:
            raise forms.ValidationError("Enter a positive whole number.")
        return org_id


@admin.register(Org)
class OrgAdmin(ReasonedAdmin):
    """Orgs. A new org gets a first set of reason codes, and the user who added it gets access to it."""

    form = OrgForm
    org_path = "pk"
    list_display = ["id", "name", "reversals", "emf_settings", "country", "v2_enabled", "is_active"]
    list_display_links = ["id", "name"]
    search_fields = ["=id", "name"]
    ordering = ["id"]
    actions = [switching.turn_on, switching.turn_off, switching.pause, switching.end_pause]

    def has_switch_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("loyalty.change_emfsetting")

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        return super().get_queryset(request).prefetch_related("emfsetting_set")

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        return [name for name in self.list_display if self._may_see(request, name)]

    def get_readonly_fields(self, request: HttpRequest, obj: Org | None = None) -> list[str]:
        shown = ["id", "reversals", "emf_settings", "created_at"]
        return [] if obj is None else [name for name in shown if self._may_see(request, name)]

    def _may_see(self, request: HttpRequest, name: str) -> bool:
        return name not in {"reversals", "emf_settings"} or request.user.has_perm("loyalty.view_emfsetting")

    @admin.display(description="reversals")
    def reversals(self, org: Org) -> str:
        stored = {(setting.program_id, setting.key): setting.value for setting in org.emfsetting_set.all()}
        return badge(status_of_org(EmfSettings(stored).state()))

    @admin.display(description="EMF settings")
    def emf_settings(self, org: Org) -> str:
        address = reverse("admin:org_emf", args=[org.pk])
        return format_html(
            '<a class="text-link" href="{}">Settings of {}</a>',
            address,
            org.name,
        )

    def save_model(self, request: HttpRequest, obj: Org, form: OrgForm, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if change:
            return
        add_first_reason_codes(obj)
        if not request.user.is_superuser:
            _give_access(request.user, obj, form.cleaned_data["reason"])


def _give_access(user: Any, org: Org, reason: str) -> None:
    """Gives the user who added the org access to it, and records that."""
    record_change(
        OrgAccess.objects.create(user=user, org=org),
        org=org,
        action="added",
        made_by=user.get_username(),
        reason=reason,
        before={},
        after={"user": user.get_username(), "org": org.id},
    )


@admin.register(Program)
class ProgramAdmin(ReasonedAdmin):
    list_display = ["public_id", "name", "org", "is_active"]
    list_filter = [OneOrg]
    list_select_related = ["org"]
    search_fields = ["=public_id", "name"]

    def get_readonly_fields(self, request: HttpRequest, obj: Program | None = None) -> list[str]:
        return [] if obj is None else ["org", "public_id"]


@admin.register(ReasonCode)
class ReasonCodeAdmin(ReasonedAdmin):
    list_display = ["code", "operation", "meaning", "org", "is_active"]
    list_filter = [OneOrg, "operation"]
    list_select_related = ["org"]
    search_fields = ["=code", "meaning"]
    ordering = ["operation", "code", "id"]

    def get_readonly_fields(self, request: HttpRequest, obj: ReasonCode | None = None) -> list[str]:
        return [] if obj is None else ["org", "operation", "code"]
