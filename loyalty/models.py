"""Models of the ledger: orgs, programs, settings, customers, lots, redemptions and their draws."""

from typing import Any
from zoneinfo import available_timezones

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from loyalty.constraints import AppendOnly, SameOrg
from loyalty.emf.registry import REGISTRY
from loyalty.fields import OrgForeignKey, PointsField, RowIdField
from loyalty.ledger.canonical import LARGEST_EXACT_NUMBER
from loyalty.ledger.distribution import is_distributed
from loyalty.ledger.identifiers import IdentifierType


def parent_of_org(model: str, **options: Any) -> Any:
    """A reference to a row of the same org. The model's SameOrg constraint is its foreign key in the database."""
    return OrgForeignKey(model, on_delete=models.PROTECT, db_constraint=False, db_index=False, **options)


def owning_org(**options: Any) -> Any:
    """The org of a row. It needs no index, because every index and unique key of the table begins with it."""
    return models.ForeignKey("loyalty.Org", on_delete=models.PROTECT, db_index=False, **options)


def owning_org_of_movement() -> Any:
    """The org of a row that a movement of points adds, without a foreign key.

    PostgreSQL locks the parent row to check a foreign key, so all calls of an org would lock the same row of `Org`.
    For the same reason, these rows have no foreign key to the API client. The foreign keys over (org, id) to the
    customer, lot or redemption ensure that the org exists. `verify_ledger` checks the API clients.
    """
    return owning_org(db_constraint=False)


# A larger number would reach an API client as another number, because JavaScript reads it as a float.
EXACT_NUMBER = MaxValueValidator(LARGEST_EXACT_NUMBER)


def known_time_zone(name: str) -> None:
    """Raises ValidationError for a name that is not in the database of time zones."""
    if name not in available_timezones():
        raise ValidationError(f"{name} is not a time zone, such as UTC, Asia/Kolkata or Europe/Berlin.")


class OrgRow(models.Model):
    """A row of an org. On a Citus cluster, save() names the org and never sets it, so that one shard is asked."""

    org_id: Any

    class Meta:
        abstract = True

    def _do_update(self, base_qs: Any, using: Any, pk_val: Any, values: Any, *args: Any) -> Any:
        if is_distributed():
            base_qs = base_qs.filter(org_id=self.org_id)
            values = [value for value in values if value[0].name != "org"]
        return super()._do_update(base_qs, using, pk_val, values, *args)


class Org(models.Model):
    """A business that runs loyalty programs. Every other row belongs to one org and refers to rows of that org only."""

    id = models.PositiveBigIntegerField(
        "org id",
        primary_key=True,
        validators=[EXACT_NUMBER],
        help_text="The orgId in the API: a positive whole number.",
    )
    name = models.CharField(max_length=200)
    country = models.CharField(
        max_length=2,
        default="IN",
        validators=[RegexValidator(r"^[A-Z]{2}$", "Two capital letters (ISO 3166), such as IN, VN or US.")],
        help_text="Two letters (ISO 3166). A mobile number without a country code is read as a number of this country.",
    )
    time_zone = models.CharField(
        max_length=64,
        default="UTC",
        db_default="UTC",
        validators=[known_time_zone],
        help_text="Lists show times and read days in this time zone, such as Asia/Kolkata.",
    )
    v2_enabled = models.BooleanField("V2 API", default=True, help_text="While off, API calls are refused with 403.")
    is_active = models.BooleanField(default=True, help_text="While off, API calls are refused with 401.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "org"
        constraints = [models.CheckConstraint(condition=Q(id__gt=0), name="org_id_positive")]

    def __str__(self) -> str:
        return f"{self.name} ({self.id})"


class Program(OrgRow):
    """A loyalty program of an org."""

    id = RowIdField()
    org = owning_org()
    public_id = models.PositiveBigIntegerField(
        "program id", validators=[MinValueValidator(1), EXACT_NUMBER], help_text="The programId in the API."
    )
    name = models.CharField(max_length=200)
    is_active = models.BooleanField(
        default=True, help_text="While off, reversals and redemptions of this program are refused with code 885."
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["org", "public_id"], name="program_public_id_unique"),
            models.UniqueConstraint(fields=["org", "id"], name="program_in_org"),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.public_id})"


class EmfSetting(OrgRow):
    """The stored value of one EMF setting, for an org or for one of its programs."""

    id = RowIdField()
    org = owning_org()
    program = parent_of_org("loyalty.Program", null=True, blank=True, help_text="Empty: for the whole org.")
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


class EmfChange(OrgRow):
    """One change of an EMF setting: user, time, old and new value, ticket and reason. Kept forever."""

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
        max_length=32, blank=True, default="", help_text="The page's X-CAP-REQUEST-ID, or - for a command."
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
    """A user's access to an org. Superusers need no such row, because they can work on every org."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="org_accesses")
    org = models.ForeignKey(Org, on_delete=models.CASCADE, related_name="accesses")

    class Meta:
        verbose_name = "org access"
        verbose_name_plural = "org accesses"
        constraints = [models.UniqueConstraint(fields=["user", "org"], name="org_access_once")]

    def __str__(self) -> str:
        return f"{self.user_id} on {self.org_id}"


class ChosenOrg(models.Model):
    """The org that a user chose last in the header of a page. The lists show it from the next sign-in on, too."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="chosen_org"
    )
    org = models.ForeignKey(Org, on_delete=models.CASCADE, related_name="chosen_by")
    shows_all = models.BooleanField(
        default=False, db_default=False, help_text="Whether pages that can show several orgs show all of them."
    )

    def __str__(self) -> str:
        return f"{self.org_id} of user {self.user_id}"


class SavedView(OrgRow):
    """The filters, order and columns of a list that a user saved under a name, for themselves or for all of the org.

    Without a name: the columns that the user chose for the list.
    """

    id = RowIdField()
    org = owning_org()
    kind = models.CharField(max_length=64, help_text="The model of the list, such as reversals.reversal.")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="saved_views")
    name = models.CharField(max_length=60, blank=True)
    query = models.TextField(blank=True, help_text="The query string of the list.")
    is_shared = models.BooleanField(default=False, help_text="Whether other users of the org see it.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["org", "kind", "user", "name"], name="saved_view_name_unique")]

    def __str__(self) -> str:
        return self.name


class Maintenance(models.Model):
    """One switch of maintenance. The last one says whether it is on. Append-only."""

    id = models.BigAutoField(primary_key=True)
    is_on = models.BooleanField()
    reason = models.CharField(max_length=500, blank=True)
    made_by = models.CharField(max_length=150)
    made_at = models.DateTimeField()
    request_id = models.CharField(max_length=32, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(is_on=False) | ~Q(reason=""), name="maintenance_says_why"),
            AppendOnly(name="maintenance_append_only"),
        ]

    def __str__(self) -> str:
        return f"maintenance {'on' if self.is_on else 'off'} {self.made_at:%Y-%m-%d %H:%M}"


class ReasonCode(OrgRow):
    """A reason for manual reversals or for corrections. Each org has its own two lists, and reports count by them."""

    class Operation(models.TextChoices):
        REVERSE = "REVERSE", "reversals"
        CORRECT = "CORRECT", "corrections"

    # The code that says nothing without a note.
    OTHER = "OTHER"

    id = RowIdField()
    org = owning_org()
    operation = models.CharField(
        "for",
        max_length=16,
        choices=Operation,
        default=Operation.REVERSE,
        db_default=Operation.REVERSE,
        help_text="Which form offers the code.",
    )
    code = models.CharField(
        max_length=32,
        validators=[RegexValidator(r"^[A-Z][A-Z0-9_]*$", "Capital letters, digits and _: GOODS_RETURNED.")],
        help_text="Capital letters, digits and _: GOODS_RETURNED.",
    )
    meaning = models.CharField(max_length=200)
    is_active = models.BooleanField(default=True, help_text="While off, the code cannot be selected.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["org", "operation", "code"], name="reason_code_once_per_list")]

    def __str__(self) -> str:
        return f"{self.code}: {self.meaning}"


class StaffChange(models.Model):
    """One change made by a user: who, when, the values before and after, and the reason. Kept forever."""

    id = RowIdField()
    org = models.ForeignKey(
        Org, on_delete=models.PROTECT, db_index=False, null=True, blank=True, help_text="Empty: not of one org."
    )
    subject = models.CharField(max_length=64, help_text="The model of the changed row: loyalty.customer.")
    subject_id = models.CharField(max_length=64, help_text="The changed row's id.")
    subject_name = models.CharField(max_length=200)
    action = models.CharField(max_length=64, help_text="What the user did: added, changed, locked.")
    before = models.JSONField(help_text="The changed fields before the change.")
    after = models.JSONField(help_text="The changed fields after the change.")
    reason = models.CharField(max_length=500)
    made_by = models.CharField(max_length=150)
    made_at = models.DateTimeField()
    request_id = models.CharField(max_length=32, blank=True, help_text="The page's X-CAP-REQUEST-ID.")

    class Meta:
        indexes = [
            models.Index(fields=["subject", "subject_id", "made_at"], name="staff_changes_of_subject"),
            models.Index(fields=["org", "made_at"], name="staff_changes_by_time"),
        ]
        constraints = [AppendOnly(name="staff_change_append_only", erasable=("before", "after", "reason"))]

    def __str__(self) -> str:
        return f"{self.subject_name}: {self.action}"


class HeldChange(OrgRow):
    """A change that waits for a second user, because the org has an approval limit: what, why, and the decision."""

    class Kind(models.TextChoices):
        LIMIT = "LIMIT", "approval limit"
        CLIENT = "CLIENT", "new API client"
        SECRET = "SECRET", "secret of an API client"
        REINSTATE = "REINSTATE", "reinstated API client"

    class Status(models.TextChoices):
        WAITING = "WAITING"  # also after it lapsed: lapsing does not change the status
        CONFIRMED = "CONFIRMED"
        REJECTED = "REJECTED"

    id = RowIdField()
    org = owning_org()
    kind = models.CharField(max_length=16, choices=Kind)
    details = models.JSONField(help_text="What the change needs: the setting and its value, or the API client.")
    reason = models.CharField(max_length=500)
    asked_by = models.CharField("requested by", max_length=150)
    asked_at = models.DateTimeField("requested at")
    lapses_at = models.DateTimeField(help_text="The change cannot be confirmed from then on.")
    status = models.CharField(max_length=16, choices=Status, default=Status.WAITING)
    decided_by = models.CharField(max_length=150, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    comment = models.CharField(max_length=500, blank=True)

    class Meta:
        verbose_name, verbose_name_plural = "change to confirm", "changes to confirm"
        indexes = [models.Index(fields=["org", "status", "asked_at"], name="held_changes_by_status")]
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=["WAITING", "CONFIRMED", "REJECTED"]), name="held_change_status_known"
            ),
            models.CheckConstraint(condition=~Q(decided_by=F("asked_by")), name="held_change_by_another_user"),
            models.CheckConstraint(
                condition=Q(status="WAITING", decided_by="", decided_at__isnull=True)
                | (~Q(status="WAITING") & ~Q(decided_by="") & Q(decided_at__isnull=False)),
                name="held_change_says_who_decided",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} requested by {self.asked_by}"

    @property
    def words(self) -> str:
        """What would change."""
        details = self.details
        if self.kind != self.Kind.LIMIT:
            return f"{self.get_kind_display()}: {details['username']}"
        where = f"program {details['program']}" if details["program"] else "the org"
        name = REGISTRY[details["key"]].label if details["key"] in REGISTRY else details["key"]
        return f"{name} for {where}: {details['value'] or 'not set'}"


class ApiClient(OrgRow):
    """The credentials with which a till or back end calls the API for its org."""

    id = RowIdField()
    org = owning_org()
    username = models.CharField(max_length=150)
    is_active = models.BooleanField(
        default=True, help_text="While off, the client is revoked: its calls are refused with 401."
    )
    calls_per_minute = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MaxValueValidator(999_999_999)],
        help_text="Further calls in a minute are refused with 429. 0: no limit. Empty: the default limit.",
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


class ApiSecret(OrgRow):
    """One secret of an API client, stored as keyed hashes. A client can have two, so that secrets can be rotated."""

    id = RowIdField()
    org = owning_org()
    client = parent_of_org("loyalty.ApiClient", related_name="secrets")
    digest = models.CharField(max_length=64, help_text="Keyed hash of the secret.")
    md5_digest = models.CharField(max_length=64, help_text="Keyed hash of the secret's MD5, which some clients send.")
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True, help_text="Exact to the hour. Empty: never used.")
    pepper = models.CharField(
        max_length=16,
        blank=True,
        default="",
        db_default="",
        help_text="Names the API_PEPPER of the hashes. Empty: not known.",
    )
    hashed_at = models.DateTimeField(
        null=True, blank=True, help_text="When it was hashed anew with another API_PEPPER. Empty: never."
    )
    label = models.CharField(
        max_length=100, blank=True, default="", db_default="", help_text="What staff call it, such as its till."
    )
    fingerprint = models.CharField(
        max_length=8,
        blank=True,
        default="",
        db_default="",
        help_text="Tells secrets apart. The page that shows the secret shows it too. Empty: not known.",
    )
    last_used_from = models.GenericIPAddressField(
        null=True, blank=True, help_text="The client address of the recorded use. Empty: not known."
    )

    class Meta:
        verbose_name = "API secret"
        constraints = [
            models.UniqueConstraint(fields=["org", "client", "digest"], name="api_secret_once_per_client"),
            SameOrg(field="client", name="api_secret_client_of_org"),
        ]

    def __str__(self) -> str:
        return f"secret of {self.client_id} since {self.created_at:%Y-%m-%d}"


class Tally(models.Model):
    """A count of one kind of call within one minute, over all workers and machines. Kept for 1 day."""

    minute = models.BigIntegerField(help_text="Minutes since 1970.")
    key = models.CharField(max_length=64, help_text="Keyed hash of what is counted.")
    count = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["minute", "key"], name="tally_once_a_minute")]

    def __str__(self) -> str:
        return f"{self.count} in minute {self.minute}"


class EventName(models.TextChoices):
    """The events that a webhook can receive, by their names in the published API."""

    POINTS_REDEEMED = "pointsRedeemed", "points redeemed"
    POINTS_REVERSED = "redeemedPointsReversed", "redeemed points reversed"
    CUSTOMERS_MERGED = "customersMerged", "customers merged"


class Webhook(OrgRow):
    """A URL to which an org's events are delivered."""

    class RestReason(models.TextChoices):
        UNREACHABLE = "UNREACHABLE", "the receiver gave no answer"
        SLOW = "SLOW", "the receiver answers slowly"
        FAILING = "FAILING", "the receiver answers with errors"

    id = RowIdField()
    org = owning_org()
    name = models.CharField(max_length=100)
    url = models.CharField("URL", max_length=500, help_text="https://host/path. Redirects are not followed.")
    event_names = models.CharField("events", max_length=200, help_text="Names of events, separated by commas.")
    is_active = models.BooleanField(
        default=True, help_text="While off, pending deliveries wait, and new events are not queued for this webhook."
    )
    disabled_at = models.DateTimeField(null=True, blank=True)
    disabled_reason = models.CharField(max_length=200, blank=True, help_text="Empty: the receiver did not disable it.")
    # The column's name is older than the count of slow answers and errors.
    failure_count = models.PositiveIntegerField(
        default=0,
        db_column="unreachable_count",
        help_text="Number of consecutive missing answers, slow answers and errors. A good answer sets it to 0.",
    )
    rests_until = models.DateTimeField(
        null=True, blank=True, help_text="Deliveries wait until this time, because of the rest reason."
    )
    rest_reason = models.CharField(
        max_length=16, choices=RestReason, blank=True, default="", db_default="", help_text="Why deliveries wait."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    secret_version = models.PositiveIntegerField(default=1, db_default=1, editable=False)
    former_secret_version = models.PositiveIntegerField(
        null=True, blank=True, editable=False, help_text="Events are signed with this secret too. Empty: with one only."
    )
    pepper = models.CharField(
        max_length=16,
        blank=True,
        default="",
        db_default="",
        editable=False,
        help_text="Names the API_PEPPER without whose former values events are signed. Empty: they sign too.",
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["org", "name"], name="webhook_name_unique"),
            models.UniqueConstraint(fields=["org", "id"], name="webhook_in_org"),
        ]

    def __str__(self) -> str:
        return self.name

    def wants(self, event_name: str) -> bool:
        return event_name in self.event_names.split(",")

    def rest(self) -> str:
        """Returns until when and why deliveries wait; empty if they do not."""
        if self.rests_until is None or self.rests_until <= timezone.now():
            return ""
        return f"until {self.rests_until:%Y-%m-%d %H:%M:%S} UTC, because {self.get_rest_reason_display()}"


class Customer(OrgRow):
    """A member of the loyalty program. Every movement of a customer's points locks the customer's row first."""

    class Status(models.TextChoices):
        ACTIVE = "ACTIVE"
        FRAUD = "FRAUD"
        DEACTIVATED = "DEACTIVATED"
        MERGED = "MERGED"

    id = RowIdField()
    org = owning_org()
    public_id = models.PositiveBigIntegerField(
        "customer id", validators=[EXACT_NUMBER], help_text="The customerId in the API."
    )
    status = models.CharField(max_length=16, choices=Status, default=Status.ACTIVE)
    reversals_locked = models.BooleanField(default=False, help_text="While on, reversals are refused with code 904.")
    reversals_locked_until = models.DateTimeField(
        null=True, blank=True, help_text="When the lock ends. Empty: until a user unlocks them."
    )
    reversals_lock_reason = models.CharField(
        max_length=500, blank=True, help_text="Why reversals are locked. Staff see this; API clients do not."
    )
    erased_at = models.DateTimeField(
        null=True, blank=True, help_text="When the customer's identifiers were erased. Empty: they were not erased."
    )
    merged_into = parent_of_org(
        "self",
        null=True,
        blank=True,
        related_name="merged_customers",
        help_text="The customer who has this customer's points and redemptions now. Empty: not merged, or unknown.",
    )

    class Meta:
        indexes = [
            models.Index(
                fields=["org", "merged_into"], condition=Q(merged_into__isnull=False), name="customers_merged_into"
            )
        ]
        constraints = [
            models.UniqueConstraint(fields=["org", "public_id"], name="customer_public_id_unique"),
            models.UniqueConstraint(fields=["org", "id"], name="customer_in_org"),
            models.CheckConstraint(
                condition=Q(status__in=["ACTIVE", "FRAUD", "DEACTIVATED", "MERGED"]), name="customer_status_known"
            ),
            models.CheckConstraint(
                condition=Q(merged_into__isnull=True) | Q(status="MERGED") & ~Q(merged_into=F("id")),
                name="customer_merged_into_another",
            ),
            SameOrg(field="merged_into", name="customer_merged_into_of_org"),
        ]
        permissions = [
            ("lock_reversals", "Can lock and unlock reversals of a customer"),
            ("see_identifiers", "Can see identifiers of customers unmasked"),
            ("merge_customers", "Can merge customers"),
            ("lift_status", "Can change the status of a customer from fraud or deactivated"),
        ]

    def __str__(self) -> str:
        return str(self.public_id)


class CustomerMerge(OrgRow):
    """One merge of two customers: all that `source` had belongs to `target` from then on. Append-only."""

    id = RowIdField()
    org = owning_org()
    source = parent_of_org("loyalty.Customer", related_name="+", help_text="The customer who was merged.")
    target = parent_of_org("loyalty.Customer", related_name="+", help_text="The customer who got everything.")
    ticket = models.CharField(max_length=100)
    reason = models.CharField(max_length=500)
    made_by = models.CharField(max_length=150)
    made_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["org", "target"], name="merges_by_target")]
        constraints = [
            models.UniqueConstraint(fields=["org", "source"], name="customer_merged_once"),
            models.CheckConstraint(condition=~Q(ticket="") & ~Q(reason=""), name="customer_merge_says_why"),
            SameOrg(field="source", name="customer_merge_source_of_org"),
            SameOrg(field="target", name="customer_merge_target_of_org"),
            AppendOnly(name="customer_merge_append_only", erasable=("reason",)),
        ]

    def __str__(self) -> str:
        return f"{self.source_id} into {self.target_id}"


def first_customer(related_name: str) -> Any:
    """The customer to whom a lot or redemption belonged before merges; empty if no merge moved it.

    The row is sealed with its first customer, so that a merge breaks no seal.
    """
    return parent_of_org("loyalty.Customer", null=True, blank=True, editable=False, related_name=related_name)


class CustomerIdentifier(OrgRow):
    """An identifier of a customer besides the customer id, in the normalized form that `identify` returns."""

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


class CustomerGroup(OrgRow):
    """Customers who can redeem each other's points, if the org's settings allow it."""

    id = RowIdField()
    org = owning_org()
    public_id = models.PositiveBigIntegerField(
        "group id",
        validators=[MinValueValidator(1), EXACT_NUMBER],
        help_text="The group's number in the org's systems.",
    )
    name = models.CharField(max_length=200, blank=True)
    is_active = models.BooleanField(default=True, help_text="While off, members can redeem only their own points.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["org", "public_id"], name="group_public_id_unique"),
            models.UniqueConstraint(fields=["org", "id"], name="group_in_org"),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.public_id})" if self.name else str(self.public_id)


class GroupMember(OrgRow):
    """A customer's membership of a group. A customer who leaves keeps the points in the customer's own lots.

    Points that were drawn from these lots are still reversed to them after the customer left.
    """

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


class LedgerUpload(OrgRow):
    """Ledger files that a user uploaded in the back office, which the worker imports. Only their outcome is kept."""

    class Status(models.TextChoices):
        WAITING = "WAITING", "waiting"
        IMPORTED = "IMPORTED", "imported"
        REFUSED = "REFUSED", "refused"

    id = RowIdField()
    org = owning_org()
    made_by = models.CharField(max_length=150)
    made_at = models.DateTimeField()
    customers = models.BinaryField(null=True, help_text="customers.csv.gz, until it is imported.")
    points = models.BinaryField(null=True, help_text="points.csv.gz, until it is imported.")
    redemptions = models.BinaryField(null=True, help_text="redemptions.csv.gz, until it is imported.")
    status = models.CharField(max_length=16, choices=Status, default=Status.WAITING)
    outcome = models.TextField(blank=True)

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["org", "made_at"], name="ledger_uploads_by_time")]
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=["WAITING", "IMPORTED", "REFUSED"]), name="ledger_upload_status_known"
            )
        ]

    def __str__(self) -> str:
        return f"{self.made_at:%Y-%m-%d %H:%M} {self.made_by}"


class LedgerImport(OrgRow):
    """One import of ledger files that added lots or redemptions to an org, with their totals. Append-only.

    Every lot refers to its import, except lots of re-issued points. So `verify_ledger` finds lots without an import.
    """

    id = RowIdField()
    org = owning_org()
    imported_at = models.DateTimeField()
    made_by = models.CharField(max_length=150, help_text="The user who ran the import.")
    lots_added = models.PositiveBigIntegerField(default=0)
    points_awarded = PointsField(default=0, help_text="Total points of the added lots.")
    redemptions_added = models.PositiveBigIntegerField(default=0)
    points_redeemed = PointsField(default=0, help_text="Total points of the added redemptions.")

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


def originating_import(related_name: str) -> Any:
    """The import that added a lot or redemption; empty if the row did not come from a file."""
    return parent_of_org("loyalty.LedgerImport", null=True, blank=True, related_name=related_name)


class Lot(OrgRow):
    """Points awarded together, with one expiry time."""

    id = RowIdField()
    org = owning_org_of_movement()
    program = parent_of_org("loyalty.Program")
    customer = parent_of_org("loyalty.Customer", related_name="lots")
    first_customer = first_customer("lots_before_merges")
    lot_ref = models.CharField(max_length=64, help_text="The lot's reference in the system that it came from.")
    points_awarded = PointsField()
    points_remaining = PointsField(help_text="Points that were not drawn. If the lot has expired, they have expired.")
    points_reissued = PointsField(
        default=0,
        db_default=0,
        help_text="Points of this lot that a re-issue moved to a new lot.",
    )
    awarded_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: the points do not expire.")
    is_reissue = models.BooleanField(
        default=False,
        db_default=False,
        help_text="Re-issued by a reversal. Points are re-issued only once, so these are not re-issued again.",
    )
    ledger_import = originating_import("lots")

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
            SameOrg(field="first_customer", name="lot_first_customer_of_org"),
            SameOrg(field="ledger_import", name="lot_ledger_import_of_org"),
        ]

    def __str__(self) -> str:
        return self.lot_ref


class Redemption(OrgRow):
    """Points that a customer spent in one transaction."""

    id = RowIdField()
    org = owning_org_of_movement()
    program = parent_of_org("loyalty.Program")
    customer = parent_of_org("loyalty.Customer", related_name="redemptions")
    first_customer = first_customer("redemptions_before_merges")
    public_id = models.CharField("redemption id", max_length=64, help_text="The redemptionId in the API.")
    points = PointsField()
    points_reversed = PointsField(default=0, help_text="Points reversed so far.")
    redeemed_at = models.DateTimeField()
    transaction_number = models.CharField(max_length=128, blank=True)
    external_reference_number = models.CharField(max_length=128, null=True, blank=True)
    has_key = models.BooleanField(
        default=False, db_default=False, help_text="Whether the request carried an Idempotency-Key."
    )
    ledger_import = originating_import("redemptions")

    class Meta:
        indexes = [
            models.Index(fields=["org", "customer", "redeemed_at"], name="redemptions_of_customer"),
            models.Index(fields=["org", "redeemed_at", "id"], name="redemptions_by_time"),
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
            SameOrg(field="first_customer", name="redemption_first_customer_of_org"),
            SameOrg(field="ledger_import", name="redemption_ledger_import_of_org"),
        ]

    def __str__(self) -> str:
        return self.public_id


class Draw(OrgRow):
    """The points that one redemption drew from one lot, with their position in the drawing order."""

    id = RowIdField()
    org = owning_org_of_movement()
    redemption = parent_of_org("loyalty.Redemption", related_name="draws")
    lot = parent_of_org(
        "loyalty.Lot", null=True, blank=True, related_name="draws", help_text="Empty: the points came from no lot."
    )
    position = models.PositiveIntegerField(help_text="Position 1 was drawn first and is reversed last.")
    points = PointsField()
    points_reversed = PointsField(default=0, help_text="Points reversed so far.")
    # A draw is sealed as it was before coverings: a covering gives a lot to a draw that had none, adds draws after it,
    # and moves the draws behind these.
    first_points = PointsField(
        null=True,
        blank=True,
        editable=False,
        help_text="The points before coverings, from no lot. 0: a covering added this draw. Empty: not covered.",
    )
    first_position = models.PositiveIntegerField(null=True, blank=True, editable=False)

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


class Covering(OrgRow):
    """Lots that were found later for points that a redemption had drawn from no lot. Append-only."""

    id = RowIdField()
    org = owning_org()
    redemption = parent_of_org("loyalty.Redemption", related_name="coverings")
    points = PointsField(help_text="The points that got a lot.")
    reason = models.CharField(max_length=500)
    made_by = models.CharField(max_length=150)
    made_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["org", "redemption"], name="coverings_of_redemption")]
        constraints = [
            models.UniqueConstraint(fields=["org", "id"], name="covering_in_org"),
            models.CheckConstraint(condition=Q(points__gt=0) & ~Q(reason=""), name="covering_says_why"),
            SameOrg(field="redemption", name="covering_redemption_of_org"),
            AppendOnly(name="covering_append_only", erasable=("reason",)),
        ]

    def __str__(self) -> str:
        return f"covering of {self.redemption_id}"


class CoveringLine(OrgRow):
    """The points that one covering took from one lot. Append-only."""

    id = RowIdField()
    org = owning_org()
    covering = parent_of_org("loyalty.Covering", related_name="lines")
    draw = parent_of_org("loyalty.Draw", related_name="covering_lines")
    lot = parent_of_org("loyalty.Lot", related_name="covering_lines")
    points = PointsField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["org", "covering", "lot"], name="covering_once_per_lot"),
            models.CheckConstraint(condition=Q(points__gt=0), name="covering_line_points_positive"),
            SameOrg(field="covering", name="covering_line_covering_of_org"),
            SameOrg(field="draw", name="covering_line_draw_of_org"),
            SameOrg(field="lot", name="covering_line_lot_of_org"),
            AppendOnly(name="covering_line_append_only"),
        ]

    def __str__(self) -> str:
        return f"line of {self.covering_id}"
