import django.db.models.deletion
import loyalty.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('loyalty', '0002_groups'),
    ]

    operations = [
        migrations.CreateModel(
            name='Webhook',
            fields=[
                ('id', loyalty.fields.RowIdField(default=loyalty.fields.new_row_id, editable=False, primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=100)),
                ('url', models.CharField(help_text='https://host/path; redirects are not followed.', max_length=500, verbose_name='URL')),
                ('event_names', models.CharField(help_text='Names of events, with commas.', max_length=200, verbose_name='events')),
                ('is_active', models.BooleanField(default=True, help_text='While off, what is pending waits, and events that happen are not kept for it.')),
                ('disabled_at', models.DateTimeField(blank=True, null=True)),
                ('disabled_reason', models.CharField(blank=True, help_text='Empty: not disabled by the receiver.', max_length=200)),
                ('unreachable_count', models.PositiveIntegerField(default=0, help_text='How often in a row the receiver could not be reached.')),
                ('rests_until', models.DateTimeField(blank=True, help_text='Until when nothing is sent, because the receiver could not be reached.', null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('org', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='loyalty.org')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('org', 'name'), name='webhook_name_unique'), models.UniqueConstraint(fields=('org', 'id'), name='webhook_in_org')],
            },
        ),
    ]
