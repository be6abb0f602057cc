from django.apps import apps as installed_apps
from django.contrib.auth.management import create_permissions
from django.db import migrations

from reversals.roles import ROLES


def make_roles(apps, schema_editor):
    # Permissions are otherwise made after all migrations.
    for label in ("loyalty", "reversals"):
        create_permissions(installed_apps.get_app_config(label), verbosity=0, using=schema_editor.connection.alias)
    Group = apps.get_model("auth", "Group")
    Permission = apps.get_model("auth", "Permission")
    by_name = {
        f"{permission.content_type.app_label}.{permission.codename}": permission
        for permission in Permission.objects.select_related("content_type")
    }
    for name, permissions in ROLES.items():
        role, _ = Group.objects.get_or_create(name=name)
        # A later migration gives the permissions of apps that do not exist yet.
        role.permissions.set([by_name[each] for each in permissions if each in by_name])


def remove_roles(apps, schema_editor):
    apps.get_model("auth", "Group").objects.filter(name__in=ROLES).delete()


class Migration(migrations.Migration):

    under_load = "Writes roles and permissions only."

    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("loyalty", "0004_back_office"),
        ("reversals", "0005_back_office"),
    ]

    operations = [migrations.RunPython(make_roles, remove_roles)]
