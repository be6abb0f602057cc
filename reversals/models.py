"""What was given back and who asked for it: reversals, their lines, and the attempts of every movement."""

from django.db import models
from django.db.models import F, Q

from loyalty.constraints import AppendOnly, SameOrg
from loyalty.fields import PointsField, RowIdField
from loyalty.models import owning_org, parent_of_org
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
