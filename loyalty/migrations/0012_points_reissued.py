import django.db.models.expressions
import loyalty.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('loyalty', '0011_points_lock_no_org'),
    ]

    operations = [
        migrations.AddField(
            model_name='lot',
            name='is_reissue',
            field=models.BooleanField(db_default=False, default=False, help_text='Awarded by a reversal. Points are re-issued once, so those of this lot are not again.'),
        ),
        migrations.AddField(
            model_name='lot',
            name='points_reissued',
            field=loyalty.fields.PointsField(db_default=0, default=0, help_text='Points that left this lot for good: they live in another lot, to which a re-issue moved them.'),
        ),
        migrations.AlterField(
            model_name='lot',
            name='points_remaining',
            field=loyalty.fields.PointsField(help_text='Points that can be drawn, or that expired before they were.'),
        ),
        migrations.AddConstraint(
            model_name='lot',
            constraint=models.CheckConstraint(condition=models.Q(('points_reissued__gte', 0), ('points_reissued__lte', django.db.models.expressions.CombinedExpression(models.F('points_awarded'), '-', models.F('points_remaining')))), name='lot_reissued_within_awarded'),
        ),
    ]
