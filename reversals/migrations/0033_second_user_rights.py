from django.apps import apps as installed_apps
from django.contrib.auth.management import create_permissions
from django.db import migrations

RIGHTS = {
    "Approver": ("lift_status", "view_heldchange"),
    "Auditor": ("view_heldchange",),
    "Back-end team": ("view_heldchange",),
}


def give(apps, schema_editor):
    # Permissions are otherwise created after all migrations.
    alias = schema_editor.connection.alias
    create_permissions(installed_apps.get_app_config("loyalty"), verbosity=0, using=alias)
    rights = apps.get_model("auth", "Permission").objects.using(alias).filter(content_type__app_label="loyalty")
    for role in apps.get_model("auth", "Group").objects.using(alias).filter(name__in=RIGHTS):
        role.permissions.add(*rights.filter(codename__in=RIGHTS[role.name]))


def take(apps, schema_editor):
    for role in apps.get_model("auth", "Group").objects.filter(name__in=RIGHTS):
        role.permissions.remove(*role.permissions.filter(codename__in=RIGHTS[role.name]))


class Migration(migrations.Migration):

    under_load = "Adds permissions to three roles."

    dependencies = [
        ("loyalty", "0028_held_changes"),
        ("reversals", "0032_inbox"),
    ]

    operations = [migrations.RunPython(give, take)]
