"""Checks every law of the ledger over all rows, in the database, and names the rows that break a law."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from django.utils import timezone

from loyalty.ledger import queries
from loyalty.ledger.distribution import read_one_snapshot
from reversals.assurance.conservation import NOT_CONSERVED
from reversals.models import LedgerCheck

BROKEN_ROWS_NAMED = 100


@dataclass(frozen=True)
class Law:
    """A law and the query for rows that break it: org id, the row's name, and the two values compared."""

    name: str
    broken: str


@dataclass(frozen=True)
class BrokenRow:
    """A row that breaks a law. If the law is about points, `left` and `right` are whole thousandths of points."""

    law: str
    org_id: int
    row: str
    left: str
    right: str

    def __str__(self) -> str:
        return f"{self.law}: {self.row} of org {self.org_id} ({self.left} against {self.right})"


def _sums_agree(law: str, parent: str, key: str, left: str, child: str, foreign_key: str, right: str) -> Law:
    """Requires that `left` of each parent is the sum of `right` over its children."""
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
    """Requires that the row to which a row refers exists and belongs to the same org."""
    return Law(
        f"{table}.{foreign_key} refers to a row of the same org",
        f"SELECT child.org_id, child.{key}, child.{foreign_key}, parent.id FROM {table} child"
        f" LEFT JOIN {parent} parent ON parent.org_id = child.org_id AND parent.id = child.{foreign_key}"
        f" WHERE child.{foreign_key} IS NOT NULL AND parent.id IS NULL",
    )


# The points reversed now in each redemption: those of its reversals minus those of their corrections. Corrections are
# added as negative rows, so that the query need not search the corrections for each row of the ledger.
_REVERSED_BY_REDEMPTION = (
    "(SELECT org_id, redemption_id, points FROM reversals_reversal"
    " UNION ALL SELECT reversal.org_id, reversal.redemption_id, -correction.points FROM reversals_correction correction"
    " JOIN reversals_reversal reversal"
    " ON reversal.org_id = correction.org_id AND reversal.id = correction.reversal_id) AS child"
)
_CORRECTED_LINES = (
    "FROM reversals_correction correction JOIN reversals_reversalline line"
    " ON line.org_id = correction.org_id AND line.reversal_id = correction.reversal_id"
)
_REVERSED_BY_DRAW = (
    "(SELECT org_id, draw_id, points FROM reversals_reversalline"
    f" UNION ALL SELECT line.org_id, line.draw_id, -line.points {_CORRECTED_LINES}) AS child"
)
# The points that re-issues and corrections have moved out of each lot. A correction of a re-issue moves the points back
# to the lot from which they were drawn, and takes them out of the lot that was awarded for them.
_DRAW_OF_LINE = "JOIN loyalty_draw draw ON draw.org_id = line.org_id AND draw.id = line.draw_id"
_REISSUED_FROM_LOTS = (
    f"(SELECT line.org_id, draw.lot_id, line.points FROM reversals_reversalline line {_DRAW_OF_LINE}"
    " WHERE line.reissued_lot_id IS NOT NULL"
    f" UNION ALL SELECT line.org_id, draw.lot_id, -line.points {_CORRECTED_LINES} {_DRAW_OF_LINE}"
    " WHERE line.reissued_lot_id IS NOT NULL"
    f" UNION ALL SELECT line.org_id, line.reissued_lot_id, line.points_available {_CORRECTED_LINES}) AS child"
)

# The source of each lot and redemption. A row without a source was inserted by something other than this project.
# Another source of lots, such as awards through the API, needs one more column and laws for the rows that it adds.
_PROVENANCE = (
    *(
        _sums_agree(
            law,
            "loyalty_ledgerimport",
            "id",
            column,
            table,
            "ledger_import_id",
            counted,
        )
        for law, table, column, counted in (
            ("import.lots_added = number of its lots", "loyalty_lot", "lots_added", "1"),
            ("import.points_awarded = points of its lots", "loyalty_lot", "points_awarded", "points_awarded"),
            ("import.redemptions_added = number of its redemptions", "loyalty_redemption", "redemptions_added", "1"),
            ("import.points_redeemed = points of its redemptions", "loyalty_redemption", "points_redeemed", "points"),
        )
    ),
    Law(
        "a lot either refers to the import that added it or is a re-issue",
        "SELECT org_id, lot_ref, ledger_import_id, CAST(is_reissue AS integer) FROM loyalty_lot"
        " WHERE (ledger_import_id IS NULL) <> is_reissue",
    ),
    Law(
        "a redemption refers to the import that added it, or an attempt refers to the redemption",
        "SELECT redemption.org_id, redemption.public_id, redemption.ledger_import_id, redemption.id"
        " FROM loyalty_redemption redemption WHERE redemption.ledger_import_id IS NULL"
        " AND NOT EXISTS (SELECT 1 FROM reversals_attempt attempt"
        " WHERE attempt.org_id = redemption.org_id AND attempt.redemption_id = redemption.id)",
    ),
    _parent_of_org("loyalty_lot", "lot_ref", "ledger_import_id", "loyalty_ledgerimport"),
    _parent_of_org("loyalty_redemption", "public_id", "ledger_import_id", "loyalty_ledgerimport"),
)
# The value that the last change of each setting recorded; NULL if that change removed the setting.
_LAST_CHANGES = (
    "SELECT org_id, program_id, key, NULLIF(new_value, '') AS recorded, ROW_NUMBER() OVER"
    " (PARTITION BY org_id, program_id, key ORDER BY changed_at DESC, id DESC) AS place FROM loyalty_emfchange"
)
_SETTINGS = (
    Law(
        "setting.value = new_value of the last change of that setting",
        "SELECT org_id, key, MAX(stored), MAX(recorded) FROM"
        " (SELECT org_id, COALESCE(program_id, 0) AS program_id, key, value AS stored, NULL AS recorded"
        " FROM loyalty_emfsetting UNION ALL SELECT org_id, COALESCE(program_id, 0), key, NULL, recorded"
        f" FROM ({_LAST_CHANGES}) AS changes WHERE place = 1) AS both_sides GROUP BY org_id, program_id, key"
        " HAVING MAX(stored) <> MAX(recorded) OR (MAX(stored) IS NULL) <> (MAX(recorded) IS NULL)",
    ),
    Law(
        "change.old_value = new_value of the previous change of that setting",
        "SELECT org_id, id, old_value, value_before FROM (SELECT org_id, id, old_value, COALESCE(LAG(new_value) OVER"
        " (PARTITION BY org_id, program_id, key ORDER BY changed_at, id), '') AS value_before FROM loyalty_emfchange)"
        " AS changes WHERE old_value <> value_before",
    ),
)


def _moved_by_merge(kind: str, table: str, key: str) -> tuple[Law, Law]:
    """Requires that a row is where the merges of its customers moved it."""
    return (
        Law(
            f"a {kind} that a merge moved belongs to the customer into whom its first customer was merged",
            f"SELECT moved.org_id, moved.{key}, moved.customer_id, first.merged_into_id FROM {table} moved"
            " JOIN loyalty_customer first ON first.org_id = moved.org_id AND first.id = moved.first_customer_id"
            " WHERE first.merged_into_id IS NULL OR first.merged_into_id <> moved.customer_id",
        ),
        Law(
            f"no {kind} belongs to a customer who was merged into another customer",
            f"SELECT moved.org_id, moved.{key}, moved.customer_id, merged.merged_into_id FROM {table} moved"
            " JOIN loyalty_customer merged ON merged.org_id = moved.org_id AND merged.id = moved.customer_id"
            " WHERE merged.merged_into_id IS NOT NULL",
        ),
    )


_MERGES = (
    *_moved_by_merge("lot", "loyalty_lot", "lot_ref"),
    *_moved_by_merge("redemption", "loyalty_redemption", "public_id"),
    Law(
        "customer.merged_into = target of the customer's merge, or the customer into whom that target was merged",
        "SELECT source.org_id, source.public_id, source.merged_into_id, COALESCE(target.merged_into_id, target.id)"
        " FROM loyalty_customermerge merge"
        " JOIN loyalty_customer source ON source.org_id = merge.org_id AND source.id = merge.source_id"
        " JOIN loyalty_customer target ON target.org_id = merge.org_id AND target.id = merge.target_id"
        " WHERE source.merged_into_id IS NULL"
        " OR source.merged_into_id <> COALESCE(target.merged_into_id, target.id)"
        " UNION ALL SELECT customer.org_id, customer.public_id, customer.merged_into_id, NULL"
        " FROM loyalty_customer customer WHERE customer.merged_into_id IS NOT NULL AND NOT EXISTS (SELECT 1"
        " FROM loyalty_customermerge merge WHERE merge.org_id = customer.org_id AND merge.source_id = customer.id)",
    ),
    _parent_of_org("loyalty_customer", "public_id", "merged_into_id", "loyalty_customer"),
    _parent_of_org("loyalty_customermerge", "id", "source_id", "loyalty_customer"),
    _parent_of_org("loyalty_customermerge", "id", "target_id", "loyalty_customer"),
    _parent_of_org("loyalty_lot", "lot_ref", "first_customer_id", "loyalty_customer"),
    _parent_of_org("loyalty_redemption", "public_id", "first_customer_id", "loyalty_customer"),
)

# Draws without a lot that got lots later.
_COVERINGS = (
    _sums_agree(
        "covering.points = sum of points over its lines",
        "loyalty_covering",
        "id",
        "points",
        "loyalty_coveringline",
        "covering_id",
        "points",
    ),
    Law(
        "a covering's line and its draw have the same redemption, lot and points",
        "SELECT line.org_id, line.id, line.points, draw.points FROM loyalty_coveringline line"
        " JOIN loyalty_covering covering ON covering.org_id = line.org_id AND covering.id = line.covering_id"
        " JOIN loyalty_draw draw ON draw.org_id = line.org_id AND draw.id = line.draw_id"
        " WHERE draw.redemption_id <> covering.redemption_id"
        " OR draw.lot_id IS NULL OR draw.lot_id <> line.lot_id OR draw.points <> line.points",
    ),
    Law(
        "a draw has a lot from a covering if and only if a line of a covering refers to it",
        "SELECT draw.org_id, draw.id, draw.first_points, COUNT(line.id) FROM loyalty_draw draw"
        " LEFT JOIN loyalty_coveringline line ON line.org_id = draw.org_id AND line.draw_id = draw.id"
        " WHERE draw.first_points IS NOT NULL OR line.id IS NOT NULL"
        " GROUP BY draw.org_id, draw.id, draw.first_points, draw.lot_id"
        " HAVING draw.first_points IS NULL OR COUNT(line.id) <> (CASE WHEN draw.lot_id IS NULL THEN 0 ELSE 1 END)",
    ),
    Law(
        "the points of a redemption's draws before coverings = the points of the redemption",
        "SELECT redemption.org_id, redemption.public_id, redemption.points, SUM(COALESCE(first_points, draw.points))"
        " FROM loyalty_draw draw JOIN loyalty_redemption redemption"
        " ON redemption.org_id = draw.org_id AND redemption.id = draw.redemption_id"
        " WHERE draw.redemption_id IN (SELECT covering.redemption_id FROM loyalty_covering covering)"
        " GROUP BY redemption.org_id, redemption.id, redemption.public_id, redemption.points"
        " HAVING redemption.points <> SUM(COALESCE(first_points, draw.points))",
    ),
    _parent_of_org("loyalty_covering", "id", "redemption_id", "loyalty_redemption"),
    _parent_of_org("loyalty_coveringline", "id", "covering_id", "loyalty_covering"),
    _parent_of_org("loyalty_coveringline", "id", "draw_id", "loyalty_draw"),
    _parent_of_org("loyalty_coveringline", "id", "lot_id", "loyalty_lot"),
)

LAWS = (
    _within(
        "0 <= lot.remaining <= lot.awarded, and lot.awarded > 0",
        "loyalty_lot",
        "lot_ref",
        "points_remaining",
        "points_awarded",
    ),
    _within(
        "0 <= draw.reversed <= draw.points, and draw.points > 0", "loyalty_draw", "id", "points_reversed", "points"
    ),
    _within(
        "0 <= redemption.reversed <= redemption.points, and redemption.points > 0",
        "loyalty_redemption",
        "public_id",
        "points_reversed",
        "points",
    ),
    _is_available_and_expired(
        "reversal.points = available + expired, points > 0, and neither part is negative",
        "reversals_reversal",
        "public_id",
    ),
    _is_available_and_expired(
        "line.points = available + expired, points > 0, and neither part is negative", "reversals_reversalline", "id"
    ),
    *(
        _sums_agree(
            f"reversal.{column} = sum of {column} over its lines",
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
        "redemption.points = sum of points over its draws",
        "loyalty_redemption",
        "public_id",
        "points",
        "loyalty_draw",
        "redemption_id",
        "points",
    ),
    _sums_agree(
        "redemption.reversed = sum of points over its reversals that are not corrected",
        "loyalty_redemption",
        "public_id",
        "points_reversed",
        _REVERSED_BY_REDEMPTION,
        "redemption_id",
        "points",
    ),
    _sums_agree(
        "draw.reversed = sum of points over its lines that are not corrected",
        "loyalty_draw",
        "id",
        "points_reversed",
        _REVERSED_BY_DRAW,
        "draw_id",
        "points",
    ),
    _sums_agree(
        "lot.awarded = lot.remaining + lot.reissued + sum of (points - reversed) over its draws",
        "loyalty_lot",
        "lot_ref",
        "points_awarded - points_remaining - points_reissued",
        "loyalty_draw",
        "lot_id",
        "points - points_reversed",
    ),
    _sums_agree(
        "lot.reissued = points that re-issues and corrections moved out of the lot, minus points moved back",
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
    Law("live + spent + expired + replaced = awarded + re-issued, in each program", NOT_CONSERVED),
    Law(
        "a lot is marked as a re-issue if and only if a reversal awarded it",
        "SELECT lot.org_id, lot.lot_ref, CASE WHEN lot.is_reissue THEN 1 ELSE 0 END, COUNT(line.id)"
        " FROM loyalty_lot lot LEFT JOIN reversals_reversalline line"
        " ON line.org_id = lot.org_id AND line.reissued_lot_id = lot.id"
        " GROUP BY lot.org_id, lot.id, lot.lot_ref, lot.is_reissue"
        " HAVING lot.is_reissue <> (COUNT(line.id) > 0)",
    ),
    Law(
        "the points awarded in a re-issued lot = available points of the reversal lines that awarded it",
        "SELECT lot.org_id, lot.lot_ref, lot.points_awarded, SUM(line.points_available) FROM loyalty_lot lot"
        " JOIN reversals_reversalline line ON line.org_id = lot.org_id AND line.reissued_lot_id = lot.id"
        " GROUP BY lot.org_id, lot.id, lot.lot_ref, lot.points_awarded"
        " HAVING lot.points_awarded <> SUM(line.points_available)",
    ),
    Law(
        "a re-issued lot belongs to the customer of the lot that was drawn, or of the redemption if no lot was drawn",
        "SELECT lot.org_id, lot.lot_ref, lot.customer_id, COALESCE(own.customer_id, redemption.customer_id)"
        " FROM reversals_reversalline line"
        " JOIN loyalty_lot lot ON lot.org_id = line.org_id AND lot.id = line.reissued_lot_id"
        " JOIN loyalty_draw draw ON draw.org_id = line.org_id AND draw.id = line.draw_id"
        " JOIN loyalty_redemption redemption"
        " ON redemption.org_id = draw.org_id AND redemption.id = draw.redemption_id"
        " LEFT JOIN loyalty_lot own ON own.org_id = draw.org_id AND own.id = draw.lot_id"
        " WHERE lot.customer_id <> COALESCE(own.customer_id, redemption.customer_id)",
    ),
    Law(
        "a later draw of a redemption is reversed in full before an earlier one, unless a reversal of it was corrected",
        "SELECT early.org_id, early.id, early.points_reversed, late.points_reversed FROM loyalty_draw early"
        " JOIN loyalty_draw late ON late.org_id = early.org_id AND late.redemption_id = early.redemption_id"
        " AND late.position > early.position"
        " WHERE early.points_reversed > 0 AND late.points_reversed < late.points"
        " AND NOT EXISTS (SELECT 1 FROM reversals_correction correction JOIN reversals_reversal reversal"
        " ON reversal.org_id = correction.org_id AND reversal.id = correction.reversal_id"
        " WHERE correction.org_id = early.org_id AND reversal.redemption_id = early.redemption_id)",
    ),
    Law(
        "the points of a line are expired if its lot had expired and they were not re-issued; otherwise available",
        "SELECT line.org_id, line.id, line.points_available, line.points_expired FROM reversals_reversalline line"
        " JOIN reversals_reversal reversal ON reversal.org_id = line.org_id AND reversal.id = line.reversal_id"
        " JOIN loyalty_draw draw ON draw.org_id = line.org_id AND draw.id = line.draw_id"
        " LEFT JOIN loyalty_lot lot ON lot.org_id = draw.org_id AND lot.id = draw.lot_id"
        " WHERE line.points_expired <> CASE WHEN line.reissued_lot_id IS NULL AND lot.expires_at <= reversal.created_at"
        " THEN line.points ELSE 0 END",
    ),
    Law(
        "the draw of a line belongs to the redemption of the line's reversal",
        "SELECT line.org_id, line.id, draw.redemption_id, reversal.redemption_id FROM reversals_reversalline line"
        " JOIN reversals_reversal reversal ON reversal.org_id = line.org_id AND reversal.id = line.reversal_id"
        " JOIN loyalty_draw draw ON draw.org_id = line.org_id AND draw.id = line.draw_id"
        " WHERE draw.redemption_id <> reversal.redemption_id",
    ),
    Law(
        "a reversal belongs to the customer of its redemption, or to one who was merged into that customer",
        "SELECT reversal.org_id, reversal.public_id, reversal.customer_id, redemption.customer_id"
        " FROM reversals_reversal reversal JOIN loyalty_redemption redemption"
        " ON redemption.org_id = reversal.org_id AND redemption.id = reversal.redemption_id"
        " JOIN loyalty_customer customer ON customer.org_id = reversal.org_id AND customer.id = reversal.customer_id"
        " WHERE COALESCE(customer.merged_into_id, customer.id) <> redemption.customer_id",
    ),
    Law(
        "no reversal has the same public id as a redemption of its org",
        "SELECT reversal.org_id, reversal.public_id, reversal.id, redemption.id FROM reversals_reversal reversal"
        " JOIN loyalty_redemption redemption"
        " ON redemption.org_id = reversal.org_id AND redemption.public_id = reversal.public_id",
    ),
    Law(
        "correction.points = points of its reversal",
        "SELECT reversal.org_id, reversal.public_id, correction.points, reversal.points"
        " FROM reversals_correction correction JOIN reversals_reversal reversal"
        " ON reversal.org_id = correction.org_id AND reversal.id = correction.reversal_id"
        " WHERE correction.points <> reversal.points",
    ),
    Law(
        "a correction matches an approval of its reversal with the same requester and approver, two different users",
        "SELECT correction.org_id, correction.id, correction.made_by, correction.approved_by"
        " FROM reversals_correction correction JOIN reversals_approval approval"
        " ON approval.org_id = correction.org_id AND approval.id = correction.approval_id"
        " WHERE approval.status <> 'APPROVED' OR approval.corrects_id IS NULL"
        " OR approval.corrects_id <> correction.reversal_id"
        " OR approval.asked_by <> correction.made_by OR approval.decided_by <> correction.approved_by"
        " OR correction.made_by = correction.approved_by",
    ),
    Law(
        "an approval is decided by a user other than the one who requested it",
        "SELECT org_id, id, asked_by, decided_by FROM reversals_approval WHERE asked_by = decided_by",
    ),
    Law(
        "an approved request for a correction has its correction",
        "SELECT approval.org_id, approval.id, approval.status, correction.id FROM reversals_approval approval"
        " LEFT JOIN reversals_correction correction"
        " ON correction.org_id = approval.org_id AND correction.reversal_id = approval.corrects_id"
        " AND correction.approval_id = approval.id"
        " WHERE approval.status = 'APPROVED' AND approval.corrects_id IS NOT NULL AND correction.id IS NULL",
    ),
    Law(
        "a delivery belongs to the customer of its event",
        "SELECT delivery.org_id, delivery.id, delivery.customer_id, event.customer_id FROM reversals_delivery delivery"
        " JOIN reversals_event event ON event.org_id = delivery.org_id AND event.id = delivery.event_id"
        " WHERE event.customer_id <> delivery.customer_id",
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
    *_MERGES,
    *_COVERINGS,
)


def broken_laws(org_id: int | None = None, *, progress: Callable[[int], None] = lambda laws: None) -> list[BrokenRow]:
    """Returns the rows that break a law, at most 100 for each law, in one org or in all.

    Calls `progress` with the number of laws that were checked so far.
    """
    broken: list[BrokenRow] = []
    with queries.one_snapshot(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # The time limit of a request is too short for a scan of all rows.
            cursor.execute("SET LOCAL statement_timeout = 0")
            read_one_snapshot(cursor)
        for number, law in enumerate(LAWS, start=1):
            # No LIMIT, because PostgreSQL would choose a plan that finds the first rows quickly, and usually there are
            # no rows to find.
            condition, params = ("WHERE org_id = %s", [org_id]) if org_id is not None else ("", [])
            cursor.execute(f"SELECT * FROM ({law.broken}) AS broken {condition}", params)
            for row_org_id, row, left, right in cursor.fetchmany(BROKEN_ROWS_NAMED):
                broken.append(BrokenRow(law.name, row_org_id, str(row), _written(left), _written(right)))
            progress(number)
    return broken


def _written(value: object) -> str:
    return "missing" if value is None else str(value)


def record_check(*, org_id: int | None, started_at: datetime, broken_count: int) -> LedgerCheck:
    """Records that the laws of one org, or of all orgs, were checked."""
    return LedgerCheck.objects.create(
        org_id=org_id, started_at=started_at, finished_at=timezone.now(), broken_count=broken_count
    )


def rows_checked(org_id: int | None = None) -> dict[str, int]:
    """Counts the rows of each kind that the laws cover, in one org or in all."""
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
