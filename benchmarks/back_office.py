"""Times every list and the main pages of the back office on a ledger of a million redemptions (or `--rows N`).

It fills a private PostgreSQL by plain SQL, asks each page five times in one process, and prints the median in
milliseconds with the number of queries. A page over its limit ends the run with status 1.
"""

import argparse
import os
import statistics
import sys
import time
from typing import Any

from tests import environment  # noqa: F401  sets the environment before Django reads it
from tests.postgresql import private_postgresql

ROUNDS = 5
LIST_LIMIT_MS = 500
FIND_LIMIT_MS = 300
HOME_LIMIT_MS = 200

# Row ids are drawn from one range per table, so that parents can be computed.
FILL = """
INSERT INTO loyalty_customer (id, org_id, public_id, status, reversals_locked, reversals_lock_reason)
SELECT 1000000000 + n, 1, n, 'ACTIVE', false, '' FROM generate_series(1, {customers}) n;
INSERT INTO loyalty_customeridentifier (id, org_id, customer_id, type, value)
SELECT 1000000000 + n, 1, 1000000000 + n, 'MOBILE', (919800000000 + n)::text FROM generate_series(1, {customers}) n;
INSERT INTO loyalty_lot
       (id, org_id, program_id, customer_id, lot_ref, points_awarded, points_remaining, awarded_at, expires_at)
SELECT 2000000000 + n, 1, {program}, 1000000001 + n % {customers}, 'L' || n, 20000, 10000,
       now() - interval '400 days', now() + (n % 300 - 30) * interval '1 day'
  FROM generate_series(1, {rows}) n;
INSERT INTO loyalty_redemption
       (id, org_id, program_id, customer_id, public_id, points, points_reversed, redeemed_at, transaction_number,
        external_reference_number)
SELECT 3000000000 + n, 1, {program}, 1000000001 + n % {customers}, 'R' || n, 10000,
       CASE WHEN n % 2 = 0 THEN 1000 ELSE 0 END, now() - (n % 360) * interval '1 day', 'T' || n / 2, 'E' || n
  FROM generate_series(1, {rows}) n;
INSERT INTO loyalty_draw (id, org_id, redemption_id, lot_id, position, points, points_reversed)
SELECT 4000000000 + n, 1, 3000000000 + n, 2000000000 + n, 1, 10000, CASE WHEN n % 2 = 0 THEN 1000 ELSE 0 END
  FROM generate_series(1, {rows}) n;
INSERT INTO reversals_reversal
       (id, org_id, redemption_id, customer_id, public_id, points, points_available, points_expired, has_key, channel,
        made_by, reason, created_at)
SELECT 5000000000 + n, 1, 3000000000 + 2 * n, 1000000001 + 2 * n % {customers}, 'V' || n, 1000, 1000, 0, true, 'API',
       'till.1', '', now() - (n % 30) * interval '1 day' - n % 80000 * interval '1 second'
  FROM generate_series(1, LEAST({rows} / 2, 99999)) n;
INSERT INTO reversals_attempt
       (id, org_id, created_at, operation, is_dry_run, request_id, channel, made_by, reason, redemption_id_asked,
        external_reference_asked, identifier_type, identifier_masked, idempotency_key, holds_key, fingerprint,
        http_status, code, rule, refusal_reason, reply)
SELECT 6000000000 + n, 1, now() - (n % 30) * interval '1 day' - n % 80000 * interval '1 second', 'REVERSE', false,
       '', 'API', 'till.1', '', 'R' || n, '', 'ID', '***', '', false, '',
       CASE WHEN n % 10 = 0 THEN 400 ELSE 200 END, CASE WHEN n % 10 = 0 THEN 817 END,
       CASE WHEN n % 10 = 0 THEN 'MORE_THAN_LEFT' ELSE '' END, '', ''
  FROM generate_series(1, {rows}) n;
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="redemptions, and as many lots, draws and attempts")
    rows = parser.parse_args().rows
    with private_postgresql() as url:
        os.environ |= {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "config.settings"}
        import django

        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        started = time.monotonic()
        _fill(rows)
        print(f"{rows:,} redemptions, lots, draws and attempts in {time.monotonic() - started:.0f} s")
        return _measure(rows)


def _fill(rows: int) -> None:
    from django.db import connection

    from loyalty.models import Org
    from loyalty.service import create_org, create_program

    for org_id in (1, 2):
        create_org(org_id=org_id, name=f"Brand {org_id}", country="IN", v2_enabled=True)
    program = create_program(org=Org.objects.get(id=1), public_id=973, name="Main")
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0; SET session_replication_role = replica")
        for statement in FILL.format(rows=rows, customers=max(rows // 20, 1), program=program.id).split(";\n"):
            cursor.execute(statement)
        cursor.execute("ANALYZE")
    connection.close()


def _measure(rows: int) -> int:
    from django.contrib.admin.sites import site
    from django.contrib.auth.models import User
    from django.test import Client
    from django.urls import reverse

    client = Client()
    client.force_login(User.objects.create_superuser("bench"))
    late = [
        _ask(client, "home, first look", "/admin/", HOME_LIMIT_MS * 10, rounds=1),
        _ask(client, "home", "/admin/", HOME_LIMIT_MS),
    ]
    for model in site._registry:
        name = f"{model._meta.app_label}_{model._meta.model_name}"
        address = reverse(f"admin:{name}_changelist")
        late.append(_ask(client, f"list of {model._meta.verbose_name_plural}", address, LIST_LIMIT_MS))
    pages = {
        "redemption": reverse("admin:loyalty_redemption_change", args=[3_000_000_000 + rows // 2]),
        "customer": reverse("admin:loyalty_customer_change", args=[1_000_000_001]),
        "attempts refused as busy": f"{reverse('admin:reversals_attempt_changelist')}?rule=BUSY",
        "search of redemptions": f"{reverse('admin:loyalty_redemption_changelist')}?q=R{rows // 3}",
    }
    late += [_ask(client, name, address, LIST_LIMIT_MS) for name, address in pages.items()]
    wanted = [f"R{rows // 3}", f"T{rows // 3}", f"E{rows // 3}", "9800000007", "no-such-thing"]
    late += [_ask(client, f"find {text}", f"/admin/find/?q={text}", FIND_LIMIT_MS) for text in wanted]
    return 1 if any(late) else 0


def _ask(client: Any, name: str, address: str, limit_ms: int, *, rounds: int = ROUNDS) -> bool:
    """Asks the page some times, prints what it took, and returns whether it was over the limit."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    times: list[float] = []
    queries = status = 0
    for _ in range(rounds):
        with CaptureQueriesContext(connection) as captured:
            started = time.perf_counter()
            status = client.get(address).status_code
            times.append((time.perf_counter() - started) * 1000)
        queries = len(captured)
    median = statistics.median(times)
    late = median > limit_ms
    print(f"{median:8.0f} ms  {queries:3} queries  {status}  {name}{f'  OVER {limit_ms} ms' if late else ''}")
    return late


if __name__ == "__main__":
    sys.exit(main())
