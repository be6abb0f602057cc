import django.core.validators
import django.db.models.deletion
import loyalty.constraints
import loyalty.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='ApiClient',
            fields=[
                ('id', loyalty.fields.RowIdField(default=loyalty.fields.new_row_id, editable=False, primary_key=True, serialize=False)),
                ('username', models.CharField(max_length=150)),
                ('is_active', models.BooleanField(default=True, help_text='Without it, the client is revoked: calls answer 401.')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'verbose_name': 'API client',
            },
        ),
        migrations.CreateModel(
            name='Org',
            fields=[
                ('id', models.PositiveBigIntegerField(help_text='The orgId that API clients see; a positive whole number.', primary_key=True, serialize=False, verbose_name='org id')),
                ('name', models.CharField(max_length=200)),
                ('country', models.CharField(default='IN', help_text='Two letters (ISO 3166). Mobile numbers without a country code are read as numbers of this country.', max_length=2, validators=[django.core.validators.RegexValidator('^[A-Z]{2}$', 'Two capital letters, ISO 3166: IN, VN, US.')])),
                ('v2_enabled', models.BooleanField(default=True, help_text='Without it, API calls are answered 403.', verbose_name='V2 API')),
                ('is_active', models.BooleanField(default=True, help_text='Without it, API calls are answered 401.')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'verbose_name': 'org',
                'constraints': [models.CheckConstraint(condition=models.Q(('id__gt', 0)), name='org_id_positive')],
            },
        ),
        migrations.CreateModel(
            name='Customer',
            fields=[
                ('id', loyalty.fields.RowIdField(default=loyalty.fields.new_row_id, editable=False, primary_key=True, serialize=False)),
                ('public_id', models.PositiveBigIntegerField(help_text='The customerId that API clients see.', verbose_name='customer id')),
                ('status', models.CharField(choices=[('ACTIVE', 'Active'), ('FRAUD', 'Fraud'), ('DEACTIVATED', 'Deactivated'), ('MERGED', 'Merged')], default='ACTIVE', max_length=16)),
                ('reversals_locked', models.BooleanField(default=False, help_text='While on, reversals are answered 904.')),
                ('reversals_locked_until', models.DateTimeField(blank=True, help_text='When the lock ends by itself; empty: only by hand.', null=True)),
                ('reversals_lock_reason', models.CharField(blank=True, help_text='Why; seen by staff only, never by API clients.', max_length=500)),
                ('org', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='loyalty.org')),
            ],
        ),
        migrations.CreateModel(
            name='ApiSecret',
            fields=[
                ('id', loyalty.fields.RowIdField(default=loyalty.fields.new_row_id, editable=False, primary_key=True, serialize=False)),
                ('digest', models.CharField(help_text='Keyed hash of the secret.', max_length=64)),
                ('md5_digest', models.CharField(help_text="Keyed hash of the secret's MD5, which some clients send.", max_length=64)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('client', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='secrets', to='loyalty.apiclient')),
                ('org', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='loyalty.org')),
            ],
            options={
                'verbose_name': 'API secret',
            },
        ),
        migrations.AddField(
            model_name='apiclient',
            name='org',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='loyalty.org'),
        ),
        migrations.CreateModel(
            name='Program',
            fields=[
                ('id', loyalty.fields.RowIdField(default=loyalty.fields.new_row_id, editable=False, primary_key=True, serialize=False)),
                ('public_id', models.PositiveBigIntegerField(help_text='The programId that API clients see.', validators=[django.core.validators.MinValueValidator(1)], verbose_name='program id')),
                ('name', models.CharField(max_length=200)),
                ('is_active', models.BooleanField(default=True, help_text='Without it, reversals are answered 885.')),
                ('org', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='loyalty.org')),
            ],
        ),
        migrations.CreateModel(
            name='Lot',
            fields=[
                ('id', loyalty.fields.RowIdField(default=loyalty.fields.new_row_id, editable=False, primary_key=True, serialize=False)),
                ('lot_ref', models.CharField(help_text="The lot's name in the system it came from.", max_length=64)),
                ('points_awarded', loyalty.fields.PointsField()),
                ('points_remaining', loyalty.fields.PointsField(help_text='What can still be drawn, or has expired undrawn.')),
                ('awarded_at', models.DateTimeField()),
                ('expires_at', models.DateTimeField(blank=True, help_text='Empty: never.', null=True)),
                ('customer', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='lots', to='loyalty.customer')),
                ('org', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='loyalty.org')),
                ('program', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, to='loyalty.program')),
            ],
        ),
        migrations.CreateModel(
            name='EmfSetting',
            fields=[
                ('id', loyalty.fields.RowIdField(default=loyalty.fields.new_row_id, editable=False, primary_key=True, serialize=False)),
                ('key', models.CharField(choices=[('Allow_points_redemption_reversal', 'Allow_points_redemption_reversal'), ('Reversal_paused', 'Reversal_paused'), ('Reversal_window_days', 'Reversal_window_days'), ('Reversal_limit_count', 'Reversal_limit_count'), ('Reversal_limit_points', 'Reversal_limit_points'), ('Reversal_limit_days', 'Reversal_limit_days'), ('Reversal_duplicate_window_seconds', 'Reversal_duplicate_window_seconds'), ('Reversal_blocked_statuses', 'Reversal_blocked_statuses'), ('Reversal_reissue_days', 'Reversal_reissue_days'), ('Reversal_approval_points', 'Reversal_approval_points'), ('Reversal_error_dialect', 'Reversal_error_dialect')], max_length=64)),
                ('value', models.CharField(max_length=500)),
                ('org', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='loyalty.org')),
                ('program', models.ForeignKey(blank=True, db_constraint=False, db_index=False, help_text='Empty: the value of the whole org.', null=True, on_delete=django.db.models.deletion.PROTECT, to='loyalty.program')),
            ],
            options={
                'verbose_name': 'EMF setting',
            },
        ),
        migrations.CreateModel(
            name='EmfChange',
            fields=[
                ('id', loyalty.fields.RowIdField(default=loyalty.fields.new_row_id, editable=False, primary_key=True, serialize=False)),
                ('key', models.CharField(max_length=64)),
                ('old_value', models.CharField(blank=True, help_text='Empty: it was not set.', max_length=500)),
                ('new_value', models.CharField(blank=True, help_text='Empty: it is no longer set.', max_length=500)),
                ('ticket', models.CharField(max_length=100)),
                ('reason', models.CharField(max_length=500)),
                ('changed_by', models.CharField(max_length=150)),
                ('changed_at', models.DateTimeField()),
                ('org', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='loyalty.org')),
                ('program', models.ForeignKey(blank=True, db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, to='loyalty.program')),
            ],
            options={
                'verbose_name': 'EMF change',
            },
        ),
        migrations.CreateModel(
            name='Redemption',
            fields=[
                ('id', loyalty.fields.RowIdField(default=loyalty.fields.new_row_id, editable=False, primary_key=True, serialize=False)),
                ('public_id', models.CharField(help_text='The redemptionId that API clients see.', max_length=64, verbose_name='redemption id')),
                ('points', loyalty.fields.PointsField()),
                ('points_reversed', loyalty.fields.PointsField(default=0, help_text='What reversals have given back so far.')),
                ('redeemed_at', models.DateTimeField()),
                ('transaction_number', models.CharField(blank=True, max_length=128)),
                ('external_reference_number', models.CharField(blank=True, max_length=128, null=True)),
                ('customer', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='redemptions', to='loyalty.customer')),
                ('org', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='loyalty.org')),
                ('program', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, to='loyalty.program')),
            ],
        ),
        migrations.CreateModel(
            name='Draw',
            fields=[
                ('id', loyalty.fields.RowIdField(default=loyalty.fields.new_row_id, editable=False, primary_key=True, serialize=False)),
                ('position', models.PositiveIntegerField(help_text='1 was drawn first and is given back last.')),
                ('points', loyalty.fields.PointsField()),
                ('points_reversed', loyalty.fields.PointsField(default=0, help_text='What reversals have given back so far.')),
                ('lot', models.ForeignKey(blank=True, db_constraint=False, db_index=False, help_text='Empty: points that no lot covered.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='draws', to='loyalty.lot')),
                ('org', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='loyalty.org')),
                ('redemption', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='draws', to='loyalty.redemption')),
            ],
        ),
        migrations.AddConstraint(
            model_name='customer',
            constraint=models.UniqueConstraint(fields=('org', 'public_id'), name='customer_public_id_unique'),
        ),
        migrations.AddConstraint(
            model_name='customer',
            constraint=models.UniqueConstraint(fields=('org', 'id'), name='customer_in_org'),
        ),
        migrations.AddConstraint(
            model_name='customer',
            constraint=models.CheckConstraint(condition=models.Q(('status__in', ['ACTIVE', 'FRAUD', 'DEACTIVATED', 'MERGED'])), name='customer_status_known'),
        ),
        migrations.AddConstraint(
            model_name='apisecret',
            constraint=models.UniqueConstraint(fields=('org', 'client', 'digest'), name='api_secret_once_per_client'),
        ),
        migrations.AddIndex(
            model_name='apiclient',
            index=models.Index(fields=['username'], name='api_client_by_username'),
        ),
        migrations.AddConstraint(
            model_name='apiclient',
            constraint=models.UniqueConstraint(fields=('org', 'username'), name='api_client_username_unique'),
        ),
        migrations.AddConstraint(
            model_name='apiclient',
            constraint=models.UniqueConstraint(fields=('org', 'id'), name='api_client_in_org'),
        ),
        migrations.AddConstraint(
            model_name='program',
            constraint=models.UniqueConstraint(fields=('org', 'public_id'), name='program_public_id_unique'),
        ),
        migrations.AddConstraint(
            model_name='program',
            constraint=models.UniqueConstraint(fields=('org', 'id'), name='program_in_org'),
        ),
        migrations.AddIndex(
            model_name='lot',
            index=models.Index(fields=['org', 'customer', 'expires_at'], name='lots_of_customer'),
        ),
        migrations.AddConstraint(
            model_name='lot',
            constraint=models.UniqueConstraint(fields=('org', 'lot_ref'), name='lot_ref_unique'),
        ),
        migrations.AddConstraint(
            model_name='lot',
            constraint=models.UniqueConstraint(fields=('org', 'id'), name='lot_in_org'),
        ),
        migrations.AddConstraint(
            model_name='lot',
            constraint=models.CheckConstraint(condition=models.Q(('points_awarded__gt', 0)), name='lot_awarded_positive'),
        ),
        migrations.AddConstraint(
            model_name='lot',
            constraint=models.CheckConstraint(condition=models.Q(('points_remaining__gte', 0), ('points_remaining__lte', models.F('points_awarded'))), name='lot_remaining_within_awarded'),
        ),
        migrations.AddConstraint(
            model_name='emfsetting',
            constraint=models.UniqueConstraint(condition=models.Q(('program__isnull', True)), fields=('org', 'key'), name='emf_setting_once_per_org'),
        ),
        migrations.AddConstraint(
            model_name='emfsetting',
            constraint=models.UniqueConstraint(condition=models.Q(('program__isnull', False)), fields=('org', 'program', 'key'), name='emf_setting_once_per_program'),
        ),
        migrations.AddIndex(
            model_name='emfchange',
            index=models.Index(fields=['org', 'changed_at'], name='emf_change_by_time'),
        ),
        migrations.AddConstraint(
            model_name='emfchange',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('ticket', ''), _negated=True), models.Q(('reason', ''), _negated=True)), name='emf_change_says_why'),
        ),
        migrations.AddConstraint(
            model_name='emfchange',
            constraint=loyalty.constraints.AppendOnly(name='emf_change_append_only'),
        ),
        migrations.AddIndex(
            model_name='redemption',
            index=models.Index(fields=['org', 'customer', 'redeemed_at'], name='redemptions_of_customer'),
        ),
        migrations.AddIndex(
            model_name='redemption',
            index=models.Index(fields=['org', 'transaction_number'], name='redemptions_by_transaction'),
        ),
        migrations.AddConstraint(
            model_name='redemption',
            constraint=models.UniqueConstraint(fields=('org', 'public_id'), name='redemption_public_id_unique'),
        ),
        migrations.AddConstraint(
            model_name='redemption',
            constraint=models.UniqueConstraint(fields=('org', 'external_reference_number'), name='redemption_external_reference_unique'),
        ),
        migrations.AddConstraint(
            model_name='redemption',
            constraint=models.UniqueConstraint(fields=('org', 'id'), name='redemption_in_org'),
        ),
        migrations.AddConstraint(
            model_name='redemption',
            constraint=models.CheckConstraint(condition=models.Q(('points__gt', 0)), name='redemption_points_positive'),
        ),
        migrations.AddConstraint(
            model_name='redemption',
            constraint=models.CheckConstraint(condition=models.Q(('points_reversed__gte', 0), ('points_reversed__lte', models.F('points'))), name='redemption_reversed_within_points'),
        ),
        migrations.AddIndex(
            model_name='draw',
            index=models.Index(fields=['org', 'lot'], name='draws_of_lot'),
        ),
        migrations.AddConstraint(
            model_name='draw',
            constraint=models.UniqueConstraint(fields=('org', 'redemption', 'position'), name='draw_position_unique'),
        ),
        migrations.AddConstraint(
            model_name='draw',
            constraint=models.UniqueConstraint(fields=('org', 'redemption', 'lot'), name='draw_once_per_lot'),
        ),
        migrations.AddConstraint(
            model_name='draw',
            constraint=models.UniqueConstraint(fields=('org', 'id'), name='draw_in_org'),
        ),
        migrations.AddConstraint(
            model_name='draw',
            constraint=models.CheckConstraint(condition=models.Q(('points__gt', 0)), name='draw_points_positive'),
        ),
        migrations.AddConstraint(
            model_name='draw',
            constraint=models.CheckConstraint(condition=models.Q(('points_reversed__gte', 0), ('points_reversed__lte', models.F('points'))), name='draw_reversed_within_points'),
        ),
        migrations.CreateModel(
            name='CustomerIdentifier',
            fields=[
                ('id', loyalty.fields.RowIdField(default=loyalty.fields.new_row_id, editable=False, primary_key=True, serialize=False)),
                ('type', models.CharField(choices=[('MOBILE', 'MOBILE'), ('EMAIL', 'EMAIL'), ('EXTERNAL_ID', 'EXTERNAL_ID'), ('CARD_NUMBER', 'CARD_NUMBER'), ('CARD_EXTERNAL_ID', 'CARD_EXTERNAL_ID')], max_length=16)),
                ('value', models.CharField(max_length=255)),
                ('customer', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='identifiers', to='loyalty.customer')),
                ('org', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='loyalty.org')),
            ],
            options={
                'indexes': [models.Index(fields=['org', 'customer'], name='identifiers_of_customer')],
                'constraints': [models.UniqueConstraint(fields=('org', 'type', 'value'), name='identifier_names_one_customer'), loyalty.constraints.SameOrg(field='customer', name='identifier_customer_of_org')],
            },
        ),
        migrations.AddConstraint(
            model_name='apisecret',
            constraint=loyalty.constraints.SameOrg(field='client', name='api_secret_client_of_org'),
        ),
        migrations.AddConstraint(
            model_name='lot',
            constraint=loyalty.constraints.SameOrg(field='program', name='lot_program_of_org'),
        ),
        migrations.AddConstraint(
            model_name='lot',
            constraint=loyalty.constraints.SameOrg(field='customer', name='lot_customer_of_org'),
        ),
        migrations.AddConstraint(
            model_name='emfsetting',
            constraint=loyalty.constraints.SameOrg(field='program', name='emf_setting_program_of_org'),
        ),
        migrations.AddConstraint(
            model_name='emfchange',
            constraint=loyalty.constraints.SameOrg(field='program', name='emf_change_program_of_org'),
        ),
        migrations.AddConstraint(
            model_name='redemption',
            constraint=loyalty.constraints.SameOrg(field='program', name='redemption_program_of_org'),
        ),
        migrations.AddConstraint(
            model_name='redemption',
            constraint=loyalty.constraints.SameOrg(field='customer', name='redemption_customer_of_org'),
        ),
        migrations.AddConstraint(
            model_name='draw',
            constraint=loyalty.constraints.SameOrg(field='redemption', name='draw_redemption_of_org'),
        ),
        migrations.AddConstraint(
            model_name='draw',
            constraint=loyalty.constraints.SameOrg(field='lot', name='draw_lot_of_org'),
        ),
    ]
