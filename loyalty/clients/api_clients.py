"""Issues, limits and revokes API clients and their secrets: the one way in for commands and the admin."""

from django.db import transaction

from loyalty.clients.credentials import SHORTEST_SECRET, keyed_digest, md5_form, new_secret
from loyalty.errors import InvalidOperation
from loyalty.models import ApiClient, ApiSecret, Org, StaffChange
from loyalty.staff.audit import record_change
from loyalty.staff.locks import lock_api_client

LIVE_SECRETS = 2  # so that a client can change over from one to the next without a gap


def find_api_client(org: Org, username: str) -> ApiClient:
    """The API client of the org by its username. Raises InvalidOperation."""
    try:
        return ApiClient.objects.get(org=org, username=username)
    except ApiClient.DoesNotExist:
        raise InvalidOperation(f"org {org.id} has no API client {username}; create_api_client makes one") from None


@transaction.atomic
def create_api_client(*, org: Org, username: str, secret: str | None = None) -> tuple[ApiClient, str]:
    """A new API client and its secret, which cannot be shown again.

    Raises InvalidOperation if the username is taken or unusable, or the secret too short; ValidationError if the
    username is too long.
    """
    if not username or ":" in username or not username.isprintable():
        raise InvalidOperation("an API username needs printable characters and no colon, which HTTP Basic ends it with")
    if ApiClient.objects.filter(org=org, username=username).exists():
        raise InvalidOperation(f"org {org.id} already has an API client {username}")
    client = ApiClient(org=org, username=username)
    client.clean_fields()
    client.save(force_insert=True)
    return client, add_secret(client, secret)


@transaction.atomic
def add_secret(client: ApiClient, secret: str | None = None) -> str:
    """Gives the client one more live secret and returns it.

    Raises InvalidOperation if two are live already, or a given one is unfit.
    """
    lock_api_client(client.id)
    if ApiSecret.objects.filter(org_id=client.org_id, client=client).count() >= LIVE_SECRETS:
        raise InvalidOperation(
            f"{client.username} has {LIVE_SECRETS} live secrets; revoke the one that is no longer used"
        )
    secret = new_secret() if secret is None else secret
    if len(secret) < SHORTEST_SECRET:
        raise InvalidOperation(f"the secret has {len(secret)} characters; expected at least {SHORTEST_SECRET}")
    digest, md5_digest = keyed_digest(secret), keyed_digest(md5_form(secret))
    # Basic credentials do not say the org: the same pair in two orgs could not be told apart.
    if ApiSecret.objects.filter(client__username=client.username, digest=digest).exists():
        raise InvalidOperation("this username and secret are in use already; choose another secret")
    ApiSecret.objects.create(org_id=client.org_id, client=client, digest=digest, md5_digest=md5_digest)
    return secret


@transaction.atomic
def revoke_secret(client: ApiClient, secret_id: int) -> ApiSecret:
    """Removes a secret of the client: the next call with it is answered 401. Raises InvalidOperation if it is gone."""
    lock_api_client(client.id)
    secret = ApiSecret.objects.filter(org_id=client.org_id, client=client, id=secret_id).first()
    if secret is None:
        raise InvalidOperation(f"{client.username} has no such secret any more")
    ApiSecret.objects.filter(id=secret.id).delete()
    return secret


@transaction.atomic
def set_api_client_active(client: ApiClient, *, is_active: bool) -> None:
    """Revokes the client, whose calls are answered 401 from now on, or reinstates it with the secrets that it has.

    Raises InvalidOperation if that is how it is already.
    """
    stored = lock_api_client(client.id)
    if stored.is_active == is_active:
        raise InvalidOperation(f"{client.username} is {'active' if is_active else 'revoked'} already")
    stored.is_active = is_active
    stored.save(update_fields=["is_active"])


@transaction.atomic
def limit_api_client(client: ApiClient, *, calls_per_minute: int | None, reason: str, changed_by: str) -> StaffChange:
    """Limits the client's calls from the next one on, and keeps who, before, after and why.

    None is the limit that clients have by default, 0 no limit. Raises InvalidOperation if that is how it is already or
    without a reason, ValidationError on a number that is no limit.
    """
    if not reason.strip():
        raise InvalidOperation("a change of a limit needs a reason")
    stored = lock_api_client(client.id)
    before, stored.calls_per_minute = stored.calls_per_minute, calls_per_minute
    if before == calls_per_minute:
        raise InvalidOperation(f"{client.username} has this limit already")
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
