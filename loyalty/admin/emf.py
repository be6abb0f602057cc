"""EMF settings: the switch and its companions, changed with a ticket and a reason."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest

from loyalty.admin.base import BackOfficeAdmin, ReadOnly, Undeletable
from loyalty.emf import REGISTRY, InvalidSetting, check_value, known_key
from loyalty.models import EmfChange, EmfSetting
from loyalty.service import set_emf


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
class EmfSettingAdmin(Undeletable, BackOfficeAdmin):
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
class EmfChangeAdmin(ReadOnly, BackOfficeAdmin):
    list_display = ["changed_at", "org", "program", "key", "old_value", "new_value", "ticket", "reason", "changed_by"]
    list_filter = ["key"]
    list_select_related = ["org", "program"]
    ordering = ["-id"]
