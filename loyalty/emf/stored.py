"""Reads and changes the stored EMF settings of orgs."""

from collections.abc import Collection
from typing import Any

from django.db import transaction
from django.utils import timezone

from loyalty.emf.registry import EmfKey, EmfSettings, check_value, known_key
from loyalty.errors import InvalidOperation, NeedsSecondUser
from loyalty.models import EmfChange, EmfSetting, Org, Program
from loyalty.request_id import current_request_id


def settings_of(org_id: int) -> EmfSettings:
    """Returns the stored settings of an org. API calls use `find_caller` instead."""
    rows = EmfSetting.objects.filter(org_id=org_id).values_list("program_id", "key", "value")
    return EmfSettings({(program_id, key): value for program_id, key, value in rows})


def settings_of_orgs(org_ids: Collection[int]) -> dict[int, EmfSettings]:
    """Returns the stored settings of several orgs, by org id."""
    stored: dict[int, dict[tuple[int | None, str], str]] = {org_id: {} for org_id in org_ids}
    rows = EmfSetting.objects.filter(org_id__in=org_ids).values_list("org_id", "program_id", "key", "value")
    for org_id, program_id, key, value in rows:
        stored[org_id][program_id, key] = value
    return {org_id: EmfSettings(texts) for org_id, texts in stored.items()}


@transaction.atomic
def set_emf(
    *,
    org: Org,
    key: str,
    value: str,
    ticket: str,
    reason: str,
    changed_by: str,
    program: Program | None = None,
    is_confirmed: bool = False,
) -> EmfChange:
    """Sets one EMF setting and records the change. The value is in force from the next request on.

    An empty value removes the stored one, so that the org's value or the default is in force again.
    Raises InvalidSetting for an unknown key or an invalid value, and ValidationError if a text is too long.
    Raises InvalidOperation if ticket or reason is missing, or there is no stored value to remove. Raises
    NeedsSecondUser if one user could then reverse more points alone, unless a second user has confirmed it.
    """
    emf_key = known_key(key)
    value = value.strip()
    if value:
        check_value(emf_key, value, for_program=program is not None)
    if not ticket.strip() or not reason.strip():
        raise InvalidOperation("a change of an EMF setting needs a ticket and a reason")
    # Changes of one org run one after another, so that each change records the value that it replaced.
    Org.objects.select_for_update(no_key=True).get(id=org.id)
    setting = EmfSetting.objects.filter(org=org, program=program, key=key).first()
    if setting is None and not value:
        where = "this program" if program is not None else "this org"
        raise InvalidOperation(f"{key} is not set for {where}, so it cannot be removed")
    if not is_confirmed and _raises_approval_limit(org, program, emf_key, value):
        raise NeedsSecondUser
    change = EmfChange(
        org=org,
        program=program,
        key=key,
        old_value=setting.value if setting else "",
        new_value=value,
        ticket=ticket.strip(),
        reason=reason.strip(),
        changed_by=changed_by,
    )
    _record(change)
    _store(setting or EmfSetting(org=org, program=program, key=key), value)
    return change


def _raises_approval_limit(org: Org, program: Program | None, emf_key: EmfKey[Any], value: str) -> bool:
    before = settings_of(org.id)
    return before.raises_approval_limit(before.with_text(emf_key, program.id if program is not None else None, value))


def _record(change: EmfChange) -> None:
    change.changed_at, change.request_id = timezone.now(), current_request_id()
    change.clean_fields()
    change.save(force_insert=True)


def _store(setting: EmfSetting, value: str) -> None:
    if not value:
        setting.delete()
        return
    setting.value = value
    setting.clean_fields()
    setting.save()
