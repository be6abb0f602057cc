import loyalty.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    under_load = "Before the first release. Older code cannot insert rows without the new columns."

    dependencies = [
        ('loyalty', '0004_back_office'),
        ('reversals', '0006_roles'),
    ]

    operations = [
        migrations.AddField(
            model_name='bulkrow',
            name='needs_approval',
            field=models.BooleanField(default=False, help_text='Whether the check found that it has to wait.'),
        ),
        migrations.AddField(
            model_name='bulkrun',
            name='confirmed_by',
            field=models.CharField(blank=True, help_text='Who first had its reversals made.', max_length=150),
        ),
        migrations.AlterField(
            model_name='bulkrow',
            name='points',
            field=loyalty.fields.PointsField(blank=True, help_text='What came back; until then, what would come back.', null=True),
        ),
        migrations.AlterField(
            model_name='bulkrow',
            name='points_expired',
            field=loyalty.fields.PointsField(blank=True, help_text='The part of it that went to expired lots, or would.', null=True),
        ),
        migrations.AddIndex(
            model_name='bulkrow',
            index=models.Index(fields=['org', 'run', 'status', 'position'], name='bulk_rows_by_status'),
        ),
    ]
