"""Shows events and their deliveries to webhooks, and delivers events again."""

import json
from typing import Any

from django.contrib import admin
from django.db import transaction
from django.db.models import F, QuerySet
from django.http import HttpRequest

from loyalty.admin.base import ExactSearch, LedgerAdmin, OneOrg, PageAdmin
from loyalty.admin.links import link, link_column
from loyalty.ledger.identifiers import masked
from loyalty.staff.audit import record_change
from reversals.admin.html import moment
from reversals.models import Delivery, Event
from reversals.webhooks.delivery import deliver_again

SEE_IDENTIFIERS = "loyalty.see_identifiers"


@admin.register(Event)
class EventAdmin(PageAdmin):
    list_display = ["event_id", "name", link_column("customer"), "created_at"]
    list_select_related = ["customer"]
    list_filter = [OneOrg]
    search_fields = ["event_id"]
    search_help_text = "Search by whole event id."
    page_template = "admin/reversals/event/page.html"

    def page(self, request: HttpRequest, row: Event) -> dict[str, Any]:
        deliveries = Delivery.objects.filter(event=row, org_id=row.org_id).select_related("webhook")
        return {
            "title": f"Event {row.event_id}",
            "facts": [
                ("Event", row.get_name_display()),
                ("Org", row.org),
                ("Customer", link(row.customer)),
                ("When", moment(row.created_at)),
                ("Request id", row.request_id or "none"),
            ],
            "data": data_of(row, unmasked=request.user.has_perm(SEE_IDENTIFIERS)),
            "deliveries": {
                "headers": ["Webhook", "Status", "Tries", "Due", "Last status", "Delivered", "Webhook rests"],
                "rows": [_delivery(each) for each in deliveries[: self.list_per_page]],
            },
        }


@admin.register(Delivery)
class DeliveryAdmin(ExactSearch, LedgerAdmin):
    list_display = [
        "event",
        link_column("webhook"),
        link_column("customer"),
        "status",
        "tries",
        "due_at",
        "last_status",
        "delivered_at",
        "rests",
    ]
    list_select_related = ["event", "webhook", "customer"]
    list_filter = [OneOrg, "status"]
    ordering = ["-event_id", "-id"]
    search_fields = ["event__event_id"]
    search_help_text = "Search by whole event id."
    actions = ["deliver_again"]

    @admin.display(description="webhook rests", empty_value="no")
    def rests(self, delivery: Delivery) -> str | None:
        return rest_of(delivery) or None

    def get_queryset(self, request: HttpRequest) -> QuerySet[Delivery]:
        """Joins the org's events, whose index gives the order: deliveries have no index by org and time."""
        return super().get_queryset(request).filter(event__org_id=F("org_id"))

    def get_exclude(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Hides the receiver's reply from users who may not see identifiers, because it may repeat what it was sent."""
        return [] if request.user.has_perm(SEE_IDENTIFIERS) else ["last_answer"]

    def has_deliver_again_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("reversals.change_delivery")

    @admin.action(description="Deliver again", permissions=["deliver_again"])
    @transaction.atomic
    def deliver_again(self, request: HttpRequest, deliveries: QuerySet[Delivery]) -> None:
        selected = list(deliveries.select_related("org", "event", "webhook"))
        for delivery in selected:
            record_change(
                delivery,
                org=delivery.org,
                action="delivered again",
                made_by=request.user.get_username(),
                reason="selected in the list of deliveries",
                before={"status": delivery.status, "tries": delivery.tries},
                after={"status": Delivery.Status.PENDING.value, "tries": 0},
            )
        due = deliver_again(Delivery.objects.filter(pk__in=[delivery.pk for delivery in selected]))
        self.message_user(request, f"{due} {'delivery is' if due == 1 else 'deliveries are'} due now.")


def data_of(event: Event, *, unmasked: bool) -> str:
    """The event's data as indented JSON. The customer's identifiers are masked unless the user may see them."""
    data = json.loads(event.data)
    named = data.get("customerIdentifiers", {}).get("instore", {})
    if not unmasked:
        named.update({name: masked(str(value)) for name, value in named.items()})
    return json.dumps(data, indent=2, ensure_ascii=False)


def _delivery(delivery: Delivery) -> list[Any]:
    return [
        link(delivery, delivery.webhook),
        delivery.get_status_display(),
        delivery.tries,
        moment(delivery.due_at),
        delivery.last_status or "none",
        moment(delivery.delivered_at, none="not yet"),
        rest_of(delivery) or "no",
    ]


def rest_of(delivery: Delivery) -> str:
    """Until when and why a pending delivery waits for its webhook's rest; empty if it does not."""
    return delivery.webhook.rest() if delivery.status == Delivery.Status.PENDING else ""
