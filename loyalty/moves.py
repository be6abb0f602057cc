"""Which orgs left this cell or came to it, and how the database says that one is closed."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from django.db import DEFAULT_DB_ALIAS, Error

from loyalty.models import OrgMove

# With what the database refuses each write of a closed org. To the drivers PostgreSQL's class 55 is an operational
# error; SQLite knows only the name.
CLOSED_ORG = "closed_org"
CLOSED_ORG_STATE = "55C01"


def is_of_closed_org(error: Error) -> bool:
    """Whether the database refused a write because its org is closed."""
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) == CLOSED_ORG_STATE or str(cause) == CLOSED_ORG


@contextmanager
def passing_over_closed_orgs() -> Iterator[None]:
    """Leaves undone what the database refuses inside because the org is closed; give it a whole transaction."""
    try:
        yield
    except Error as error:
        if not is_of_closed_org(error):
            raise


def closed_orgs() -> set[int]:
    """The ids of the orgs that are closed here, to leave for another cell or since they have."""
    # From the database that is written: a copy may be late.
    last = dict(OrgMove.objects.using(DEFAULT_DB_ALIAS).order_by("made_at", "id").values_list("org_id", "step"))
    return {org_id for org_id, step in last.items() if step == OrgMove.Step.CLOSED}


def arrivals() -> dict[int, datetime]:
    """When each org that came from another cell arrived, by its id."""
    return dict(OrgMove.objects.filter(step=OrgMove.Step.ARRIVED).values_list("org_id", "made_at"))
