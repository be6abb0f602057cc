import django.db.models.deletion
import loyalty.constraints
import loyalty.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('loyalty', '0003_webhook'),
        ('reversals', '0003_reversal_times'),
    ]

    operations = [
        migrations.CreateModel(
            name='Event',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('name', models.CharField(choices=[('pointsRedeemed', 'points redeemed'), ('redeemedPointsReversed', 'redeemed points reversed')], max_length=64)),
                ('event_id', models.CharField(help_text='The eventId that receivers see; the same on every try.', max_length=36)),
                ('request_id', models.CharField(blank=True, help_text='The X-CAP-REQUEST-ID of the reply.', max_length=32)),
                ('data', models.TextField(help_text='The data block in JSON. It holds personal data, which purge_events removes.')),
                ('created_at', models.DateTimeField()),
                ('customer', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='events', to='loyalty.customer')),
                ('org', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='loyalty.org')),
            ],
        ),
        migrations.CreateModel(
            name='Delivery',
            fields=[
                ('id', loyalty.fields.RowIdField(default=loyalty.fields.new_row_id, editable=False, primary_key=True, serialize=False)),
                ('status', models.CharField(choices=[('PENDING', 'Pending'), ('DELIVERED', 'Delivered'), ('GIVEN_UP', 'Given Up')], default='PENDING', max_length=16)),
                ('tries', models.PositiveIntegerField(default=0)),
                ('due_at', models.DateTimeField(help_text='When it is tried next, if no earlier one of the customer is pending.')),
                ('give_up_at', models.DateTimeField(help_text='A try that fails after this is the last.')),
                ('leased_until', models.DateTimeField(blank=True, help_text='A worker is sending it; if nothing is heard of that worker, until then.', null=True)),
                ('last_status', models.PositiveSmallIntegerField(blank=True, help_text='The HTTP status of the last answer; empty: there was none.', null=True)),
                ('last_answer', models.CharField(blank=True, help_text='How the last try failed.', max_length=500)),
                ('delivered_at', models.DateTimeField(blank=True, null=True)),
                ('customer', models.ForeignKey(db_constraint=False, db_index=False, help_text="The event's; one after the other.", on_delete=django.db.models.deletion.PROTECT, related_name='+', to='loyalty.customer')),
                ('org', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='loyalty.org')),
                ('webhook', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='deliveries', to='loyalty.webhook')),
                ('event', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='deliveries', to='reversals.event')),
            ],
            options={
                'verbose_name_plural': 'deliveries',
            },
        ),
        migrations.AddConstraint(
            model_name='event',
            constraint=models.UniqueConstraint(fields=('event_id',), name='event_id_unique'),
        ),
        migrations.AddConstraint(
            model_name='event',
            constraint=models.UniqueConstraint(fields=('org', 'id'), name='event_in_org'),
        ),
        migrations.AddIndex(
            model_name='delivery',
            index=models.Index(condition=models.Q(('status', 'PENDING')), fields=['org', 'webhook', 'due_at'], name='deliveries_by_due_time'),
        ),
        migrations.AddIndex(
            model_name='delivery',
            index=models.Index(condition=models.Q(('status', 'PENDING')), fields=['org', 'webhook', 'customer', 'event'], name='deliveries_by_customer'),
        ),
        migrations.AddConstraint(
            model_name='delivery',
            constraint=models.UniqueConstraint(fields=('event', 'webhook'), name='delivery_once_per_webhook'),
        ),
        migrations.AddConstraint(
            model_name='delivery',
            constraint=models.CheckConstraint(condition=models.Q(('status__in', ['PENDING', 'DELIVERED', 'GIVEN_UP'])), name='delivery_status_known'),
        ),
        migrations.AddConstraint(
            model_name='event',
            constraint=loyalty.constraints.SameOrg(field='customer', name='event_customer_of_org'),
        ),
        migrations.AddConstraint(
            model_name='delivery',
            constraint=loyalty.constraints.SameOrg(field='event', name='delivery_event_of_org'),
        ),
        migrations.AddConstraint(
            model_name='delivery',
            constraint=loyalty.constraints.SameOrg(field='webhook', name='delivery_webhook_of_org'),
        ),
        migrations.AddConstraint(
            model_name='delivery',
            constraint=loyalty.constraints.SameOrg(field='customer', name='delivery_customer_of_org'),
        ),
    ]
