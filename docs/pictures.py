"""Takes the pictures of the back office guide into docs/images, from the pages of a running demo: `make pictures`."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
PORT = "8017"
HOST = f"http://127.0.0.1:{PORT}"
CUSTOMER = "564000244"  # of the demo ledger: has points to spend in five lots


class Demo(NamedTuple):
    password: str
    till: str
    secret: str


@contextmanager
def demo() -> Iterator[Demo]:
    """Runs `make demo` on a database of its own; yields the credentials that it prints."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"DATABASE_URL": f"sqlite:///{folder}/demo.sqlite3", "PORT": PORT}
        words = [sys.executable, "-m", "reversals.demo"]
        process = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            printed = ""
            while "Serving until" not in printed:
                line = process.stdout.readline()
                if not line:
                    sys.exit(f"the demo ended:\n{printed}")
                printed += line
            environment |= {"SECRET_KEY": "to-check-the-ledger"}
            subprocess.run([sys.executable, "manage.py", "verify_ledger"], cwd=ROOT, env=environment, check=True)
            (_, password), (till, secret) = re.findall(r"user (\S+), password (\S+)", printed)
            yield Demo(password, till, secret)
        finally:
            process.terminate()
            process.wait(timeout=30)


def call(demo: Demo, path: str, body: object | None = None) -> dict[str, object]:
    """Calls the API of the demo; returns the reply, also if it is a refusal."""
    credentials = b64encode(f"{demo.till}:{demo.secret}".encode()).decode()
    headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{HOST}{path}", data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return dict(json.load(reply))
    except urllib.error.HTTPError as refusal:
        return dict(json.load(refusal))


def make_history(demo: Demo) -> str:
    """Redeems points of several lots and asks for a few reversals; returns the redemption, of which most remains."""
    redeemed = call(demo, f"/v2/customers/{CUSTOMER}/redemptions", {"points": 340, "transactionNumber": "TXN-2041"})
    redemption = str(redeemed["redemptionId"])
    identifier = {"type": "ID", "value": CUSTOMER}
    for points in (25, 60, 900_000):
        asked = {"redemptionId": redemption, "pointsToBeReversed": points, "identifier": identifier}
        call(demo, "/v2/points/reverse", asked)
    call(demo, "/v2/points/reverse", {"redemptionId": "UNKNOWN", "identifier": identifier})
    return redemption


def sign_in(page: Page, demo: Demo) -> None:
    page.goto(f"{HOST}/admin/")
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", demo.password)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{HOST}/admin/")


def take(page: Page, name: str) -> None:
    page.wait_for_load_state("networkidle")
    page.screenshot(path=IMAGES / f"{name}.png", animations="disabled")


def take_all(page: Page, redemption: str) -> None:
    """Walks through the pages that the guide shows, and takes a picture of each."""
    take(page, "home")
    page.goto(f"{HOST}/admin/find/?q={CUSTOMER}")
    take(page, "customer")
    page.goto(f"{HOST}/admin/find/?q={redemption}")
    take(page, "redemption")
    page.get_by_role("link", name=re.compile(r"^Reverse [\d.,]+ points?$")).click()
    page.get_by_label("Points").fill("100")
    page.get_by_label("Reason code").select_option(index=1)
    page.get_by_label("Note").fill("Returned in the shop")
    page.get_by_role("button", name="Preview").click()
    take(page, "preview")
    page.goto(f"{HOST}/admin/reversals/attempt/")
    take(page, "attempts")
    page.goto(f"{HOST}/admin/loyalty/org/100737/emf/")
    take(page, "emf-settings")


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with demo() as running, sync_playwright() as playwright:
        redemption = make_history(running)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        sign_in(page, running)
        take_all(page, redemption)
        browser.close()


if __name__ == "__main__":
    main()
