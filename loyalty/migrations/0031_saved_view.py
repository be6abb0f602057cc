import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import loyalty.fields


class Migration(migrations.Migration):

    dependencies = [
        ('loyalty', '0030_redemptions_by_time'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='SavedView',
            fields=[
                ('id', loyalty.fields.RowIdField(default=loyalty.fields.new_row_id, editable=False, primary_key=True, serialize=False)),
                ('kind', models.CharField(help_text='The model of the list, such as reversals.reversal.', max_length=64)),
                ('name', models.CharField(blank=True, max_length=60)),
                ('query', models.TextField(blank=True, help_text='The query string of the list.')),
                ('is_shared', models.BooleanField(default=False, help_text='Whether other users of the org see it.')),
                ('org', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='loyalty.org')),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='saved_views', to=settings.AUTH_USER_MODEL)),
            ],
        ),
        migrations.AddConstraint(
            model_name='savedview',
            constraint=models.UniqueConstraint(fields=('org', 'kind', 'user', 'name'), name='saved_view_name_unique'),
        ),
    ]
