import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('reversals', '0016_earlier_imports'),
    ]

    operations = [
        migrations.AlterField(
            model_name='seal',
            name='count',
            field=models.PositiveIntegerField(help_text='How many entries it holds.'),
        ),
        migrations.AlterField(
            model_name='sealedrow',
            name='digest',
            field=models.CharField(help_text="SHA-256 over the entry's text.", max_length=64),
        ),
        migrations.AlterField(
            model_name='sealedrow',
            name='kind',
            field=models.CharField(choices=[('IMPORT', 'import'), ('LOT', 'lot'), ('REDEMPTION', 'redemption'), ('REVERSAL', 'reversal'), ('CORRECTION', 'correction'), ('SETTING_CHANGE', 'setting change'), ('CUSTOMER', 'customer'), ('PROGRAM', 'program')], max_length=16),
        ),
        migrations.AlterField(
            model_name='sealedrow',
            name='org',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, to='loyalty.org'),
        ),
        migrations.AlterField(
            model_name='sealedrow',
            name='row_id',
            field=models.BigIntegerField(help_text="The row id of the entry's first row."),
        ),
        migrations.AlterField(
            model_name='sealedrow',
            name='seal',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='rows', to='reversals.seal'),
        ),
    ]
