"""What was given back and who asked for it: reversals, their lines, attempts, and the events that tell of them."""

from django.db import models
from django.db.models import F, Q

from loyalty.constraints import AppendOnly, SameOrg
from loyalty.fields import PointsField, RowIdField
from loyalty.models import EventName, owning_org, owning_org_of_movement, parent_of_org
from reversals.refusals import LADDERS, Ladder


class Channel(models.TextChoices):
    ADMIN = "ADMIN", "back office"
    API = "API", "API"
    BULK = "BULK", "bulk"
    COMMAND = "COMMAND", "command"


class Reversal(models.Model):
    """Points given back for one redemption. Only ever added."""

    id = RowIdField()
    org = owning_org_of_movement()
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
            models.Index(fields=["org", "created_at"], condition=~Q(channel=Channel.API), name="reversals_by_hand"),
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
            AppendOnly(name="reversal_append_only", erasable=("reason",)),
        ]
        permissions = [("export_ledger", "Can export reversals and attempts")]

    def __str__(self) -> str:
        return self.public_id


class ReversalLine(models.Model):
    """The points that one reversal gave back to one draw. Only ever added."""

    id = RowIdField()
    org = owning_org_of_movement()
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
    org = owning_org_of_movement()
    created_at = models.DateTimeField()
    operation = models.CharField(
        max_length=16, default="REVERSE", help_text="What was asked for: REVERSE, REDEEM or CORRECT."
    )
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
            # For the home page and the filters of the list. What the API accepted is in none of them.
            models.Index(
                fields=["org", "created_at", "rule", "operation", "is_dry_run"],
                condition=~Q(rule=""),
                name="attempts_refused",
            ),
            models.Index(fields=["org", "rule", "created_at"], condition=~Q(rule=""), name="attempts_by_rule"),
            models.Index(
                fields=["org", "created_at"],
                condition=~Q(channel=Channel.API) | Q(is_dry_run=True) | Q(operation="CORRECT"),
                name="attempts_unusual",
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["org", "idempotency_key"], condition=Q(holds_key=True), name="idempotency_key_held_once"
            ),
            SameOrg(field="reversal", name="attempt_reversal_of_org"),
            SameOrg(field="redemption", name="attempt_redemption_of_org"),
        ]

    def __str__(self) -> str:
        return f"{self.created_at:%Y-%m-%d %H:%M:%S} {self.code or 'accepted'}"

    @property
    def ladder(self) -> type[Ladder]:
        return LADDERS[self.operation]

    @property
    def error(self) -> Ladder | None:
        """The refusal; None where it was accepted."""
        return self.ladder[self.rule] if self.rule else None

    @property
    def uses_key(self) -> bool:
        """Whether it runs once per idempotency key. A dry run moves nothing, so its key stays free."""
        return bool(self.idempotency_key) and not self.is_dry_run


class Approval(models.Model):
    """A reversal or a correction by hand that needs a second person: what is asked for, and what was decided."""

    class Status(models.TextChoices):
        WAITING = "WAITING"  # until it lapses, which is no status of its own
        APPROVED = "APPROVED"
        REJECTED = "REJECTED"

    id = RowIdField()
    org = owning_org()
    redemption = parent_of_org("loyalty.Redemption", related_name="approvals")
    corrects = parent_of_org(
        "reversals.Reversal",
        null=True,
        blank=True,
        related_name="correction_requests",
        help_text="The reversal to correct; empty: a reversal is asked for.",
    )
    points_asked = PointsField(null=True, blank=True, help_text="Empty: all that is left.")
    points = PointsField(help_text="What would have moved when it was asked for.")
    key = models.CharField(max_length=255, help_text="By which a resent page is the same request.")
    channel = models.CharField(max_length=16, choices=Channel)
    reason = models.CharField(max_length=500)
    asked_by = models.CharField(max_length=150)
    asked_at = models.DateTimeField()
    lapses_at = models.DateTimeField(help_text="From then on it can no longer be approved.")
    status = models.CharField(max_length=16, choices=Status, default=Status.WAITING)
    decided_by = models.CharField(max_length=150, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    comment = models.CharField(max_length=500, blank=True)
    reversal = parent_of_org(
        "reversals.Reversal", null=True, blank=True, related_name="approvals", help_text="The reversal that was made."
    )

    class Meta:
        indexes = [models.Index(fields=["org", "status", "asked_at"], name="approvals_by_status")]
        constraints = [
            models.UniqueConstraint(fields=["org", "id"], name="approval_in_org"),
            models.UniqueConstraint(fields=["org", "key"], name="approval_asked_once"),
            models.CheckConstraint(
                condition=Q(status__in=["WAITING", "APPROVED", "REJECTED"]), name="approval_status_known"
            ),
            models.CheckConstraint(condition=~Q(decided_by=F("asked_by")), name="approval_by_another_person"),
            models.CheckConstraint(
                condition=Q(status="WAITING", decided_by="", decided_at__isnull=True)
                | (~Q(status="WAITING") & ~Q(decided_by="") & Q(decided_at__isnull=False)),
                name="approval_says_who_decided",
            ),
            SameOrg(field="redemption", name="approval_redemption_of_org"),
            SameOrg(field="corrects", name="approval_corrects_of_org"),
            SameOrg(field="reversal", name="approval_reversal_of_org"),
        ]
        permissions = [("decide_approval", "Can approve or reject what another person asked for")]

    def __str__(self) -> str:
        return f"{'correction' if self.corrects_id else 'reversal'} asked by {self.asked_by}"


class Correction(models.Model):
    """A reversal taken back whole: the points of its lines drawn again from the lots they went to. Only ever added."""

    id = RowIdField()
    org = owning_org()
    reversal = parent_of_org("reversals.Reversal", related_name="corrections")
    approval = parent_of_org("reversals.Approval", related_name="corrections")
    points = PointsField(help_text="All points of the reversal.")
    made_by = models.CharField(max_length=150)
    approved_by = models.CharField(max_length=150)
    reason = models.CharField(max_length=500)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["org", "reversal"], name="correction_once_per_reversal"),
            models.CheckConstraint(condition=Q(points__gt=0), name="correction_points_positive"),
            models.CheckConstraint(condition=~Q(approved_by=F("made_by")), name="correction_by_two_persons"),
            SameOrg(field="reversal", name="correction_reversal_of_org"),
            SameOrg(field="approval", name="correction_approval_of_org"),
            AppendOnly(name="correction_append_only", erasable=("reason",)),
        ]

    def __str__(self) -> str:
        return f"correction of {self.reversal}"


class BulkRun(models.Model):
    """Reversals by hand that were asked for together."""

    id = RowIdField()
    org = owning_org()
    key = models.CharField(max_length=64, help_text="By which the same rows sent again are the same run.")
    name = models.CharField(max_length=200, help_text="The file's name, or what was selected.")
    made_by = models.CharField(max_length=150)
    made_at = models.DateTimeField()
    confirmed_at = models.DateTimeField(null=True, blank=True, help_text="Empty: only checked so far.")
    confirmed_by = models.CharField(max_length=150, blank=True, help_text="Who first had its reversals made.")

    class Meta:
        indexes = [models.Index(fields=["org", "made_at"], name="bulk_runs_by_time")]
        constraints = [
            models.UniqueConstraint(fields=["org", "id"], name="bulk_run_in_org"),
            models.UniqueConstraint(fields=["org", "key"], name="bulk_run_made_once"),
        ]

    def __str__(self) -> str:
        return self.name


class BulkRow(models.Model):
    """One reversal of a bulk run: what is asked for, and what became of it."""

    # Before its row id: the idempotency key of its reversal. No key sent to the API may hold a "#".
    KEY_PREFIX = "bulk#"

    class Status(models.TextChoices):
        READY = "READY", "ready"
        INVALID = "INVALID", "not possible"
        REVERSED = "REVERSED", "reversed"
        REQUESTED = "REQUESTED", "waits for approval"
        REFUSED = "REFUSED", "refused"

    id = RowIdField()
    org = owning_org()
    run = parent_of_org("reversals.BulkRun", related_name="rows")
    position = models.PositiveIntegerField(help_text="The line of the file, the header being line 1.")
    redemption_id = models.CharField(max_length=200, help_text="As it was written.")
    points_written = models.CharField(max_length=64, blank=True, help_text="As it was written; empty: all.")
    reason = models.CharField(max_length=500, blank=True)
    points = PointsField(null=True, blank=True, help_text="What came back; until then, what would come back.")
    points_expired = PointsField(null=True, blank=True, help_text="The part of it that went to expired lots, or would.")
    needs_approval = models.BooleanField(default=False, help_text="Whether the check found that it has to wait.")
    status = models.CharField(max_length=16, choices=Status, default=Status.READY)
    code = models.PositiveSmallIntegerField(null=True, blank=True)
    outcome = models.CharField(max_length=1000, blank=True, help_text="What was wrong, or what was done.")
    reversal = parent_of_org("reversals.Reversal", null=True, blank=True, related_name="bulk_rows")
    approval = parent_of_org("reversals.Approval", null=True, blank=True, related_name="bulk_rows")

    class Meta:
        indexes = [
            models.Index(fields=["org", "run", "status", "position"], name="bulk_rows_by_status"),
            models.Index(fields=["org", "redemption_id"], name="bulk_rows_by_redemption"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["org", "run", "position"], name="bulk_row_position_unique"),
            models.CheckConstraint(
                condition=Q(status__in=["READY", "INVALID", "REVERSED", "REQUESTED", "REFUSED"]),
                name="bulk_row_status_known",
            ),
            SameOrg(field="run", name="bulk_row_run_of_org"),
            SameOrg(field="reversal", name="bulk_row_reversal_of_org"),
            SameOrg(field="approval", name="bulk_row_approval_of_org"),
        ]

    def __str__(self) -> str:
        return f"row {self.position} of {self.run_id}"


class LedgerCheck(models.Model):
    """One run of verify_ledger to its end."""

    id = RowIdField()
    org = models.ForeignKey(
        "loyalty.Org", on_delete=models.PROTECT, db_index=False, null=True, blank=True, help_text="Empty: every org."
    )
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()
    broken_count = models.PositiveIntegerField(help_text="How many rows broke a law.")

    class Meta:
        indexes = [models.Index(fields=["finished_at"], name="ledger_checks_by_time")]

    def __str__(self) -> str:
        return f"{self.finished_at:%Y-%m-%d %H:%M} {self.broken_count or 'none'} broken"


class Seal(models.Model):
    """One link of the chain of hashes over the history of all orgs. Only ever added."""

    id = models.PositiveBigIntegerField("seal", primary_key=True, help_text="1, 2, 3 and so on, without a gap.")
    sealed_at = models.DateTimeField()
    count = models.PositiveIntegerField(help_text="How many entries it holds.")
    is_complete = models.BooleanField(help_text="Whether nothing was left unsealed then.")
    hash = models.CharField(max_length=64, help_text="SHA-256 over its rows and the seal before it.")

    class Meta:
        constraints = [AppendOnly(name="seal_append_only")]

    def __str__(self) -> str:
        return f"seal {self.id}"


class SealedRow(models.Model):
    """One entry of the history as it was when a seal took it: a row, with its children. Only ever added.

    No foreign keys: the list must outlive what it names, and sealing writes a row for each row of the ledger.
    """

    class Kind(models.TextChoices):
        IMPORT = "IMPORT", "import"
        LOT = "LOT", "lot"
        REDEMPTION = "REDEMPTION", "redemption"
        REVERSAL = "REVERSAL", "reversal"
        CORRECTION = "CORRECTION", "correction"
        SETTING_CHANGE = "SETTING_CHANGE", "setting change"
        CUSTOMER = "CUSTOMER", "customer"
        PROGRAM = "PROGRAM", "program"

    id = RowIdField()
    org = owning_org_of_movement()
    seal = models.ForeignKey(Seal, on_delete=models.PROTECT, db_index=False, db_constraint=False, related_name="rows")
    position = models.PositiveIntegerField()
    kind = models.CharField(max_length=16, choices=Kind)
    row_id = models.BigIntegerField(help_text="The row id of the entry's first row.")
    digest = models.CharField(max_length=64, help_text="SHA-256 over the entry's text.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["seal", "position"], name="sealed_position_unique"),
            models.UniqueConstraint(fields=["kind", "row_id"], name="row_sealed_once"),
            AppendOnly(name="sealed_row_append_only"),
        ]

    def __str__(self) -> str:
        return f"{self.Kind(self.kind).label} {self.row_id} of org {self.org_id}"


class DayTotals(models.Model):
    """What one day's calls to reverse came to, by answer: counted once the day is over, and kept."""

    id = RowIdField()
    org = owning_org()
    day = models.DateField(help_text="In UTC.")
    rule = models.CharField(max_length=32, blank=True, help_text="The rule that refused; empty: accepted.")
    count = models.PositiveIntegerField()
    points = PointsField(default=0, help_text="Points given back, the expired ones included.")
    points_expired = PointsField(default=0)

    class Meta:
        verbose_name_plural = "day totals"
        constraints = [models.UniqueConstraint(fields=["org", "day", "rule"], name="day_totals_once")]

    def __str__(self) -> str:
        return f"{self.day} {self.rule or 'accepted'}"


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
