from django.db import migrations, models


class Migration(migrations.Migration):
    """Adds the reason of a rest. The column of the count keeps its name, which older code uses until it is restarted."""

    dependencies = [
        ('loyalty', '0019_coverings'),
    ]

    operations = [
        migrations.AlterField(
            model_name='webhook',
            name='unreachable_count',
            field=models.PositiveIntegerField(db_column='unreachable_count', default=0, help_text='Number of consecutive missing answers, slow answers and errors. A good answer sets it to 0.'),
        ),
        migrations.RenameField(
            model_name='webhook',
            old_name='unreachable_count',
            new_name='failure_count',
        ),
        migrations.AlterField(
            model_name='webhook',
            name='rests_until',
            field=models.DateTimeField(blank=True, help_text='Deliveries wait until this time, because of the rest reason.', null=True),
        ),
        migrations.AddField(
            model_name='webhook',
            name='rest_reason',
            field=models.CharField(blank=True, choices=[('UNREACHABLE', 'the receiver gave no answer'), ('SLOW', 'the receiver answers slowly'), ('FAILING', 'the receiver answers with errors')], db_default='', default='', help_text='Why deliveries wait.', max_length=16),
        ),
    ]
