
import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('loyalty', '0006_change_request'),
    ]

    operations = [
        migrations.AddField(
            model_name='apiclient',
            name='calls_per_minute',
            field=models.PositiveIntegerField(blank=True, help_text='More are answered 429; 0 is no limit. Empty: as many as clients have by default.', null=True, validators=[django.core.validators.MaxValueValidator(999999999)]),
        ),
        migrations.CreateModel(
            name='Tally',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('minute', models.BigIntegerField(help_text='Minutes since 1970.')),
                ('key', models.CharField(help_text='Keyed hash of what is counted.', max_length=64)),
                ('count', models.BigIntegerField()),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('minute', 'key'), name='tally_once_a_minute')],
            },
        ),
    ]
