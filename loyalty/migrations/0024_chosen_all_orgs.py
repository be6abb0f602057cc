from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('loyalty', '0023_secrets_rotate'),
    ]

    operations = [
        migrations.AddField(
            model_name='chosenorg',
            name='shows_all',
            field=models.BooleanField(db_default=False, default=False, help_text='Whether pages that can show several orgs show all of them.'),
        ),
    ]
