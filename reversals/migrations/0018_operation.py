from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('reversals', '0017_seal_every_row'),
    ]

    operations = [
        migrations.AlterField(
            model_name='attempt',
            name='operation',
            field=models.CharField(default='REVERSE', help_text='What was asked for: REVERSE, REDEEM or CORRECT.', max_length=16),
        ),
    ]
