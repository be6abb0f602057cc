
import django.db.models.deletion
import loyalty.constraints
import loyalty.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('loyalty', '0009_room_for_updates'),
    ]

    operations = [
        migrations.CreateModel(
            name='OrgMove',
            fields=[
                ('id', loyalty.fields.RowIdField(default=loyalty.fields.new_row_id, editable=False, primary_key=True, serialize=False)),
                ('step', models.CharField(choices=[('CLOSED', 'closed to leave'), ('REOPENED', 'opened again'), ('ARRIVED', 'arrived')], max_length=16)),
                ('host', models.CharField(blank=True, help_text='The host of the cell to which it leaves.', max_length=253)),
                ('manifest', models.CharField(blank=True, help_text='SHA-256 of the manifest with which it arrived.', max_length=64)),
                ('made_by', models.CharField(max_length=150)),
                ('made_at', models.DateTimeField()),
                ('org', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='loyalty.org')),
            ],
            options={
                'constraints': [loyalty.constraints.AppendOnly(name='org_move_append_only')],
            },
        ),
    ]
