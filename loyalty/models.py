"""The ledger as it stands: orgs, programs, settings, customers, lots, redemptions and what each drew."""

from typing import Any

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Q

from loyalty.constraints import AppendOnly, SameOrg
from loyalty.emf.registry import REGISTRY
from loyalty.fields import PointsField, RowIdField
from loyalty.ledger.identifiers import IdentifierType


def parent_of_org(model: str, **options: Any) -> Any:
    """A reference to a row of the same org; the SameOrg constraint beside it is the foreign key."""
    return models.ForeignKey(model, on_delete=models.PROTECT, db_constraint=False, db_index=False, **options)


def owning_org(**options: Any) -> Any:
    """The org of a row. Every index and unique key of a table begins with it, so it needs none of its own."""
    return models.ForeignKey("loyalty.Org", on_delete=models.PROTECT, db_index=False, **options)


def owning_org_of_movement() -> Any:
    """The org of a row that each movement of points adds; no foreign key, and none to the API client either.

    To check such a key PostgreSQL locks the parent, and each call of an org would lock the same two rows. The keys over
    (org, id) to a row's customer, or to what it moves, hold the org, and `verify_ledger` looks at the clients.
    """
    return owning_org(db_constraint=False)


class Org(models.Model):
    """One brand (tenant). Every other row belongs to one org, and nothing crosses orgs."""

    id = models.PositiveBigIntegerField(
        "org id", primary_key=True, help_text="The orgId that API clients see; a positive whole number."
    )
    name = models.CharField(max_length=200)
    country = models.CharField(
        max_length=2,
        default="IN",
        validators=[RegexValidator(r"^[A-Z]{2}$", "Two capital letters, ISO 3166: IN, VN, US.")],
        help_text="Two letters (ISO 3166). Mobile numbers without a country code are read as numbers of this country.",
    )
    v2_enabled = models.BooleanField("V2 API", default=True, help_text="Without it, API calls are answered 403.")
    is_active = models.BooleanField(default=True, help_text="Without it, API calls are answered 401.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "org"
        constraints = [models.CheckConstraint(condition=Q(id__gt=0), name="org_id_positive")]

    def __str__(self) -> str:
        return f"{self.name} ({self.id})"


class Program(models.Model):
    """A loyalty program of an org."""

    id = RowIdField()
    org = owning_org()
    public_id = models.PositiveBigIntegerField(
        "program id", validators=[MinValueValidator(1)], help_text="The programId that API clients see."
    )
    name = models.CharField(max_length=200)
    is_active = models.BooleanField(default=True, help_text="Without it, reversals are answered 885.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["org", "public_id"], name="program_public_id_unique"),
            models.UniqueConstraint(fields=["org", "id"], name="program_in_org"),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.public_id})"


class EmfSetting(models.Model):
    """The stored value of one EMF setting, for an org or for one program of it."""

    id = RowIdField()
    org = owning_org()
    program = parent_of_org("loyalty.Program", null=True, blank=True, help_text="Empty: the value of the whole org.")
    key = models.CharField(max_length=64, choices=[(name, name) for name in REGISTRY])
    value = models.CharField(max_length=500)

    class Meta:
        verbose_name = "EMF setting"
        constraints = [
            models.UniqueConstraint(
                fields=["org", "key"], condition=Q(program__isnull=True), name="emf_setting_once_per_org"
            ),
            models.UniqueConstraint(
                fields=["org", "program", "key"],
                condition=Q(program__isnull=False),
                name="emf_setting_once_per_program",
            ),
            SameOrg(field="program", name="emf_setting_program_of_org"),
        ]

    def __str__(self) -> str:
        return f"{self.key} = {self.value}"


class EmfChange(models.Model):
    """One change of an EMF setting, kept for ever: who, when, old and new value, ticket and reason."""

    id = RowIdField()
    org = owning_org()
    program = parent_of_org("loyalty.Program", null=True, blank=True)
    key = models.CharField(max_length=64)
    old_value = models.CharField(max_length=500, blank=True, help_text="Empty: it was not set.")
    new_value = models.CharField(max_length=500, blank=True, help_text="Empty: it is no longer set.")
    ticket = models.CharField(max_length=100)
    reason = models.CharField(max_length=500)
    changed_by = models.CharField(max_length=150)
    changed_at = models.DateTimeField()
    request_id = models.CharField(
        max_length=32, blank=True, default="", help_text="The X-CAP-REQUEST-ID of the page; - for a command."
    )

    class Meta:
        verbose_name = "EMF change"
        indexes = [models.Index(fields=["org", "changed_at"], name="emf_change_by_time")]
        constraints = [
            SameOrg(field="program", name="emf_change_program_of_org"),
            models.CheckConstraint(condition=~Q(ticket="") & ~Q(reason=""), name="emf_change_says_why"),
            AppendOnly(name="emf_change_append_only", erasable=("reason",)),
        ]

    def __str__(self) -> str:
        return f"{self.key}: {self.old_value or 'not set'} to {self.new_value or 'not set'}"


class OrgAccess(models.Model):
    """That a member of staff may work on an org. A superuser may on every org."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="org_accesses")
    org = models.ForeignKey(Org, on_delete=models.CASCADE, related_name="accesses")

    class Meta:
        verbose_name = "access to an org"
        verbose_name_plural = "accesses to orgs"
        constraints = [models.UniqueConstraint(fields=["user", "org"], name="org_access_once")]

    def __str__(self) -> str:
        return f"{self.user_id} on {self.org_id}"


class OrgMove(models.Model):
    """One step of an org's way between cells, as this one saw it: the last says where the org is. Only ever added."""

    class Step(models.TextChoices):
        CLOSED = "CLOSED", "closed to leave"
        REOPENED = "REOPENED", "opened again"
        ARRIVED = "ARRIVED", "arrived"

    id = RowIdField()
    org = owning_org()
    step = models.CharField(max_length=16, choices=Step)
    host = models.CharField(max_length=253, blank=True, help_text="The host of the cell to which it leaves.")
    manifest = models.CharField(max_length=64, blank=True, help_text="SHA-256 of the manifest with which it arrived.")
    made_by = models.CharField(max_length=150)
    made_at = models.DateTimeField()

    class Meta:
        constraints = [AppendOnly(name="org_move_append_only")]

    def __str__(self) -> str:
        return f"{self.get_step_display()} {self.made_at:%Y-%m-%d %H:%M}"


class ReasonCode(models.Model):
    """Why points are given back by hand, as the org wants it counted."""

    id = RowIdField()
    org = owning_org()
    code = models.CharField(
        max_length=32,
        validators=[RegexValidator(r"^[A-Z][A-Z0-9_]*$", "Capital letters, digits and _: GOODS_RETURNED.")],
        help_text="Capital letters, digits and _: GOODS_RETURNED.",
    )
    meaning = models.CharField(max_length=200)
    is_active = models.BooleanField(default=True, help_text="Without it, the code cannot be chosen any more.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["org", "code"], name="reason_code_unique")]

    def __str__(self) -> str:
        return f"{self.code}: {self.meaning}"


class StaffChange(models.Model):
    """One change that a person made, kept for ever: who, when, what it was before and after, and why."""

    id = RowIdField()
    org = models.ForeignKey(
        Org, on_delete=models.PROTECT, db_index=False, null=True, blank=True, help_text="Empty: of no one org."
    )
    subject = models.CharField(max_length=64, help_text="The kind of thing changed: loyalty.customer.")
    subject_id = models.CharField(max_length=64, help_text="Its row id.")
    subject_name = models.CharField(max_length=200)
    action = models.CharField(max_length=64, help_text="What was done: added, changed, locked.")
    before = models.JSONField(help_text="The changed fields as they were.")
    after = models.JSONField(help_text="The changed fields as they became.")
    reason = models.CharField(max_length=500)
    made_by = models.CharField(max_length=150)
    made_at = models.DateTimeField()
    request_id = models.CharField(max_length=32, blank=True, help_text="The X-CAP-REQUEST-ID of the page.")

    class Meta:
        indexes = [
            models.Index(fields=["subject", "subject_id", "made_at"], name="staff_changes_of_subject"),
            models.Index(fields=["org", "made_at"], name="staff_changes_by_time"),
        ]
        constraints = [AppendOnly(name="staff_change_append_only", erasable=("before", "after", "reason"))]

    def __str__(self) -> str:
        return f"{self.subject_name}: {self.action}"


class ApiClient(models.Model):
    """A till or back end that may call the API for its org."""

    id = RowIdField()
    org = owning_org()
    username = models.CharField(max_length=150)
    is_active = models.BooleanField(default=True, help_text="Without it, the client is revoked: calls answer 401.")
    calls_per_minute = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MaxValueValidator(999_999_999)],
        help_text="More are answered 429; 0 is no limit. Empty: as many as clients have by default.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "API client"
        indexes = [models.Index(fields=["username"], name="api_client_by_username")]
        constraints = [
            models.UniqueConstraint(fields=["org", "username"], name="api_client_username_unique"),
            models.UniqueConstraint(fields=["org", "id"], name="api_client_in_org"),
        ]

    def __str__(self) -> str:
        return self.username


class ApiSecret(models.Model):
    """One secret of an API client, as keyed hashes; two may be live at once, for rotation."""

    id = RowIdField()
    org = owning_org()
    client = parent_of_org("loyalty.ApiClient", related_name="secrets")
    digest = models.CharField(max_length=64, help_text="Keyed hash of the secret.")
    md5_digest = models.CharField(max_length=64, help_text="Keyed hash of the secret's MD5, which some clients send.")
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True, help_text="To the hour; empty: never.")

    class Meta:
        verbose_name = "API secret"
        constraints = [
            models.UniqueConstraint(fields=["org", "client", "digest"], name="api_secret_once_per_client"),
            SameOrg(field="client", name="api_secret_client_of_org"),
        ]

    def __str__(self) -> str:
        return f"secret of {self.client_id} since {self.created_at:%Y-%m-%d}"


class Tally(models.Model):
    """How often one thing happened in one minute, counted over all workers and machines; kept for a day."""

    minute = models.BigIntegerField(help_text="Minutes since 1970.")
    key = models.CharField(max_length=64, help_text="Keyed hash of what is counted.")
    count = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["minute", "key"], name="tally_once_a_minute")]

    def __str__(self) -> str:
        return f"{self.count} in minute {self.minute}"


class EventName(models.TextChoices):
    """What a webhook can be told of, by the names that the published API uses."""

    POINTS_REDEEMED = "pointsRedeemed", "points redeemed"
    POINTS_REVERSED = "redeemedPointsReversed", "redeemed points reversed"


class Webhook(models.Model):
    """An address of an org to which its events are delivered."""

    id = RowIdField()
    org = owning_org()
    name = models.CharField(max_length=100)
    url = models.CharField("URL", max_length=500, help_text="https://host/path; redirects are not followed.")
    event_names = models.CharField("events", max_length=200, help_text="Names of events, with commas.")
    is_active = models.BooleanField(
        default=True, help_text="While off, what is pending waits, and events that happen are not kept for it."
    )
    disabled_at = models.DateTimeField(null=True, blank=True)
    disabled_reason = models.CharField(max_length=200, blank=True, help_text="Empty: not disabled by the receiver.")
    unreachable_count = models.PositiveIntegerField(
        default=0, help_text="How often in a row the receiver could not be reached."
    )
    rests_until = models.DateTimeField(
        null=True, blank=True, help_text="Until when nothing is sent, because the receiver could not be reached."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["org", "name"], name="webhook_name_unique"),
            models.UniqueConstraint(fields=["org", "id"], name="webhook_in_org"),
        ]

    def __str__(self) -> str:
        return self.name

    def wants(self, event_name: str) -> bool:
        return event_name in self.event_names.split(",")


class Customer(models.Model):
    """A member. The row's lock is the lock of all points that are theirs: who moves points takes it first."""

    class Status(models.TextChoices):
        ACTIVE = "ACTIVE"
        FRAUD = "FRAUD"
        DEACTIVATED = "DEACTIVATED"
        MERGED = "MERGED"

    id = RowIdField()
    org = owning_org()
    public_id = models.PositiveBigIntegerField("customer id", help_text="The customerId that API clients see.")
    status = models.CharField(max_length=16, choices=Status, default=Status.ACTIVE)
    reversals_locked = models.BooleanField(default=False, help_text="While on, reversals are answered 904.")
    reversals_locked_until = models.DateTimeField(
        null=True, blank=True, help_text="When the lock ends by itself; empty: only by hand."
    )
    reversals_lock_reason = models.CharField(
        max_length=500, blank=True, help_text="Why; seen by staff only, never by API clients."
    )
    erased_at = models.DateTimeField(
        null=True, blank=True, help_text="When their identifiers were erased; empty: they were not."
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["org", "public_id"], name="customer_public_id_unique"),
            models.UniqueConstraint(fields=["org", "id"], name="customer_in_org"),
            models.CheckConstraint(
                condition=Q(status__in=["ACTIVE", "FRAUD", "DEACTIVATED", "MERGED"]), name="customer_status_known"
            ),
        ]
        permissions = [
            ("lock_reversals", "Can lock and unlock reversals of a customer"),
            ("see_identifiers", "Can see identifiers of customers unmasked"),
        ]

    def __str__(self) -> str:
        return str(self.public_id)


class CustomerIdentifier(models.Model):
    """One way to name a customer besides the customer id, in the form that `identify` makes."""

    id = RowIdField()
    org = owning_org()
    customer = parent_of_org("loyalty.Customer", related_name="identifiers")
    type = models.CharField(
        max_length=16, choices=[(kind.value, kind.value) for kind in IdentifierType if kind != IdentifierType.ID]
    )
    value = models.CharField(max_length=255)

    class Meta:
        indexes = [models.Index(fields=["org", "customer"], name="identifiers_of_customer")]
        constraints = [
            models.UniqueConstraint(fields=["org", "type", "value"], name="identifier_names_one_customer"),
            SameOrg(field="customer", name="identifier_customer_of_org"),
        ]

    def __str__(self) -> str:
        return f"{self.type} of {self.customer_id}"


class CustomerGroup(models.Model):
    """Customers whose points each of them may redeem, where the org allows it."""

    id = RowIdField()
    org = owning_org()
    public_id = models.PositiveBigIntegerField(
        "group id", validators=[MinValueValidator(1)], help_text="The group's number in the org's own systems."
    )
    name = models.CharField(max_length=200, blank=True)
    is_active = models.BooleanField(default=True, help_text="Without it, members redeem their own points only.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["org", "public_id"], name="group_public_id_unique"),
            models.UniqueConstraint(fields=["org", "id"], name="group_in_org"),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.public_id})" if self.name else str(self.public_id)


class GroupMember(models.Model):
    """A customer's time in a group. Who leaves keeps their own points, and gets back what was drawn from them."""

    id = RowIdField()
    org = owning_org()
    group = parent_of_org("loyalty.CustomerGroup", related_name="members")
    customer = parent_of_org("loyalty.Customer", related_name="memberships")
    joined_at = models.DateTimeField()
    left_at = models.DateTimeField(null=True, blank=True, help_text="Empty: still a member.")

    class Meta:
        indexes = [models.Index(fields=["org", "group"], name="members_of_group")]
        constraints = [
            models.UniqueConstraint(
                fields=["org", "customer"], condition=Q(left_at__isnull=True), name="member_of_one_group"
            ),
            models.CheckConstraint(
                condition=Q(left_at__isnull=True) | Q(left_at__gte=F("joined_at")), name="member_left_after_joining"
            ),
            SameOrg(field="group", name="member_group_of_org"),
            SameOrg(field="customer", name="member_customer_of_org"),
        ]

    def __str__(self) -> str:
        return f"{self.customer_id} in {self.group_id}"


class LedgerImport(models.Model):
    """One import that added lots or redemptions to an org, and what it added. Only ever added.

    Every lot names the import that it came with, except re-issued ones. So a lot that no import brought is found.
    """

    id = RowIdField()
    org = owning_org()
    imported_at = models.DateTimeField()
    made_by = models.CharField(max_length=150, help_text="Who ran the import.")
    lots_added = models.PositiveBigIntegerField(default=0)
    points_awarded = PointsField(default=0, help_text="The points of its lots.")
    redemptions_added = models.PositiveBigIntegerField(default=0)
    points_redeemed = PointsField(default=0, help_text="The points of its redemptions.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["org", "id"], name="ledger_import_in_org"),
            models.CheckConstraint(
                condition=Q(lots_added__gt=0, points_awarded__gt=0) | Q(lots_added=0, points_awarded=0),
                name="ledger_import_points_of_lots",
            ),
            models.CheckConstraint(
                condition=Q(redemptions_added__gt=0, points_redeemed__gt=0) | Q(redemptions_added=0, points_redeemed=0),
                name="ledger_import_points_of_redemptions",
            ),
            AppendOnly(name="ledger_import_append_only"),
        ]

    def __str__(self) -> str:
        return f"import of {self.imported_at:%Y-%m-%d %H:%M}"


def import_it_came_with(related_name: str) -> Any:
    """The import of a lot or redemption; empty where the row did not come from a file."""
    return parent_of_org("loyalty.LedgerImport", null=True, blank=True, related_name=related_name)


class Lot(models.Model):
    """Points awarded at once, with one expiry."""

    id = RowIdField()
    org = owning_org_of_movement()
    program = parent_of_org("loyalty.Program")
    customer = parent_of_org("loyalty.Customer", related_name="lots")
    lot_ref = models.CharField(max_length=64, help_text="The lot's name in the system it came from.")
    points_awarded = PointsField()
    points_remaining = PointsField(help_text="Points that can be drawn, or that expired before they were.")
    points_reissued = PointsField(
        default=0,
        db_default=0,
        help_text="Points that left this lot for good: they live in another lot, to which a re-issue moved them.",
    )
    awarded_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: never.")
    is_reissue = models.BooleanField(
        default=False,
        db_default=False,
        help_text="Awarded by a reversal. Points are re-issued once, so those of this lot are not again.",
    )
    ledger_import = import_it_came_with("lots")

    class Meta:
        indexes = [models.Index(fields=["org", "customer", "expires_at"], name="lots_of_customer")]
        constraints = [
            models.UniqueConstraint(fields=["org", "lot_ref"], name="lot_ref_unique"),
            models.UniqueConstraint(fields=["org", "id"], name="lot_in_org"),
            models.CheckConstraint(condition=Q(points_awarded__gt=0), name="lot_awarded_positive"),
            models.CheckConstraint(
                condition=Q(points_remaining__gte=0) & Q(points_remaining__lte=F("points_awarded")),
                name="lot_remaining_within_awarded",
            ),
            models.CheckConstraint(
                condition=Q(points_reissued__gte=0)
                & Q(points_reissued__lte=F("points_awarded") - F("points_remaining")),
                name="lot_reissued_within_awarded",
            ),
            SameOrg(field="program", name="lot_program_of_org"),
            SameOrg(field="customer", name="lot_customer_of_org"),
            SameOrg(field="ledger_import", name="lot_ledger_import_of_org"),
        ]

    def __str__(self) -> str:
        return self.lot_ref


class Redemption(models.Model):
    """Points spent in one transaction."""

    id = RowIdField()
    org = owning_org_of_movement()
    program = parent_of_org("loyalty.Program")
    customer = parent_of_org("loyalty.Customer", related_name="redemptions")
    public_id = models.CharField("redemption id", max_length=64, help_text="The redemptionId that API clients see.")
    points = PointsField()
    points_reversed = PointsField(default=0, help_text="What reversals have given back so far.")
    redeemed_at = models.DateTimeField()
    transaction_number = models.CharField(max_length=128, blank=True)
    external_reference_number = models.CharField(max_length=128, null=True, blank=True)
    ledger_import = import_it_came_with("redemptions")

    class Meta:
        indexes = [
            models.Index(fields=["org", "customer", "redeemed_at"], name="redemptions_of_customer"),
            models.Index(fields=["org", "transaction_number"], name="redemptions_by_transaction"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["org", "public_id"], name="redemption_public_id_unique"),
            models.UniqueConstraint(
                fields=["org", "external_reference_number"], name="redemption_external_reference_unique"
            ),
            models.UniqueConstraint(fields=["org", "id"], name="redemption_in_org"),
            models.CheckConstraint(condition=Q(points__gt=0), name="redemption_points_positive"),
            models.CheckConstraint(
                condition=Q(points_reversed__gte=0) & Q(points_reversed__lte=F("points")),
                name="redemption_reversed_within_points",
            ),
            SameOrg(field="program", name="redemption_program_of_org"),
            SameOrg(field="customer", name="redemption_customer_of_org"),
            SameOrg(field="ledger_import", name="redemption_ledger_import_of_org"),
        ]

    def __str__(self) -> str:
        return self.public_id


class Draw(models.Model):
    """The points that one redemption took from one lot, with their place in the drawing order."""

    id = RowIdField()
    org = owning_org_of_movement()
    redemption = parent_of_org("loyalty.Redemption", related_name="draws")
    lot = parent_of_org(
        "loyalty.Lot", null=True, blank=True, related_name="draws", help_text="Empty: points that no lot covered."
    )
    position = models.PositiveIntegerField(help_text="1 was drawn first and is given back last.")
    points = PointsField()
    points_reversed = PointsField(default=0, help_text="What reversals have given back so far.")

    class Meta:
        indexes = [models.Index(fields=["org", "lot"], name="draws_of_lot")]
        constraints = [
            models.UniqueConstraint(fields=["org", "redemption", "position"], name="draw_position_unique"),
            models.UniqueConstraint(fields=["org", "redemption", "lot"], name="draw_once_per_lot"),
            models.UniqueConstraint(fields=["org", "id"], name="draw_in_org"),
            models.CheckConstraint(condition=Q(points__gt=0), name="draw_points_positive"),
            models.CheckConstraint(
                condition=Q(points_reversed__gte=0) & Q(points_reversed__lte=F("points")),
                name="draw_reversed_within_points",
            ),
            SameOrg(field="redemption", name="draw_redemption_of_org"),
            SameOrg(field="lot", name="draw_lot_of_org"),
        ]

    def __str__(self) -> str:
        return f"draw {self.position} of {self.redemption_id}"
