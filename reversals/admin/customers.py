"""Lists customers, locks reversals, and changes the status and the identifiers of a customer; merges customers."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from loyalty.admin.base import OneOrg, PageAdmin
from loyalty.admin.confirmation import ReasonForm, ask, done
from loyalty.admin.filters import Scanned
from loyalty.admin.links import page_of
from loyalty.errors import InvalidOperation
from loyalty.ledger.customer_identifiers import NEW, set_identifier
from loyalty.ledger.customers import (
    BLOCKING_STATUSES,
    GIVEN_STATUSES,
    LIFT,
    lock_reversals,
    set_status,
    unlock_reversals,
)
from loyalty.ledger.identifiers import IdentifierType, masked
from loyalty.models import Customer, CustomerIdentifier
from reversals.admin.customer_page import (
    CHANGE_IDENTIFIERS,
    SEE_IDENTIFIERS,
    is_locked,
    lock_in_words,
    shown_of,
    type_in_words,
)
from reversals.admin.html import counted, moment
from reversals.manual.merging import merge_customers

LOCK = "loyalty.lock_reversals"
CHANGE = "loyalty.change_customer"
MERGE = "loyalty.merge_customers"


class LockForm(ReasonForm):
    """How long reversals stay locked, and why."""

    until = forms.DateTimeField(
        label="Until (UTC)",
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"type": "datetime-local"}),
        help_text="In UTC. Leave empty to lock reversals until a user unlocks them.",
    )
    field_order = ["until", "reason"]


class StatusForm(ReasonForm):
    """The new status, and why."""

    status = forms.ChoiceField(
        choices=[(status.value, status.label) for status in GIVEN_STATUSES], widget=UnfoldAdminSelectWidget
    )
    field_order = ["status", "reason"]


class MergeForm(ReasonForm):
    """The customer into whom this one is merged, and why."""

    into = forms.IntegerField(
        label="Merge into customer id",
        min_value=1,
        widget=UnfoldAdminTextInputWidget(),
        help_text="This customer's points, redemptions, identifiers and group go to that customer.",
    )
    ticket = forms.CharField(max_length=100, widget=UnfoldAdminTextInputWidget())
    field_order = ["into", "ticket", "reason"]


class IdentifierForm(ReasonForm):
    """The identifier to change or add, its new value, and why."""

    identifier = forms.ChoiceField(required=False, widget=UnfoldAdminSelectWidget)
    type = forms.ChoiceField(
        label="Type of a new identifier",
        choices=[(kind.value, type_in_words(kind)) for kind in IdentifierType if kind is not IdentifierType.ID],
        widget=UnfoldAdminSelectWidget,
    )
    value = forms.CharField(
        required=False,
        max_length=255,
        strip=False,
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}),
        help_text="Leave empty to remove the identifier.",
    )
    ticket = forms.CharField(max_length=100, widget=UnfoldAdminTextInputWidget())
    field_order = ["identifier", "type", "value", "ticket", "reason"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [("", "Add a new identifier"), *self.initial["identifiers"]]
        self.fields["identifier"].choices = choices  # type: ignore[attr-defined]


@admin.register(Customer)
class CustomerAdmin(PageAdmin):
    list_display = ["public_id", "status", "reversals"]
    list_filter = [OneOrg, ("status", Scanned)]
    search_fields = [
        "public_id",
        "redemptions__public_id",
        "redemptions__external_reference_number",
        "redemptions__transaction_number",
        "reversals__public_id",
        "lots__lot_ref",
    ]
    search_help_text = (
        "Search by whole customer id, redemption id, external reference, transaction number, reversal id or lot"
        " reference. To search by mobile, email or card, use Find."
    )
    page_template = "admin/loyalty/customer/page.html"

    @admin.display(description="reversals")
    def reversals(self, customer: Customer) -> str:
        return lock_in_words(customer)

    def get_urls(self) -> list[URLPattern]:
        views = {
            "lock": self.lock_view,
            "unlock": self.unlock_view,
            "status": self.status_view,
            "merge": self.merge_view,
            "identifiers": self.identifiers_view,
        }
        return [
            *(
                path(f"<path:object_id>/{step}/", self.admin_site.admin_view(view), name=f"loyalty_customer_{step}")
                for step, view in views.items()
            ),
            *super().get_urls(),
        ]

    def page(self, request: HttpRequest, row: Customer) -> dict[str, Any]:
        may = request.user.has_perm
        return {
            "title": f"Customer {row.public_id}",
            "is_locked": is_locked(row),
            "may_lock": may(LOCK) and row.merged_into_id is None,
            "may_merge": may(MERGE) and row.merged_into_id is None,
            "may_change": may(_right_to_change(row)) and row.status != Customer.Status.MERGED,
            **shown_of(request, row),
        }

    def lock_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._change(request, object_id, LOCK, LockForm, _lock, "Lock reversals")

    def unlock_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._change(request, object_id, LOCK, ReasonForm, _unlock, "Unlock reversals")

    def status_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Changes the status. To lift FRAUD or DEACTIVATED needs a right of its own."""
        customer = self.get_object(request, object_id)
        right = CHANGE if customer is None else _right_to_change(customer)

        def change(customer: Customer, values: dict[str, Any], made_by: str) -> str:
            return _set_status(customer, values, made_by, may_lift=request.user.has_perm(LIFT))

        return self._change(request, object_id, right, StatusForm, change, "Change status")

    def merge_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Merges the customer into another one."""
        text = "The other customer gets everything that this customer has. A merge cannot be undone."
        return self._change(request, object_id, MERGE, MergeForm, _merge, "Merge", text=text)

    def identifiers_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Changes, adds or removes an identifier of the customer."""
        return self._change(
            request, object_id, CHANGE_IDENTIFIERS, IdentifierForm, _set_identifier, "Change identifiers"
        )

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Shows the customer's history, with identifiers masked unless the user may see them."""
        response = super().history_view(request, object_id, extra_context)
        if isinstance(response, TemplateResponse) and not request.user.has_perm(SEE_IDENTIFIERS):
            for change in (response.context_data or {})["changes"]:
                for name in IdentifierType.__members__.keys() & change.after.keys():
                    change.after[name] = masked(change.after[name] or "")
        return response

    def _change(
        self,
        request: HttpRequest,
        object_id: str,
        permission: str,
        form_class: type[ReasonForm],
        change: Callable[..., str],
        button: str,
        text: str = "",
    ) -> HttpResponse:
        """Shows the form on GET. On POST, makes the change and redirects to the customer's page."""
        customer = self.get_object(request, object_id)
        if customer is None:
            raise Http404
        if not request.user.has_perm(permission) or not self.has_view_permission(request, customer):
            raise PermissionDenied
        form = form_class(request.POST or None, initial=self._initial(request, customer))
        message = done(form, lambda values: change(customer, values, request.user.get_username()))
        if message is None:
            title = f"Customer {customer}: {button.lower()}"
            return ask(request, self, form, title=title, text=text, button=button, back=page_of(customer))
        self.message_user(request, message)
        return redirect(page_of(customer))

    def _initial(self, request: HttpRequest, customer: Customer) -> dict[str, Any]:
        """Returns what the forms show before they are filled in."""
        unmasked = request.user.has_perm(SEE_IDENTIFIERS)
        identifiers = CustomerIdentifier.objects.filter(org_id=customer.org_id, customer=customer).order_by(
            "type", "id"
        )
        names = [
            (str(each.id), f"{type_in_words(each.type)} {each.value if unmasked else masked(each.value)}")
            for each in identifiers
        ]
        chosen = request.GET.get("identifier", "")
        return {"status": customer.status, "identifiers": names, "identifier": chosen}


def _set_identifier(customer: Customer, values: dict[str, Any], made_by: str) -> str:
    kind, old = IdentifierType(values["type"]), NEW
    if values["identifier"]:
        stored = CustomerIdentifier.objects.filter(org_id=customer.org_id, customer=customer, id=values["identifier"])
        current = stored.first()
        if current is None:
            raise InvalidOperation("the identifier was changed meanwhile; open the page again")
        kind, old = IdentifierType(current.type), current.value
    change = set_identifier(
        customer,
        kind=kind,
        value=values["value"],
        replaces=old,
        ticket=values["ticket"],
        reason=values["reason"],
        made_by=made_by,
    )
    done_to_it = "changed" if change.after[kind.value] else "removed"
    if not change.before[kind.value]:
        done_to_it = "added"
    return f"{type_in_words(kind)} of customer {customer} is {done_to_it}."


def _lock(customer: Customer, values: dict[str, Any], made_by: str) -> str:
    locked = lock_reversals(customer, until=values["until"], reason=values["reason"], made_by=made_by)
    until = locked.reversals_locked_until
    return f"Reversals of customer {customer} are locked until {moment(until, none='a user unlocks them')}."


def _unlock(customer: Customer, values: dict[str, Any], made_by: str) -> str:
    unlock_reversals(customer, reason=values["reason"], made_by=made_by)
    return f"Reversals of customer {customer} are unlocked."


def _right_to_change(customer: Customer) -> str:
    """Returns the right that a change of the customer's status needs."""
    return LIFT if customer.status in BLOCKING_STATUSES else CHANGE


def _set_status(customer: Customer, values: dict[str, Any], made_by: str, *, may_lift: bool) -> str:
    changed = set_status(customer, status=values["status"], reason=values["reason"], made_by=made_by, may_lift=may_lift)
    return f"The status of customer {customer} is now {changed.get_status_display().lower()}."


def _merge(customer: Customer, values: dict[str, Any], made_by: str) -> str:
    merged = merge_customers(
        org=customer.org,
        source_id=customer.public_id,
        target_id=values["into"],
        ticket=values["ticket"],
        reason=values["reason"],
        made_by=made_by,
    )
    lots, redemptions = counted(merged.lots, "lot"), counted(merged.redemptions, "redemption")
    return f"Customer {customer} is merged into customer {merged.target}: {lots} and {redemptions} moved."
