from django.db import migrations, models


class Migration(migrations.Migration):

    under_load = "Before the first release. Older code cannot insert changes of settings without the new column."

    dependencies = [
        ('loyalty', '0005_reason_codes'),
    ]

    operations = [
        migrations.AddField(
            model_name='emfchange',
            name='request_id',
            field=models.CharField(blank=True, default='', help_text='The X-CAP-REQUEST-ID of the page; - for a command.', max_length=32),
        ),
    ]
