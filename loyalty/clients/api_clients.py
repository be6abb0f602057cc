"""Creates, limits and revokes API clients and their secrets, for commands and the admin."""

from django.db import transaction

from loyalty.clients.credentials import (
    SHORTEST_SECRET,
    fingerprint_of,
    keyed_digest,
    keyed_digests,
    md5_form,
    new_secret,
    pepper_mark,
)
from loyalty.emf.stored import settings_of
from loyalty.errors import InvalidOperation, NeedsSecondUser
from loyalty.models import ApiClient, ApiSecret, Org, StaffChange
from loyalty.staff.audit import record_change
from loyalty.staff.locks import lock_api_client

LIVE_SECRETS = 2  # so that a client can change its secret without an interruption


def find_api_client(org: Org, username: str) -> ApiClient:
    """Returns the org's API client with this username. Raises InvalidOperation if it does not exist."""
    try:
        return ApiClient.objects.get(org=org, username=username)
    except ApiClient.DoesNotExist:
        raise InvalidOperation(f"org {org.id} has no API client {username}; create it with create_api_client") from None


@transaction.atomic
def create_api_client(
    *, org: Org, username: str, secret: str | None = None, label: str = "", is_confirmed: bool = False
) -> tuple[ApiClient, str]:
    """Creates an API client and returns it with its secret, which cannot be shown again.

    Raises InvalidOperation if the username is taken or unusable, or the secret is too short or in use already, and
    ValidationError if the username is too long. Raises NeedsSecondUser if the org has an approval limit, unless a
    second user has confirmed the client.
    """
    if not username or ":" in username or not username.isprintable():
        raise InvalidOperation(
            "an API username must be printable and contain no colon, because a colon ends it in HTTP Basic"
        )
    if ApiClient.objects.filter(org=org, username=username).exists():
        raise InvalidOperation(f"org {org.id} already has an API client {username}")
    client = ApiClient(org=org, username=username)
    client.clean_fields()
    _check_is_confirmed(org.id, is_confirmed)
    client.save(force_insert=True)
    return client, add_secret(client, secret, label=label, is_confirmed=True)


@transaction.atomic
def add_secret(client: ApiClient, secret: str | None = None, *, label: str = "", is_confirmed: bool = False) -> str:
    """Adds a secret to the client and returns it. `label` is what staff call it.

    Raises InvalidOperation if the client has two secrets already, or the given secret is too short or in use already.
    Raises NeedsSecondUser as `create_api_client` does.
    """
    lock_api_client(client.id)
    if ApiSecret.objects.filter(org_id=client.org_id, client=client).count() >= LIVE_SECRETS:
        raise InvalidOperation(
            f"API client {client.username} has {LIVE_SECRETS} live secrets; revoke the one that is no longer used"
        )
    secret = new_secret() if secret is None else secret
    if len(secret) < SHORTEST_SECRET:
        raise InvalidOperation(f"the secret has {len(secret)} characters; expected at least {SHORTEST_SECRET}")
    # Basic credentials do not name the org, so the same username and secret cannot be used in two orgs.
    if ApiSecret.objects.filter(client__username=client.username, digest__in=keyed_digests(secret)).exists():
        raise InvalidOperation("another API client uses this username and secret; choose another secret")
    _check_is_confirmed(client.org_id, is_confirmed)
    ApiSecret.objects.create(
        org_id=client.org_id,
        client=client,
        digest=keyed_digest(secret),
        md5_digest=keyed_digest(md5_form(secret)),
        pepper=pepper_mark(),
        label=label,
        fingerprint=fingerprint_of(secret),
    )
    return secret


@transaction.atomic
def revoke_secret(client: ApiClient, secret_id: int) -> ApiSecret:
    """Deletes a secret of the client. Its next call is refused with 401. Raises InvalidOperation if it is missing."""
    lock_api_client(client.id)
    secret = ApiSecret.objects.filter(org_id=client.org_id, client=client, id=secret_id).first()
    if secret is None:
        raise InvalidOperation(f"API client {client.username} no longer has this secret")
    ApiSecret.objects.filter(id=secret.id).delete()
    return secret


@transaction.atomic
def set_api_client_active(client: ApiClient, *, is_active: bool, is_confirmed: bool = False) -> None:
    """Revokes the client, so that its calls are refused with 401, or reinstates it with its existing secrets.

    Raises InvalidOperation if it is revoked or active already. To reinstate it raises NeedsSecondUser as
    `create_api_client` does.
    """
    stored = lock_api_client(client.id)
    if stored.is_active == is_active:
        raise InvalidOperation(f"API client {client.username} is already {'active' if is_active else 'revoked'}")
    if is_active:
        _check_is_confirmed(stored.org_id, is_confirmed)
    stored.is_active = is_active
    stored.save(update_fields=["is_active"])


@transaction.atomic
def limit_api_client(client: ApiClient, *, calls_per_minute: int | None, reason: str, changed_by: str) -> StaffChange:
    """Limits the client's calls from the next call on, and records the change.

    None is the default limit, 0 is no limit. Raises InvalidOperation if the client has this limit already or the reason
    is missing, and ValidationError for an invalid number.
    """
    if not reason.strip():
        raise InvalidOperation("a change of a limit needs a reason")
    stored = lock_api_client(client.id)
    before, stored.calls_per_minute = stored.calls_per_minute, calls_per_minute
    if before == calls_per_minute:
        raise InvalidOperation(f"API client {client.username} already has this limit")
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


def _check_is_confirmed(org_id: int, is_confirmed: bool) -> None:
    """A call needs no approval, so whoever holds a secret can reverse any number of points alone."""
    if not is_confirmed and settings_of(org_id).has_approval_limit():
        raise NeedsSecondUser
