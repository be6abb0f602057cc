import django.db.models.deletion
from django.db import migrations, models

import loyalty.constraints
import loyalty.fields


class Migration(migrations.Migration):

    dependencies = [
        ('loyalty', '0012_points_reissued'),
    ]

    operations = [
        migrations.CreateModel(
            name='LedgerImport',
            fields=[
                ('id', loyalty.fields.RowIdField(default=loyalty.fields.new_row_id, editable=False, primary_key=True, serialize=False)),
                ('imported_at', models.DateTimeField()),
                ('made_by', models.CharField(help_text='Who ran the import.', max_length=150)),
                ('lots_added', models.PositiveBigIntegerField(default=0)),
                ('points_awarded', loyalty.fields.PointsField(default=0, help_text='The points of its lots.')),
                ('redemptions_added', models.PositiveBigIntegerField(default=0)),
                ('points_redeemed', loyalty.fields.PointsField(default=0, help_text='The points of its redemptions.')),
                ('org', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='loyalty.org')),
            ],
            options={
                'constraints': [
                    models.UniqueConstraint(fields=('org', 'id'), name='ledger_import_in_org'),
                    models.CheckConstraint(condition=models.Q(models.Q(('lots_added__gt', 0), ('points_awarded__gt', 0)), models.Q(('lots_added', 0), ('points_awarded', 0)), _connector='OR'), name='ledger_import_points_of_lots'),
                    models.CheckConstraint(condition=models.Q(models.Q(('points_redeemed__gt', 0), ('redemptions_added__gt', 0)), models.Q(('points_redeemed', 0), ('redemptions_added', 0)), _connector='OR'), name='ledger_import_points_of_redemptions'),
                    loyalty.constraints.AppendOnly(name='ledger_import_append_only'),
                ],
            },
        ),
        migrations.AddField(
            model_name='lot',
            name='ledger_import',
            field=models.ForeignKey(blank=True, db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='lots', to='loyalty.ledgerimport'),
        ),
        migrations.AddField(
            model_name='redemption',
            name='ledger_import',
            field=models.ForeignKey(blank=True, db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='redemptions', to='loyalty.ledgerimport'),
        ),
        migrations.AddConstraint(
            model_name='lot',
            constraint=loyalty.constraints.SameOrg(field='ledger_import', name='lot_ledger_import_of_org'),
        ),
        migrations.AddConstraint(
            model_name='redemption',
            constraint=loyalty.constraints.SameOrg(field='ledger_import', name='redemption_ledger_import_of_org'),
        ),
    ]
