from django.db import migrations

REASON_CODES = {
    "WRONG_CUSTOMER": "The points went to the wrong customer.",
    "WRONG_AMOUNT": "The wrong number of points was reversed.",
    "NOT_RETURNED": "The customer did not return what was bought.",
    "OTHER": "Another reason; see the note.",
}


def add_reason_codes(apps, schema_editor):
    """Adds codes for corrections to each org that has codes for reversals. The others enter only notes."""
    ReasonCode = apps.get_model("loyalty", "ReasonCode")
    for org_id in ReasonCode.objects.order_by("org_id").values_list("org_id", flat=True).distinct():
        for code, meaning in REASON_CODES.items():
            ReasonCode.objects.get_or_create(
                org_id=org_id, operation="CORRECT", code=code, defaults={"meaning": meaning}
            )


def remove_reason_codes(apps, schema_editor):
    """Removes all codes for corrections, because without them the codes of an org are unique."""
    apps.get_model("loyalty", "ReasonCode").objects.filter(operation="CORRECT").delete()


class Migration(migrations.Migration):

    under_load = "Inserts four rows for each org. Until its restart, older code offers them for reversals, too."

    dependencies = [
        ("loyalty", "0032_reason_code_operation"),
    ]

    operations = [
        migrations.RunPython(add_reason_codes, remove_reason_codes),
    ]
