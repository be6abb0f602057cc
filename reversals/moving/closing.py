"""Closes an org to every write, and reopens it. The database refuses the writes, so this covers every entry point.

Each table with rows of orgs gets triggers while an org is closed. To create a trigger, PostgreSQL waits for every
transaction that has written to the table, and blocks new writes meanwhile. SQLite allows one writer at a time. So once
the last table has its triggers, no transaction that began earlier can still write for the org.
"""

from django.db import OperationalError, connection, transaction
from django.utils import timezone

from loyalty.errors import InvalidOperation
from loyalty.models import Org, OrgMove
from loyalty.moves import CLOSED_ORG, CLOSED_ORG_STATE, closed_orgs
from loyalty.outages import is_lock_timeout
from loyalty.staff.locks import lock_moves
from reversals.moving.tables import Model, column_of_org, guarded_models

_CHANGES = {"INSERT": "NEW", "UPDATE": "OLD", "DELETE": "OLD"}
_REFUSE = (
    f"CREATE OR REPLACE FUNCTION refuse_{CLOSED_ORG}() RETURNS trigger LANGUAGE plpgsql AS "
    f"$$ BEGIN RAISE EXCEPTION '{CLOSED_ORG}' USING ERRCODE = '{CLOSED_ORG_STATE}'; END $$"
)


def close(org: Org, *, host: str, made_by: str) -> None:
    """Closes the org, which moves to `host`. After this returns, nothing can be written for the org.

    Raises InvalidOperation if other writes take too long. A second call continues where this one stopped.
    """
    with transaction.atomic():
        lock_moves()
        if org.id not in closed_orgs():
            record_step(org.id, OrgMove.Step.CLOSED, made_by=made_by, host=host)
    _guard_tables()


def reopen(org: Org, *, made_by: str) -> None:
    """Reopens the org for writes. Raises InvalidOperation if it is not closed."""
    with transaction.atomic():
        lock_moves()
        if org.id not in closed_orgs():
            raise InvalidOperation(f"org {org.id} is not closed")
        record_step(org.id, OrgMove.Step.REOPENED, made_by=made_by)
    _guard_tables()


def record_step(org_id: int, step: OrgMove.Step, *, made_by: str, host: str = "", manifest: str = "") -> None:
    """Records one step of an org's move, in the caller's transaction."""
    OrgMove.objects.create(
        org_id=org_id, step=step, host=host, manifest=manifest, made_by=made_by, made_at=timezone.now()
    )


def _guard_tables() -> None:
    """Updates each table's triggers in its own transaction, because two locks held at once could cause a deadlock."""
    try:
        for model in guarded_models():
            with transaction.atomic():
                lock_moves()
                _guard(model, sorted(closed_orgs()))
    except OperationalError as error:
        if is_lock_timeout(error):
            raise InvalidOperation(
                "a long write holds a table; run the same command again after that write has ended"
            ) from error
        raise


def _guard(model: Model, org_ids: list[int]) -> None:
    table, column = model._meta.db_table, column_of_org(model)
    closed = ", ".join(map(str, org_ids))
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(_REFUSE)
        for change, row in _CHANGES.items():
            name = f"{CLOSED_ORG}_{change.lower()}"
            condition = f"BEFORE {change} ON {table} FOR EACH ROW WHEN ({row}.{column} IN ({closed}))"
            for statement in _statements(name, table, condition if org_ids else ""):
                cursor.execute(statement)


def _statements(name: str, table: str, condition: str) -> list[str]:
    """Returns the statements that create or replace the trigger, or drop it if the condition is empty."""
    if connection.vendor == "postgresql":
        if not condition:
            return [f"DROP TRIGGER IF EXISTS {name} ON {table}"]
        return [f"CREATE OR REPLACE TRIGGER {name} {condition} EXECUTE FUNCTION refuse_{CLOSED_ORG}()"]
    of_table = f"{name}_{table}"  # in SQLite, trigger names are unique across tables
    made = f"CREATE TRIGGER {of_table} {condition} BEGIN SELECT RAISE(ABORT, '{CLOSED_ORG}'); END"
    return [f"DROP TRIGGER IF EXISTS {of_table}", *([made] if condition else [])]
