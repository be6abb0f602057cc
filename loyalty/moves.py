"""Lists the orgs that left or joined this cell, and recognizes the database's refusal to write to a closed org."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from django.db import DEFAULT_DB_ALIAS, Error

from loyalty.models import OrgMove

# The database's errors for a write to a closed org: SQLite raises one with this name, PostgreSQL with this SQLSTATE.
# Drivers treat class 55 as an operational error.
CLOSED_ORG = "closed_org"
CLOSED_ORG_STATE = "55C01"


def is_of_closed_org(error: Error) -> bool:
    """Returns whether the database refused a write because the org is closed."""
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) == CLOSED_ORG_STATE or str(cause) == CLOSED_ORG


@contextmanager
def skipping_closed_orgs() -> Iterator[None]:
    """Suppresses the error of a write to a closed org. Note: wrap a whole transaction in it."""
    try:
        yield
    except Error as error:
        if not is_of_closed_org(error):
            raise


def closed_orgs() -> set[int]:
    """Returns the ids of the orgs that are closed here, because they are being moved or were moved to another cell."""
    # Read from the primary, because a replica may lag behind.
    last = dict(OrgMove.objects.using(DEFAULT_DB_ALIAS).order_by("made_at", "id").values_list("org_id", "step"))
    return {org_id for org_id, step in last.items() if step == OrgMove.Step.CLOSED}


def arrivals() -> dict[int, datetime]:
    """Returns the arrival time of each org that came from another cell, by org id."""
    return dict(OrgMove.objects.filter(step=OrgMove.Step.ARRIVED).values_list("org_id", "made_at"))
