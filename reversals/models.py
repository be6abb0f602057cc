"""Tables of reversals, corrections, approvals, bulk runs, attempts, events, ledger checks and seals."""

from collections.abc import Sequence

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from loyalty.constraints import AppendOnly, SameOrg
from loyalty.fields import PointsField, RandomKey, RowIdField
from loyalty.models import EventName, OrgRow, owning_org, owning_org_of_movement, parent_of_org
from reversals.refusals import LADDERS, Ladder


class Channel(models.TextChoices):
    ADMIN = "ADMIN", "back office"
    API = "API", "API"
    BULK = "BULK", "bulk"
    COMMAND = "COMMAND", "command"


class Reversal(OrgRow):
    """Points of one redemption that were reversed. Rows are only added."""

    id = RowIdField()
    org = owning_org_of_movement()
    redemption = parent_of_org("loyalty.Redemption", related_name="reversals")
    customer = parent_of_org("loyalty.Customer", related_name="reversals")
    public_id = models.CharField("reversal id", max_length=6, help_text="The reversalId that API clients see.")
    points_asked = PointsField("points requested", null=True, blank=True, help_text="Empty: all remaining points.")
    points = PointsField(help_text="Points reversed, available and expired together.")
    points_available = PointsField(help_text="Points that can be spent again.")
    points_expired = PointsField(help_text="Points reversed to expired lots. They cannot be spent.")
    has_key = models.BooleanField(help_text="Whether the request carried an Idempotency-Key.")
    channel = models.CharField(max_length=16, choices=Channel)
    client = parent_of_org("loyalty.ApiClient", null=True, blank=True)
    made_by = models.CharField(max_length=150, help_text="The username of the API client or the user.")
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


class ReversalLine(OrgRow):
    """The points that one reversal returned to one draw. Rows are only added."""

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
        help_text="The new lot of re-issued points, if their own lot had expired or they had no lot.",
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


class Attempt(OrgRow):
    """One request to move points, accepted or refused: caller, request, time and answer."""

    id = RowIdField()
    org = owning_org_of_movement()
    created_at = models.DateTimeField()
    operation = models.CharField(
        max_length=16, default="REVERSE", help_text="The kind of movement requested: REVERSE, REDEEM or CORRECT."
    )
    is_dry_run = models.BooleanField(
        "dry run", default=False, help_text="Only shows what would happen; no points move."
    )
    request_id = models.CharField(max_length=32, blank=True, help_text="The X-CAP-REQUEST-ID of the reply.")
    channel = models.CharField(max_length=16, choices=Channel)
    client = parent_of_org("loyalty.ApiClient", null=True, blank=True)
    made_by = models.CharField(max_length=150)
    address = models.GenericIPAddressField(
        null=True, blank=True, help_text="The client address of an API call, until ATTEMPT_ADDRESSES_KEPT_FOR_DAYS."
    )
    reason = models.CharField(max_length=500, blank=True)

    redemption_id_asked = models.CharField("redemption id requested", max_length=64, blank=True)
    external_reference_asked = models.CharField("external reference requested", max_length=128, blank=True)
    identifier_type = models.CharField(max_length=16, blank=True)
    identifier_masked = models.CharField(max_length=16, blank=True)
    points_asked = PointsField("points requested", null=True, blank=True, help_text="Empty: all remaining points.")

    idempotency_key = models.CharField(max_length=255, blank=True)
    holds_key = models.BooleanField(default=False, help_text="Whether a repeat with this key gets this reply.")
    fingerprint = models.CharField(max_length=64, blank=True, help_text="Keyed hash of the request's meaning.")

    http_status = models.PositiveSmallIntegerField(null=True, blank=True)
    code = models.PositiveSmallIntegerField(null=True, blank=True, help_text="Empty: accepted.")
    rule = models.CharField(max_length=32, blank=True, help_text="The rule that refused the request. Empty: accepted.")
    refusal_reason = models.CharField(max_length=1000, blank=True)
    reversal = parent_of_org("reversals.Reversal", null=True, blank=True, related_name="attempts")
    redemption = parent_of_org("loyalty.Redemption", null=True, blank=True, related_name="attempts")
    reply = models.TextField(blank=True, help_text="The reply's body for repeats, without the customer's identifier.")
    duration_ms = models.PositiveIntegerField(null=True, blank=True)

    former_fingerprints: Sequence[str] = ()  # not stored: what `fingerprint` would be with a former pepper

    class Meta:
        indexes = [
            models.Index(fields=["org", "created_at"], name="attempts_by_time"),
            models.Index(fields=["org", "redemption_id_asked"], name="attempts_by_redemption"),
            # For the home page and the filters of the list. None of these three indexes holds accepted API calls.
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
        """The refusal; None if the request was accepted."""
        return self.ladder[self.rule] if self.rule else None

    @property
    def uses_key(self) -> bool:
        """Whether the request runs only once per idempotency key. A dry run leaves its key free."""
        return bool(self.idempotency_key) and not self.is_dry_run


class Approval(OrgRow):
    """An approval request: a manual reversal or a correction that needs a second user, and the decision."""

    class Status(models.TextChoices):
        WAITING = "WAITING"  # also after it lapsed: lapsing does not change the status
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
        help_text="The reversal to correct. Empty: the request is for a reversal.",
    )
    points_asked = PointsField("points requested", null=True, blank=True, help_text="Empty: all remaining points.")
    points = PointsField(help_text="The points that would have moved at the time of the request.")
    key = models.CharField(max_length=255, help_text="Identifies the request if the same page is sent again.")
    channel = models.CharField(max_length=16, choices=Channel)
    reason = models.CharField(max_length=500)
    asked_by = models.CharField("requested by", max_length=150)
    asked_at = models.DateTimeField("requested at")
    lapses_at = models.DateTimeField(help_text="The request cannot be approved from then on.")
    status = models.CharField(max_length=16, choices=Status, default=Status.WAITING)
    decided_by = models.CharField(max_length=150, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    comment = models.CharField(max_length=500, blank=True)
    reversal = parent_of_org(
        "reversals.Reversal", null=True, blank=True, related_name="approvals", help_text="The approved reversal."
    )
    # Old code leaves it False, so nobody is told twice of what was asked or decided before this column existed.
    is_news = models.BooleanField(
        default=True, db_default=False, help_text="Whether the worker has yet to send emails about the present status."
    )

    class Meta:
        indexes = [
            models.Index(fields=["org", "status", "asked_at"], name="approvals_by_status"),
            models.Index(fields=["org", "asked_by", "asked_at"], name="approvals_by_asker"),
            models.Index(fields=["org", "asked_at"], condition=Q(is_news=True), name="approvals_news"),
        ]
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
        permissions = [("decide_approval", "Can approve or reject requests of other users")]

    def __str__(self) -> str:
        return f"{'correction' if self.corrects_id else 'reversal'} requested by {self.asked_by}"


class Correction(OrgRow):
    """A whole reversal taken back: its points are drawn again from the lots they went to. Rows are only added."""

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


class BulkRun(OrgRow):
    """A run of manual reversals that were requested together."""

    id = RowIdField()
    org = owning_org()
    key = models.CharField(
        max_length=64, db_default=RandomKey(), help_text="Identifies the run if the same rows are sent again."
    )
    name = models.CharField(max_length=200, help_text="The name of the file, or of the selection.")
    made_by = models.CharField(max_length=150)
    made_at = models.DateTimeField()
    confirmed_at = models.DateTimeField(null=True, blank=True, help_text="Empty: only checked so far.")
    confirmed_by = models.CharField(max_length=150, blank=True, help_text="The user who first confirmed the run.")
    task = models.UUIDField(null=True, blank=True, help_text="The worker's task for the run. Empty: the run rests.")
    worked_by = models.CharField(
        max_length=150, blank=True, db_default="", help_text="The user under whose name the worker works on the run."
    )
    notice = models.CharField(max_length=1200, blank=True, db_default="", help_text="Why the run does not go on.")
    cancelled_at = models.DateTimeField(null=True, blank=True)
    cancelled_by = models.CharField(max_length=150, blank=True, db_default="")

    class Meta:
        indexes = [models.Index(fields=["org", "made_at"], name="bulk_runs_by_time")]
        constraints = [
            models.UniqueConstraint(fields=["org", "id"], name="bulk_run_in_org"),
            models.UniqueConstraint(fields=["org", "key"], name="bulk_run_made_once"),
        ]

    def __str__(self) -> str:
        return self.name


class BulkRow(OrgRow):
    """One reversal of a bulk run: the request and its outcome."""

    # With the row id appended: the idempotency key of the row's reversal. The API refuses keys that contain a "#".
    KEY_PREFIX = "bulk#"

    class Status(models.TextChoices):
        READY = "READY", "ready"
        INVALID = "INVALID", "not possible"
        REVERSED = "REVERSED", "reversed"
        REQUESTED = "REQUESTED", "waiting for approval"
        REFUSED = "REFUSED", "refused"

    id = RowIdField()
    org = owning_org()
    run = parent_of_org("reversals.BulkRun", related_name="rows")
    position = models.PositiveIntegerField(help_text="The line in the file. The header is line 1.")
    redemption_id = models.CharField(max_length=200, help_text="As entered.")
    points_written = models.CharField(max_length=64, blank=True, help_text="As entered. Empty: all remaining points.")
    reason = models.CharField(max_length=500, blank=True)
    points = PointsField(null=True, blank=True, help_text="The points reversed; before that, the points that would be.")
    points_expired = PointsField(null=True, blank=True, help_text="The part of them that goes to expired lots.")
    needs_approval = models.BooleanField(
        default=False, help_text="Whether the row needs an approval, as found by the check."
    )
    status = models.CharField(max_length=16, choices=Status, default=Status.READY)
    code = models.PositiveSmallIntegerField(null=True, blank=True)
    outcome = models.CharField(max_length=1000, blank=True, help_text="What was wrong, or what was done.")
    reversal = parent_of_org("reversals.Reversal", null=True, blank=True, related_name="bulk_rows")
    approval = parent_of_org("reversals.Approval", null=True, blank=True, related_name="bulk_rows")

    class Meta:
        indexes = [
            models.Index(fields=["org", "run", "status", "position"], name="bulk_rows_by_status"),
            models.Index(fields=["org", "redemption_id"], name="bulk_rows_by_redemption"),
            models.Index(fields=["org", "approval"], condition=Q(approval__isnull=False), name="bulk_rows_by_approval"),
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
    """One completed run of verify_ledger."""

    id = RowIdField()
    org = models.ForeignKey(
        "loyalty.Org", on_delete=models.PROTECT, db_index=False, null=True, blank=True, help_text="Empty: all orgs."
    )
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()
    broken_count = models.PositiveIntegerField(help_text="The number of rows that broke a law.")

    class Meta:
        indexes = [models.Index(fields=["finished_at"], name="ledger_checks_by_time")]

    def __str__(self) -> str:
        return (
            f"{self.finished_at:%Y-%m-%d %H:%M} {self.broken_count} broken row{'' if self.broken_count == 1 else 's'}"
        )


class Backup(models.Model):
    """One finished backup. The program that made it writes the row with psql, so the database fills in id and time."""

    finished_at = models.DateTimeField(db_default=Now())
    kind = models.CharField(
        max_length=16, help_text="dump or copy (deploy/backup), or full, diff or incr (pgBackRest)."
    )
    size = models.BigIntegerField(null=True, blank=True, help_text="In bytes, as stored.")

    class Meta:
        indexes = [models.Index(fields=["finished_at"], name="backups_by_time")]

    def __str__(self) -> str:
        return f"{self.finished_at:%Y-%m-%d %H:%M} {self.kind}"


class WorkerProcess(models.Model):
    """A process of the worker that runs. It holds tasks as long as it reports."""

    id = models.CharField("worker", primary_key=True, max_length=32)
    host = models.CharField(max_length=255)
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField(help_text="The last report, by the database's clock.")

    def __str__(self) -> str:
        return f"{self.host} since {self.started_at:%Y-%m-%d %H:%M}"


class CheckResult(models.Model):
    """The last finding of one check of `doctor` on one machine, for the metrics."""

    host = models.CharField(max_length=255)
    name = models.CharField("check", max_length=32)
    status = models.PositiveSmallIntegerField(help_text="0: ok, 1: warning, 2: error.")
    value = models.FloatField(null=True, help_text="The number behind the finding, such as the free share of a disk.")
    detail = models.CharField(max_length=1000)
    checked_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["host", "name"], name="checkresult_unique")]

    def __str__(self) -> str:
        return f"{self.name} on {self.host}"


class Export(OrgRow):
    """A list that the worker writes as a file, because it is too long for a request. It is removed after a week."""

    class Format(models.TextChoices):
        CSV = "CSV", "CSV"
        XLSX = "XLSX", "XLSX"

    class Status(models.TextChoices):
        WAITING = "WAITING", "waiting"
        RUNNING = "RUNNING", "running"
        READY = "READY", "ready"
        FAILED = "FAILED", "failed"

    id = RowIdField()
    org = owning_org()
    asked_by = models.CharField(max_length=150, help_text="The username of the only user who can download it.")
    kind = models.CharField(max_length=64, help_text="The model of the list, such as reversals.reversal.")
    filters = models.TextField(help_text="The query string of the list.")
    file_format = models.CharField(max_length=8, choices=Format, default=Format.CSV, db_default=Format.CSV)
    task = models.UUIDField(help_text="The worker's task for the export.")
    asked_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    rows = models.PositiveBigIntegerField(default=0, help_text="The number of rows in its parts.")
    status = models.CharField(max_length=16, choices=Status, default=Status.WAITING)
    notice = models.CharField(max_length=500, blank=True, help_text="Why it failed.")
    expires_at = models.DateTimeField(help_text="When the worker may remove it.")

    class Meta:
        indexes = [models.Index(fields=["org", "asked_by", "asked_at"], name="exports_by_user")]
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=["WAITING", "RUNNING", "READY", "FAILED"]), name="export_status_known"
            ),
        ]

    def __str__(self) -> str:
        return f"export of {self.kind} by {self.asked_by}"


class ExportPart(models.Model):
    """Some rows of an export. Each part begins after the last row of the one before."""

    id = RowIdField()
    export = models.ForeignKey(Export, on_delete=models.CASCADE, db_index=False, related_name="parts")
    number = models.PositiveIntegerField(help_text="1, 2, 3 and so on.")
    rows = models.PositiveIntegerField()
    last_id = models.BigIntegerField(null=True, help_text="The row id of its last row.")
    last_time = models.DateTimeField(null=True, help_text="The time of its last row, if a time orders the list.")
    size = models.PositiveIntegerField(help_text="The number of bytes before compression.")
    content = models.BinaryField(help_text="Compressed with gzip.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["export", "number"], name="export_part_once")]

    def __str__(self) -> str:
        return f"part {self.number} of export {self.export_id}"


class Seal(models.Model):
    """One seal in the hash chain over the history of all orgs. Rows are only added."""

    id = models.PositiveBigIntegerField("seal", primary_key=True, help_text="1, 2, 3 and so on, without gaps.")
    sealed_at = models.DateTimeField()
    count = models.PositiveIntegerField(help_text="The number of entries in it.")
    is_complete = models.BooleanField(help_text="Whether everything was sealed at that time.")
    hash = models.CharField(max_length=64, help_text="SHA-256 over its rows and the previous seal.")

    class Meta:
        constraints = [AppendOnly(name="seal_append_only")]

    def __str__(self) -> str:
        return f"seal {self.id}"


class SealedRow(OrgRow):
    """One entry of the history as it was when it was sealed: a row with its children. Rows are only added.

    No foreign keys, because entries must outlive the rows that they refer to, and sealing writes one for each row of
    the ledger.
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
        MERGE = "MERGE", "merge"
        COVERING = "COVERING", "covering"

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


class DayTotals(OrgRow):
    """The totals of one day's reversal requests, by answer. Counted after the day is over, then kept."""

    id = RowIdField()
    org = owning_org()
    day = models.DateField(help_text="In UTC.")
    rule = models.CharField(max_length=32, blank=True, help_text="The rule that refused. Empty: accepted.")
    count = models.PositiveIntegerField()
    points = PointsField(default=0, help_text="Points reversed, including expired points.")
    points_expired = PointsField(default=0)

    class Meta:
        verbose_name_plural = "day totals"
        constraints = [models.UniqueConstraint(fields=["org", "day", "rule"], name="day_totals_once")]

    def __str__(self) -> str:
        return f"{self.day} {self.rule or 'accepted'}"


class Event(OrgRow):
    """An event for webhooks, written in the transaction that it reports. Rows are never changed."""

    RANDOM_BITS = 10  # at the end of the id, so that two events of the same microsecond have different ids

    # Set by `event_statements`, so that ids rise with each event of a customer, on all servers and on all nodes of a
    # cluster. This is the order of delivery. Older ids are from a sequence.
    id = models.BigAutoField(primary_key=True)
    org = owning_org()
    customer = parent_of_org("loyalty.Customer", related_name="events")
    name = models.CharField(max_length=64, choices=EventName)
    event_id = models.CharField(
        max_length=36, help_text="The eventId that receivers see. Every try sends the same one."
    )
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

    @property
    def number(self) -> int:
        """The eventLogId that receivers see: below 2**53, which is exact in JavaScript. Rises as the id does."""
        return self.id if self.id < 2**53 else self.id >> self.RANDOM_BITS


class Delivery(OrgRow):
    """The delivery of one event to one webhook."""

    class Status(models.TextChoices):
        PENDING = "PENDING"
        DELIVERED = "DELIVERED"
        GIVEN_UP = "GIVEN_UP"

    id = RowIdField()
    org = owning_org()
    event = parent_of_org("reversals.Event", related_name="deliveries")
    webhook = parent_of_org("loyalty.Webhook", related_name="deliveries")
    customer = parent_of_org(
        "loyalty.Customer",
        related_name="+",
        help_text="The event's customer. Events of a customer are delivered in order.",
    )
    status = models.CharField(max_length=16, choices=Status, default=Status.PENDING)
    tries = models.PositiveIntegerField(default=0)
    due_at = models.DateTimeField(help_text="The time of the next try, if no earlier event of the customer is pending.")
    give_up_at = models.DateTimeField(help_text="A try that fails after this time is the last.")
    leased_until = models.DateTimeField(
        null=True,
        blank=True,
        help_text="A worker is sending it. If that worker fails, another one may send it from then on.",
    )
    last_status = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="The HTTP status of the last answer. Empty: no answer."
    )
    last_answer = models.CharField(max_length=500, blank=True, help_text="How the last try failed.")
    delivered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "deliveries"
        indexes = [
            # Both indexes hold pending rows only, so that millions of delivered rows do not slow the worker down.
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
