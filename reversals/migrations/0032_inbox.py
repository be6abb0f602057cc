from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):

    dependencies = [
        ('reversals', '0031_list_exports'),
    ]

    operations = [
        migrations.AddField(
            model_name='approval',
            name='is_news',
            field=models.BooleanField(db_default=False, default=True, help_text='Whether the worker has yet to send emails about the present status.'),
        ),
        migrations.AddIndex(
            model_name='approval',
            index=models.Index(fields=['org', 'asked_by', 'asked_at'], name='approvals_by_asker'),
        ),
        migrations.AddIndex(
            model_name='approval',
            index=models.Index(condition=Q(is_news=True), fields=['org', 'asked_at'], name='approvals_news'),
        ),
        migrations.AddIndex(
            model_name='bulkrow',
            index=models.Index(condition=Q(approval__isnull=False), fields=['org', 'approval'], name='bulk_rows_by_approval'),
        ),
    ]
