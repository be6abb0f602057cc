from django.db import migrations, models

import loyalty.models


class Migration(migrations.Migration):

    dependencies = [
        ('loyalty', '0028_held_changes'),
    ]

    operations = [
        migrations.AddField(
            model_name='org',
            name='time_zone',
            field=models.CharField(db_default='UTC', default='UTC', help_text='Lists show times and read days in this time zone, such as Asia/Kolkata.', max_length=64, validators=[loyalty.models.known_time_zone]),
        ),
    ]
