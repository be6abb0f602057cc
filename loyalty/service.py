"""Makes orgs, programs, API clients and settings: the one way in for commands and the admin."""

from collections.abc import Collection
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from loyalty.changes import record_change
from loyalty.credentials import SHORTEST_SECRET, keyed_digest, md5_form, new_secret
from loyalty.emf import check_value, known_key
from loyalty.models import (
    ApiClient,
    ApiSecret,
    EmfChange,
    EmfSetting,
    EventName,
    Org,
    Program,
    ReasonCode,
    StaffChange,
    Webhook,
)
from loyalty.request_id import current_request_id
from loyalty.selectors import lock_api_client

LIVE_SECRETS = 2  # so that a client can change over from one to the next without a gap
FIRST_REASON_CODES = {
    "GOODS_RETURNED": "The customer returned what was bought.",
    "WRONG_REDEMPTION": "The points were redeemed by mistake.",
    "GOODWILL": "Given back as a courtesy.",
    "OTHER": "Another reason, which the note says.",
}


class NotPossible(ValueError):
    """What was asked cannot be done; the message says why and what was expected."""


def find_org(org_id: int) -> Org:
    """The org. Raises NotPossible."""
    try:
        return Org.objects.get(id=org_id)
    except Org.DoesNotExist:
        raise NotPossible(f"there is no org {org_id}; create_org makes one") from None


def find_program(org: Org, public_id: int) -> Program:
    """The program of the org by its public id. Raises NotPossible."""
    try:
        return Program.objects.get(org=org, public_id=public_id)
    except Program.DoesNotExist:
        raise NotPossible(f"org {org.id} has no program {public_id}; create_program makes one") from None


def find_api_client(org: Org, username: str) -> ApiClient:
    """The API client of the org by its username. Raises NotPossible."""
    try:
        return ApiClient.objects.get(org=org, username=username)
    except ApiClient.DoesNotExist:
        raise NotPossible(f"org {org.id} has no API client {username}; create_api_client makes one") from None


@transaction.atomic
def create_org(*, org_id: int, name: str, country: str, v2_enabled: bool) -> Org:
    """A new active org with the first reason codes.

    Raises NotPossible if the id is taken, ValidationError on a wrong value.
    """
    if Org.objects.filter(id=org_id).exists():
        raise NotPossible(f"there is already an org {org_id}")
    org = Org(id=org_id, name=name.strip(), country=country, v2_enabled=v2_enabled)
    org.full_clean()
    org.save(force_insert=True)
    add_first_reason_codes(org)
    return org


def add_first_reason_codes(org: Org) -> None:
    """Gives a new org the reasons for reversals by hand that it begins with; it may change them."""
    for code, meaning in FIRST_REASON_CODES.items():
        ReasonCode.objects.create(org=org, code=code, meaning=meaning)


@transaction.atomic
def create_program(*, org: Org, public_id: int, name: str) -> Program:
    """A new active program of the org. Raises NotPossible if the id is taken, ValidationError on a wrong value."""
    if Program.objects.filter(org=org, public_id=public_id).exists():
        raise NotPossible(f"org {org.id} already has a program {public_id}")
    program = Program(org=org, public_id=public_id, name=name.strip())
    program.full_clean()
    program.save(force_insert=True)
    return program


@transaction.atomic
def create_api_client(*, org: Org, username: str, secret: str | None = None) -> tuple[ApiClient, str]:
    """A new API client and its secret, which cannot be shown again.

    Raises NotPossible if the username is taken or unusable, or the secret too short; ValidationError if the
    username is too long.
    """
    if not username or ":" in username or not username.isprintable():
        raise NotPossible("an API username needs printable characters and no colon, which HTTP Basic ends it with")
    if ApiClient.objects.filter(org=org, username=username).exists():
        raise NotPossible(f"org {org.id} already has an API client {username}")
    client = ApiClient(org=org, username=username)
    client.clean_fields()
    client.save(force_insert=True)
    return client, add_secret(client, secret)


@transaction.atomic
def add_secret(client: ApiClient, secret: str | None = None) -> str:
    """Gives the client one more live secret and returns it.

    Raises NotPossible if two are live already, or a given one is unfit.
    """
    lock_api_client(client.id)
    if ApiSecret.objects.filter(org_id=client.org_id, client=client).count() >= LIVE_SECRETS:
        raise NotPossible(f"{client.username} has {LIVE_SECRETS} live secrets; revoke the one that is no longer used")
    secret = new_secret() if secret is None else secret
    if len(secret) < SHORTEST_SECRET:
        raise NotPossible(f"the secret has {len(secret)} characters; expected at least {SHORTEST_SECRET}")
    digest, md5_digest = keyed_digest(secret), keyed_digest(md5_form(secret))
    # Basic credentials do not say the org: the same pair in two orgs could not be told apart.
    if ApiSecret.objects.filter(client__username=client.username, digest=digest).exists():
        raise NotPossible("this username and secret are in use already; choose another secret")
    ApiSecret.objects.create(org_id=client.org_id, client=client, digest=digest, md5_digest=md5_digest)
    return secret


@transaction.atomic
def revoke_secret(client: ApiClient, secret_id: int) -> ApiSecret:
    """Removes a secret of the client: the next call with it is answered 401. Raises NotPossible if it is gone."""
    lock_api_client(client.id)
    secret = ApiSecret.objects.filter(org_id=client.org_id, client=client, id=secret_id).first()
    if secret is None:
        raise NotPossible(f"{client.username} has no such secret any more")
    ApiSecret.objects.filter(id=secret.id).delete()
    return secret


@transaction.atomic
def set_api_client_active(client: ApiClient, *, is_active: bool) -> None:
    """Revokes the client, whose calls are answered 401 from now on, or reinstates it with the secrets that it has.

    Raises NotPossible if that is how it is already.
    """
    stored = lock_api_client(client.id)
    if stored.is_active == is_active:
        raise NotPossible(f"{client.username} is {'active' if is_active else 'revoked'} already")
    stored.is_active = is_active
    stored.save(update_fields=["is_active"])


@transaction.atomic
def limit_api_client(client: ApiClient, *, calls_per_minute: int | None, reason: str, changed_by: str) -> StaffChange:
    """Limits the client's calls from the next one on, and keeps who, before, after and why.

    None is the limit that clients have by default, 0 no limit. Raises NotPossible if that is how it is already or
    without a reason, ValidationError on a number that is no limit.
    """
    if not reason.strip():
        raise NotPossible("a change of a limit needs a reason")
    stored = lock_api_client(client.id)
    before, stored.calls_per_minute = stored.calls_per_minute, calls_per_minute
    if before == calls_per_minute:
        raise NotPossible(f"{client.username} has this limit already")
    stored.clean_fields()
    stored.save(update_fields=["calls_per_minute"])
    return record_change(
        stored,
        org=client.org,
        action="calls limited",
        made_by=changed_by,
        reason=reason.strip(),
        before={"calls per minute": before},
        after={"calls per minute": calls_per_minute},
    )


@transaction.atomic
def create_webhook(*, org: Org, name: str, url: str, event_names: Collection[str] = EventName.values) -> Webhook:
    """A new active webhook of the org, told of the named events.

    Raises NotPossible if the name is taken, the URL unusable or an event unknown, ValidationError on a text
    that is too long.
    """
    if Webhook.objects.filter(org=org, name=name.strip()).exists():
        raise NotPossible(f"org {org.id} already has a webhook {name.strip()}")
    webhook = Webhook(org=org, name=name.strip(), url=checked_url(url), event_names=_checked_event_names(event_names))
    webhook.clean_fields()
    webhook.save(force_insert=True)
    return webhook


@transaction.atomic
def change_webhook(webhook: Webhook, *, url: str, event_names: Collection[str], is_active: bool) -> Webhook:
    """The webhook as given; an active one rests no more, whatever its receiver answered before.

    Raises NotPossible if the URL is unusable or an event unknown, ValidationError on a text that is too long.
    """
    webhook.url, webhook.event_names = checked_url(url), _checked_event_names(event_names)
    webhook.is_active = is_active
    end_rest(webhook)
    webhook.clean_fields()
    webhook.save(force_update=True)
    return webhook


def end_rest(webhook: Webhook) -> None:
    """Forgets of an active webhook what its receiver did to disable it, or to make it rest; saves nothing."""
    if webhook.is_active:
        webhook.disabled_at, webhook.disabled_reason = None, ""
        webhook.unreachable_count, webhook.rests_until = 0, None


def checked_url(url: str) -> str:
    """The URL, if events can be sent to it. Raises NotPossible.

    Where it leads is not asked here but at each connection, because names can change what they lead to.
    """
    url = url.strip()
    schemes = ("https", "http") if settings.WEBHOOKS_TO_PRIVATE_ADDRESSES else ("https",)
    try:
        parts = urlsplit(url)
        # A port that is no number is only noticed when it is read.
        sendable = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sendable = False
    if not sendable or "@" in parts.netloc or "#" in url or not url.isascii() or not url.isprintable() or " " in url:
        raise NotPossible(f"the URL is {url!r}; expected {' or '.join(schemes)}://host/path in ASCII, without a user")
    return url


def _checked_event_names(names: Collection[str]) -> str:
    unknown = sorted(set(names) - set(EventName.values))
    if unknown or not names:
        raise NotPossible(f"events are {', '.join(unknown) or 'none'}; expected some of {', '.join(EventName.values)}")
    return ",".join(name for name in EventName.values if name in names)


@transaction.atomic
def set_emf(
    *, org: Org, key: str, value: str, ticket: str, reason: str, changed_by: str, program: Program | None = None
) -> EmfChange:
    """Sets one EMF setting from the next request on, and keeps who, when, old, new and why.

    An empty value removes the stored one, so that the org's value or the default is in force again.
    Raises InvalidSetting on an unknown key or a value that does not parse, NotPossible without ticket or reason
    or where there is nothing to remove, ValidationError on a text that is too long.
    """
    emf_key = known_key(key)
    value = value.strip()
    if value:
        check_value(emf_key, value, for_program=program is not None)
    if not ticket.strip() or not reason.strip():
        raise NotPossible("a change of a setting needs a ticket and a reason")
    # One change at a time per org, so that each change's old value is the one before its new value.
    Org.objects.select_for_update(no_key=True).get(id=org.id)
    setting = EmfSetting.objects.filter(org=org, program=program, key=key).first()
    if setting is None and not value:
        raise NotPossible(f"{key} is not set there, so it cannot be removed")
    change = EmfChange(
        org=org,
        program=program,
        key=key,
        old_value=setting.value if setting else "",
        new_value=value,
        ticket=ticket.strip(),
        reason=reason.strip(),
        changed_by=changed_by,
        changed_at=timezone.now(),
        request_id=current_request_id(),
    )
    change.clean_fields()
    change.save(force_insert=True)
    _store(setting or EmfSetting(org=org, program=program, key=key), value)
    return change


def _store(setting: EmfSetting, value: str) -> None:
    if not value:
        setting.delete()
        return
    setting.value = value
    setting.clean_fields()
    setting.save()
