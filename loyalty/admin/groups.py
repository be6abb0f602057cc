"""The pages of customer groups and of lots."""

from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html_join

from loyalty.admin.base import ExactSearch, LedgerAdmin, OneOrg, ReasonedAdmin, points_column
from loyalty.admin.links import link_column, page_of
from loyalty.admin.statuses import badge, status_of_lot
from loyalty.models import CustomerGroup, GroupMember, Lot

MEMBERS_SHOWN = 50


@admin.register(CustomerGroup)
class CustomerGroupAdmin(ExactSearch, ReasonedAdmin):
    """Customer groups. `set_group` creates them and changes their members. This page turns them on or off."""

    list_display = ["public_id", "name", "is_active"]
    list_filter = [OneOrg]
    search_fields = ["=public_id"]
    search_help_text = "Enter a complete group id."
    sortable_by = ()
    readonly_fields = ["org", "public_id", "members"]

    @admin.display(description=f"members (at most {MEMBERS_SHOWN})")
    def members(self, group: CustomerGroup) -> str:
        members = GroupMember.objects.filter(org_id=group.org_id, group=group, left_at__isnull=True)
        links = ((page_of(each.customer), each.customer) for each in members.select_related("customer")[:MEMBERS_SHOWN])
        return format_html_join(", ", '<a class="text-link" href="{}">{}</a>', links) or "no members"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


@admin.register(Lot)
class LotAdmin(ExactSearch, LedgerAdmin):
    list_display = [
        "lot_ref",
        "status",
        link_column("customer"),
        link_column("program"),
        points_column("points_awarded"),
        points_column("points_remaining"),
        "awarded_at",
        "expires_at",
    ]
    list_select_related = ["customer", "program"]
    search_fields = ["=lot_ref"]
    search_help_text = "Enter a complete lot reference. A customer's lots are on the customer's page."

    @admin.display(description="status")
    def status(self, lot: Lot) -> str:
        return badge(status_of_lot(lot, timezone.now()))
