from django.db import migrations, models
from django.db.models.functions import Cast


class AddKey(migrations.AddField):
    """Adds the column with a default in PostgreSQL, because older code inserts runs without a key."""

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        super().database_forwards(app_label, schema_editor, from_state, to_state)
        if schema_editor.connection.vendor == "postgresql":
            schema_editor.execute(
                "ALTER TABLE reversals_bulkrun ALTER COLUMN key SET DEFAULT replace(gen_random_uuid()::text, '-', '')"
            )


def name_by_row_id(apps, schema_editor):
    runs = apps.get_model("reversals", "BulkRun").objects.using(schema_editor.connection.alias)
    runs.update(key=Cast("id", models.CharField(max_length=64)))


class Migration(migrations.Migration):

    under_load = "The new column has a default in the database. Runs are few, and each is updated once."

    dependencies = [
        ("reversals", "0009_channel_names"),
    ]

    operations = [
        AddKey(
            model_name="bulkrun",
            name="key",
            field=models.CharField(
                default="", help_text="By which the same rows sent again are the same run.", max_length=64
            ),
            preserve_default=False,
        ),
        migrations.RunPython(name_by_row_id, migrations.RunPython.noop),
        migrations.AddConstraint(
            model_name="bulkrun",
            constraint=models.UniqueConstraint(fields=("org", "key"), name="bulk_run_made_once"),
        ),
        migrations.AddIndex(
            model_name="bulkrow",
            index=models.Index(fields=["org", "redemption_id"], name="bulk_rows_by_redemption"),
        ),
    ]
