"""Events and their deliveries to webhooks."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from loyalty.admin.base import LedgerAdmin, OneOrg
from reversals.events.delivery import deliver_again
from reversals.models import Delivery, Event


@admin.register(Event)
class EventAdmin(LedgerAdmin):
    list_display = ["event_id", "name", "org", "customer", "created_at"]
    list_select_related = ["org", "customer"]
    search_fields = ["=event_id"]


@admin.register(Delivery)
class DeliveryAdmin(LedgerAdmin):
    list_display = ["event", "org", "webhook", "customer", "status", "tries", "due_at", "last_status", "delivered_at"]
    list_select_related = ["org", "event", "webhook", "customer"]
    list_filter = [OneOrg, "status"]
    search_fields = ["=event__event_id"]
    actions = ["deliver_again"]

    def has_deliver_again_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("reversals.change_delivery")

    @admin.action(description="Deliver again", permissions=["deliver_again"])
    def deliver_again(self, request: HttpRequest, deliveries: QuerySet[Delivery]) -> None:
        self.message_user(request, f"{deliver_again(deliveries)} deliveries are due now.")
