from typing import Any

from django.db import migrations

# A row that is changed in place leaves no dead entry in any index, if its page has room for the new version.
TABLES = ("loyalty_redemption", "loyalty_draw", "loyalty_lot")


def leave_room(apps: Any, schema_editor: Any) -> None:
    _on_postgresql(schema_editor, "SET (fillfactor = 85)")


def fill_pages(apps: Any, schema_editor: Any) -> None:
    _on_postgresql(schema_editor, "RESET (fillfactor)")


def _on_postgresql(schema_editor: Any, clause: str) -> None:
    if schema_editor.connection.vendor == "postgresql":
        for table in TABLES:
            schema_editor.execute(f"ALTER TABLE {table} {clause}")


class Migration(migrations.Migration):

    under_load = "Sets a storage parameter, for which calls do not wait."

    dependencies = [("loyalty", "0008_erasure")]

    operations = [migrations.RunPython(leave_room, fill_pages)]
