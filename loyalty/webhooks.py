"""Creates and changes webhooks, for commands and the admin."""

import re
import socket
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction

from loyalty.clients.credentials import pepper_mark, peppers, webhook_secret
from loyalty.errors import InvalidOperation
from loyalty.models import EventName, Org, Webhook
from loyalty.staff.audit import record_change

# A name or a numeric address. The part after % is the zone of an IPv6 address.
_HOST = re.compile(r"[a-z0-9._-]{1,253}|[0-9a-f:.]+(%[a-z0-9._-]+)?")
_GLOBAL_UNICAST = ip_network("2000::/3")
# IPv4 addresses behind a NAT64 translator (RFC 6052). Its other prefix, 64:ff9b:1::/48, is for private use.
_NAT64 = ip_network("64:ff9b::/96")


@transaction.atomic
def create_webhook(*, org: Org, name: str, url: str, event_names: Collection[str] = EventName.values) -> Webhook:
    """Creates an active webhook of the org for the named events.

    Raises InvalidOperation if the name is taken, the URL is unusable or an event is unknown, and ValidationError if
    a text is too long.
    """
    if Webhook.objects.filter(org=org, name=name.strip()).exists():
        raise InvalidOperation(f"org {org.id} already has a webhook {name.strip()}")
    webhook = Webhook(org=org, name=name.strip(), url=checked_url(url), event_names=_checked_event_names(event_names))
    webhook.pepper = pepper_mark()
    webhook.clean_fields()
    webhook.save(force_insert=True)
    return webhook


@transaction.atomic
def change_webhook(webhook: Webhook, *, url: str, event_names: Collection[str], is_active: bool) -> Webhook:
    """Changes the webhook. An active webhook stops resting, whatever its receiver answered before.

    Raises InvalidOperation if the URL is unusable or an event is unknown, and ValidationError if a text is too long.
    """
    webhook.url, webhook.event_names = checked_url(url), _checked_event_names(event_names)
    webhook.is_active = is_active
    end_rest(webhook)
    webhook.clean_fields()
    webhook.save(force_update=True)
    return webhook


def find_webhook(org: Org, name: str) -> Webhook:
    """Returns the org's webhook with this name. Raises InvalidOperation if it does not exist."""
    try:
        return Webhook.objects.get(org=org, name=name)
    except Webhook.DoesNotExist:
        raise InvalidOperation(f"org {org.id} has no webhook {name}; create it with create_webhook") from None


def signing_secrets(webhook: Webhook) -> list[str]:
    """Returns the secrets that sign the webhook's events, the newest first: each version with each pepper in use."""
    versions = [webhook.secret_version]
    if webhook.former_secret_version is not None:
        versions.append(webhook.former_secret_version)
    in_use = [settings.API_PEPPER] if webhook.pepper == pepper_mark() else peppers()
    return [webhook_secret(webhook.id, version=version, pepper=pepper) for pepper in in_use for version in versions]


@transaction.atomic
def rotate_secret(webhook: Webhook, *, reason: str, made_by: str) -> str:
    """Adds a secret, and returns it. Events are signed with the former one too, until `end_former_secret`.

    Raises InvalidOperation if two are live already, or the reason is missing.
    """
    stored = _lock_for_rotation(webhook, reason)
    if len(signing_secrets(stored)) > 1:
        raise InvalidOperation(f"{stored.name} has two live secrets; end the former one first")
    stored.former_secret_version, stored.secret_version = stored.secret_version, stored.secret_version + 1
    _record_rotation(stored, "secret rotated", reason=reason, made_by=made_by, before=1, after=2)
    return signing_secrets(stored)[0]


@transaction.atomic
def end_former_secret(webhook: Webhook, *, reason: str, made_by: str) -> None:
    """Signs events with the newest secret only. Raises InvalidOperation if it is the only one, or without a reason."""
    stored = _lock_for_rotation(webhook, reason)
    live = len(signing_secrets(stored))
    if live == 1:
        raise InvalidOperation(f"{stored.name} has one live secret only")
    stored.former_secret_version, stored.pepper = None, pepper_mark()
    _record_rotation(stored, "former secret ended", reason=reason, made_by=made_by, before=live, after=1)


def _lock_for_rotation(webhook: Webhook, reason: str) -> Webhook:
    if not reason.strip():
        raise InvalidOperation("a change of a signing secret needs a reason")
    return Webhook.objects.select_for_update(no_key=True).get(org_id=webhook.org_id, id=webhook.id)


def _record_rotation(webhook: Webhook, action: str, *, reason: str, made_by: str, before: int, after: int) -> None:
    webhook.save(update_fields=["secret_version", "former_secret_version", "pepper"])
    record_change(
        webhook,
        org=webhook.org,
        action=action,
        made_by=made_by,
        reason=reason.strip(),
        before={"live secrets": before},
        after={"live secrets": after},
    )


def end_rest(webhook: Webhook) -> None:
    """Clears why an active webhook was disabled or rests. Does not save it."""
    if webhook.is_active:
        webhook.disabled_at, webhook.disabled_reason = None, ""
        webhook.failure_count, webhook.rests_until, webhook.rest_reason = 0, None, ""


def checked_url(url: str) -> str:
    """Returns the URL without surrounding spaces. Raises InvalidOperation if events can never be sent to it.

    Deliveries check their URL here too, so that no URL is accepted here and refused there. A name's address is not
    checked here but at each connection, because DNS names can change.
    """
    url = url.strip()
    private_allowed = settings.WEBHOOKS_TO_PRIVATE_ADDRESSES
    schemes = ("https", "http") if private_allowed else ("https",)
    try:
        parts = urlsplit(url)
        # `urlsplit` raises ValueError for an invalid port only when the port is read, and idna for a label that is
        # empty or too long.
        host = (parts.hostname or "").encode("idna").decode()
        sendable = parts.scheme in schemes and parts.port != 0 and bool(_HOST.fullmatch(host))
    except ValueError:
        sendable = False
    if not sendable or "@" in parts.netloc or "#" in url or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidOperation(
            f"the URL is {url!r}; expected {' or '.join(schemes)}://host/path in ASCII, without a username"
        )
    if not private_allowed and _is_private(host):
        raise InvalidOperation(
            f"the URL is {url!r}; expected {schemes[0]}://host/path with a host that the whole internet can reach"
        )
    return url


def is_public(address: str) -> bool:
    """Returns whether the numeric address is public. IPv4 addresses embedded in IPv6 are checked as IPv4."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or _behind_translator(ip)
        if inner is None:
            return ip.is_global and ip in _GLOBAL_UNICAST
        ip = inner
    return ip.is_global and not ip.is_multicast


def _behind_translator(ip: IPv6Address) -> IPv4Address | None:
    return IPv4Address(int(ip) & 0xFFFF_FFFF) if ip in _NAT64 else None


def _is_private(host: str) -> bool:
    """Returns whether the host is this machine's own name, or a numeric address that is not public."""
    name = host.removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        # Also 2130706433 and 0x7f.1, which the resolver reads as 127.0.0.1.
        return not is_public(host if ":" in host else socket.inet_ntoa(socket.inet_aton(host)))
    except OSError:
        return False


def _checked_event_names(names: Collection[str]) -> str:
    unknown = sorted(set(names) - set(EventName.values))
    if unknown or not names:
        raise InvalidOperation(
            f"unknown events: {', '.join(unknown)}; expected some of {', '.join(EventName.values)}"
            if unknown
            else f"no event is named; expected some of {', '.join(EventName.values)}"
        )
    return ",".join(name for name in EventName.values if name in names)
