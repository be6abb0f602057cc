"""Row and table locks for changes by staff: users and API clients."""

from collections.abc import Collection

from django.contrib.auth.models import User

from loyalty.models import ApiClient


def lock_user(user_id: int) -> User:
    """Locks a user before a change of the user or of their second factor, and returns them as they are then."""
    return lock_users({user_id})[user_id]


def lock_users(user_ids: Collection[int]) -> dict[int, User]:
    """Locks users in the order of their ids, and returns them by id as they are once locked."""
    return User.objects.select_for_update(no_key=True).order_by("id").in_bulk(user_ids)


def lock_username(username: str) -> None:
    """Locks the user with this username, if there is one. Nothing of them changes."""
    User.objects.select_for_update(no_key=True).filter(username=username).values_list("id").first()


def lock_api_client(client_id: int) -> ApiClient:
    """Locks an API client before a change of it or of its secrets. Calls of the client do not wait."""
    return ApiClient.objects.select_for_update(no_key=True).get(pk=client_id)
