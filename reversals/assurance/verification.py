"""Checks every law of the ledger over all rows, by the database, and names the rows that break one."""

from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from django.utils import timezone

from loyalty.ledger import queries
from reversals.assurance.conservation import NOT_CONSERVED
from reversals.models import LedgerCheck

BROKEN_ROWS_NAMED = 100


@dataclass(frozen=True)
class Law:
    """A law and the query of what breaks it: org id, the row's name, and the two sides that should agree."""

    name: str
    broken: str


@dataclass(frozen=True)
class BrokenRow:
    """A row that breaks a law. The sides are whole thousandths of points where the law is about points."""

    law: str
    org_id: int
    row: str
    left: str
    right: str

    def __str__(self) -> str:
        return f"{self.law}: {self.row} of org {self.org_id} ({self.left} against {self.right})"


def _sums_agree(law: str, parent: str, key: str, left: str, child: str, foreign_key: str, right: str) -> Law:
    """`left` of each parent is the sum of `right` over its children."""
    return Law(
        law,
        f"SELECT parent.org_id, parent.{key}, {left}, COALESCE(total.amount, 0) FROM {parent} parent"
        f" LEFT JOIN (SELECT org_id, {foreign_key} AS parent_id, SUM({right}) AS amount FROM {child}"
        f" WHERE {foreign_key} IS NOT NULL GROUP BY org_id, {foreign_key}) AS total"
        " ON total.org_id = parent.org_id AND total.parent_id = parent.id"
        f" WHERE {left} <> COALESCE(total.amount, 0)",
    )


def _within(law: str, table: str, key: str, part: str, whole: str) -> Law:
    return Law(
        law, f"SELECT org_id, {key}, {part}, {whole} FROM {table} WHERE {part} < 0 OR {part} > {whole} OR {whole} <= 0"
    )


def _is_available_and_expired(law: str, table: str, key: str) -> Law:
    return Law(
        law,
        f"SELECT org_id, {key}, points, points_available + points_expired FROM {table}"
        " WHERE points <> points_available + points_expired"
        " OR points <= 0 OR points_available < 0 OR points_expired < 0",
    )


def _parent_of_org(table: str, key: str, foreign_key: str, parent: str) -> Law:
    """The row that a row refers to exists, and is of the same org."""
    return Law(
        f"{table}.{foreign_key} names a row of the same org",
        f"SELECT child.org_id, child.{key}, child.org_id, parent.org_id FROM {table} child"
        f" LEFT JOIN {parent} parent ON parent.id = child.{foreign_key}"
        f" WHERE child.{foreign_key} IS NOT NULL AND (parent.id IS NULL OR parent.org_id <> child.org_id)",
    )


# What reversals come to as it stands: a correction takes its reversal's points away again. As differences, so that
# no row of the ledger is looked up among the few corrections.
_REVERSED = (
    "(SELECT org_id, redemption_id, points FROM reversals_reversal"
    " UNION ALL SELECT reversal.org_id, reversal.redemption_id, -correction.points FROM reversals_correction correction"
    " JOIN reversals_reversal reversal"
    " ON reversal.org_id = correction.org_id AND reversal.id = correction.reversal_id) AS child"
)
_CORRECTED_LINES = (
    "FROM reversals_correction correction JOIN reversals_reversalline line"
    " ON line.org_id = correction.org_id AND line.reversal_id = correction.reversal_id"
)
_GIVEN_BACK = (
    "(SELECT org_id, draw_id, points FROM reversals_reversalline"
    f" UNION ALL SELECT line.org_id, line.draw_id, -line.points {_CORRECTED_LINES}) AS child"
)
# What re-issues moved out of lots as it stands: a correction puts the points back where they were drawn from, and takes
# the lot back that had been awarded for them.
_DRAW_OF_LINE = "JOIN loyalty_draw draw ON draw.org_id = line.org_id AND draw.id = line.draw_id"
_REISSUED_FROM_LOTS = (
    f"(SELECT line.org_id, draw.lot_id, line.points FROM reversals_reversalline line {_DRAW_OF_LINE}"
    " WHERE line.reissued_lot_id IS NOT NULL"
    f" UNION ALL SELECT line.org_id, draw.lot_id, -line.points {_CORRECTED_LINES} {_DRAW_OF_LINE}"
    " WHERE line.reissued_lot_id IS NOT NULL"
    f" UNION ALL SELECT line.org_id, line.reissued_lot_id, line.points_available {_CORRECTED_LINES}) AS child"
)

# How each lot and redemption came to the ledger: one that no source accounts for was put in by somebody else. Another
# source of lots (awards over the API) is one more column and the laws of what it added.
_PROVENANCE = (
    *(
        _sums_agree(
            f"import.{column} = sum of its {what}",
            "loyalty_ledgerimport",
            "id",
            column,
            table,
            "ledger_import_id",
            counted,
        )
        for what, table, column, counted in (
            ("lots", "loyalty_lot", "lots_added", "1"),
            ("lots", "loyalty_lot", "points_awarded", "points_awarded"),
            ("redemptions", "loyalty_redemption", "redemptions_added", "1"),
            ("redemptions", "loyalty_redemption", "points_redeemed", "points"),
        )
    ),
    Law(
        "a lot names the import that it came with, unless it is a re-issue",
        "SELECT org_id, lot_ref, ledger_import_id, CAST(is_reissue AS integer) FROM loyalty_lot"
        " WHERE (ledger_import_id IS NULL) <> is_reissue",
    ),
    Law(
        "a redemption names the import that it came with, or has an attempt",
        "SELECT redemption.org_id, redemption.public_id, redemption.ledger_import_id, redemption.id"
        " FROM loyalty_redemption redemption WHERE redemption.ledger_import_id IS NULL"
        " AND NOT EXISTS (SELECT 1 FROM reversals_attempt attempt"
        " WHERE attempt.org_id = redemption.org_id AND attempt.redemption_id = redemption.id)",
    ),
    _parent_of_org("loyalty_lot", "lot_ref", "ledger_import_id", "loyalty_ledgerimport"),
    _parent_of_org("loyalty_redemption", "public_id", "ledger_import_id", "loyalty_ledgerimport"),
)
# By setting, what its last change says that its value is; NULL where it is not set.
_LAST_CHANGES = (
    "SELECT org_id, program_id, key, NULLIF(new_value, '') AS recorded, ROW_NUMBER() OVER"
    " (PARTITION BY org_id, program_id, key ORDER BY changed_at DESC, id DESC) AS place FROM loyalty_emfchange"
)
_SETTINGS = (
    Law(
        "setting.value = the new value of its last change",
        "SELECT org_id, key, MAX(stored), MAX(recorded) FROM"
        " (SELECT org_id, COALESCE(program_id, 0) AS program_id, key, value AS stored, NULL AS recorded"
        " FROM loyalty_emfsetting UNION ALL SELECT org_id, COALESCE(program_id, 0), key, NULL, recorded"
        f" FROM ({_LAST_CHANGES}) AS changes WHERE place = 1) AS both_sides GROUP BY org_id, program_id, key"
        " HAVING MAX(stored) <> MAX(recorded) OR (MAX(stored) IS NULL) <> (MAX(recorded) IS NULL)",
    ),
    Law(
        "change.old_value = the new value of the change before it",
        "SELECT org_id, id, old_value, value_before FROM (SELECT org_id, id, old_value, COALESCE(LAG(new_value) OVER"
        " (PARTITION BY org_id, program_id, key ORDER BY changed_at, id), '') AS value_before FROM loyalty_emfchange)"
        " AS changes WHERE old_value <> value_before",
    ),
)

LAWS = (
    _within("0 <= lot.remaining <= lot.awarded", "loyalty_lot", "lot_ref", "points_remaining", "points_awarded"),
    _within("0 <= draw.reversed <= draw.points", "loyalty_draw", "id", "points_reversed", "points"),
    _within(
        "0 <= redemption.reversed <= redemption.points", "loyalty_redemption", "public_id", "points_reversed", "points"
    ),
    _is_available_and_expired("reversal.points = available + expired", "reversals_reversal", "public_id"),
    _is_available_and_expired("line.points = available + expired", "reversals_reversalline", "id"),
    *(
        _sums_agree(
            f"reversal.{column} = sum of its lines",
            "reversals_reversal",
            "public_id",
            column,
            "reversals_reversalline",
            "reversal_id",
            column,
        )
        for column in ("points", "points_available", "points_expired")
    ),
    _sums_agree(
        "redemption.points = sum of its draws",
        "loyalty_redemption",
        "public_id",
        "points",
        "loyalty_draw",
        "redemption_id",
        "points",
    ),
    _sums_agree(
        "redemption.reversed = sum of its reversals that are not corrected",
        "loyalty_redemption",
        "public_id",
        "points_reversed",
        _REVERSED,
        "redemption_id",
        "points",
    ),
    _sums_agree(
        "draw.reversed = sum of its lines that are not corrected",
        "loyalty_draw",
        "id",
        "points_reversed",
        _GIVEN_BACK,
        "draw_id",
        "points",
    ),
    _sums_agree(
        "lot.awarded = lot.remaining + lot.reissued + sum over its draws of (points - reversed)",
        "loyalty_lot",
        "lot_ref",
        "points_awarded - points_remaining - points_reissued",
        "loyalty_draw",
        "lot_id",
        "points - points_reversed",
    ),
    _sums_agree(
        "lot.reissued = what re-issues moved out of it and corrections did not put back",
        "loyalty_lot",
        "lot_ref",
        "points_reissued",
        _REISSUED_FROM_LOTS,
        "lot_id",
        "points",
    ),
    Law(
        "0 <= lot.reissued <= lot.awarded - lot.remaining",
        "SELECT org_id, lot_ref, points_reissued, points_awarded - points_remaining FROM loyalty_lot"
        " WHERE points_reissued < 0 OR points_reissued > points_awarded - points_remaining",
    ),
    Law("live + spent + expired + replaced = awarded + re-issued, of each program", NOT_CONSERVED),
    Law(
        "a lot is marked as a re-issue if a reversal awarded it, and not otherwise",
        "SELECT lot.org_id, lot.lot_ref, CASE WHEN lot.is_reissue THEN 1 ELSE 0 END, COUNT(line.id)"
        " FROM loyalty_lot lot LEFT JOIN reversals_reversalline line"
        " ON line.org_id = lot.org_id AND line.reissued_lot_id = lot.id"
        " GROUP BY lot.org_id, lot.id, lot.lot_ref, lot.is_reissue"
        " HAVING lot.is_reissue <> (COUNT(line.id) > 0)",
    ),
    Law(
        "a reissued lot is awarded what its lines reversed",
        "SELECT lot.org_id, lot.lot_ref, lot.points_awarded, SUM(line.points_available) FROM loyalty_lot lot"
        " JOIN reversals_reversalline line ON line.org_id = lot.org_id AND line.reissued_lot_id = lot.id"
        " GROUP BY lot.org_id, lot.id, lot.lot_ref, lot.points_awarded"
        " HAVING lot.points_awarded <> SUM(line.points_available)",
    ),
    Law(
        "a reissued lot is of the customer whose points it brings back",
        "SELECT lot.org_id, lot.lot_ref, lot.customer_id, COALESCE(own.customer_id, reversal.customer_id)"
        " FROM reversals_reversalline line"
        " JOIN loyalty_lot lot ON lot.org_id = line.org_id AND lot.id = line.reissued_lot_id"
        " JOIN reversals_reversal reversal ON reversal.org_id = line.org_id AND reversal.id = line.reversal_id"
        " JOIN loyalty_draw draw ON draw.org_id = line.org_id AND draw.id = line.draw_id"
        " LEFT JOIN loyalty_lot own ON own.org_id = draw.org_id AND own.id = draw.lot_id"
        " WHERE lot.customer_id <> COALESCE(own.customer_id, reversal.customer_id)",
    ),
    Law(
        "what was drawn last is reversed first, unless a correction came between",
        "SELECT early.org_id, early.id, early.points_reversed, late.points_reversed FROM loyalty_draw early"
        " JOIN loyalty_draw late ON late.org_id = early.org_id AND late.redemption_id = early.redemption_id"
        " AND late.position > early.position"
        " WHERE early.points_reversed > 0 AND late.points_reversed < late.points"
        " AND NOT EXISTS (SELECT 1 FROM reversals_correction correction JOIN reversals_reversal reversal"
        " ON reversal.org_id = correction.org_id AND reversal.id = correction.reversal_id"
        " WHERE correction.org_id = early.org_id AND reversal.redemption_id = early.redemption_id)",
    ),
    Law(
        "a line is expired if its lot had expired, and available if not",
        "SELECT line.org_id, line.id, line.points_available, line.points_expired FROM reversals_reversalline line"
        " JOIN reversals_reversal reversal ON reversal.org_id = line.org_id AND reversal.id = line.reversal_id"
        " JOIN loyalty_draw draw ON draw.org_id = line.org_id AND draw.id = line.draw_id"
        " LEFT JOIN loyalty_lot lot ON lot.org_id = draw.org_id AND lot.id = draw.lot_id"
        " WHERE line.points_expired <> CASE WHEN line.reissued_lot_id IS NULL AND lot.expires_at <= reversal.created_at"
        " THEN line.points ELSE 0 END",
    ),
    Law(
        "a line is of a draw of its reversal's redemption",
        "SELECT line.org_id, line.id, draw.redemption_id, reversal.redemption_id FROM reversals_reversalline line"
        " JOIN reversals_reversal reversal ON reversal.id = line.reversal_id"
        " JOIN loyalty_draw draw ON draw.id = line.draw_id"
        " WHERE draw.redemption_id <> reversal.redemption_id",
    ),
    Law(
        "a reversal is of its redemption's customer",
        "SELECT reversal.org_id, reversal.public_id, reversal.customer_id, redemption.customer_id"
        " FROM reversals_reversal reversal JOIN loyalty_redemption redemption ON redemption.id = reversal.redemption_id"
        " WHERE reversal.customer_id <> redemption.customer_id",
    ),
    Law(
        "no public id names a reversal and a redemption",
        "SELECT reversal.org_id, reversal.public_id, reversal.id, redemption.id FROM reversals_reversal reversal"
        " JOIN loyalty_redemption redemption"
        " ON redemption.org_id = reversal.org_id AND redemption.public_id = reversal.public_id",
    ),
    Law(
        "correction.points = its reversal's points",
        "SELECT reversal.org_id, reversal.public_id, correction.points, reversal.points"
        " FROM reversals_correction correction JOIN reversals_reversal reversal ON reversal.id = correction.reversal_id"
        " WHERE correction.points <> reversal.points",
    ),
    Law(
        "a correction has the approval of another person",
        "SELECT correction.org_id, correction.id, correction.made_by, correction.approved_by"
        " FROM reversals_correction correction JOIN reversals_approval approval ON approval.id = correction.approval_id"
        " WHERE approval.status <> 'APPROVED' OR approval.corrects_id IS NULL"
        " OR approval.corrects_id <> correction.reversal_id"
        " OR approval.asked_by <> correction.made_by OR approval.decided_by <> correction.approved_by"
        " OR correction.made_by = correction.approved_by",
    ),
    Law(
        "an approval is of another person",
        "SELECT org_id, id, asked_by, decided_by FROM reversals_approval WHERE asked_by = decided_by",
    ),
    Law(
        "an approved correction was made",
        "SELECT approval.org_id, approval.id, approval.status, correction.id FROM reversals_approval approval"
        " LEFT JOIN reversals_correction correction"
        " ON correction.org_id = approval.org_id AND correction.reversal_id = approval.corrects_id"
        " AND correction.approval_id = approval.id"
        " WHERE approval.status = 'APPROVED' AND approval.corrects_id IS NOT NULL AND correction.id IS NULL",
    ),
    Law(
        "a delivery is of its event's customer",
        "SELECT delivery.org_id, delivery.id, delivery.customer_id, event.customer_id FROM reversals_delivery delivery"
        " JOIN reversals_event event ON event.id = delivery.event_id WHERE event.customer_id <> delivery.customer_id",
    ),
    _parent_of_org("loyalty_lot", "lot_ref", "customer_id", "loyalty_customer"),
    _parent_of_org("loyalty_lot", "lot_ref", "program_id", "loyalty_program"),
    _parent_of_org("loyalty_redemption", "public_id", "customer_id", "loyalty_customer"),
    _parent_of_org("loyalty_redemption", "public_id", "program_id", "loyalty_program"),
    _parent_of_org("loyalty_draw", "id", "redemption_id", "loyalty_redemption"),
    _parent_of_org("loyalty_draw", "id", "lot_id", "loyalty_lot"),
    _parent_of_org("reversals_reversal", "public_id", "redemption_id", "loyalty_redemption"),
    _parent_of_org("reversals_reversal", "public_id", "customer_id", "loyalty_customer"),
    _parent_of_org("reversals_reversalline", "id", "reversal_id", "reversals_reversal"),
    _parent_of_org("reversals_reversalline", "id", "draw_id", "loyalty_draw"),
    _parent_of_org("reversals_reversalline", "id", "reissued_lot_id", "loyalty_lot"),
    _parent_of_org("reversals_attempt", "id", "reversal_id", "reversals_reversal"),
    _parent_of_org("reversals_attempt", "id", "redemption_id", "loyalty_redemption"),
    _parent_of_org("reversals_reversal", "public_id", "client_id", "loyalty_apiclient"),
    _parent_of_org("reversals_attempt", "id", "client_id", "loyalty_apiclient"),
    _parent_of_org("reversals_approval", "id", "redemption_id", "loyalty_redemption"),
    _parent_of_org("reversals_approval", "id", "corrects_id", "reversals_reversal"),
    _parent_of_org("reversals_approval", "id", "reversal_id", "reversals_reversal"),
    _parent_of_org("reversals_correction", "id", "reversal_id", "reversals_reversal"),
    _parent_of_org("reversals_correction", "id", "approval_id", "reversals_approval"),
    _parent_of_org("reversals_event", "id", "customer_id", "loyalty_customer"),
    _parent_of_org("reversals_delivery", "id", "event_id", "reversals_event"),
    _parent_of_org("reversals_delivery", "id", "webhook_id", "loyalty_webhook"),
    *_PROVENANCE,
    *_SETTINGS,
)


def broken_laws(org_id: int | None = None) -> list[BrokenRow]:
    """The rows that break a law, at most 100 of each, of one org or of all."""
    broken: list[BrokenRow] = []
    with queries.one_moment(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # The limit of a request does not fit a look at all rows.
            cursor.execute("SET LOCAL statement_timeout = 0")
        for law in LAWS:
            # No LIMIT: PostgreSQL would plan for finding the first rows soon, and there are none to find.
            condition, params = ("WHERE org_id = %s", [org_id]) if org_id is not None else ("", [])
            cursor.execute(
                f"WITH broken (org_id, name, one_side, other_side) AS ({law.broken}) SELECT * FROM broken {condition}",
                params,
            )
            for row_org_id, row, left, right in cursor.fetchmany(BROKEN_ROWS_NAMED):
                broken.append(BrokenRow(law.name, row_org_id, str(row), str(left), str(right)))
    return broken


def record_check(*, org_id: int | None, started_at: datetime, broken_count: int) -> LedgerCheck:
    """Keeps that the laws were checked, of one org or of all."""
    return LedgerCheck.objects.create(
        org_id=org_id, started_at=started_at, finished_at=timezone.now(), broken_count=broken_count
    )


def rows_checked(org_id: int | None = None) -> dict[str, int]:
    """How many rows of each kind the laws were checked over."""
    condition, params = ("WHERE org_id = %s", [org_id]) if org_id is not None else ("", [])
    tables = {
        "lots": "loyalty_lot",
        "redemptions": "loyalty_redemption",
        "draws": "loyalty_draw",
        "reversals": "reversals_reversal",
        "lines": "reversals_reversalline",
        "corrections": "reversals_correction",
    }
    with connection.cursor() as cursor:
        counts = {}
        for name, table in tables.items():
            cursor.execute(f"SELECT COUNT(*) FROM {table} {condition}", params)
            counts[name] = cursor.fetchone()[0]
    return counts
