from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('reversals', '0008_correction'),
    ]

    operations = [
        migrations.AlterField(
            model_name='approval',
            name='channel',
            field=models.CharField(choices=[('ADMIN', 'back office'), ('API', 'API'), ('BULK', 'bulk'), ('COMMAND', 'command')], max_length=16),
        ),
        migrations.AlterField(
            model_name='attempt',
            name='channel',
            field=models.CharField(choices=[('ADMIN', 'back office'), ('API', 'API'), ('BULK', 'bulk'), ('COMMAND', 'command')], max_length=16),
        ),
        migrations.AlterField(
            model_name='reversal',
            name='channel',
            field=models.CharField(choices=[('ADMIN', 'back office'), ('API', 'API'), ('BULK', 'bulk'), ('COMMAND', 'command')], max_length=16),
        ),
    ]
