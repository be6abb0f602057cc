from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('reversals', '0007_bulk'),
    ]

    operations = [
        migrations.AlterField(
            model_name='attempt',
            name='operation',
            field=models.CharField(choices=[('REVERSE', 'Reverse'), ('REDEEM', 'Redeem'), ('CORRECT', 'Correct')], default='REVERSE', max_length=16),
        ),
    ]
