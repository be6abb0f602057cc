import django.core.validators
import django.db.models.deletion
import loyalty.constraints
import loyalty.fields
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('loyalty', '0003_webhook'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='customer',
            options={'permissions': [('lock_reversals', 'Can lock and unlock reversals of a customer'), ('see_identifiers', 'Can see identifiers of customers unmasked')]},
        ),
        migrations.AddField(
            model_name='apisecret',
            name='last_used_at',
            field=models.DateTimeField(blank=True, help_text='To the hour; empty: never.', null=True),
        ),
        migrations.AlterField(
            model_name='emfsetting',
            name='key',
            field=models.CharField(choices=[('Allow_points_redemption_reversal', 'Allow_points_redemption_reversal'), ('Reversal_paused', 'Reversal_paused'), ('Reversal_window_days', 'Reversal_window_days'), ('Reversal_limit_count', 'Reversal_limit_count'), ('Reversal_limit_points', 'Reversal_limit_points'), ('Reversal_limit_days', 'Reversal_limit_days'), ('Reversal_duplicate_window_seconds', 'Reversal_duplicate_window_seconds'), ('Reversal_blocked_statuses', 'Reversal_blocked_statuses'), ('Reversal_reissue_days', 'Reversal_reissue_days'), ('Reversal_approval_points', 'Reversal_approval_points'), ('Reversal_approval_days', 'Reversal_approval_days'), ('Reversal_error_dialect', 'Reversal_error_dialect'), ('Enable_cross_member_redemption', 'Enable_cross_member_redemption')], max_length=64),
        ),
        migrations.CreateModel(
            name='OrgAccess',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('org', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='accesses', to='loyalty.org')),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='org_accesses', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'access to an org',
                'verbose_name_plural': 'accesses to orgs',
                'constraints': [models.UniqueConstraint(fields=('user', 'org'), name='org_access_once')],
            },
        ),
        migrations.CreateModel(
            name='ReasonCode',
            fields=[
                ('id', loyalty.fields.RowIdField(default=loyalty.fields.new_row_id, editable=False, primary_key=True, serialize=False)),
                ('code', models.CharField(help_text='Capital letters, digits and _: GOODS_RETURNED.', max_length=32, validators=[django.core.validators.RegexValidator('^[A-Z][A-Z0-9_]*$', 'Capital letters, digits and _: GOODS_RETURNED.')])),
                ('meaning', models.CharField(max_length=200)),
                ('is_active', models.BooleanField(default=True, help_text='Without it, the code cannot be chosen any more.')),
                ('org', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='loyalty.org')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('org', 'code'), name='reason_code_unique')],
            },
        ),
        migrations.CreateModel(
            name='StaffChange',
            fields=[
                ('id', loyalty.fields.RowIdField(default=loyalty.fields.new_row_id, editable=False, primary_key=True, serialize=False)),
                ('subject', models.CharField(help_text='The kind of thing changed: loyalty.customer.', max_length=64)),
                ('subject_id', models.CharField(help_text='Its row id.', max_length=64)),
                ('subject_name', models.CharField(max_length=200)),
                ('action', models.CharField(help_text='What was done: added, changed, locked.', max_length=64)),
                ('before', models.JSONField(help_text='The changed fields as they were.')),
                ('after', models.JSONField(help_text='The changed fields as they became.')),
                ('reason', models.CharField(max_length=500)),
                ('made_by', models.CharField(max_length=150)),
                ('made_at', models.DateTimeField()),
                ('request_id', models.CharField(blank=True, help_text='The X-CAP-REQUEST-ID of the page.', max_length=32)),
                ('org', models.ForeignKey(blank=True, db_index=False, help_text='Empty: of no one org.', null=True, on_delete=django.db.models.deletion.PROTECT, to='loyalty.org')),
            ],
            options={
                'indexes': [models.Index(fields=['subject', 'subject_id', 'made_at'], name='staff_changes_of_subject'), models.Index(fields=['org', 'made_at'], name='staff_changes_by_time')],
                'constraints': [loyalty.constraints.AppendOnly(name='staff_change_append_only')],
            },
        ),
    ]
