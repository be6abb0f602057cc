"""Hashes API secrets anew after a change of the pepper: each when it is used, because only its client knows it."""

import logging
from datetime import datetime, timedelta
from typing import Any

from django.db import Error, connection
from django.utils import timezone

from loyalty.clients.credentials import keyed_digest, keyed_digests, md5_form, pepper_mark
from loyalty.clients.last_used import without_waiting
from loyalty.ledger.sql import places
from loyalty.models import ApiSecret

logger = logging.getLogger(__name__)

# While servers change to a new pepper one after the other, they do not take turns in hashing the same secret.
RECENT = timedelta(minutes=10)


def is_recent(hashed_at: datetime | None) -> bool:
    return hashed_at is not None and timezone.now() - hashed_at < RECENT


def hash_anew(secret_id: int, password: str) -> None:
    """Stores the hashes of the password with the pepper, where the row has those of a former one.

    `password` is the secret or its MD5; of the MD5 only that form can be hashed. Commits immediately, waits for no lock
    and ignores errors, because the former hash is still accepted.
    """
    former = keyed_digests(password)[1:]
    if not former:
        return
    skip_locked = "FOR NO KEY UPDATE SKIP LOCKED" if connection.vendor == "postgresql" else ""
    is_secret, is_md5 = (f"{column} IN ({places(former)})" for column in ("digest", "md5_digest"))
    sql = f"""
        UPDATE loyalty_apisecret
           SET digest = CASE WHEN {is_secret} THEN %s ELSE digest END,
               md5_digest = CASE WHEN {is_secret} THEN %s WHEN {is_md5} THEN %s ELSE md5_digest END,
               pepper = %s, hashed_at = %s
         WHERE id = (SELECT id FROM loyalty_apisecret WHERE id = %s {skip_locked})
    """
    now = connection.ops.adapt_datetimefield_value(timezone.now())
    of_password = keyed_digest(password)
    params = [*former, of_password, *former, keyed_digest(md5_form(password)), *former, of_password]
    try:
        with without_waiting(), connection.cursor() as cursor:
            cursor.execute(sql, [*params, pepper_mark(), now, secret_id])
    except Error as error:
        logger.info("an API secret was not hashed anew: %s", error)


def counts() -> dict[str, Any]:
    """Returns how many secrets are hashed with the pepper and with a former one, and the clients of the latter."""
    former = ApiSecret.objects.exclude(pepper=pepper_mark()).order_by("org_id", "client__username")
    clients = [f"{org_id} {username}" for org_id, username in former.values_list("org_id", "client__username")]
    return {"current": ApiSecret.objects.count() - len(clients), "former": len(clients), "clients": clients}
