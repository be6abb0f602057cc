"""Concurrent changes of one row by several users: each change sees the result of the one before."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.test import Client

from loyalty.models import StaffChange
from tests.builders import changes_of, make_world, staff_of
from tests.movements.test_races import at_once

pytestmark = pytest.mark.usefixtures("committed", "on_postgresql")

KEY = "Reversal_window_days"


@pytest.fixture
def superusers() -> Iterator[list[User]]:
    """Creates two superusers, and demotes them after the test."""
    name = f"root {uuid4()}"
    yield [User.objects.create_superuser(f"{name} {number}") for number in (1, 2)]
    User.objects.filter(username__startswith=name).update(is_superuser=False)


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_superusers_who_demote_each_other_at_once_leave_one_superuser(superusers: list[User]) -> None:
    asked = {"is_active": "on", "reason": "Left.", "without": "on"}
    asked |= {"org_accesses-TOTAL_FORMS": "0", "org_accesses-INITIAL_FORMS": "0"}
    clients, pages = [*map(signed_in, superusers)], [f"/admin/auth/user/{each.pk}/change/" for each in superusers[::-1]]
    answers = at_once([lambda pair=pair: pair[0].post(pair[1], asked) for pair in zip(clients, pages, strict=True)])
    assert sorted(answer.status_code for answer in answers) == [302, 403]
    ids = [each.pk for each in superusers]
    assert User.objects.filter(pk__in=ids, is_superuser=True).count() == 1
    assert StaffChange.objects.filter(subject="auth.user", subject_id__in=ids).count() == 1


def test_setting_unset_by_four_users_at_once_is_recorded_once() -> None:
    world = make_world(settings={KEY: "30"})
    clients = [staff_of(world, "Back-end team", username=f"{world.org.id} {number}") for number in range(4)]
    page, asked = f"/admin/loyalty/org/{world.org.id}/emf/{KEY}/", {"value": "", "ticket": "T-1", "reason": "Asked."}
    answers = at_once([lambda each=each: each.post(page, asked) for each in clients])
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 302]
    for form in (answer.content.decode() for answer in answers if answer.status_code == 200):
        assert (
            "the setting is already not set" in form
            or f"{KEY} is not set for this org, so it cannot be removed" in form
        )
    assert list(changes_of(world.org).values_list("key", "old_value", "new_value")) == [(KEY, "30", "")]
