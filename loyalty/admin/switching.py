"""Actions on the list of orgs: turn reversals on or off, or pause them, for several orgs at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.sites import site
from django.db import models, transaction
from django.http import HttpRequest, HttpResponseBase
from django.template.response import TemplateResponse
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from loyalty.admin.emf_page import Value, value_at
from loyalty.emf.registry import ALLOW_REVERSAL, PAUSED, EmfKey, EmfSettings
from loyalty.emf.stored import set_emf, settings_of_orgs
from loyalty.emf.warnings import contradictions
from loyalty.models import Org, Program


class SwitchForm(forms.Form):
    """One ticket and one reason, which are recorded with each org's change."""

    ticket = forms.CharField(
        max_length=100, widget=UnfoldAdminTextInputWidget, help_text="The ticket that requests this change."
    )
    reason = forms.CharField(
        max_length=500,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text="Why you are making this change. The reason is kept with each org's change forever.",
    )


@dataclass(frozen=True, slots=True)
class Switching:
    """The effect of the action on one org: the value before, and the settings that conflict with the new value."""

    org: Org
    before: Value
    is_change: bool
    notes: list[str]


@admin.action(description="Turn reversals on", permissions=["switch"])
def turn_on(model_admin: Any, request: HttpRequest, orgs: models.QuerySet[Org]) -> HttpResponseBase | None:
    return _switch(request, orgs, "turn_on", ALLOW_REVERSAL, "yes")


@admin.action(description="Turn reversals off", permissions=["switch"])
def turn_off(model_admin: Any, request: HttpRequest, orgs: models.QuerySet[Org]) -> HttpResponseBase | None:
    return _switch(request, orgs, "turn_off", ALLOW_REVERSAL, "no")


@admin.action(description="Pause reversals", permissions=["switch"])
def pause(model_admin: Any, request: HttpRequest, orgs: models.QuerySet[Org]) -> HttpResponseBase | None:
    return _switch(request, orgs, "pause", PAUSED, "yes")


@admin.action(description="End the pause of reversals", permissions=["switch"])
def end_pause(model_admin: Any, request: HttpRequest, orgs: models.QuerySet[Org]) -> HttpResponseBase | None:
    return _switch(request, orgs, "end_pause", PAUSED, "no")


def _switch(
    request: HttpRequest, orgs: models.QuerySet[Org], action: str, key: EmfKey[object], value: str
) -> HttpResponseBase | None:
    """Asks for confirmation, with each org's value before and after. Then changes all orgs or, on an error, none."""
    form = SwitchForm(request.POST if "confirmed" in request.POST else None)
    if form.is_valid():
        _apply(request, orgs, key, value, form.cleaned_data)
        return None
    planned = _plan(orgs, key, value)
    context = {
        "title": f"Set {key.name} to {value}",
        "form": form,
        "planned": planned,
        "has_change": any(switching.is_change for switching in planned),
        "key": key,
        "value": value,
        "effect": key.effects.get(value, key.meaning),
        "action": action,
    }
    return TemplateResponse(request, "admin/loyalty/switch.html", site.each_context(request) | context)


def _plan(orgs: models.QuerySet[Org], key: EmfKey[object], value: str) -> list[Switching]:
    found = list(orgs.order_by("id"))
    settings = settings_of_orgs([org.id for org in found])
    programs: dict[int, dict[int, str]] = {org.id: {} for org in found}
    for program in Program.objects.filter(org__in=found).order_by("id"):
        programs[program.org_id][program.id] = str(program)
    return [_switching(org, settings[org.id], programs[org.id], key, value) for org in found]


def _switching(
    org: Org, settings: EmfSettings, programs: Mapping[int, str], key: EmfKey[object], value: str
) -> Switching:
    notes = contradictions(settings.with_text(key, None, value), programs, key=key)
    before = value_at(settings, key)
    return Switching(org, before, before.words != value, notes)


@transaction.atomic
def _apply(
    request: HttpRequest, orgs: models.QuerySet[Org], key: EmfKey[object], value: str, why: Mapping[str, str]
) -> None:
    planned = _plan(orgs, key, value)
    changed = [switching.org for switching in planned if switching.is_change]
    for org in changed:
        set_emf(
            org=org,
            key=key.name,
            value=value,
            ticket=why["ticket"],
            reason=why["reason"],
            changed_by=request.user.get_username(),
        )
    messages.success(request, _summary(key, value, changed=len(changed), unchanged=len(planned) - len(changed)))


def _summary(key: EmfKey[object], value: str, *, changed: int, unchanged: int) -> str:
    sentences = [f"{key.name} is now {value} for {changed} org{'' if changed == 1 else 's'}."]
    if unchanged:
        sentences.append(f"It was already {value} for {unchanged} org{'' if unchanged == 1 else 's'}.")
    return " ".join(sentences)
