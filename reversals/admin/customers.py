"""Customers: who they are, and what became of their points."""

from django.contrib import admin

from loyalty.admin.base import LedgerAdmin, ReadOnlyInline
from loyalty.models import Customer, CustomerIdentifier


class IdentifierInline(ReadOnlyInline):
    model = CustomerIdentifier
    fields = ["type", "value"]


@admin.register(Customer)
class CustomerAdmin(LedgerAdmin):
    list_display = ["public_id", "org", "status", "reversals_locked", "reversals_locked_until"]
    list_select_related = ["org"]
    search_fields = ["=public_id"]
    inlines = [IdentifierInline]
