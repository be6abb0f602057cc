import django.db.models.deletion
import loyalty.constraints
import loyalty.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('loyalty', '0004_back_office'),
        ('reversals', '0004_event_delivery'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='reversal',
            options={'permissions': [('export_ledger', 'Can export reversals and attempts')]},
        ),
        migrations.AlterField(
            model_name='attempt',
            name='channel',
            field=models.CharField(choices=[('ADMIN', 'Admin'), ('API', 'Api'), ('BULK', 'Bulk'), ('COMMAND', 'Command')], max_length=16),
        ),
        migrations.AlterField(
            model_name='reversal',
            name='channel',
            field=models.CharField(choices=[('ADMIN', 'Admin'), ('API', 'Api'), ('BULK', 'Bulk'), ('COMMAND', 'Command')], max_length=16),
        ),
        migrations.CreateModel(
            name='Approval',
            fields=[
                ('id', loyalty.fields.RowIdField(default=loyalty.fields.new_row_id, editable=False, primary_key=True, serialize=False)),
                ('points_asked', loyalty.fields.PointsField(blank=True, help_text='Empty: all that is left.', null=True)),
                ('points', loyalty.fields.PointsField(help_text='What would have moved when it was asked for.')),
                ('key', models.CharField(help_text='By which a resent page is the same request.', max_length=255)),
                ('channel', models.CharField(choices=[('ADMIN', 'Admin'), ('API', 'Api'), ('BULK', 'Bulk'), ('COMMAND', 'Command')], max_length=16)),
                ('reason', models.CharField(max_length=500)),
                ('asked_by', models.CharField(max_length=150)),
                ('asked_at', models.DateTimeField()),
                ('lapses_at', models.DateTimeField(help_text='From then on it can no longer be approved.')),
                ('status', models.CharField(choices=[('WAITING', 'Waiting'), ('APPROVED', 'Approved'), ('REJECTED', 'Rejected')], default='WAITING', max_length=16)),
                ('decided_by', models.CharField(blank=True, max_length=150)),
                ('decided_at', models.DateTimeField(blank=True, null=True)),
                ('comment', models.CharField(blank=True, max_length=500)),
                ('corrects', models.ForeignKey(blank=True, db_constraint=False, db_index=False, help_text='The reversal to correct; empty: a reversal is asked for.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='correction_requests', to='reversals.reversal')),
                ('org', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='loyalty.org')),
                ('redemption', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='approvals', to='loyalty.redemption')),
                ('reversal', models.ForeignKey(blank=True, db_constraint=False, db_index=False, help_text='The reversal that was made.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='approvals', to='reversals.reversal')),
            ],
            options={
                'permissions': [('decide_approval', 'Can approve or reject what another person asked for')],
            },
        ),
        migrations.CreateModel(
            name='BulkRun',
            fields=[
                ('id', loyalty.fields.RowIdField(default=loyalty.fields.new_row_id, editable=False, primary_key=True, serialize=False)),
                ('name', models.CharField(help_text="The file's name, or what was selected.", max_length=200)),
                ('made_by', models.CharField(max_length=150)),
                ('made_at', models.DateTimeField()),
                ('confirmed_at', models.DateTimeField(blank=True, help_text='Empty: only checked so far.', null=True)),
                ('org', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='loyalty.org')),
            ],
        ),
        migrations.CreateModel(
            name='BulkRow',
            fields=[
                ('id', loyalty.fields.RowIdField(default=loyalty.fields.new_row_id, editable=False, primary_key=True, serialize=False)),
                ('position', models.PositiveIntegerField(help_text='The line of the file, the header being line 1.')),
                ('redemption_id', models.CharField(help_text='As it was written.', max_length=200)),
                ('points_written', models.CharField(blank=True, help_text='As it was written; empty: all.', max_length=64)),
                ('reason', models.CharField(blank=True, max_length=500)),
                ('points', loyalty.fields.PointsField(blank=True, help_text='What the check found would come back.', null=True)),
                ('points_expired', loyalty.fields.PointsField(blank=True, help_text='The part of it that would go to expired lots.', null=True)),
                ('status', models.CharField(choices=[('READY', 'ready'), ('INVALID', 'not possible'), ('REVERSED', 'reversed'), ('REQUESTED', 'waits for approval'), ('REFUSED', 'refused')], default='READY', max_length=16)),
                ('code', models.PositiveSmallIntegerField(blank=True, null=True)),
                ('outcome', models.CharField(blank=True, help_text='What was wrong, or what was done.', max_length=1000)),
                ('approval', models.ForeignKey(blank=True, db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='bulk_rows', to='reversals.approval')),
                ('org', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='loyalty.org')),
                ('reversal', models.ForeignKey(blank=True, db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='bulk_rows', to='reversals.reversal')),
                ('run', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='rows', to='reversals.bulkrun')),
            ],
        ),
        migrations.CreateModel(
            name='Correction',
            fields=[
                ('id', loyalty.fields.RowIdField(default=loyalty.fields.new_row_id, editable=False, primary_key=True, serialize=False)),
                ('points', loyalty.fields.PointsField(help_text='All points of the reversal.')),
                ('made_by', models.CharField(max_length=150)),
                ('approved_by', models.CharField(max_length=150)),
                ('reason', models.CharField(max_length=500)),
                ('created_at', models.DateTimeField()),
                ('approval', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='corrections', to='reversals.approval')),
                ('org', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='loyalty.org')),
                ('reversal', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='corrections', to='reversals.reversal')),
            ],
        ),
        migrations.CreateModel(
            name='DayTotals',
            fields=[
                ('id', loyalty.fields.RowIdField(default=loyalty.fields.new_row_id, editable=False, primary_key=True, serialize=False)),
                ('day', models.DateField(help_text='In UTC.')),
                ('rule', models.CharField(blank=True, help_text='The rule that refused; empty: accepted.', max_length=32)),
                ('count', models.PositiveIntegerField()),
                ('points', loyalty.fields.PointsField(default=0, help_text='Points given back, the expired ones included.')),
                ('points_expired', loyalty.fields.PointsField(default=0)),
                ('org', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='loyalty.org')),
            ],
            options={
                'verbose_name_plural': 'day totals',
            },
        ),
        migrations.CreateModel(
            name='LedgerCheck',
            fields=[
                ('id', loyalty.fields.RowIdField(default=loyalty.fields.new_row_id, editable=False, primary_key=True, serialize=False)),
                ('started_at', models.DateTimeField()),
                ('finished_at', models.DateTimeField()),
                ('broken_count', models.PositiveIntegerField(help_text='How many rows broke a law.')),
                ('org', models.ForeignKey(blank=True, db_index=False, help_text='Empty: every org.', null=True, on_delete=django.db.models.deletion.PROTECT, to='loyalty.org')),
            ],
        ),
        migrations.AddIndex(
            model_name='approval',
            index=models.Index(fields=['org', 'status', 'asked_at'], name='approvals_by_status'),
        ),
        migrations.AddConstraint(
            model_name='approval',
            constraint=models.UniqueConstraint(fields=('org', 'id'), name='approval_in_org'),
        ),
        migrations.AddConstraint(
            model_name='approval',
            constraint=models.UniqueConstraint(fields=('org', 'key'), name='approval_asked_once'),
        ),
        migrations.AddConstraint(
            model_name='approval',
            constraint=models.CheckConstraint(condition=models.Q(('status__in', ['WAITING', 'APPROVED', 'REJECTED'])), name='approval_status_known'),
        ),
        migrations.AddConstraint(
            model_name='approval',
            constraint=models.CheckConstraint(condition=models.Q(('decided_by', models.F('asked_by')), _negated=True), name='approval_by_another_person'),
        ),
        migrations.AddConstraint(
            model_name='approval',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('decided_at__isnull', True), ('decided_by', ''), ('status', 'WAITING')), models.Q(models.Q(('status', 'WAITING'), _negated=True), models.Q(('decided_by', ''), _negated=True), ('decided_at__isnull', False)), _connector='OR'), name='approval_says_who_decided'),
        ),
        migrations.AddConstraint(
            model_name='approval',
            constraint=loyalty.constraints.SameOrg(field='redemption', name='approval_redemption_of_org'),
        ),
        migrations.AddConstraint(
            model_name='approval',
            constraint=loyalty.constraints.SameOrg(field='corrects', name='approval_corrects_of_org'),
        ),
        migrations.AddConstraint(
            model_name='approval',
            constraint=loyalty.constraints.SameOrg(field='reversal', name='approval_reversal_of_org'),
        ),
        migrations.AddIndex(
            model_name='bulkrun',
            index=models.Index(fields=['org', 'made_at'], name='bulk_runs_by_time'),
        ),
        migrations.AddConstraint(
            model_name='bulkrun',
            constraint=models.UniqueConstraint(fields=('org', 'id'), name='bulk_run_in_org'),
        ),
        migrations.AddConstraint(
            model_name='bulkrow',
            constraint=models.UniqueConstraint(fields=('org', 'run', 'position'), name='bulk_row_position_unique'),
        ),
        migrations.AddConstraint(
            model_name='bulkrow',
            constraint=models.CheckConstraint(condition=models.Q(('status__in', ['READY', 'INVALID', 'REVERSED', 'REQUESTED', 'REFUSED'])), name='bulk_row_status_known'),
        ),
        migrations.AddConstraint(
            model_name='bulkrow',
            constraint=loyalty.constraints.SameOrg(field='run', name='bulk_row_run_of_org'),
        ),
        migrations.AddConstraint(
            model_name='bulkrow',
            constraint=loyalty.constraints.SameOrg(field='reversal', name='bulk_row_reversal_of_org'),
        ),
        migrations.AddConstraint(
            model_name='bulkrow',
            constraint=loyalty.constraints.SameOrg(field='approval', name='bulk_row_approval_of_org'),
        ),
        migrations.AddConstraint(
            model_name='correction',
            constraint=models.UniqueConstraint(fields=('org', 'reversal'), name='correction_once_per_reversal'),
        ),
        migrations.AddConstraint(
            model_name='correction',
            constraint=models.CheckConstraint(condition=models.Q(('points__gt', 0)), name='correction_points_positive'),
        ),
        migrations.AddConstraint(
            model_name='correction',
            constraint=models.CheckConstraint(condition=models.Q(('approved_by', models.F('made_by')), _negated=True), name='correction_by_two_persons'),
        ),
        migrations.AddConstraint(
            model_name='correction',
            constraint=loyalty.constraints.SameOrg(field='reversal', name='correction_reversal_of_org'),
        ),
        migrations.AddConstraint(
            model_name='correction',
            constraint=loyalty.constraints.SameOrg(field='approval', name='correction_approval_of_org'),
        ),
        migrations.AddConstraint(
            model_name='correction',
            constraint=loyalty.constraints.AppendOnly(name='correction_append_only'),
        ),
        migrations.AddConstraint(
            model_name='daytotals',
            constraint=models.UniqueConstraint(fields=('org', 'day', 'rule'), name='day_totals_once'),
        ),
        migrations.AddIndex(
            model_name='ledgercheck',
            index=models.Index(fields=['finished_at'], name='ledger_checks_by_time'),
        ),
    ]
