"""Builds ledgers of any size by plain SQL. They keep every law, so `verify_ledger` passes."""

import os
import sqlite3
from base64 import b64encode
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from tests.serving import SECRET, manage

ORG = 1
TILLS = 8
SEQUENCE = "made_by_pgbench"

# Row ids come from one range per table, so that the ids of parents can be computed. One of the ten points of each even
# redemption is reversed; odd redemptions are not reversed.
FILL = """
INSERT INTO loyalty_customer (id, org_id, public_id, status, reversals_locked, reversals_lock_reason)
SELECT 1000000000 + n, 1, n, 'ACTIVE', false, '' FROM generate_series(1, {customers}) n;
INSERT INTO loyalty_customeridentifier (id, org_id, customer_id, type, value)
SELECT 1000000000 + n, 1, 1000000000 + n, 'MOBILE', (919800000000 + n)::text FROM generate_series(1, {customers}) n;
INSERT INTO loyalty_ledgerimport
       (id, org_id, imported_at, made_by, lots_added, points_awarded, redemptions_added, points_redeemed)
SELECT 1, 1, now(), 'benchmarks', {rows}, 20000::bigint * {rows}, {rows}, 10000::bigint * {rows};
INSERT INTO loyalty_lot
       (id, org_id, program_id, customer_id, lot_ref, points_awarded, points_remaining, awarded_at, expires_at,
        ledger_import_id)
SELECT 2000000000 + n, 1, {program}, 1000000001 + n % {customers}, 'L' || n, 20000,
       CASE WHEN n % 2 = 0 THEN 11000 ELSE 10000 END,
       now() - interval '400 days', now() + (n % 300 + 1) * interval '1 day', 1
  FROM generate_series(1, {rows}) n;
INSERT INTO loyalty_redemption
       (id, org_id, program_id, customer_id, public_id, points, points_reversed, redeemed_at, transaction_number,
        external_reference_number, ledger_import_id)
SELECT 3000000000 + n, 1, {program}, 1000000001 + n % {customers}, 'R' || n, 10000,
       CASE WHEN n % 2 = 0 THEN 1000 ELSE 0 END, now() - (31 + n % 330) * interval '1 day', 'T' || n / 2, 'E' || n, 1
  FROM generate_series(1, {rows}) n;
INSERT INTO loyalty_draw (id, org_id, redemption_id, lot_id, position, points, points_reversed)
SELECT 4000000000 + n, 1, 3000000000 + n, 2000000000 + n, 1, 10000, CASE WHEN n % 2 = 0 THEN 1000 ELSE 0 END
  FROM generate_series(1, {rows}) n;
INSERT INTO reversals_reversal
       (id, org_id, redemption_id, customer_id, public_id, points, points_available, points_expired, has_key, channel,
        made_by, reason, created_at)
SELECT 5000000000 + n, 1, 3000000000 + n, 1000000001 + n % {customers}, lpad(to_hex(n), 6, '0'), 1000, 1000, 0, false,
       'API', 'till.1', '', now() - interval '30 days' * (1 - n::float8 / {rows})
  FROM generate_series(2, {rows}, 2) n;
INSERT INTO reversals_reversalline
       (id, org_id, reversal_id, draw_id, points, points_available, points_expired)
SELECT 5000000000 + n, 1, 5000000000 + n, 4000000000 + n, 1000, 1000, 0 FROM generate_series(2, {rows}, 2) n;
INSERT INTO reversals_attempt
       (id, org_id, created_at, operation, is_dry_run, request_id, channel, made_by, reason, redemption_id_asked,
        external_reference_asked, identifier_type, identifier_masked, points_asked, idempotency_key, holds_key,
        fingerprint, http_status, code, rule, refusal_reason, reversal_id, reply)
SELECT 6000000000 + n, 1, now() - interval '30 days' * (1 - n::float8 / {rows}), 'REVERSE', false,
       md5(n::text), 'API', 'till.1', '', 'R' || n, '', 'ID', '***', 1000, '', false, '',
       CASE WHEN n % 2 = 0 THEN 200 ELSE 400 END, CASE WHEN n % 2 = 1 THEN 817 END,
       CASE WHEN n % 2 = 1 THEN 'MORE_THAN_LEFT' ELSE '' END, '',
       CASE WHEN n % 2 = 0 THEN 5000000000 + n END, repeat('x', CASE WHEN n % 2 = 0 THEN 320 ELSE 160 END)
  FROM generate_series(1, {rows}) n
"""


def authorization(username: str) -> str:
    """The HTTP Basic credentials of a till."""
    return "Basic " + b64encode(f"{username}:{SECRET}".encode()).decode()


def environment_of(url: str) -> dict[str, str]:
    """The environment of a server or command on this database, with the default settings of a server."""
    unlimited_by_tests = {"API_FAILED_LOGINS_PER_MINUTE": "60"}
    return os.environ | unlimited_by_tests | {"DATABASE_URL": url}


def customers_of(rows: int) -> int:
    """The number of customers of a ledger with `rows` redemptions."""
    return max(rows // 20, 1)


def build(url: str, rows: int) -> None:
    """Migrates the empty database and fills it with `rows` redemptions, each with a lot, a draw and an attempt.

    Half of the redemptions have a reversal. The API clients are `till.1` to `till.8`.
    """
    tills = [("create_api_client", str(ORG), f"till.{number}", "--secret", SECRET) for number in range(1, TILLS + 1)]
    manage(
        environment_of(url),
        ("migrate", "-v0"),
        ("create_org", str(ORG), "Brand 1"),
        ("create_org", str(ORG + 1), "Brand 2"),
        ("create_program", str(ORG), "973", "Main"),
        ("set_emf", str(ORG), "Allow_points_redemption_reversal", "yes", "--ticket", "T-1", "--reason", "bench"),
        *tills,
    )
    with psycopg.connect(url, autocommit=True) as connection:
        [program] = connection.execute("SELECT id FROM loyalty_program").fetchone() or [0]
        # Without triggers and foreign keys, because the inserted rows keep the laws, as verify_ledger confirms.
        connection.execute("SET session_replication_role = replica")
        for statement in FILL.format(rows=rows, customers=customers_of(rows), program=program).split(";\n"):
            connection.execute(statement)
        connection.execute(f"CREATE SEQUENCE {SEQUENCE}")
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


def copy_to_sqlite(url: str, path: Path) -> str:
    """Migrates a new SQLite file, copies the ledger from PostgreSQL into it table by table, and returns its URL."""
    copied = f"sqlite:///{path}"
    manage(environment_of(copied), ("migrate", "-v0"))
    with psycopg.connect(url) as postgresql, closing(sqlite3.connect(path)) as file:
        # Without triggers, as above.
        triggers = file.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        file.executescript("".join(f"DROP TRIGGER {name};" for name, _ in triggers))
        tables = postgresql.execute("SELECT tablename FROM pg_tables WHERE tablename ~ '^(loyalty|reversals)_'")
        for (table,) in tables.fetchall():
            rows = postgresql.execute(f"SELECT * FROM {table}")
            columns = [column.name for column in rows.description or ()]
            places = ", ".join("?" * len(columns))
            file.executemany(
                f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})", map(_as_sqlite_stores, rows)
            )
        for _, sql in triggers:
            file.execute(sql)
        file.commit()
    return copied


def _as_sqlite_stores(row: tuple[object, ...]) -> list[object]:
    """Returns the row with its times as text in UTC, as Django writes them."""
    return [str(value.astimezone(UTC).replace(tzinfo=None)) if isinstance(value, datetime) else value for value in row]
