from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('loyalty', '0026_secret_labels'),
    ]

    operations = [
        migrations.AddConstraint(
            model_name='ledgerupload',
            constraint=models.CheckConstraint(condition=models.Q(('status__in', ['WAITING', 'IMPORTED', 'REFUSED'])), name='ledger_upload_status_known'),
        ),
    ]
