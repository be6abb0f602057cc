"""EMF settings and their history as lists; an org's page of all its settings is where they are changed."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from loyalty.admin.base import BackOfficeAdmin, OneOrg, ReadOnly, Undeletable
from loyalty.emf import REGISTRY, InvalidSetting, check_value, known_key
from loyalty.models import EmfChange, EmfSetting
from loyalty.service import set_emf


class EmfSettingForm(forms.ModelForm):
    """One setting, with the ticket and the reason that its history keeps."""

    value = forms.CharField(
        max_length=500,
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="Empty: remove it, so that the org's value or the default is in force again.",
    )
    ticket = forms.CharField(
        max_length=100, widget=UnfoldAdminTextInputWidget, help_text="The ticket that asks for this change."
    )
    reason = forms.CharField(max_length=500, widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}))

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
        if self.instance._state.adding and "value" in values and not values["value"]:
            self.add_error("value", "Nothing is set there, so there is nothing to remove; expected a value.")
        if key and values.get("value"):
            try:
                check_value(known_key(key), values["value"], for_program=program is not None)
            except InvalidSetting as error:
                self.add_error("value", str(error))
        return values


class OfKey(admin.SimpleListFilter):
    """The changes of one key. The keys come from the registry: asking the table would read all of it."""

    title = "key"
    parameter_name = "key"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in REGISTRY]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        return queryset.filter(key=self.value()) if self.value() else queryset


@admin.register(EmfSetting)
class EmfSettingAdmin(Undeletable, BackOfficeAdmin):
    form = EmfSettingForm
    list_display = ["key", "value", "org_page", "program", "meaning"]
    list_filter = [OneOrg, OfKey]
    list_select_related = ["org", "program"]
    search_fields = ["key", "value", "=program__public_id"]
    ordering = ["key", "id"]

    def get_readonly_fields(self, request: HttpRequest, obj: EmfSetting | None = None) -> list[str]:
        return [] if obj is None else ["org", "program", "key", "meaning"]

    @admin.display(description="org, with all its settings")
    def org_page(self, setting: EmfSetting) -> str:
        address = reverse("admin:org_emf", args=[setting.org_id])
        return format_html('<a class="text-link" href="{}">{}</a>', address, setting.org)

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
class EmfChangeAdmin(ReadOnly, BackOfficeAdmin):
    list_display = ["changed_at", "key", "old_value", "new_value", "program", "ticket", "reason", "changed_by"]
    list_filter = [OneOrg, OfKey]
    list_select_related = ["program"]
    ordering = ["-changed_at", "-id"]
