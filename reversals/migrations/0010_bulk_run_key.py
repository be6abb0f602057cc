from django.db import migrations, models
from django.db.models.functions import Cast


def name_by_row_id(apps, schema_editor):
    runs = apps.get_model("reversals", "BulkRun").objects.using(schema_editor.connection.alias)
    runs.update(key=Cast("id", models.CharField(max_length=64)))


class Migration(migrations.Migration):

    dependencies = [
        ("reversals", "0009_channel_names"),
    ]

    operations = [
        migrations.AddField(
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
