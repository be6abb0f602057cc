"""Says of each migration whether it is safe under load, and which existing tables it locks: part of `make lint`.

`migrate` gives each operation a transaction of its own, builds indexes concurrently and validates constraints later
(`loyalty/management/migrating.py`). Left to check is whether old code goes on with the new columns, and what Python and
SQL of a migration do: such a migration says itself, in `under_load`, why it is safe. Exits with 1 if one is not.
"""

import os
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import django
from django.db.migrations import Migration
from django.db.migrations import operations as ops
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django.db.models.fields import NOT_PROVIDED, Field

APPS = ("loyalty", "reversals")
OF_STATE_ONLY = (ops.AlterModelOptions, ops.AlterModelManagers)
OF_CONSTRAINTS = (ops.AddIndex, ops.AddConstraint, ops.RemoveIndex, ops.RemoveConstraint)


class Findings(NamedTuple):
    """What is unsafe in a migration, and the tables from before it that its operations lock, each for a moment."""

    dangers: list[str]
    tables: list[str]


def check(migration: Migration, state: ProjectState) -> Findings:
    """Applies the migration to the state, and returns the findings."""
    found: list[str] = []
    tables: set[str] = set()
    created: set[str] = set()
    for operation in migration.operations:
        before = state.clone()
        operation.state_forwards(migration.app_label, state)
        model = getattr(operation, "model_name_lower", "")
        if isinstance(operation, ops.CreateModel):
            created.add(operation.name_lower)
        elif model not in created and type(operation) not in OF_STATE_ONLY:
            is_known = type(operation) in (*OF_CONSTRAINTS, ops.AddField)
            if is_known or is_changed(migration.app_label, operation, before, state):
                tables |= {f"{migration.app_label}_{model}"} - {f"{migration.app_label}_"}
                found += [f"{operation.describe()}: {why}" for why in _dangers(migration, operation, before, state)]
    if any(not operation.reversible for operation in migration.operations):
        found.append("it cannot be reversed")
    return Findings(found, sorted(tables))


def is_changed(app: str, operation: Operation, before: ProjectState, after: ProjectState) -> bool:
    """Returns False for a change of a field that the database does not see."""
    if type(operation) not in (ops.AlterField, ops.RenameField):
        return True
    return bool(_changes(*_fields(app, operation, before, after)))


def _fields(app: str, operation: Any, before: ProjectState, after: ProjectState) -> tuple[tuple[str, Any], ...]:
    """Returns the name and the field before and after the operation."""
    names = (getattr(operation, name, operation.name) for name in ("old_name", "new_name"))
    return tuple(
        (name, state.models[app, operation.model_name_lower].fields[name])
        for name, state in zip(names, (before, after), strict=True)
    )


def _changes(old: tuple[str, Any], new: tuple[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Returns by attribute what changes between the fields, each given with its name."""
    was, now = (
        field.deconstruct()[3] | {"type": type(field), "column": field.db_column or name} for name, field in (old, new)
    )
    ignored = {*Field.non_db_attrs, "db_column", "default"}
    names = (was.keys() | now.keys()) - ignored
    return {name: (was.get(name), now.get(name)) for name in sorted(names) if was.get(name) != now.get(name)}


def _dangers(migration: Migration, operation: Operation, before: ProjectState, after: ProjectState) -> Iterator[str]:
    kind = type(operation)  # and no subclass, which may do more
    if kind in OF_CONSTRAINTS:
        return
    if kind is ops.AddField:
        yield from _dangers_of_new_column(operation.field)
    elif kind in (ops.AlterField, ops.RenameField):
        yield from _dangers_of_changes(_changes(*_fields(migration.app_label, operation, before, after)))
    elif kind in (ops.RemoveField, ops.DeleteModel, ops.RenameModel, ops.AlterModelTable):
        yield "old code still uses it; remove it from the code in one release and from the database in the next"
    else:
        yield "only its author knows what it does; say in `under_load` why calls go on"


def _dangers_of_new_column(field: Any) -> Iterator[str]:
    if not field.null and field.db_default is NOT_PROVIDED and not field.many_to_many:
        yield "old code inserts rows without this column; give it null=True or db_default"
    if field.remote_field is not None and getattr(field, "db_constraint", False):
        yield "a foreign key is checked over the whole table while calls wait; use db_constraint=False and SameOrg"
    if field.unique:
        yield "a unique column builds its index while calls wait; use UniqueConstraint"


def _dangers_of_changes(changes: dict[str, tuple[Any, Any]]) -> Iterator[str]:
    for name, (was, now) in changes.items():
        if name == "column":
            yield "old code still uses the column; keep its name with db_column"
        elif not _is_harmless(name, was, now):
            yield f"{name} changes, which can rewrite or read the whole table while calls wait, or stop old code"


def _is_harmless(name: str, was: Any, now: Any) -> bool:
    """Returns whether calls and old code do not notice the change of a field's attribute."""
    if name == "max_length":
        return was is not None and now is not None and now > was
    return (name, now) in {("db_constraint", False), ("null", True)} or (name == "db_default" and now is not None)


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    loader = MigrationLoader(None)
    state, code = ProjectState(), 0
    for key in _in_order(loader):
        migration = loader.graph.nodes[key]
        found, tables = check(migration, state)
        if key[0] not in APPS:
            continue
        said = getattr(migration, "under_load", "")
        verdict = said or "safe" if said or not found else "UNSAFE"
        print(f"{'.'.join(key)}: {verdict} (locks {', '.join(tables) or 'nothing'})")
        if not found or said:
            continue
        code = 1
        print(*(f"    {why}" for why in found), sep="\n")
    return code


def _in_order(loader: MigrationLoader) -> list[tuple[str, str]]:
    """Returns all migrations, each after those that it depends on."""
    order: list[tuple[str, str]] = []
    for leaf in sorted(loader.graph.leaf_nodes()):
        order += [key for key in loader.graph.forwards_plan(leaf) if key not in order]
    return order


if __name__ == "__main__":
    sys.exit(main())
