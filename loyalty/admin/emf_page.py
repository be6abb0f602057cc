"""The EMF settings pages of an org: the values in force with their sources, and the form that changes a setting."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.sites import site
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from loyalty.admin.held_changes import waits_for_second_user
from loyalty.emf import registry as emf
from loyalty.emf.registry import (
    REGISTRY,
    EmfGroup,
    EmfKey,
    EmfSettings,
    InvalidSetting,
    Whole,
    check_value,
    in_units,
    in_words,
)
from loyalty.emf.stored import set_emf, settings_of
from loyalty.emf.warnings import contradictions
from loyalty.errors import InvalidOperation, NeedsSecondUser
from loyalty.ledger.queries import programs_of
from loyalty.models import EmfChange, Org, Program
from loyalty.staff import held_changes
from loyalty.staff.access import orgs_of
from loyalty.staff.current_org import current_org

CHANGES_SHOWN = 20
ALREADY_UNSET = "Nothing would change: the setting is already not set."
CHOICES: dict[Callable[[str], object], tuple[str, ...]] = {emf.yes_no: ("yes", "no"), emf.dialect: emf.DIALECTS}


@dataclass(frozen=True, slots=True)
class Value:
    """The value of a setting for the org or a program, as text: as stored in `words`, and as staff read it in `shown`.

    `problem` says why a stored value is not valid.
    """

    words: str
    shown: str
    source: str
    problem: str = ""
    program: Program | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of the registry, with its value for the org and for each program that overrides it."""

    key: EmfKey[object]
    value: Value
    of_programs: list[Value]


def value_at(settings: EmfSettings, key: EmfKey[object], program: Program | None = None) -> Value:
    """Returns the value in force for the org or the program, with its source: program, org or default."""
    source = "default" if settings.text(key) is None else "org"
    if program is not None and settings.text(key, program.id) is not None:
        source = "program"
    try:
        value = settings.get(key, program.id if program else None)
        return Value(in_words(value), in_units(key, value), source, program=program)
    except InvalidSetting as error:
        return Value("broken", "broken", source, str(error), program)


def value_field(key: EmfKey[object]) -> forms.Field:
    """Returns the form field for the type of the key's value. An empty field removes the stored value."""
    options: dict[str, Any] = {
        "label": f"{key.label} in {key.unit}s" if key.unit else key.label,
        "required": False,
        "help_text": (
            f"{key.meaning} If empty, a program uses the org's value, and the org uses the default"
            f" ({in_units(key, key.default)})."
        ),
    }
    if isinstance(key.read, Whole):
        limits: dict[str, Any] = {"min_value": key.read.lowest, "max_value": key.read.highest}
        return forms.IntegerField(widget=UnfoldAdminIntegerFieldWidget, **limits, **options)
    if key.read is emf.points:
        digits: dict[str, Any] = {"min_value": 0, "max_digits": 15, "decimal_places": 3}
        return forms.DecimalField(widget=UnfoldAdminDecimalFieldWidget(attrs={"step": "0.001"}), **digits, **options)
    if key.read is emf.statuses:
        choices = [(status, status) for status in emf.STATUSES]
        return forms.MultipleChoiceField(choices=choices, widget=UnfoldAdminCheckboxSelectMultipleWidget, **options)
    choices = [("", "not set"), *((choice, choice) for choice in CHOICES[key.read])]
    return forms.ChoiceField(choices=choices, widget=UnfoldAdminSelectWidget, **options)


class ValueForm(forms.Form):
    """One value of one key, for the org or one of its programs, with a ticket and a reason.

    If other settings conflict with the change, the form lists the conflicts. The user must tick each to save anyway.
    """

    program = forms.ChoiceField(label="Applies to", required=False, widget=UnfoldAdminSelectWidget)
    ticket = forms.CharField(
        max_length=100, widget=UnfoldAdminTextInputWidget, help_text="The ticket that requests this change."
    )
    reason = forms.CharField(
        max_length=500,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text="Why you are making this change. The reason is kept with the change forever.",
    )
    field_order = ["program", "value"]

    def __init__(
        self, key: EmfKey[object], settings: EmfSettings, programs: Mapping[int, Program], *args: Any, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.key, self.settings = key, settings
        self.programs = {str(program.public_id): program for program in programs.values()}
        self.fields["value"] = value_field(key)
        if key.org_only or not self.programs:
            del self.fields["program"]
        else:
            choices = [("", "the whole org"), *((public_id, str(each)) for public_id, each in self.programs.items())]
            self.fields["program"].choices = choices  # type: ignore[attr-defined]
        self.order_fields(self.field_order)

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if "value" not in values or self.errors.get("program"):
            return values
        values["program"] = program = self.programs.get(values.get("program", ""))
        values["value"] = text = as_text(values["value"])
        program_id = program.id if program else None
        if text == (self.settings.text(self.key, program_id) or ""):
            self.add_error("value", f"Nothing would change: the value is already {text}." if text else ALREADY_UNSET)
            return values
        try:
            if text:
                check_value(self.key, text, for_program=program is not None)
        except InvalidSetting as error:
            self.add_error("value", str(error))
            return values
        self._confirm_contradictions(program_id, text)
        return values

    def _confirm_contradictions(self, program_id: int | None, text: str) -> None:
        names = {program.id: str(program) for program in self.programs.values()}
        as_saved = self.settings.with_text(self.key, program_id, text)
        found = contradictions(as_saved, names, key=self.key, program_id=program_id)
        if not found:
            return
        widget = UnfoldAdminCheckboxSelectMultipleWidget()
        choices = [(sentence, sentence) for sentence in found]
        self.fields["anyway"] = forms.MultipleChoiceField(label="Save anyway", choices=choices, widget=widget)
        if not set(found) <= set(self["anyway"].data or []):
            self.add_error(
                "anyway",
                "The change conflicts with other settings. Tick each sentence to save it anyway, or change the value.",
            )


def as_text(value: Any) -> str:
    """Returns a cleaned value as settings store it, or an empty string if there is no value."""
    if isinstance(value, list):
        return ",".join(value)
    return "" if value is None else in_words(value)


def settings_page(request: HttpRequest, org_id: int) -> HttpResponseBase:
    """Shows all settings of the org, the conflicts between them, and the newest changes."""
    org = _org(request, org_id, "loyalty.view_emfsetting")
    settings, programs = settings_of(org.id), programs_of(org.id)
    names = {program.id: str(program) for program in programs.values()}
    found = [each for key in REGISTRY.values() for each in contradictions(settings, names, key=key)]
    return _page(
        request,
        "admin/loyalty/emf.html",
        org,
        title=f"EMF settings of {org}",
        settings=sorted(
            (_setting(settings, key, programs) for key in REGISTRY.values()),
            key=lambda setting: list(EmfGroup).index(setting.key.group),
        ),
        switches=[(key, value_at(settings, key)) for key in (emf.ALLOW_REVERSAL, emf.PAUSED)],
        contradictions=dict.fromkeys(found),
        changes=_changes(request, org),
    )


def current_settings_page(request: HttpRequest) -> HttpResponseBase:
    """Shows all settings of the org that the user works on now."""
    org = current_org(request)
    if org is None:
        raise PermissionDenied
    return settings_page(request, org.id)


def change_page(request: HttpRequest, org_id: int, name: str) -> HttpResponseBase:
    """Shows the form for one key, and saves it. `?program=` and `?value=` prefill the form but save nothing."""
    org = _org(request, org_id, "loyalty.change_emfsetting")
    if name not in REGISTRY:
        raise Http404(f"{name} is not an EMF setting")
    key, settings, programs = REGISTRY[name], settings_of(org.id), programs_of(org.id)
    initial = _initial(request, key, settings, programs)
    form = ValueForm(key, settings, programs, request.POST if request.method == "POST" else None, initial=initial)
    if form.is_valid() and _save(request, org, form):
        return redirect("admin:org_emf", org.id)
    return _page(
        request,
        "admin/loyalty/emf_change.html",
        org,
        title=f"{key.label}: {org}",
        form=form,
        effect=key.effects.get(str(form["value"].value() or "")),
        setting=_setting(settings, key, programs),
        changes=_changes(request, org, key=name),
    )


def _org(request: HttpRequest, org_id: int, permission: str) -> Org:
    if not request.user.has_perm(permission):
        raise PermissionDenied
    return get_object_or_404(orgs_of(request.user), id=org_id)


def _setting(settings: EmfSettings, key: EmfKey[object], programs: Mapping[int, Program]) -> Setting:
    own = [program for program in programs.values() if settings.text(key, program.id) is not None]
    return Setting(key, value_at(settings, key), [value_at(settings, key, program) for program in own])


def _initial(
    request: HttpRequest, key: EmfKey[object], settings: EmfSettings, programs: Mapping[int, Program]
) -> dict[str, Any]:
    """Returns the form's initial values: program and value of the link, else the value that is stored there."""
    public_id = request.GET.get("program", "")
    program = next((each for each in programs.values() if str(each.public_id) == public_id), None)
    if public_id and program is None:
        raise Http404("the org has no such program")
    text = settings.text(key, program.id if program else None) or ""
    value = request.GET.get("value", text)
    return {"program": public_id, "value": value.split(",") if key.read is emf.statuses else value}


def _save(request: HttpRequest, org: Org, form: ValueForm) -> bool:
    """Saves the change, or requests that a second user confirms it. If it is refused, the form has the error."""
    values, username = form.cleaned_data, request.user.get_username()
    change = {
        "org": org,
        "program": values["program"],
        "key": form.key.name,
        "value": values["value"],
        "ticket": values["ticket"],
        "reason": values["reason"],
    }
    try:
        set_emf(**change, changed_by=username)
    except NeedsSecondUser:
        held = held_changes.hold_limit(**change, asked_by=username)
        messages.info(request, waits_for_second_user(held))
        return True
    except (InvalidSetting, InvalidOperation) as error:
        form.add_error(None, str(error))
        return False
    place = f"program {values['program']}" if values["program"] else "the org"
    messages.success(request, f"{form.key.label} ({form.key.name}) is now {values['value'] or 'not set'} for {place}.")
    return True


def _changes(request: HttpRequest, org: Org, **filters: str) -> dict[str, Any] | None:
    """Returns the newest changes and the address of the full list, or None if the user may not see changes."""
    if not request.user.has_perm("loyalty.view_emfchange"):
        return None
    newest = EmfChange.objects.filter(org=org, **filters).select_related("program").order_by("-changed_at", "-id")
    address = reverse("admin:loyalty_emfchange_changelist", query={"org": org.id, **filters})
    return {"newest": newest[:CHANGES_SHOWN], "address": address}


def _page(request: HttpRequest, template: str, org: Org, **context: Any) -> TemplateResponse:
    may_change = request.user.has_perm("loyalty.change_emfsetting")
    shared = {**site.each_context(request), "org": org, "may_change": may_change}
    return TemplateResponse(request, template, shared | context)


site.add_page("emf/", current_settings_page, name="emf")  # type: ignore[attr-defined]
site.add_page("loyalty/org/<int:org_id>/emf/", settings_page, name="org_emf")  # type: ignore[attr-defined]
site.add_page("loyalty/org/<int:org_id>/emf/<str:name>/", change_page, name="org_emf_change")  # type: ignore[attr-defined]
