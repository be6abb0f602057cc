"""Times every list and the main pages of the back office; requests each page several times in this process."""

import statistics
import time

from django.contrib.admin.sites import site
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from benchmarks.results import Page

ROUNDS = 5
LIST_LIMIT_MS = 300
FIND_LIMIT_MS = 300
HOME_LIMIT_MS = 200


def measure(rows: int) -> list[Page]:
    """Times the pages on the ledger that this process is connected to; `rows` is its number of redemptions."""
    client = Client()
    client.force_login(User.objects.create_superuser("bench"))
    pages = {
        "home, the first time for a period: counts its days once": ("/admin/", 0),
        "home": ("/admin/", HOME_LIMIT_MS),
    }
    for model in site._registry:
        address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        pages[f"list of {model._meta.verbose_name_plural}"] = (address, LIST_LIMIT_MS)
    redemptions, attempts = (
        reverse("admin:loyalty_redemption_changelist"),
        reverse("admin:reversals_attempt_changelist"),
    )
    pages |= {
        "redemption": (reverse("admin:loyalty_redemption_change", args=[3_000_000_000 + rows // 2]), LIST_LIMIT_MS),
        "customer": (reverse("admin:loyalty_customer_change", args=[1_000_000_001]), LIST_LIMIT_MS),
        "attempts refused as busy": (f"{attempts}?rule=BUSY", LIST_LIMIT_MS),
        "search of redemptions": (f"{redemptions}?q=R{rows // 3}", LIST_LIMIT_MS),
    }
    for text in (f"R{rows // 3}", f"T{rows // 3}", f"E{rows // 3}", "9800000007", "no-such-thing"):
        pages[f"find {text}"] = (f"/admin/find/?q={text}", FIND_LIMIT_MS)
    return [_ask(client, name, address, limit) for name, (address, limit) in pages.items()]


def _ask(client: Client, name: str, address: str, limit: int) -> Page:
    """Times one page. A page without a limit is requested once, because a second request does less work."""
    times = []
    queries = 0
    for _ in range(ROUNDS if limit else 1):
        with CaptureQueriesContext(connection) as captured:
            started = time.perf_counter()
            response = client.get(address, follow=True)
            times.append((time.perf_counter() - started) * 1000)
        queries = len(captured)
    failed = "" if response.status_code == 200 else f": FAILED, {response.status_code}"
    page = Page(f"{name}{failed}", statistics.median(times), queries, limit)
    late = f"  OVER {limit} ms" if limit and page.milliseconds > limit else ""
    print(f"{page.milliseconds:8.0f} ms  {queries:3} queries  {page.name}{late}", flush=True)
    return page
