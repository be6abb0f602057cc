"""Distributes the tables of a migrated database over the nodes of a Citus cluster, by org.

Every table of the project is one of three kinds. A reference table has a copy on each node: every call reads it, and
few calls change it. A distributed table is split into shards by the org, or by the key of a counter, so that all rows
of an org are on one node. A local table, such as users and sessions, stays on the coordinator; all nodes can read and
write it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db import connection, models, transaction

from loyalty.errors import InvalidOperation

REFERENCE = {
    "loyalty.Org",
    "loyalty.Program",
    "loyalty.ApiClient",
    "loyalty.ApiSecret",
    "loyalty.EmfSetting",
    "loyalty.Webhook",
    "loyalty.ReasonCode",
    "loyalty.Maintenance",
}
BY_ANOTHER_COLUMN = {"loyalty.Tally": "key"}
# The table to which the shards of the other org tables are aligned.
FIRST = "loyalty_customer"
SHARDS = 32


@dataclass(frozen=True)
class Layout:
    """The tables that are not yet as they must be. `distributed` maps a table to its column."""

    reference: Sequence[str]
    distributed: dict[str, str]
    local: Sequence[str]

    @property
    def tables(self) -> list[str]:
        return [*self.reference, *self.distributed, *self.local]


@dataclass(frozen=True)
class Key:
    """A primary key or unique key of a table that lacks the table's distribution column."""

    table: str
    name: str
    drop: str
    add: str


def distribute(*, shards: int = SHARDS, only_plan: bool = False) -> list[str]:
    """Distributes the tables that are not distributed yet, in one transaction. Returns the statements, in order.

    With `only_plan`, executes none of them. Raises InvalidOperation if this is not the coordinator of a cluster.
    """
    _check_cluster()
    with transaction.atomic():
        statements = list(_statements(_missing(), shards))
        if not only_plan and statements:
            with connection.cursor() as cursor:
                for statement in [*_SESSION, *statements]:
                    cursor.execute(statement)
    return statements


# A foreign key to a reference table allows only one connection to each node in a transaction. Citus calls triggers
# unsafe because they could write rows of other shards; those of the project write nothing.
_SESSION = (
    "SET LOCAL statement_timeout = 0",
    "SET LOCAL lock_timeout = '60s'",
    "SET LOCAL client_min_messages = warning",
    "SET LOCAL citus.multi_shard_modify_mode = sequential",
    "SET LOCAL citus.enable_unsafe_triggers = on",
)


# Settings of the role of the servers, which its next connections have. Work on the cluster waits longer for locks, such
# as rebalancing, so it needs another role.
_SETTINGS = {
    # A page may read all shards and then change a reference table, which Citus allows only to a transaction that has
    # one connection to each node.
    "citus.multi_shard_modify_mode": "sequential",
    # The nodes wait for locks on behalf of a server, whose own timeout they do not know.
    "lock_timeout": "2000",  # in milliseconds
    "citus.propagate_set_commands": "local",
}


def _set(name: str, value: str) -> str:
    """Returns the statement that changes the setting. Citus runs it on all nodes, and on nodes that are added later."""
    [(database,)] = _rows("SELECT quote_ident(current_database())")
    return f"ALTER ROLE CURRENT_USER IN DATABASE {database} SET {name} = {value}"


def _check_cluster() -> None:
    if connection.vendor != "postgresql":
        raise InvalidOperation("this database is SQLite; expected the coordinator of a Citus cluster in DATABASE_URL")
    if not _rows("SELECT 1 FROM pg_extension WHERE extname = 'citus'"):
        raise InvalidOperation(
            "the extension citus is missing in this database; install Citus on each node, run CREATE EXTENSION citus"
            " in this database, and add the nodes with citus_add_node (docs/scaling.md)"
        )
    if not _rows("SELECT 1 WHERE citus_is_coordinator()"):
        raise InvalidOperation("this node is not the coordinator; set DATABASE_URL to the coordinator and run it again")


def kind_of(model: type[models.Model]) -> str | None:
    """Returns the column by which a model's table is distributed, "" for a reference table, or None for a local one."""
    label = model._meta.label
    if label in REFERENCE:
        return ""
    return BY_ANOTHER_COLUMN.get(label, "org_id" if _is_of_one_org(model) else None)


def _is_of_one_org(model: type[models.Model]) -> bool:
    """Whether each row has an org, and no foreign key connects the table with one whose rows have none."""
    org = _org_field(model)
    others = [
        field.related_model
        for field in model._meta.get_fields()
        if field.is_relation and field.concrete and getattr(field, "db_constraint", False)
    ] + [
        relation.related_model
        for relation in model._meta.related_objects
        if getattr(relation.field, "db_constraint", False)
    ]
    return (
        org is not None
        and not org.null
        and all(_org_field(other) for other in others if other is not org.related_model)
    )


def _org_field(model: Any) -> Any:
    return next((field for field in model._meta.concrete_fields if field.name == "org"), None)


def _missing() -> Layout:
    """Returns the tables that Citus does not manage yet."""
    managed = {name for (name,) in _rows("SELECT logicalrelid::text FROM pg_dist_partition")}
    kinds = {
        model._meta.db_table: kind_of(model)
        for model in apps.get_models(include_auto_created=True)
        if model._meta.managed and model._meta.db_table not in managed
    }
    if not managed:
        kinds["django_migrations"] = None
    # The first one first, because the others are aligned to it.
    distributed = sorted(
        (table for table, column in kinds.items() if column), key=lambda table: (table != FIRST, table)
    )
    return Layout(
        reference=sorted(table for table, column in kinds.items() if column == ""),
        distributed={table: str(kinds[table]) for table in distributed},
        local=sorted(table for table, column in kinds.items() if column is None),
    )


def _statements(layout: Layout, shards: int) -> Iterator[str]:
    if not layout.tables:
        return
    foreign_keys = _foreign_keys(layout.tables)
    keys = [key for table, column in layout.distributed.items() for key in _keys(table, column)]
    # Citus converts one table after the other, and refuses a foreign key to a table of another kind meanwhile.
    yield from (f"ALTER TABLE {table} DROP CONSTRAINT {name}" for table, name, _ in foreign_keys)
    yield from (key.drop for key in keys)
    yield from (key.add for key in keys)
    yield from (f"SELECT create_reference_table('{table}')" for table in layout.reference)
    for table, column in layout.distributed.items():
        yield f"SELECT create_distributed_table('{table}', '{column}', {_alignment(table, column, shards)})"
    if FIRST in layout.distributed:
        yield from (_set(name, value) for name, value in _SETTINGS.items())
    yield from _triggers_of_rows(layout.local)
    yield from (f"SELECT citus_add_local_table_to_metadata('{table}')" for table in layout.local)
    yield from _sequences(layout.local)
    yield from (f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}" for table, name, definition in foreign_keys)


def _alignment(table: str, column: str, shards: int) -> str:
    if table == FIRST:
        return f"colocate_with => 'none', shard_count => {shards}"
    return f"colocate_with => '{FIRST}'" if column == "org_id" else f"colocate_with => 'none', shard_count => {shards}"


def _foreign_keys(tables: Sequence[str]) -> list[tuple[str, str, str]]:
    """Returns table, name and definition of each foreign key from or to one of the tables."""
    return _rows(
        "SELECT conrelid::regclass::text, quote_ident(conname), pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE contype = 'f' AND (conrelid = ANY(%s::regclass[]) OR confrelid = ANY(%s::regclass[]))"
        " ORDER BY 1, 2",
        [tables, tables],
    )


def _triggers_of_rows(tables: Sequence[str]) -> Iterator[str]:
    """Yields triggers for DELETE and UPDATE alone, because Citus does not move one that is for TRUNCATE, too.

    Citus moves the rows and the triggers of a local table to a shard on the coordinator. Databases of earlier versions
    have triggers for all three.
    """
    found = _rows(
        "SELECT tgrelid::regclass::text, quote_ident(tgname || '_of_rows'), tgtype::int & 16, tgfoid::regproc::text"
        " FROM pg_trigger WHERE NOT tgisinternal AND tgrelid = ANY(%s::regclass[])"
        " AND tgtype & 43 = 42 ORDER BY 1, 2",  # for each statement, before, DELETE and TRUNCATE at least
        [tables],
    )
    for table, name, is_for_update, function in found:
        events = "DELETE OR UPDATE" if is_for_update else "DELETE"
        yield f"CREATE TRIGGER {name} BEFORE {events} ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {function}()"


def _sequences(tables: Sequence[str]) -> Iterator[str]:
    """Yields statements that continue the numbers of rows, because Citus gives a local table a new sequence."""
    found = _rows(
        "SELECT attrelid::regclass::text, quote_ident(attname) FROM pg_attribute"
        " WHERE attidentity <> '' AND attrelid = ANY(%s::regclass[]) ORDER BY 1",
        [tables],
    )
    for table, column in found:
        yield (
            f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), MAX({column})) FROM {table}"
            f" HAVING MAX({column}) IS NOT NULL"
        )


def _keys(table: str, column: str) -> list[Key]:
    """Returns the table's keys that must be made anew with the column at the end, the primary key first.

    At the end, so that the index serves the same statements as before.
    """
    found = _rows(
        """
        SELECT quote_ident(pg_class.relname), pg_constraint.contype,
               (SELECT string_agg(quote_ident(attname), ', ' ORDER BY position)
                  FROM unnest(pg_index.indkey::int[]) WITH ORDINALITY AS keyed (number, position)
                  JOIN pg_attribute ON attrelid = indrelid AND attnum = number),
               COALESCE(' WHERE ' || pg_get_expr(indpred, indrelid), '')
          FROM pg_index
          JOIN pg_class ON pg_class.oid = indexrelid
          LEFT JOIN pg_constraint ON conindid = indexrelid AND contype IN ('p', 'u')
         WHERE indrelid = %s::regclass AND indisunique
           AND (SELECT attnum FROM pg_attribute WHERE attrelid = indrelid AND attname = %s) <> ALL(indkey)
         ORDER BY NOT indisprimary, 1
        """,
        [table, column],
    )
    return [_key(table, column, *row) for row in found]


def _key(table: str, column: str, name: str, kind: str | None, columns: str, where: str) -> Key:
    columns = f"({columns}, {column})"
    if kind is None:
        return Key(table, name, f"DROP INDEX {name}", f"CREATE UNIQUE INDEX {name} ON {table} {columns}{where}")
    sort = "PRIMARY KEY" if kind == "p" else "UNIQUE"
    return Key(
        table,
        name,
        f"ALTER TABLE {table} DROP CONSTRAINT {name}",
        f"ALTER TABLE {table} ADD CONSTRAINT {name} {sort} {columns}",
    )


def _rows(sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall()
