import django.db.models.deletion
import django.db.models.expressions
import loyalty.constraints
import loyalty.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('loyalty', '0001_ledger'),
    ]

    operations = [
        migrations.CreateModel(
            name='Reversal',
            fields=[
                ('id', loyalty.fields.RowIdField(default=loyalty.fields.new_row_id, editable=False, primary_key=True, serialize=False)),
                ('public_id', models.CharField(help_text='The reversalId that API clients see.', max_length=6, verbose_name='reversal id')),
                ('points_asked', loyalty.fields.PointsField(blank=True, help_text='Empty: all that was left.', null=True)),
                ('points', loyalty.fields.PointsField(help_text='Points given back: available and expired together.')),
                ('points_available', loyalty.fields.PointsField(help_text='Can be spent again.')),
                ('points_expired', loyalty.fields.PointsField(help_text='Went back to lots that had expired; cannot be spent.')),
                ('has_key', models.BooleanField(help_text='Whether the request carried an Idempotency-Key.')),
                ('channel', models.CharField(choices=[('ADMIN', 'Admin'), ('API', 'Api'), ('COMMAND', 'Command')], max_length=16)),
                ('made_by', models.CharField(help_text="The API client's or the person's username.", max_length=150)),
                ('reason', models.CharField(blank=True, max_length=500)),
                ('created_at', models.DateTimeField()),
                ('client', models.ForeignKey(blank=True, db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, to='loyalty.apiclient')),
                ('customer', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='reversals', to='loyalty.customer')),
                ('org', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='loyalty.org')),
                ('redemption', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='reversals', to='loyalty.redemption')),
            ],
        ),
        migrations.CreateModel(
            name='Attempt',
            fields=[
                ('id', loyalty.fields.RowIdField(default=loyalty.fields.new_row_id, editable=False, primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField()),
                ('request_id', models.CharField(blank=True, help_text='The X-CAP-REQUEST-ID of the reply.', max_length=32)),
                ('channel', models.CharField(choices=[('ADMIN', 'Admin'), ('API', 'Api'), ('COMMAND', 'Command')], max_length=16)),
                ('made_by', models.CharField(max_length=150)),
                ('reason', models.CharField(blank=True, max_length=500)),
                ('redemption_id_asked', models.CharField(blank=True, max_length=64)),
                ('external_reference_asked', models.CharField(blank=True, max_length=128)),
                ('identifier_type', models.CharField(blank=True, max_length=16)),
                ('identifier_masked', models.CharField(blank=True, max_length=16)),
                ('points_asked', loyalty.fields.PointsField(blank=True, help_text='Empty: all that was left.', null=True)),
                ('idempotency_key', models.CharField(blank=True, max_length=255)),
                ('holds_key', models.BooleanField(default=False, help_text='Whether a repeat with this key is answered with this reply.')),
                ('fingerprint', models.CharField(blank=True, help_text='Keyed hash of what the request means.', max_length=64)),
                ('http_status', models.PositiveSmallIntegerField(blank=True, null=True)),
                ('code', models.PositiveSmallIntegerField(blank=True, help_text='Empty: accepted.', null=True)),
                ('rule', models.CharField(blank=True, help_text='The rule that refused it.', max_length=32)),
                ('refusal_reason', models.CharField(blank=True, max_length=1000)),
                ('reply', models.TextField(blank=True, help_text="The body to repeat, without the customer's identifier.")),
                ('duration_ms', models.PositiveIntegerField(blank=True, null=True)),
                ('client', models.ForeignKey(blank=True, db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, to='loyalty.apiclient')),
                ('org', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='loyalty.org')),
                ('reversal', models.ForeignKey(blank=True, db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='attempts', to='reversals.reversal')),
            ],
        ),
        migrations.CreateModel(
            name='ReversalLine',
            fields=[
                ('id', loyalty.fields.RowIdField(default=loyalty.fields.new_row_id, editable=False, primary_key=True, serialize=False)),
                ('points', loyalty.fields.PointsField()),
                ('points_available', loyalty.fields.PointsField()),
                ('points_expired', loyalty.fields.PointsField()),
                ('draw', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='reversal_lines', to='loyalty.draw')),
                ('org', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='loyalty.org')),
                ('reissued_lot', models.ForeignKey(blank=True, db_constraint=False, db_index=False, help_text='The new lot in which the points came back, where their own had expired or there was none.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='reissuing_lines', to='loyalty.lot')),
                ('reversal', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='lines', to='reversals.reversal')),
            ],
        ),
        migrations.AddIndex(
            model_name='reversal',
            index=models.Index(fields=['org', 'redemption', 'created_at'], name='reversals_of_redemption'),
        ),
        migrations.AddIndex(
            model_name='reversal',
            index=models.Index(fields=['org', 'customer', 'created_at'], name='reversals_of_customer'),
        ),
        migrations.AddConstraint(
            model_name='reversal',
            constraint=models.UniqueConstraint(fields=('org', 'public_id'), name='reversal_public_id_unique'),
        ),
        migrations.AddConstraint(
            model_name='reversal',
            constraint=models.UniqueConstraint(fields=('org', 'id'), name='reversal_in_org'),
        ),
        migrations.AddConstraint(
            model_name='reversal',
            constraint=models.CheckConstraint(condition=models.Q(('points__gt', 0), ('points_available__gte', 0), ('points_expired__gte', 0)), name='reversal_points_positive'),
        ),
        migrations.AddConstraint(
            model_name='reversal',
            constraint=models.CheckConstraint(condition=models.Q(('points', django.db.models.expressions.CombinedExpression(models.F('points_available'), '+', models.F('points_expired')))), name='reversal_is_available_and_expired'),
        ),
        migrations.AddConstraint(
            model_name='reversal',
            constraint=loyalty.constraints.AppendOnly(name='reversal_append_only'),
        ),
        migrations.AddIndex(
            model_name='attempt',
            index=models.Index(fields=['org', 'created_at'], name='attempts_by_time'),
        ),
        migrations.AddIndex(
            model_name='attempt',
            index=models.Index(fields=['org', 'redemption_id_asked'], name='attempts_by_redemption'),
        ),
        migrations.AddConstraint(
            model_name='attempt',
            constraint=models.UniqueConstraint(condition=models.Q(('holds_key', True)), fields=('org', 'idempotency_key'), name='idempotency_key_held_once'),
        ),
        migrations.AddIndex(
            model_name='reversalline',
            index=models.Index(fields=['org', 'draw'], name='lines_of_draw'),
        ),
        migrations.AddIndex(
            model_name='reversalline',
            index=models.Index(condition=models.Q(('reissued_lot__isnull', False)), fields=['org', 'reissued_lot'], name='lines_of_reissued_lot'),
        ),
        migrations.AddConstraint(
            model_name='reversalline',
            constraint=models.UniqueConstraint(fields=('org', 'reversal', 'draw'), name='line_once_per_draw'),
        ),
        migrations.AddConstraint(
            model_name='reversalline',
            constraint=models.CheckConstraint(condition=models.Q(('points__gt', 0), ('points_available__gte', 0), ('points_expired__gte', 0)), name='line_points_positive'),
        ),
        migrations.AddConstraint(
            model_name='reversalline',
            constraint=models.CheckConstraint(condition=models.Q(('points', django.db.models.expressions.CombinedExpression(models.F('points_available'), '+', models.F('points_expired')))), name='line_is_available_and_expired'),
        ),
        migrations.AddConstraint(
            model_name='reversalline',
            constraint=loyalty.constraints.AppendOnly(name='line_append_only'),
        ),
        migrations.AddConstraint(
            model_name='reversal',
            constraint=loyalty.constraints.SameOrg(field='redemption', name='reversal_redemption_of_org'),
        ),
        migrations.AddConstraint(
            model_name='reversal',
            constraint=loyalty.constraints.SameOrg(field='customer', name='reversal_customer_of_org'),
        ),
        migrations.AddConstraint(
            model_name='reversal',
            constraint=loyalty.constraints.SameOrg(field='client', name='reversal_client_of_org'),
        ),
        migrations.AddConstraint(
            model_name='attempt',
            constraint=loyalty.constraints.SameOrg(field='client', name='attempt_client_of_org'),
        ),
        migrations.AddConstraint(
            model_name='attempt',
            constraint=loyalty.constraints.SameOrg(field='reversal', name='attempt_reversal_of_org'),
        ),
        migrations.AddConstraint(
            model_name='reversalline',
            constraint=loyalty.constraints.SameOrg(field='reversal', name='line_reversal_of_org'),
        ),
        migrations.AddConstraint(
            model_name='reversalline',
            constraint=loyalty.constraints.SameOrg(field='draw', name='line_draw_of_org'),
        ),
        migrations.AddConstraint(
            model_name='reversalline',
            constraint=loyalty.constraints.SameOrg(field='reissued_lot', name='line_reissued_lot_of_org'),
        ),
    ]
