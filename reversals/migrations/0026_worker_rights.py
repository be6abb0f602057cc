from django.apps import apps as installed_apps
from django.contrib.auth.management import create_permissions
from django.db import migrations

RIGHTS = {
    "Back-end team": ["add_ledgercheck", "view_dbtaskresult", "change_dbtaskresult"],
    "Auditor": ["view_dbtaskresult"],
}
NAMES = [("reversals", "add_ledgercheck"), ("django_tasks_database", "view_dbtaskresult"),
         ("django_tasks_database", "change_dbtaskresult")]


def rights_of(apps, alias, role):
    rights = apps.get_model("auth", "Permission").objects.using(alias)
    for app, name in NAMES:
        if name in RIGHTS[role]:
            yield rights.get(content_type__app_label=app, codename=name)


def give(apps, schema_editor):
    # Permissions are otherwise created after all migrations.
    alias = schema_editor.connection.alias
    for app in ("reversals", "django_tasks_database"):
        create_permissions(installed_apps.get_app_config(app), verbosity=0, using=alias)
    for role in apps.get_model("auth", "Group").objects.using(alias).filter(name__in=RIGHTS):
        role.permissions.add(*rights_of(apps, alias, role.name))


def take(apps, schema_editor):
    alias = schema_editor.connection.alias
    for role in apps.get_model("auth", "Group").objects.using(alias).filter(name__in=RIGHTS):
        role.permissions.remove(*rights_of(apps, alias, role.name))


class Migration(migrations.Migration):

    under_load = "Writes roles and permissions only."

    dependencies = [
        ("reversals", "0025_worker"),
        ("django_tasks_database", "0021_conditional_partial_index_ordering"),
    ]

    operations = [migrations.RunPython(give, take)]
