from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('loyalty', '0029_org_time_zone'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='redemption',
            index=models.Index(fields=['org', 'redeemed_at', 'id'], name='redemptions_by_time'),
        ),
    ]
