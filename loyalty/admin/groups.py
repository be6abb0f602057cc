"""The pages of customer groups and of lots."""

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html_join

from loyalty.admin.base import ExactSearch, LedgerAdmin, OneOrg, ReasonedAdmin, points_column
from loyalty.admin.filters import ByPoints, OfProgram
from loyalty.admin.links import link_column, page_of
from loyalty.admin.statuses import AVAILABLE, EXPIRED, SPENT, badge, status_of_lot
from loyalty.models import CustomerGroup, GroupMember, Lot

MEMBERS_SHOWN = 50


@admin.register(CustomerGroup)
class CustomerGroupAdmin(ExactSearch, ReasonedAdmin):
    """Customer groups. `set_group` creates them and changes their members. This page turns them on or off."""

    list_display = ["public_id", "name", "is_active"]
    list_filter = [OneOrg]
    search_fields = ["public_id", "members__customer__public_id"]
    search_help_text = "Search by whole group id, or by the customer id of a member."
    sortable_by = ()
    readonly_fields = ["org", "public_id", "members"]

    @admin.display(description=f"members (at most {MEMBERS_SHOWN})")
    def members(self, group: CustomerGroup) -> str:
        members = GroupMember.objects.filter(org_id=group.org_id, group=group, left_at__isnull=True)
        links = ((page_of(each.customer), each.customer) for each in members.select_related("customer")[:MEMBERS_SHOWN])
        return format_html_join(", ", '<a class="text-link" href="{}">{}</a>', links) or "no members"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


class PointsAwarded(ByPoints):
    field = "points_awarded"


class ByStatusOfLot(admin.SimpleListFilter):
    """Whether points of a lot can be spent now."""

    title = "status"
    parameter_name = "status"
    scans = True

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(status.text, status.text.capitalize()) for status in (AVAILABLE, SPENT, EXPIRED)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        has_expired = Q(expires_at__lte=timezone.now())
        match self.value():
            case AVAILABLE.text:
                return queryset.filter(~has_expired | Q(expires_at=None), points_remaining__gt=0)
            case SPENT.text:
                return queryset.filter(points_remaining=0)
            case EXPIRED.text:
                return queryset.filter(has_expired, points_remaining__gt=0)
            case _:
                return queryset


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
    list_filter = [OneOrg, ByStatusOfLot, OfProgram, PointsAwarded]
    list_filter_submit = True
    list_select_related = ["customer", "program"]
    search_fields = [
        "lot_ref",
        "customer__public_id",
        "draws__redemption__public_id",
        "draws__redemption__external_reference_number",
        "draws__redemption__transaction_number",
    ]
    search_help_text = (
        "Search by whole lot reference, customer id, redemption id, external reference or transaction number."
    )

    @admin.display(description="status")
    def status(self, lot: Lot) -> str:
        return badge(status_of_lot(lot, timezone.now()))
