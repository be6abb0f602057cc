import loyalty.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('reversals', '0028_bulk_in_background'),
    ]

    operations = [
        migrations.AlterField(
            model_name='bulkrun',
            name='key',
            field=models.CharField(db_default=loyalty.fields.RandomKey(), help_text='Identifies the run if the same rows are sent again.', max_length=64),
        ),
    ]
