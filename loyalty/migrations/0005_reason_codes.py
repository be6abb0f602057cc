from django.db import migrations

REASON_CODES = {
    "GOODS_RETURNED": "The customer returned what was bought.",
    "WRONG_REDEMPTION": "The points were redeemed by mistake.",
    "GOODWILL": "Given back as a courtesy.",
    "OTHER": "Another reason, which the note says.",
}


def add_reason_codes(apps, schema_editor):
    Org = apps.get_model("loyalty", "Org")
    ReasonCode = apps.get_model("loyalty", "ReasonCode")
    for org in Org.objects.all():
        for code, meaning in REASON_CODES.items():
            ReasonCode.objects.get_or_create(org=org, code=code, defaults={"meaning": meaning})


def remove_reason_codes(apps, schema_editor):
    ReasonCode = apps.get_model("loyalty", "ReasonCode")
    for code, meaning in REASON_CODES.items():
        ReasonCode.objects.filter(code=code, meaning=meaning).delete()


class Migration(migrations.Migration):

    under_load = "Inserts four rows for each org into a new table."

    dependencies = [
        ("loyalty", "0004_back_office"),
    ]

    operations = [
        migrations.RunPython(add_reason_codes, remove_reason_codes),
    ]
