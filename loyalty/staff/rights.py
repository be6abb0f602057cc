"""The roles and rights of the back office in words, and the rights that a user really has."""

from collections import defaultdict
from dataclasses import dataclass

from django.contrib.auth.models import Group, Permission, User

ROLES_IN_WORDS = {
    "Back-end team": "changes settings, orgs, programs, reason codes, groups, API clients and webhooks",
    "Reversal operator": "reverses points, requests corrections, locks, merges and changes customers",
    "Approver": "approves or rejects the requests of other users",
    "Auditor": "reads everything, including who changed what, and exports it",
    "Support": "reads customers and their points, with identifiers masked",
}

# What a permission allows here, where its name says less.
_IN_WORDS = {
    "loyalty.add_apiclient": "add API clients",
    "loyalty.add_emfsetting": "set EMF settings",
    "loyalty.add_org": "add orgs",
    "loyalty.add_program": "add programs",
    "loyalty.add_reasoncode": "add reason codes",
    "loyalty.add_webhook": "add webhooks",
    "loyalty.change_apiclient": "issue and revoke secrets of API clients, revoke and reinstate API clients",
    "loyalty.change_customer": "change the status of a customer",
    "loyalty.change_customergroup": "change groups of customers",
    "loyalty.change_customeridentifier": "change, add and remove identifiers of a customer",
    "loyalty.change_emfsetting": "change EMF settings, switch reversals on and off, pause them",
    "loyalty.change_org": "change orgs",
    "loyalty.change_program": "change programs",
    "loyalty.change_reasoncode": "change reason codes",
    "loyalty.change_webhook": "change webhooks, see and rotate their secrets, send test events",
    "loyalty.lock_reversals": "lock and unlock reversals of a customer",
    "loyalty.merge_customers": "merge customers",
    "loyalty.see_identifiers": "see identifiers of customers in full",
    "loyalty.view_staffchange": "see who changed what, and searches by identifier",
    "reversals.add_bulkrun": "reverse points in bulk",
    "reversals.add_correction": "request corrections of reversals",
    "reversals.add_ledgercheck": "start a check of the ledger",
    "reversals.add_reversal": "reverse points",
    "reversals.change_delivery": "deliver events again",
    "reversals.decide_approval": "approve or reject requests of other users",
    "reversals.export_ledger": "export lists",
    "reversals.view_attempt": "see attempts, refused ones too",
    "reversals.view_ledgercheck": "see checks of the ledger",
    "django_tasks_database.change_dbtaskresult": "run background tasks again",
    "django_tasks_database.view_dbtaskresult": "see background tasks",
}
DIRECTLY = "given to the user alone"


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """One permission in words. Rights to see rows come after rights to change something."""

    only_sees: bool
    words: str


def right_of(permission: Permission) -> Right:
    """Returns the permission in words. It must have been read with its content type."""
    name = f"{permission.content_type.app_label}.{permission.codename}"
    return Right(permission.codename.startswith(("view_", "see_")), _IN_WORDS.get(name) or _derived(permission))


def _derived(permission: Permission) -> str:
    model = permission.content_type.model_class()
    if permission.codename.startswith("view_") and model is not None:
        return f"see {model._meta.verbose_name_plural}"
    return permission.name.removeprefix("Can ")


def rights_of_role(role: Group) -> list[Right]:
    """Returns what the role allows, without repetitions, the rights to change something first."""
    return sorted({right_of(each) for each in role.permissions.select_related("content_type")})


def effective_rights(user: User) -> list[tuple[Right, list[str]]]:
    """Returns the rights of a user who is no superuser, each with the roles that give it."""
    sources: dict[Right, set[str]] = defaultdict(set)
    for role in user.groups.prefetch_related("permissions__content_type"):
        for permission in role.permissions.all():
            sources[right_of(permission)].add(role.name)
    for permission in user.user_permissions.select_related("content_type"):
        sources[right_of(permission)].add(DIRECTLY)
    return [(right, sorted(sources[right])) for right in sorted(sources)]
