"""SQL of the import: staging tables, checks of the staged rows, and inserts.

Each join compares the org of both tables, because a Citus cluster joins only rows that are on one node.
"""

from dataclasses import dataclass

from loyalty.importing.files import POINTS, REDEMPTIONS
from loyalty.ledger.distribution import org_of

# `verdict` of a staged row: it is inserted, it exists already, or it is bad.
NEW, EXISTING, BAD = 0, 1, 2

STAGES = {
    "stage_customers": (
        "line bigint, id bigint, org_id bigint, customer_id bigint, status varchar(16), merged_into bigint, verdict int"
    ),
    "stage_identifiers": (
        "line bigint, id bigint, org_id bigint, customer_id bigint, field varchar(16), type varchar(16),"
        " value varchar(255)"
    ),
    "stage_points": (
        "line bigint, id bigint, org_id bigint, program_id bigint, customer_id bigint, lot_ref varchar(64),"
        " points bigint, awarded_at {time}, expires_at {time}, verdict int"
    ),
    "stage_redemptions": (
        "line bigint, id bigint, org_id bigint, program_id bigint, customer_id bigint, redemption_id varchar(64),"
        " points bigint, redeemed_at {time}, transaction_number varchar(128),"
        " external_reference_number varchar(128), verdict int"
    ),
    "stage_replay": "line bigint, org_id bigint, customer bigint, redemption bigint, points bigint, redeemed_at {time}",
    "stage_drawn": "org_id bigint, lot bigint, points bigint",
    # The import of each org that gets lots or redemptions, with the totals that it adds.
    "stage_imports": (
        "id bigint, org_id bigint, lots_added bigint, points_awarded bigint, redemptions_added bigint,"
        " points_redeemed bigint"
    ),
}

# The columns of each file that are staged unchanged, in the order of the staging table.
STAGED_COLUMNS = {
    "customers": ("org_id", "customer_id", "status", "merged_into"),
    "points": tuple(POINTS),
    "redemptions": tuple(REDEMPTIONS),
}

STAGE_INDEXES = (
    ("stage_customers", "org_id, customer_id"),
    ("stage_identifiers", "org_id, type, value"),
    ("stage_identifiers", "org_id, line"),
    ("stage_points", "org_id, lot_ref"),
    ("stage_redemptions", "org_id, redemption_id"),
    ("stage_redemptions", "org_id, external_reference_number"),
)

DRAW_COLUMNS = "id, org_id, redemption_id, lot_id, position, points, points_reversed"


@dataclass(frozen=True)
class Check:
    """Sets `verdict` on a file's new rows that meet `condition`. `column` and `expected` describe bad rows."""

    file: str
    verdict: int
    condition: str
    column: str = ""
    expected: str = ""


def _same(left: str, right: str) -> str:
    return f"({left} = {right} OR ({left} IS NULL AND {right} IS NULL))"


_OWN_IDENTIFIERS = "SELECT 1 FROM stage_identifiers own WHERE own.org_id = staged.org_id AND own.line = staged.line"
_NAMED = (
    "SELECT 1 FROM loyalty_customeridentifier named WHERE named.org_id = own.org_id AND named.type = own.type"
    " AND named.value = own.value"
)
_CUSTOMER_UNKNOWN = (
    "NOT EXISTS (SELECT 1 FROM loyalty_customer customer WHERE customer.org_id = staged.org_id"
    " AND customer.public_id = staged.customer_id)"
    f" AND NOT EXISTS (SELECT 1 FROM stage_customers other WHERE other.verdict = {NEW}"
    " AND other.org_id = staged.org_id AND other.customer_id = staged.customer_id)"
)


def _identifier_check(field: str) -> Check:
    taken = (
        f"EXISTS ({_OWN_IDENTIFIERS} AND own.field = '{field}' AND ("
        f"EXISTS ({_NAMED}) OR EXISTS (SELECT 1 FROM stage_identifiers other"
        " JOIN stage_customers earlier ON earlier.org_id = other.org_id AND earlier.line = other.line"
        f" AND earlier.verdict = {NEW}"
        " WHERE other.org_id = own.org_id AND other.type = own.type AND other.value = own.value"
        " AND other.line < own.line)))"
    )
    expected = "a value that no other customer has; if the other customer has it by mistake, run set_identifier"
    return Check("customers", BAD, taken, field, expected)


def _first_in_file(file: str, key: str) -> str:
    """Returns SQL that selects, as `other`, the first earlier row of the file with the same id."""

    def same_id(table: str) -> str:
        return f"{table}.verdict = {NEW} AND {table}.org_id = staged.org_id AND {table}.{key} = staged.{key}"

    return (
        f"SELECT 1 FROM stage_{file} other WHERE {same_id('other')} AND other.line < staged.line AND NOT EXISTS"
        f" (SELECT 1 FROM stage_{file} first WHERE {same_id('first')} AND first.line < other.line)"
    )


def _repeats(
    file: str, key: str, *, stored: str, same_as_stored: str, same_as_other: str, advice: str = ""
) -> tuple[Check, ...]:
    """Returns checks of repeated ids: a row whose id exists already must have the same content, or it is bad.

    The id can exist in the database or earlier in the file. `stored` selects the database's row with this id.
    `same_as_stored` compares it, and `same_as_other` compares the file's earlier row `other`, with the staged row.
    """
    first = _first_in_file(file, key)
    return (
        Check(file, EXISTING, f"EXISTS ({stored} AND {same_as_stored})"),
        Check(file, BAD, f"EXISTS ({stored})", key, f"the same content as the stored row with this id{advice}"),
        Check(file, EXISTING, f"EXISTS ({first} AND {same_as_other})"),
        Check(file, BAD, f"EXISTS ({first})", key, "the same content as the earlier row with this id"),
    )


_STORED_CUSTOMER = (
    "SELECT 1 FROM loyalty_customer customer"
    " WHERE customer.org_id = staged.org_id AND customer.public_id = staged.customer_id"
)
# A merge after the import changed the status and moved the identifiers.
_OWNER = "COALESCE(customer.merged_into_id, customer.id)"
_SURVIVOR = (
    "(SELECT COALESCE(named.merged_into_id, named.id) FROM loyalty_customer named"
    " WHERE named.org_id = staged.org_id AND named.public_id = staged.{column})"
)
_SAME_AS_CUSTOMER = (
    "(customer.status = staged.status OR customer.merged_into_id IS NOT NULL)"
    f" AND (staged.merged_into IS NULL OR customer.merged_into_id = {_SURVIVOR.format(column='merged_into')})"
    f" AND NOT EXISTS ({_OWN_IDENTIFIERS} AND NOT EXISTS ({_NAMED} AND named.customer_id = {_OWNER}))"
)
# An empty identifier is unknown here too, so it does not differ from any value.
_SAME_AS_OTHER_CUSTOMER = (
    f"other.status = staged.status AND {_same('other.merged_into', 'staged.merged_into')}"
    f" AND NOT EXISTS ({_OWN_IDENTIFIERS}"
    " AND NOT EXISTS (SELECT 1 FROM stage_identifiers theirs WHERE theirs.org_id = other.org_id"
    " AND theirs.line = other.line"
    " AND theirs.type = own.type AND theirs.value = own.value))"
)
# A file from before a merge names the first customer, and one from after it the survivor. Both are the same.
_SAME_OWNER = f"stored.customer_id = {_SURVIVOR.format(column='customer_id')}"


def _as_stored(same_as_other: str) -> str:
    """Returns the comparison with a row of the database instead of with an earlier row of the file."""
    return same_as_other.replace("other.customer_id = staged.customer_id", _SAME_OWNER).replace("other.", "stored.")


_STORED_LOT = (
    "SELECT 1 FROM (SELECT lot.*, lot.points_awarded AS points FROM loyalty_lot lot) AS stored"
    " WHERE stored.org_id = staged.org_id AND stored.lot_ref = staged.lot_ref"
)
_SAME_LOT = (
    "other.program_id = staged.program_id AND other.customer_id = staged.customer_id AND other.points = staged.points"
    f" AND other.awarded_at = staged.awarded_at AND {_same('other.expires_at', 'staged.expires_at')}"
)
_STORED_REDEMPTION = (
    "SELECT 1 FROM loyalty_redemption stored"
    " WHERE stored.org_id = staged.org_id AND stored.public_id = staged.redemption_id"
)
_SAME_REDEMPTION = (
    "other.program_id = staged.program_id AND other.customer_id = staged.customer_id AND other.points = staged.points"
    " AND other.redeemed_at = staged.redeemed_at AND other.transaction_number = staged.transaction_number"
    f" AND {_same('other.external_reference_number', 'staged.external_reference_number')}"
)
_REFERENCE_TAKEN = (
    "(EXISTS (SELECT 1 FROM loyalty_redemption redemption WHERE redemption.org_id = staged.org_id"
    " AND redemption.external_reference_number = staged.external_reference_number)"
    f" OR EXISTS (SELECT 1 FROM stage_redemptions other WHERE other.verdict = {NEW} AND other.org_id = staged.org_id"
    " AND other.external_reference_number = staged.external_reference_number AND other.line < staged.line))"
)

# The identifiers of a merged customer are those of the survivor.
_IDENTITY_ERASED = (
    f"EXISTS ({_OWN_IDENTIFIERS})"
    " AND EXISTS (SELECT 1 FROM loyalty_customer customer JOIN loyalty_customer survivor"
    f" ON survivor.org_id = customer.org_id AND survivor.id = {_OWNER}"
    " WHERE customer.org_id = staged.org_id AND survivor.erased_at IS NOT NULL"
    " AND (customer.public_id = staged.customer_id OR customer.public_id = staged.merged_into))"
)

# Checks run in this order. A row that has a verdict is not checked again.
CHECKS = (
    Check(
        "customers", BAD, _IDENTITY_ERASED, "customer_id", "no identifiers, because the customer's identity was erased"
    ),
    *_repeats(
        "customers",
        "customer_id",
        stored=_STORED_CUSTOMER,
        same_as_stored=_SAME_AS_CUSTOMER,
        same_as_other=_SAME_AS_OTHER_CUSTOMER,
        advice="; to change an identifier, run set_identifier ORG_ID CUSTOMER_ID TYPE VALUE; to merge the customer,"
        " run merge_customers ORG_ID FROM_ID INTO_ID",
    ),
    _identifier_check("mobile"),
    _identifier_check("email"),
    _identifier_check("external_id"),
    _identifier_check("card_number"),
    Check(
        "customers",
        BAD,
        "staged.merged_into IS NOT NULL AND (staged.status <> 'MERGED' OR staged.merged_into = staged.customer_id)",
        "merged_into",
        "another customer, and the status MERGED",
    ),
    Check(
        "customers",
        BAD,
        f"staged.merged_into IS NOT NULL AND {_CUSTOMER_UNKNOWN.replace('staged.customer_id', 'staged.merged_into')}",
        "merged_into",
        "a customer that exists",
    ),
    Check("points", BAD, _CUSTOMER_UNKNOWN, "customer_id", "a customer that exists"),
    *_repeats(
        "points",
        "lot_ref",
        stored=_STORED_LOT,
        same_as_stored=_as_stored(_SAME_LOT),
        same_as_other=_SAME_LOT,
    ),
    Check("points", BAD, "staged.expires_at < staged.awarded_at", "expires_at", "a time after awarded_at, or nothing"),
    Check("redemptions", BAD, _CUSTOMER_UNKNOWN, "customer_id", "a customer that exists"),
    *_repeats(
        "redemptions",
        "redemption_id",
        stored=_STORED_REDEMPTION,
        same_as_stored=_as_stored(_SAME_REDEMPTION),
        same_as_other=_SAME_REDEMPTION,
    ),
    Check("redemptions", BAD, _REFERENCE_TAKEN, "external_reference_number", "a number that no other redemption has"),
)

ORGS_OF_NEW = " UNION ".join(f"SELECT org_id FROM stage_{file} WHERE verdict = {NEW}" for file in STAGED_COLUMNS)


def lock_owners() -> str:
    """Returns the statement that locks the customers of the org `org` who get rows, and those they were merged into.

    Movements of points do not wait for this lock, but a merge does. So a customer whose rows are being inserted is not
    merged before they can be moved with the others.
    """
    new = " UNION ".join(
        f"SELECT {file}.org_id, {file}.{column} AS customer_id FROM stage_{file} {file}"
        f" WHERE {org_of(file)} = %(org)s AND {file}.verdict = {NEW} AND {file}.{column} IS NOT NULL"
        for file, column in (("points", "customer_id"), ("redemptions", "customer_id"), ("customers", "merged_into"))
    )
    own = f"{org_of('customer')} = %(org)s"
    return (
        f"WITH named AS (SELECT customer.id, customer.merged_into_id FROM loyalty_customer customer JOIN ({new}) staged"
        f" ON customer.org_id = staged.org_id AND customer.public_id = staged.customer_id WHERE {own})"
        f" SELECT customer.id FROM loyalty_customer customer WHERE {own} AND customer.id IN"
        " (SELECT id FROM named UNION SELECT merged_into_id FROM named) ORDER BY customer.id FOR KEY SHARE OF customer"
    )


# The customer of a row of a merged customer is the survivor; the row keeps its first customer.
_FIRST = "CASE WHEN customer.merged_into_id IS NOT NULL THEN customer.id END"
_OWN_CUSTOMER = (
    "JOIN loyalty_customer customer ON customer.org_id = staged.org_id AND customer.public_id = staged.customer_id"
)

# The number of new lots and redemptions, and their points, by org.
SUMS_OF_NEW = (
    "SELECT org_id, SUM(lots), SUM(awarded), SUM(redemptions), SUM(redeemed) FROM ("
    "SELECT org_id, 1 AS lots, points AS awarded, 0 AS redemptions, 0 AS redeemed FROM stage_points"
    f" WHERE verdict = {NEW} UNION ALL SELECT org_id, 0, 0, 1, points FROM stage_redemptions WHERE verdict = {NEW}"
    ") AS added GROUP BY org_id"
)
RECORD_IMPORTS = (
    "INSERT INTO loyalty_ledgerimport (id, org_id, imported_at, made_by, lots_added, points_awarded,"
    " redemptions_added, points_redeemed) SELECT id, org_id, %s, %s, lots_added, points_awarded, redemptions_added,"
    " points_redeemed FROM stage_imports"
)
_OWN_IMPORT = "JOIN stage_imports imported ON imported.org_id = staged.org_id"

# The file whose rows each statement inserts, or "" for the identifiers of customers.
INSERTS = (
    (
        "customers",
        "INSERT INTO loyalty_customer (id, org_id, public_id, status, reversals_locked, reversals_lock_reason)"
        f" SELECT id, org_id, customer_id, status, FALSE, '' FROM stage_customers WHERE verdict = {NEW} ORDER BY line",
    ),
    (
        "",
        "INSERT INTO loyalty_customeridentifier (id, org_id, customer_id, type, value)"
        f" SELECT own.id, own.org_id, {_OWNER}, own.type, own.value FROM stage_identifiers own"
        " JOIN stage_customers AS staged ON staged.org_id = own.org_id AND staged.line = own.line"
        " JOIN loyalty_customer customer ON customer.org_id = staged.org_id AND customer.id = staged.id"
        f" WHERE staged.verdict = {NEW}",
    ),
    (
        "points",
        "INSERT INTO loyalty_lot (id, org_id, program_id, customer_id, lot_ref, points_awarded, points_remaining,"
        " awarded_at, expires_at, ledger_import_id, first_customer_id)"
        f" SELECT staged.id, staged.org_id, staged.program_id, {_OWNER}, staged.lot_ref, staged.points,"
        f" staged.points, staged.awarded_at, staged.expires_at, imported.id, {_FIRST}"
        f" FROM stage_points AS staged {_OWN_CUSTOMER} {_OWN_IMPORT}"
        f" WHERE staged.verdict = {NEW} ORDER BY staged.line",
    ),
    (
        "redemptions",
        "INSERT INTO loyalty_redemption (id, org_id, program_id, customer_id, public_id, points, points_reversed,"
        " redeemed_at, transaction_number, external_reference_number, ledger_import_id, first_customer_id)"
        f" SELECT staged.id, staged.org_id, staged.program_id, {_OWNER}, staged.redemption_id, staged.points, 0,"
        f" staged.redeemed_at, staged.transaction_number, staged.external_reference_number, imported.id, {_FIRST}"
        f" FROM stage_redemptions AS staged {_OWN_CUSTOMER} {_OWN_IMPORT}"
        f" WHERE staged.verdict = {NEW} ORDER BY staged.line",
    ),
)

# Merges in customers.csv. A chain of merges is followed to its end, one step by each run of FOLLOW_MERGES.
_MERGED_NOW = (
    "EXISTS (SELECT 1 FROM stage_customers AS staged WHERE staged.org_id = customer.org_id AND staged.id = customer.id"
    f" AND staged.verdict = {NEW})"
)
MERGES = (
    "UPDATE loyalty_customer AS customer SET merged_into_id = target.id FROM stage_customers AS staged"
    " JOIN loyalty_customer target ON target.org_id = staged.org_id AND target.public_id = staged.merged_into"
    f" WHERE staged.verdict = {NEW} AND customer.org_id = staged.org_id AND customer.id = staged.id",
    "INSERT INTO loyalty_customermerge (id, org_id, source_id, target_id, ticket, reason, made_by, made_at)"
    " SELECT id, org_id, id, merged_into_id, 'import', 'merged in customers.csv', %s, %s FROM loyalty_customer customer"
    f" WHERE merged_into_id IS NOT NULL AND {_MERGED_NOW}",
)
FOLLOW_MERGES = (
    "UPDATE loyalty_customer AS customer SET merged_into_id = target.merged_into_id FROM loyalty_customer target"
    " WHERE target.org_id = customer.org_id AND target.id = customer.merged_into_id"
    f" AND target.merged_into_id IS NOT NULL AND target.merged_into_id <> customer.id AND {_MERGED_NOW}"
)
CIRCULAR_MERGES = (
    "SELECT customer.public_id FROM loyalty_customer customer"
    " JOIN loyalty_customer target ON target.org_id = customer.org_id AND target.id = customer.merged_into_id"
    f" WHERE target.merged_into_id IS NOT NULL AND {_MERGED_NOW} ORDER BY customer.public_id LIMIT 1"
)

STAGE_REPLAY = (
    "INSERT INTO stage_replay (line, org_id, customer, redemption, points, redeemed_at)"
    f" SELECT staged.line, staged.org_id, {_OWNER}, staged.id, staged.points, staged.redeemed_at"
    f" FROM stage_redemptions AS staged {_OWN_CUSTOMER} WHERE staged.verdict = {NEW}"
)
TAKE_DRAWN = (
    "UPDATE loyalty_lot SET points_remaining = points_remaining - taken.points"
    " FROM stage_drawn AS taken"
    " WHERE loyalty_lot.org_id = taken.org_id AND loyalty_lot.id = taken.lot"
)
