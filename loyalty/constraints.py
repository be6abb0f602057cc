"""Constraints that Django lacks, enforced by the database itself on SQLite and PostgreSQL.

They are listed in `Meta.constraints`, like check and unique constraints. So migrations create them, and they are
kept when SQLite rebuilds a table.
"""

from collections.abc import Sequence
from typing import Any

from django.db import models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.backends.ddl_references import Columns, Statement, Table

from loyalty.privacy.erased import IS_ERASED


class DatabaseLaw(models.BaseConstraint):
    """A constraint that is created by statements after its table. Subclasses return the statements per database."""

    def statements(self, model: type[models.Model], editor: BaseDatabaseSchemaEditor) -> list[Statement]:
        raise NotImplementedError

    def inline_sql(self, model: type[models.Model], editor: BaseDatabaseSchemaEditor) -> str | None:
        """Returns the constraint as part of SQLite's CREATE TABLE, because SQLite cannot add a constraint later."""
        return None

    # Django's schema editor calls these and remove_sql.

    def constraint_sql(self, model: Any, schema_editor: Any) -> Any:
        schema_editor.deferred_sql.extend(self.statements(model, schema_editor))
        return self.inline_sql(model, schema_editor)

    def create_sql(self, model: Any, schema_editor: Any) -> Any:
        # Deferred to the end of the migration, because a foreign key over (org, id) needs the unique key it refers to.
        schema_editor.deferred_sql.extend(self.statements(model, schema_editor))
        return None

    def validate(self, *args: Any, **kwargs: Any) -> None:
        """Checks nothing, because no form offers a change that these constraints refuse."""


def _statement(editor: BaseDatabaseSchemaEditor, model: type[models.Model], template: str, **parts: Any) -> Statement:
    """Returns a statement that refers to its table by reference, so that it follows SQLite's rebuild of the table."""
    table = Table(model._meta.db_table, editor.quote_name)
    return Statement(template, table=table, **parts)


class SameOrg(DatabaseLaw):
    """The row that `field` refers to must belong to the same org: a foreign key over (org, id).

    On SQLite, triggers check it too, because a connection that is opened without Django does not check foreign keys.
    """

    def __init__(self, *, field: str, name: str) -> None:
        super().__init__(name=name)
        self.field = field

    def deconstruct(self) -> tuple[str, tuple[()], dict[str, Any]]:
        path, _, _ = super().deconstruct()
        return path, (), {"field": self.field, "name": self.name}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SameOrg) and self.deconstruct() == other.deconstruct()

    def _foreign_key(self, model: type[models.Model], editor: BaseDatabaseSchemaEditor) -> tuple[str, str]:
        field: Any = model._meta.get_field(self.field)
        parent = editor.quote_name(field.remote_field.model._meta.db_table)
        return editor.quote_name(field.column), parent

    def inline_sql(self, model: type[models.Model], editor: BaseDatabaseSchemaEditor) -> str | None:
        if editor.connection.vendor != "sqlite":
            return None
        column, parent = self._foreign_key(model, editor)
        return (
            f"CONSTRAINT {editor.quote_name(self.name)} FOREIGN KEY (org_id, {column}) "
            f"REFERENCES {parent} (org_id, id) DEFERRABLE INITIALLY DEFERRED"
        )

    def statements(self, model: type[models.Model], editor: BaseDatabaseSchemaEditor) -> list[Statement]:
        column, parent = self._foreign_key(model, editor)
        columns = Columns(model._meta.db_table, ["org_id", column.strip('"')], editor.quote_name)
        if editor.connection.vendor == "sqlite":
            return [
                _statement(
                    editor,
                    model,
                    f"CREATE TRIGGER {editor.quote_name(f'{self.name}_{event}')} BEFORE {clause} ON %(table)s "
                    f"WHEN NEW.{column} IS NOT NULL AND NOT EXISTS "
                    f"(SELECT 1 FROM {parent} WHERE id = NEW.{column} AND org_id = NEW.org_id) "
                    f"BEGIN SELECT RAISE(ABORT, '{self.name}'); END",
                )
                for event, clause in (("insert", "INSERT"), ("update", f"UPDATE OF org_id, {column}"))
            ]
        return [
            _statement(
                editor,
                model,
                f"ALTER TABLE %(table)s ADD CONSTRAINT {editor.quote_name(self.name)} "
                f"FOREIGN KEY (%(columns)s) REFERENCES {parent} (org_id, id)",
                columns=columns,
            )
        ]

    def remove_sql(self, model: Any, schema_editor: Any) -> str:
        table = schema_editor.quote_name(model._meta.db_table)
        return f"ALTER TABLE {table} DROP CONSTRAINT {schema_editor.quote_name(self.name)}"


class AppendOnly(DatabaseLaw):
    """Rows can be inserted only: the database refuses to update or delete them.

    The `erasable` text columns can hold personal data. An update may erase them, and may not change them otherwise.
    """

    def __init__(self, *, name: str, erasable: Sequence[str] = ()) -> None:
        super().__init__(name=name)
        self.erasable = tuple(erasable)

    def deconstruct(self) -> tuple[str, tuple[()], dict[str, Any]]:
        path, _, _ = super().deconstruct()
        return path, (), {"name": self.name} | ({"erasable": self.erasable} if self.erasable else {})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AppendOnly) and self.deconstruct() == other.deconstruct()

    def statements(self, model: type[models.Model], editor: BaseDatabaseSchemaEditor) -> list[Statement]:
        if editor.connection.vendor == "sqlite":
            # INSERT OR REPLACE deletes the conflicting row without firing the delete trigger.
            in_the_way = f"WHEN EXISTS (SELECT 1 FROM %(table)s WHERE {self._same_row(model)}) "
            changed = f"WHEN NOT ({self._only_erases(model, 'IS')}) " if self.erasable else ""
            return [
                _statement(
                    editor,
                    model,
                    f"CREATE TRIGGER {editor.quote_name(f'{self.name}_{event}')} BEFORE {event} ON %(table)s "
                    f"{condition}BEGIN SELECT RAISE(ABORT, '{self.name}'); END",
                )
                for event, condition in (("update", changed), ("delete", ""), ("insert", in_the_way))
            ]
        function = editor.quote_name(f"refuse_{self.name}")
        return [
            _statement(
                editor,
                model,
                f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS "
                f"$$ BEGIN RAISE EXCEPTION '{self.name}' USING ERRCODE = 'restrict_violation'; END $$",
            ),
            _statement(
                editor,
                model,
                f"CREATE TRIGGER {editor.quote_name(self.name)} BEFORE {'' if self.erasable else 'UPDATE OR '}DELETE"
                f" ON %(table)s FOR EACH STATEMENT EXECUTE FUNCTION {function}()",
            ),
            # A trigger of its own, because Citus has no triggers for TRUNCATE on shards.
            _statement(
                editor,
                model,
                f"CREATE TRIGGER {editor.quote_name(f'{self.name}_truncate')} BEFORE TRUNCATE ON %(table)s"
                f" FOR EACH STATEMENT EXECUTE FUNCTION {function}()",
            ),
            *([self._update_trigger(model, editor, function)] if self.erasable else []),
        ]

    def _update_trigger(self, model: type[models.Model], editor: BaseDatabaseSchemaEditor, function: str) -> Statement:
        """Returns PostgreSQL's row-level trigger for updates."""
        return _statement(
            editor,
            model,
            f"CREATE TRIGGER {editor.quote_name(f'{self.name}_update')} BEFORE UPDATE ON %(table)s FOR EACH ROW"
            f" WHEN (NOT ({self._only_erases(model, 'IS NOT DISTINCT FROM')})) EXECUTE FUNCTION {function}()",
        )

    def _only_erases(self, model: type[models.Model], is_same: str) -> str:
        """Returns SQL that is true if an update erases at least one erasable text and changes nothing else."""
        columns = [field.column for field in model._meta.concrete_fields]
        kept = [f"NEW.{column} {is_same} OLD.{column}" for column in columns if column not in self.erasable]
        same = [f"NEW.{column} {is_same} OLD.{column}" for column in self.erasable]
        erased = [
            f"({unchanged} OR {IS_ERASED.format(f'NEW.{column}')})"
            for unchanged, column in zip(same, self.erasable, strict=True)
        ]
        return " AND ".join([*kept, *erased, f"NOT ({' AND '.join(same)})"])

    def _same_row(self, model: type[models.Model]) -> str:
        """Returns SQL that is true for a row that has the same value of a unique key as the new row."""
        unique = [each for each in model._meta.constraints if isinstance(each, models.UniqueConstraint)]
        keys = [("id",), *(constraint.fields for constraint in unique)]
        fields: dict[str, Any] = {field.name: field for field in model._meta.concrete_fields}
        columns = [[fields[name].column for name in key] for key in keys]
        return " OR ".join(" AND ".join(f"{column} = NEW.{column}" for column in key) for key in columns)

    def remove_sql(self, model: Any, schema_editor: Any) -> str:
        # CASCADE drops the triggers together with their function.
        return f"DROP FUNCTION {schema_editor.quote_name(f'refuse_{self.name}')}() CASCADE"
