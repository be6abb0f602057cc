"""Looks up the caller: the API client of a request's credentials, its org and the org's settings."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import Error, connection

from loyalty.clients import rehashing
from loyalty.emf.registry import EmfSettings
from loyalty.ledger.clock import as_datetime_or_none
from loyalty.ledger.snapshots import OrgFacts
from loyalty.ledger.sql import Statement, places
from loyalty.maintenance import IS_ON
from loyalty.outages import outage_of


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated API client with its org and the org's settings.

    `is_hashed_anew`: its secret is hashed with the pepper, or was hashed anew lately by a server with another pepper.
    `in_maintenance`: maintenance was on, so the call may write nothing. `also` is an additional value that the same
    statement looked up.
    """

    client_id: int
    username: str
    calls_per_minute: int | None
    org: OrgFacts
    settings: EmfSettings
    secret_id: int
    secret_last_used_at: datetime | None
    is_hashed_anew: bool = True
    in_maintenance: bool = False
    also: Any = None
    is_authenticated: bool = True  # DRF expects this attribute of a user


def find_caller(*, username: str, digests: Sequence[str], also: Statement = ("NULL", [])) -> Caller | None:
    """Looks up the active API client of an active org for a username and the keyed digests of a password.

    The first of the digests is that of the pepper. `also` is an SQL expression that the same statement looks up; it can
    refer to the table `client`.
    """
    try:
        row = _caller_row(username, digests, also)
    except Error as error:
        # A persistent connection breaks when the database restarts. This is the request's first statement and only
        # reads, so it is safe to run it again on a new connection.
        if connection.in_atomic_block or outage_of(error) is None:
            raise
        connection.close()
        row = _caller_row(username, digests, also)
    return None if row is None else _caller(username, *row)


def _caller_row(username: str, digests: Sequence[str], also: Statement) -> Any:
    on_postgresql = connection.vendor == "postgresql"
    array, all_rows = ("json_build_array", "json_agg") if on_postgresql else ("json_array", "json_group_array")
    also_sql, also_params = also
    each = places(digests)
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT client.id, client.calls_per_minute, org.id, org.country, org.v2_enabled,
                   secret.id, secret.last_used_at,
                   (SELECT CAST({all_rows}({array}(setting.program_id, setting.key, setting.value)) AS text)
                      FROM loyalty_emfsetting setting WHERE setting.org_id = client.org_id),
                   {IS_ON}, secret.digest = %s OR secret.md5_digest = %s, secret.hashed_at, {also_sql}
              FROM loyalty_apiclient client
              JOIN loyalty_org org ON org.id = client.org_id AND org.is_active
              JOIN loyalty_apisecret secret ON secret.org_id = client.org_id AND secret.client_id = client.id
             WHERE client.username = %s AND client.is_active
               AND (secret.digest IN ({each}) OR secret.md5_digest IN ({each}))
            """,
            [digests[0], digests[0], *also_params, username, *digests, *digests],
        )
        return cursor.fetchone()


def _caller(username: str, *row: Any) -> Caller:
    client_id, calls_per_minute, org_id, country, v2_enabled, secret_id, last_used_at, settings, *rest = row
    is_on, is_of_pepper, hashed_at, also = rest
    return Caller(
        client_id=client_id,
        username=username,
        calls_per_minute=calls_per_minute,
        org=OrgFacts(org_id, country, bool(v2_enabled)),
        settings=EmfSettings({(program_id, key): value for program_id, key, value in json.loads(settings or "[]")}),
        secret_id=secret_id,
        secret_last_used_at=as_datetime_or_none(last_used_at),
        is_hashed_anew=bool(is_of_pepper) or rehashing.is_recent(as_datetime_or_none(hashed_at)),
        in_maintenance=bool(is_on),
        also=also,
    )
