"""Changes that a second user must confirm: of approval limits, and of who may call the API of an org that has one."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from loyalty.clients.api_clients import add_secret, create_api_client, set_api_client_active
from loyalty.clients.credentials import fingerprint_of
from loyalty.emf import registry as emf
from loyalty.emf.stored import set_emf, settings_of
from loyalty.errors import InvalidOperation
from loyalty.models import ApiClient, EmfChange, HeldChange, Org, Program
from loyalty.staff.audit import record_change
from loyalty.staff.signin.resets import check_may_approve

Kind, Status = HeldChange.Kind, HeldChange.Status

# The right to make the change, which the user who confirms it needs too.
RIGHTS = {
    Kind.LIMIT: "loyalty.change_emfsetting",
    Kind.CLIENT: "loyalty.add_apiclient",
    Kind.SECRET: "loyalty.change_apiclient",
    Kind.REINSTATE: "loyalty.change_apiclient",
}


def hold_limit(
    *, org: Org, program: Program | None, key: str, value: str, ticket: str, reason: str, asked_by: str
) -> HeldChange:
    """Keeps a change of an approval limit for a second user."""
    details = {"key": key, "value": value.strip(), "program": program and program.public_id, "ticket": ticket.strip()}
    return _hold(org, Kind.LIMIT, details, reason=reason, asked_by=asked_by)


def hold_client(*, org: Org, username: str, label: str = "", reason: str, asked_by: str) -> HeldChange:
    """Keeps a new API client for a second user."""
    return _hold(org, Kind.CLIENT, {"username": username, "label": label}, reason=reason, asked_by=asked_by)


def hold_change_of_client(
    client: ApiClient, kind: HeldChange.Kind, *, label: str = "", reason: str, asked_by: str
) -> HeldChange:
    """Keeps a further secret of the client, or its reinstatement, for a second user."""
    details = {"client": client.id, "username": client.username, "label": label}
    return _hold(client.org, kind, details, reason=reason, asked_by=asked_by)


def _hold(org: Org, kind: HeldChange.Kind, details: dict[str, Any], *, reason: str, asked_by: str) -> HeldChange:
    """Returns the same request if it waits already."""
    now = timezone.now()
    waiting = HeldChange.objects.filter(org=org, status=Status.WAITING, lapses_at__gt=now, kind=kind, asked_by=asked_by)
    same = next((each for each in waiting if each.details == details), None)
    if same is not None:
        return same
    lapses_at = now + timedelta(days=settings_of(org.id).get(emf.APPROVAL_DAYS))
    held = HeldChange(org=org, kind=kind, details=details, reason=reason.strip(), asked_by=asked_by)
    held.asked_at, held.lapses_at = now, lapses_at
    held.clean_fields()
    held.save(force_insert=True)
    return held


@transaction.atomic
def confirm(held: HeldChange, *, decided_by: str, comment: str) -> tuple[ApiClient, str] | None:
    """Makes the change and records who confirmed it. Returns a new secret with its client.

    Raises InvalidOperation if the change was decided, has lapsed, was requested by this user or is no longer possible,
    or this user's sign-in was reset lately.
    """
    check_may_approve(decided_by)
    locked = _lock_waiting(held, decided_by=decided_by)
    change = {Kind.LIMIT: _set_limit, Kind.CLIENT: _add_client, Kind.SECRET: _add_secret, Kind.REINSTATE: _reinstate}
    made = change[Kind(locked.kind)](locked, decided_by)
    _decide(locked, Status.CONFIRMED, decided_by=decided_by, comment=comment)
    return made


@transaction.atomic
def reject(held: HeldChange, *, decided_by: str, comment: str) -> None:
    """Rejects the change. Raises InvalidOperation if the comment is empty or the change cannot be decided."""
    if not comment.strip():
        raise InvalidOperation("a rejection needs a comment with the reason")
    _decide(_lock_waiting(held, decided_by=decided_by), Status.REJECTED, decided_by=decided_by, comment=comment)


def _lock_waiting(held: HeldChange, *, decided_by: str) -> HeldChange:
    locked = HeldChange.objects.select_for_update(no_key=True).get(org_id=held.org_id, id=held.id)
    if locked.status != Status.WAITING:
        raise InvalidOperation(f"{locked.decided_by} has already {locked.get_status_display().lower()} the change")
    if locked.lapses_at <= timezone.now():
        raise InvalidOperation(f"the request lapsed on {locked.lapses_at:%Y-%m-%d}; create a new one")
    if decided_by == locked.asked_by:
        raise InvalidOperation("you requested this change, so another user must decide it")
    return locked


def _decide(held: HeldChange, status: HeldChange.Status, *, decided_by: str, comment: str) -> None:
    held.status, held.decided_by, held.decided_at, held.comment = status, decided_by, timezone.now(), comment.strip()
    held.save(update_fields=["status", "decided_by", "decided_at", "comment"])
    before, after = {"status": Status.WAITING.value}, {"status": status.value}
    record_change(
        held,
        org=held.org,
        action=status.value.lower(),
        made_by=decided_by,
        reason=held.comment or held.reason,
        before=before,
        after=after,
    )


def _set_limit(held: HeldChange, decided_by: str) -> None:
    details, confirmed = held.details, f" (confirmed by {decided_by})"
    program = details["program"] and Program.objects.get(org=held.org, public_id=details["program"])
    set_emf(
        org=held.org,
        program=program or None,
        key=details["key"],
        value=details["value"],
        ticket=details["ticket"],
        reason=held.reason[: _longest_reason() - len(confirmed)] + confirmed,
        changed_by=held.asked_by,
        is_confirmed=True,
    )


def _longest_reason() -> int:
    return EmfChange._meta.get_field("reason").max_length or 0


def _add_client(held: HeldChange, decided_by: str) -> tuple[ApiClient, str]:
    about = {"username": held.details["username"], "label": held.details["label"]}
    client, secret = create_api_client(org=held.org, **about, is_confirmed=True)
    _record(
        held,
        client,
        "added",
        decided_by,
        {"username": client.username, "active": True, "fingerprint": fingerprint_of(secret)},
    )
    return client, secret


def _add_secret(held: HeldChange, decided_by: str) -> tuple[ApiClient, str]:
    client = _client_of(held)
    secret = add_secret(client, label=held.details["label"], is_confirmed=True)
    _record(held, client, "secret issued", decided_by, {"fingerprint": fingerprint_of(secret)})
    return client, secret


def _reinstate(held: HeldChange, decided_by: str) -> None:
    client = _client_of(held)
    set_api_client_active(client, is_active=True, is_confirmed=True)
    _record(held, client, "reinstated", decided_by, {"active": True})


def _client_of(held: HeldChange) -> ApiClient:
    return ApiClient.objects.get(org=held.org, id=held.details["client"])


def _record(held: HeldChange, client: ApiClient, action: str, decided_by: str, after: Mapping[str, Any]) -> None:
    record_change(
        client,
        org=held.org,
        action=action,
        made_by=held.asked_by,
        reason=held.reason,
        before={},
        after={**after, "confirmed by": decided_by},
    )


def recent(org_ids: list[int], *, since: datetime) -> list[HeldChange]:
    """Returns the changes of these orgs that wait, or that were confirmed since then, the newest first."""
    waiting = HeldChange.objects.filter(org_id__in=org_ids, status=Status.WAITING, lapses_at__gt=timezone.now())
    confirmed = HeldChange.objects.filter(
        org_id__in=org_ids, status=Status.CONFIRMED, asked_at__gt=since - timedelta(days=90), decided_at__gt=since
    )
    rows = [*waiting.select_related("org"), *confirmed.select_related("org")]
    return sorted(rows, key=lambda each: each.asked_at, reverse=True)
