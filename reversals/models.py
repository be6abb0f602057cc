"""What was given back and who asked for it: reversals, their lines, attempts, and the events that tell of them."""

from django.db import models
from django.db.models import F, Q

from loyalty.constraints import AppendOnly, SameOrg
from loyalty.fields import PointsField, RowIdField
from loyalty.models import EventName, owning_org, parent_of_org
from reversals.errors import ErrorCode, Ladder, RedemptionError


class Channel(models.TextChoices):
    ADMIN = "ADMIN"
    API = "API"
    COMMAND = "COMMAND"


class Operation(models.TextChoices):
    """What a call asks for. Each has its own ladder of refusals."""

    REVERSE = "REVERSE"
    REDEEM = "REDEEM"

    @property
    def ladder(self) -> type[Ladder]:
        return ErrorCode if self is Operation.REVERSE else RedemptionError


class Reversal(models.Model):
    """Points given back for one redemption. Only ever added."""

    id = RowIdField()
    org = owning_org()
    redemption = parent_of_org("loyalty.Redemption", related_name="reversals")
    customer = parent_of_org("loyalty.Customer", related_name="reversals")
    public_id = models.CharField("reversal id", max_length=6, help_text="The reversalId that API clients see.")
    points_asked = PointsField(null=True, blank=True, help_text="Empty: all that was left.")
    points = PointsField(help_text="Points given back: available and expired together.")
    points_available = PointsField(help_text="Can be spent again.")
    points_expired = PointsField(help_text="Went back to lots that had expired; cannot be spent.")
    has_key = models.BooleanField(help_text="Whether the request carried an Idempotency-Key.")
    channel = models.CharField(max_length=16, choices=Channel)
    client = parent_of_org("loyalty.ApiClient", null=True, blank=True)
    made_by = models.CharField(max_length=150, help_text="The API client's or the person's username.")
    reason = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(fields=["org", "redemption", "created_at", "id"], name="reversals_of_redemption"),
            models.Index(fields=["org", "customer", "created_at", "id"], name="reversals_of_customer"),
            models.Index(fields=["org", "created_at", "id"], name="reversals_by_time"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["org", "public_id"], name="reversal_public_id_unique"),
            models.UniqueConstraint(fields=["org", "id"], name="reversal_in_org"),
            models.CheckConstraint(
                condition=Q(points__gt=0) & Q(points_available__gte=0) & Q(points_expired__gte=0),
                name="reversal_points_positive",
            ),
            models.CheckConstraint(
                condition=Q(points=F("points_available") + F("points_expired")),
                name="reversal_is_available_and_expired",
            ),
            SameOrg(field="redemption", name="reversal_redemption_of_org"),
            SameOrg(field="customer", name="reversal_customer_of_org"),
            SameOrg(field="client", name="reversal_client_of_org"),
            AppendOnly(name="reversal_append_only"),
        ]

    def __str__(self) -> str:
        return self.public_id


class ReversalLine(models.Model):
    """The points that one reversal gave back to one draw. Only ever added."""

    id = RowIdField()
    org = owning_org()
    reversal = parent_of_org("reversals.Reversal", related_name="lines")
    draw = parent_of_org("loyalty.Draw", related_name="reversal_lines")
    points = PointsField()
    points_available = PointsField()
    points_expired = PointsField()
    reissued_lot = parent_of_org(
        "loyalty.Lot",
        null=True,
        blank=True,
        related_name="reissuing_lines",
        help_text="The new lot in which the points came back, where their own had expired or there was none.",
    )

    class Meta:
        indexes = [
            models.Index(fields=["org", "draw"], name="lines_of_draw"),
            models.Index(
                fields=["org", "reissued_lot"], condition=Q(reissued_lot__isnull=False), name="lines_of_reissued_lot"
            ),
        ]
        constraints = [
            models.UniqueConstraint(fields=["org", "reversal", "draw"], name="line_once_per_draw"),
            models.CheckConstraint(
                condition=Q(points__gt=0) & Q(points_available__gte=0) & Q(points_expired__gte=0),
                name="line_points_positive",
            ),
            models.CheckConstraint(
                condition=Q(points=F("points_available") + F("points_expired")), name="line_is_available_and_expired"
            ),
            SameOrg(field="reversal", name="line_reversal_of_org"),
            SameOrg(field="draw", name="line_draw_of_org"),
            SameOrg(field="reissued_lot", name="line_reissued_lot_of_org"),
            AppendOnly(name="line_append_only"),
        ]

    def __str__(self) -> str:
        return f"line of {self.reversal_id}"


class Attempt(models.Model):
    """One call that asked to move points, accepted or refused: who, what, when, and the answer."""

    id = RowIdField()
    org = owning_org()
    created_at = models.DateTimeField()
    operation = models.CharField(max_length=16, choices=Operation, default=Operation.REVERSE)
    is_dry_run = models.BooleanField("dry run", default=False, help_text="It asked what would happen; nothing moved.")
    request_id = models.CharField(max_length=32, blank=True, help_text="The X-CAP-REQUEST-ID of the reply.")
    channel = models.CharField(max_length=16, choices=Channel)
    client = parent_of_org("loyalty.ApiClient", null=True, blank=True)
    made_by = models.CharField(max_length=150)
    reason = models.CharField(max_length=500, blank=True)

    redemption_id_asked = models.CharField(max_length=64, blank=True)
    external_reference_asked = models.CharField(max_length=128, blank=True)
    identifier_type = models.CharField(max_length=16, blank=True)
    identifier_masked = models.CharField(max_length=16, blank=True)
    points_asked = PointsField(null=True, blank=True, help_text="Empty: all that was left.")

    idempotency_key = models.CharField(max_length=255, blank=True)
    holds_key = models.BooleanField(
        default=False, help_text="Whether a repeat with this key is answered with this reply."
    )
    fingerprint = models.CharField(max_length=64, blank=True, help_text="Keyed hash of what the request means.")

    http_status = models.PositiveSmallIntegerField(null=True, blank=True)
    code = models.PositiveSmallIntegerField(null=True, blank=True, help_text="Empty: accepted.")
    rule = models.CharField(max_length=32, blank=True, help_text="The rule that refused it.")
    refusal_reason = models.CharField(max_length=1000, blank=True)
    reversal = parent_of_org("reversals.Reversal", null=True, blank=True, related_name="attempts")
    redemption = parent_of_org("loyalty.Redemption", null=True, blank=True, related_name="attempts")
    reply = models.TextField(blank=True, help_text="The body to repeat, without the customer's identifier.")
    duration_ms = models.PositiveIntegerField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["org", "created_at"], name="attempts_by_time"),
            models.Index(fields=["org", "redemption_id_asked"], name="attempts_by_redemption"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["org", "idempotency_key"], condition=Q(holds_key=True), name="idempotency_key_held_once"
            ),
            SameOrg(field="client", name="attempt_client_of_org"),
            SameOrg(field="reversal", name="attempt_reversal_of_org"),
            SameOrg(field="redemption", name="attempt_redemption_of_org"),
        ]

    def __str__(self) -> str:
        return f"{self.created_at:%Y-%m-%d %H:%M:%S} {self.code or 'accepted'}"

    @property
    def ladder(self) -> type[Ladder]:
        return Operation(self.operation).ladder

    @property
    def error(self) -> Ladder | None:
        """The refusal; None where it was accepted."""
        return self.ladder[self.rule] if self.rule else None

    @property
    def uses_key(self) -> bool:
        """Whether it runs once per idempotency key. A dry run moves nothing, so its key stays free."""
        return bool(self.idempotency_key) and not self.is_dry_run


class Event(models.Model):
    """Something that webhooks are told of, written in the transaction in which it happened. Never changed."""

    # From a sequence and not made before the insert: it is drawn while the customer's row is locked, so that
    # it rises with each event of a customer, on whatever machine. That is the order of delivery.
    id = models.BigAutoField(primary_key=True)
    org = owning_org()
    customer = parent_of_org("loyalty.Customer", related_name="events")
    name = models.CharField(max_length=64, choices=EventName)
    event_id = models.CharField(max_length=36, help_text="The eventId that receivers see; the same on every try.")
    request_id = models.CharField(max_length=32, blank=True, help_text="The X-CAP-REQUEST-ID of the reply.")
    data = models.TextField(help_text="The data block in JSON. It holds personal data, which purge_events removes.")
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["event_id"], name="event_id_unique"),
            models.UniqueConstraint(fields=["org", "id"], name="event_in_org"),
            SameOrg(field="customer", name="event_customer_of_org"),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.event_id}"


class Delivery(models.Model):
    """One event on its way to one webhook."""

    class Status(models.TextChoices):
        PENDING = "PENDING"
        DELIVERED = "DELIVERED"
        GIVEN_UP = "GIVEN_UP"

    id = RowIdField()
    org = owning_org()
    event = parent_of_org("reversals.Event", related_name="deliveries")
    webhook = parent_of_org("loyalty.Webhook", related_name="deliveries")
    customer = parent_of_org("loyalty.Customer", related_name="+", help_text="The event's; one after the other.")
    status = models.CharField(max_length=16, choices=Status, default=Status.PENDING)
    tries = models.PositiveIntegerField(default=0)
    due_at = models.DateTimeField(help_text="When it is tried next, if no earlier one of the customer is pending.")
    give_up_at = models.DateTimeField(help_text="A try that fails after this is the last.")
    leased_until = models.DateTimeField(
        null=True, blank=True, help_text="A worker is sending it; if nothing is heard of that worker, until then."
    )
    last_status = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="The HTTP status of the last answer; empty: there was none."
    )
    last_answer = models.CharField(max_length=500, blank=True, help_text="How the last try failed.")
    delivered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "deliveries"
        indexes = [
            # Both hold pending rows only, so that the millions of delivered ones cost the worker nothing.
            models.Index(
                fields=["org", "webhook", "due_at"], condition=Q(status="PENDING"), name="deliveries_by_due_time"
            ),
            models.Index(
                fields=["org", "webhook", "customer", "event"],
                condition=Q(status="PENDING"),
                name="deliveries_by_customer",
            ),
        ]
        constraints = [
            models.UniqueConstraint(fields=["event", "webhook"], name="delivery_once_per_webhook"),
            models.CheckConstraint(
                condition=Q(status__in=["PENDING", "DELIVERED", "GIVEN_UP"]), name="delivery_status_known"
            ),
            SameOrg(field="event", name="delivery_event_of_org"),
            SameOrg(field="webhook", name="delivery_webhook_of_org"),
            SameOrg(field="customer", name="delivery_customer_of_org"),
        ]

    def __str__(self) -> str:
        return f"{self.event_id} to {self.webhook_id}"
