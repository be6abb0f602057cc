from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('loyalty', '0031_saved_view'),
    ]

    operations = [
        migrations.AddField(
            model_name='reasoncode',
            name='operation',
            field=models.CharField(choices=[('REVERSE', 'reversals'), ('CORRECT', 'corrections')], db_default='REVERSE', default='REVERSE', help_text='Which form offers the code.', max_length=16, verbose_name='for'),
        ),
        migrations.AddConstraint(
            model_name='reasoncode',
            constraint=models.UniqueConstraint(fields=('org', 'operation', 'code'), name='reason_code_once_per_list'),
        ),
        migrations.RemoveConstraint(
            model_name='reasoncode',
            name='reason_code_unique',
        ),
    ]
