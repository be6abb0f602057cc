"""A user who looks through the proxy for the latest redemption, and records where each page was read."""

import json
import secrets
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from http.client import HTTPSConnection
from http.cookiejar import CookieJar
from urllib.parse import urlencode

import psycopg

from tests.serving import manage
from tests.system.faults.load import HEADERS

PASSWORD = "a-long-password-for-this-test"
# The last statement of the session that read a page. The first ones only query how far the replica is.
READ = """
SELECT query FROM pg_stat_activity
 WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND query_start > %s
 ORDER BY query_start DESC LIMIT 1
"""


class Reader:
    """During the block, repeatedly redeems points of a customer and looks for the redemption in the back office.

    `seconds` has the duration of each look, `from_replica` the number of pages that were read from the replica, and
    `missed` the number of pages that did not show the redemption.
    """

    def __init__(self, through: partial[HTTPSConnection], environment: dict[str, str], replica_url: str) -> None:
        user = ("createsuperuser", "--noinput", "--username", "reader", "--email", "reader@shop.example")
        manage(environment | {"DJANGO_SUPERUSER_PASSWORD": PASSWORD}, user)
        self.address, self.replica_url = f"https://localhost:{through.args[1]}", replica_url
        self.cookies = CookieJar()
        self.opener = urllib.request.build_opener(
            urllib.request.HTTPSHandler(context=through.keywords["context"]),
            urllib.request.HTTPCookieProcessor(self.cookies),
        )
        self.seconds: list[float] = []
        self.from_replica = self.missed = 0
        self._sign_in()

    def __enter__(self) -> "Reader":
        self.over = threading.Event()
        thread = ThreadPoolExecutor(1)
        self.work = thread.submit(self._read)
        thread.shutdown(wait=False)
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.work.result()

    def _sign_in(self) -> None:
        page = f"{self.address}/admin/login/"
        self.opener.open(page).read()
        [token] = [cookie.value for cookie in self.cookies if cookie.name == "csrftoken"]
        form = {"username": "reader", "password": PASSWORD, "csrfmiddlewaretoken": token, "next": "/admin/find/"}
        # nginx passes the host name on without the port, which is 443 in production.
        headers = {"Referer": "https://localhost/admin/login/"}
        signed_in = self.opener.open(urllib.request.Request(page, urlencode(form).encode(), headers))
        assert "/login/" not in signed_in.geturl()

    def _read(self) -> None:
        while not self.over.is_set():
            self._look()

    def _look(self) -> None:
        redemption_id = self._redeem()
        before, started = datetime.now(UTC), time.monotonic()
        found = self.opener.open(f"{self.address}/admin/find/?q={redemption_id}")
        found.read()
        self.seconds.append(time.monotonic() - started)
        self.missed += "/loyalty/redemption/" not in found.geturl()
        self.from_replica += self._was_read_from_replica(before)

    def _was_read_from_replica(self, before: datetime) -> bool:
        with suppress(psycopg.OperationalError), psycopg.connect(self.replica_url) as replica:
            last = replica.execute(READ, [before]).fetchone()
            return last is not None and "pg_last_wal_replay_lsn" not in last[0]
        return False

    def _redeem(self) -> str:
        """Redeems 0.001 points of the customer and returns the redemption's id."""
        number = secrets.token_hex(8)  # so that it is not refused as a duplicate
        body = json.dumps({"points": 0.001, "programId": "973", "transactionNumber": number}).encode()
        request = urllib.request.Request(f"{self.address}/v2/customers/1/redemptions", body, HEADERS)
        return str(json.load(self.opener.open(request))["redemptionId"])
