"""Locks of what staff change: people, API clients and moves of orgs."""

from collections.abc import Collection

from django.contrib.auth.models import User
from django.db import connection

from loyalty.models import ApiClient


def lock_person(person_id: int) -> User:
    """Locks a member of staff, for whoever changes the person or their second factor."""
    return lock_people({person_id})[person_id]


def lock_people(person_ids: Collection[int]) -> dict[int, User]:
    """Locks these members of staff, in the order of their ids, and returns them as they are once locked."""
    return User.objects.select_for_update(no_key=True).order_by("id").in_bulk(person_ids)


def lock_api_client(client_id: int) -> ApiClient:
    """Locks an API client, for whoever changes it or its secrets; calls of the client do not wait."""
    return ApiClient.objects.select_for_update(no_key=True).get(pk=client_id)


def lock_moves() -> None:
    """Keeps others from closing, opening or taking in an org until the transaction ends; who reads does not wait."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE loyalty_orgmove IN SHARE ROW EXCLUSIVE MODE")
