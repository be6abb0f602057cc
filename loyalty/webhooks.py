"""Creates and changes webhooks, for commands and the admin."""

from collections.abc import Collection
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction

from loyalty.errors import InvalidOperation
from loyalty.models import EventName, Org, Webhook


@transaction.atomic
def create_webhook(*, org: Org, name: str, url: str, event_names: Collection[str] = EventName.values) -> Webhook:
    """Creates an active webhook of the org for the named events.

    Raises InvalidOperation if the name is taken, the URL is unusable or an event is unknown, and ValidationError if
    a text is too long.
    """
    if Webhook.objects.filter(org=org, name=name.strip()).exists():
        raise InvalidOperation(f"org {org.id} already has a webhook {name.strip()}")
    webhook = Webhook(org=org, name=name.strip(), url=checked_url(url), event_names=_checked_event_names(event_names))
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


def end_rest(webhook: Webhook) -> None:
    """Clears why an active webhook was disabled or rests. Does not save it."""
    if webhook.is_active:
        webhook.disabled_at, webhook.disabled_reason = None, ""
        webhook.unreachable_count, webhook.rests_until = 0, None


def checked_url(url: str) -> str:
    """Returns the URL without surrounding spaces. Raises InvalidOperation if events cannot be sent to it.

    The host's address is not checked here but at each connection, because DNS names can change.
    """
    url = url.strip()
    schemes = ("https", "http") if settings.WEBHOOKS_TO_PRIVATE_ADDRESSES else ("https",)
    try:
        parts = urlsplit(url)
        # `urlsplit` raises ValueError for an invalid port only when the port is read.
        sendable = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sendable = False
    if not sendable or "@" in parts.netloc or "#" in url or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidOperation(
            f"the URL is {url!r}; expected {' or '.join(schemes)}://host/path in ASCII, without a username"
        )
    return url


def _checked_event_names(names: Collection[str]) -> str:
    unknown = sorted(set(names) - set(EventName.values))
    if unknown or not names:
        raise InvalidOperation(
            f"unknown events: {', '.join(unknown)}; expected some of {', '.join(EventName.values)}"
            if unknown
            else f"no event is named; expected some of {', '.join(EventName.values)}"
        )
    return ",".join(name for name in EventName.values if name in names)
