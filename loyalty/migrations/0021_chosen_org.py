
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('auth', '0012_alter_user_first_name_max_length'),
        ('loyalty', '0020_webhook_rest_reason'),
    ]

    operations = [
        migrations.CreateModel(
            name='ChosenOrg',
            fields=[
                ('user', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='chosen_org', serialize=False, to=settings.AUTH_USER_MODEL)),
                ('org', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='chosen_by', to='loyalty.org')),
            ],
        ),
    ]
