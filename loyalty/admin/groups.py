"""Customer groups, and the lots that customers hold."""

from django.contrib import admin
from django.http import HttpRequest

from loyalty.admin.base import BackOfficeAdmin, LedgerAdmin, ReadOnlyInline, Undeletable
from loyalty.models import CustomerGroup, GroupMember, Lot


class MemberInline(ReadOnlyInline):
    model = GroupMember
    fields = ["customer", "joined_at", "left_at"]


@admin.register(CustomerGroup)
class CustomerGroupAdmin(Undeletable, BackOfficeAdmin):
    """Made by `set_group`, which also changes who is in it; turned on and off here."""

    list_display = ["public_id", "name", "org", "is_active"]
    list_select_related = ["org"]
    search_fields = ["=public_id"]
    readonly_fields = ["org", "public_id"]
    inlines = [MemberInline]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


@admin.register(Lot)
class LotAdmin(LedgerAdmin):
    list_display = ["lot_ref", "org", "customer", "points_awarded", "points_remaining", "awarded_at", "expires_at"]
    list_select_related = ["org", "customer"]
    search_fields = ["=lot_ref", "=customer__public_id"]
    ordering = ["-id"]
