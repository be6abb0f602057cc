"""The pages of webhooks, the addresses to which an org's events are delivered."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import models
from django.db.models import F
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_POST
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from loyalty.admin.base import OneOrg, ReasonedAdmin, ReasonedForm
from loyalty.admin.confirmation import ReasonForm, ask, done
from loyalty.admin.links import link
from loyalty.admin.statuses import badge
from loyalty.clients.credentials import pepper_mark
from loyalty.errors import InvalidOperation
from loyalty.models import EventName, Webhook
from loyalty.staff.audit import record_change
from loyalty.webhooks import checked_url, end_former_secret, end_rest, rotate_secret, signing_secrets
from reversals.admin.html import moment
from reversals.admin.statuses import is_failing, status_of_delivery, status_of_webhook
from reversals.models import Delivery, Event
from reversals.webhooks.testing import send_test

SEE_IDENTIFIERS = "loyalty.see_identifiers"
STATE = ("disabled_at", "disabled_reason", "failure_count", "rests", "created_at")
DELIVERIES_SHOWN = 20
EVENTS_LOOKED_AT = 1_000


class WebhookForm(ReasonedForm):
    """One webhook, with the events that it receives."""

    event_names = forms.MultipleChoiceField(
        label="Events",
        choices=EventName.choices,
        initial=EventName.values,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
    )

    class Meta:
        model = Webhook
        fields = ["org", "name", "url", "is_active"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.event_names:
            self.initial["event_names"] = self.instance.event_names.split(",")

    def clean_url(self) -> str:
        try:
            return checked_url(self.cleaned_data["url"])
        except InvalidOperation as error:
            raise forms.ValidationError(str(error)) from error

    def clean_event_names(self) -> str:
        return ",".join(self.cleaned_data["event_names"])


@admin.register(Webhook)
class WebhookAdmin(ReasonedAdmin):
    """Webhooks, failing ones first. Saving an active one ends its rest, and enables it if its receiver disabled it."""

    form = WebhookForm
    list_display = ["name", "status", "url", "failure_count", "rests", "disabled_reason"]
    list_filter = [OneOrg, "is_active"]
    search_fields = ["name"]
    sortable_by = ()
    change_form_outer_before_template = "admin/loyalty/webhook/state.html"
    change_form_outer_after_template = "admin/loyalty/webhook/deliveries.html"

    def get_ordering(self, request: HttpRequest) -> list[Any]:
        return [F("disabled_at").desc(nulls_last=True), "-failure_count", "-id"]

    def get_fields(self, request: HttpRequest, obj: models.Model | None = None) -> list[Any]:
        given = ["org", "name", "url", "event_names"]
        shown = given if obj is None else [*given, "is_active", *STATE]
        may_save = obj is None or self.has_change_permission(request, obj)
        return [*shown, "reason"] if may_save else shown

    def get_readonly_fields(self, request: HttpRequest, obj: Webhook | None = None) -> list[str]:
        return [] if obj is None else ["org", "name", *STATE]

    @admin.display(description="status")
    def status(self, webhook: Webhook) -> str:
        return badge(status_of_webhook(webhook))

    @admin.display(description="rests", empty_value="no")
    def rests(self, webhook: Webhook) -> str | None:
        return webhook.rest() or None

    def get_urls(self) -> list[URLPattern]:
        pages = {"secret": self.show_secrets, "rotate": self.rotate, "end": self.end, "test": require_POST(self.test)}
        own = [
            path(f"<path:object_id>/{name}/", self.admin_site.admin_view(page), name=f"loyalty_webhook_{name}")
            for name, page in pages.items()
        ]
        return [*own, *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        webhook = self.get_object(request, unquote(object_id))
        shown: dict[str, Any] = {}
        if webhook is not None and self.has_view_permission(request, webhook):
            shown = {"status": badge(status_of_webhook(webhook)), "live_secrets": len(signing_secrets(webhook))}
            shown["may_change"] = self.has_change_permission(request, webhook)
            if request.user.has_perm("reversals.view_delivery"):
                shown["deliveries"] = deliveries_of(webhook, with_answers=request.user.has_perm(SEE_IDENTIFIERS))
        response: HttpResponse = super().change_view(request, object_id, form_url, (extra_context or {}) | shown)
        return response

    def show_secrets(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Shows the signing secrets once a reason is given, which is recorded."""
        webhook = self._webhook(request, object_id)
        form = ReasonForm(request.POST or None)

        def show(given: dict[str, Any]) -> list[str]:
            secrets = signing_secrets(webhook)
            self._record(request, webhook, "secret shown", given["reason"], {"live secrets": len(secrets)})
            return secrets

        title, back = f"Signing secret of {webhook.name}", _page_of(webhook)
        secrets = done(form, show)
        if secrets is None:
            text = "The next page shows the secret. That you have seen it is recorded with your reason."
            return ask(request, self, form, title=title, text=text, button="Show the secret", back=back)
        context = self.admin_site.each_context(request) | {"opts": self.opts, "original": webhook, "title": title}
        context |= {"newest": secrets[0], "former": secrets[1:], "back": back}
        return TemplateResponse(request, "admin/loyalty/webhook/secret.html", context)

    def rotate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._change_secrets(
            request,
            object_id,
            rotate_secret,
            title="Rotate the secret of",
            text="Events are signed with a new secret and with the present one, until you end the present one. Give the"
            " new one, which “Show the secret” shows, to the receiver first.",
            button="Rotate secret",
        )

    def end(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._change_secrets(
            request,
            object_id,
            end_former_secret,
            title="End the former secret of",
            text="Events are signed with the newest secret only. A receiver that does not know it refuses them.",
            button="End former secret",
        )

    def test(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Sends a test event at once, and says how the receiver answered."""
        webhook = self._webhook(request, object_id)
        answer = send_test(webhook)
        result = "no answer" if answer.status is None else f"status {answer.status}"
        self._record(request, webhook, "test event sent", "Sent from the page of the webhook.", {"answer": result})
        seconds = f"{answer.seconds:.2f} s"
        if answer.is_success:
            self.message_user(request, f"The receiver accepted the test event with {result} in {seconds}.")
        else:
            text = f"The receiver did not accept the test event: {result} after {seconds}. {answer.text}"
            self.message_user(request, text, messages.ERROR)
        return redirect(_page_of(webhook))

    def _change_secrets(
        self, request: HttpRequest, object_id: str, change: Callable[..., object], *, title: str, text: str, button: str
    ) -> HttpResponse:
        webhook = self._webhook(request, object_id)
        form, back = ReasonForm(request.POST or None), _page_of(webhook)

        def apply(given: dict[str, Any]) -> bool:
            change(webhook, reason=given["reason"], made_by=request.user.get_username())
            return True

        if done(form, apply):
            self.message_user(request, f"The secrets of {webhook.name} are changed.", messages.SUCCESS)
            return redirect(back)
        return ask(request, self, form, title=f"{title} {webhook.name}", text=text, button=button, back=back)

    def _webhook(self, request: HttpRequest, object_id: str) -> Webhook:
        """Returns the webhook, if the user may change it."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        webhook: Webhook | None = self.get_object(request, unquote(object_id))
        if webhook is None:
            raise Http404
        return webhook

    def _record(self, request: HttpRequest, webhook: Webhook, action: str, reason: str, after: dict[str, Any]) -> None:
        made_by = request.user.get_username()
        record_change(webhook, org=webhook.org, action=action, made_by=made_by, reason=reason, before={}, after=after)

    def save_model(self, request: HttpRequest, obj: Webhook, form: WebhookForm, change: bool) -> None:
        end_rest(obj)
        if not change:
            obj.pepper = pepper_mark()
        super().save_model(request, obj, form, change)


def deliveries_of(webhook: Webhook, *, with_answers: bool) -> dict[str, Any]:
    """Returns the last deliveries of the webhook: failing ones first, then the newest.

    Deliveries have no index by webhook and time, so those that are due are read from the index of pending ones, and the
    others are looked for among the newest events of the org.
    """
    all_rows = Delivery.objects.filter(org_id=webhook.org_id, webhook=webhook)
    newest = Event.objects.filter(org_id=webhook.org_id).order_by("-id").values("id")[:EVENTS_LOOKED_AT]
    due = all_rows.filter(status=Delivery.Status.PENDING).order_by("due_at")[:DELIVERIES_SHOWN]
    last = all_rows.filter(event_id__in=list(newest.values_list("id", flat=True))).order_by("-event_id")
    found = {each.pk: each for rows in (due, last[:DELIVERIES_SHOWN]) for each in rows.select_related("event")}
    ordered = sorted(found.values(), key=lambda each: (is_failing(each), each.event_id), reverse=True)
    return {
        "headers": [
            *("Event", "Type", "Status", "Tries", "Due", "Last status", "Delivered"),
            *(["Last answer"] if with_answers else []),
        ],
        "rows": [
            [
                link(each, each.event.event_id),
                each.event.get_name_display(),
                badge(status_of_delivery(each)),
                each.tries,
                moment(each.due_at),
                each.last_status or "none",
                moment(each.delivered_at, none="not yet"),
                *([each.last_answer] if with_answers else []),
            ]
            for each in ordered[:DELIVERIES_SHOWN]
        ],
    }


def _page_of(webhook: Webhook) -> str:
    return reverse("admin:loyalty_webhook_change", args=[webhook.pk])
