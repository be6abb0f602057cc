from django.apps import apps as installed_apps
from django.contrib.auth.management import create_permissions
from django.db import migrations

ROLE = "Reversal operator"


def give(apps, schema_editor):
    # Permissions are otherwise created after all migrations.
    alias = schema_editor.connection.alias
    create_permissions(installed_apps.get_app_config("loyalty"), verbosity=0, using=alias)
    right = apps.get_model("auth", "Permission").objects.using(alias).get(
        content_type__app_label="loyalty", codename="merge_customers"
    )
    for role in apps.get_model("auth", "Group").objects.using(alias).filter(name=ROLE):
        role.permissions.add(right)


def take(apps, schema_editor):
    for role in apps.get_model("auth", "Group").objects.filter(name=ROLE):
        role.permissions.remove(*role.permissions.filter(codename="merge_customers"))


class Migration(migrations.Migration):

    under_load = "Adds one permission to a role."

    dependencies = [
        ("loyalty", "0015_merges"),
        ("reversals", "0020_merge_kind"),
    ]

    operations = [migrations.RunPython(give, take)]
