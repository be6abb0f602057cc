"""The back office's main journeys in a real browser, with its pages checked at two widths, in light and in dark."""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.test.testcases import LiveServerThread
from playwright.sync_api import Browser, Page, expect, sync_playwright

from reversals.bulk import service as bulk_service
from reversals.models import Reversal
from tests.builders import World, make_world, redeemed, set_value, staff_of

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
GRAVE = {"serious", "critical"}

pytestmark = pytest.mark.skipif(
    CHROMIUM is None and os.environ.get("BROWSER_TESTS") != "required",
    reason="no Chromium here; install it, or say where it is in CHROMIUM",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module", autouse=True)
def _orm_beside_the_browser() -> Iterator[None]:
    """Playwright's loop runs in this thread, and Django would refuse to ask its database beside one."""
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "yes"
    yield
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def address(committed: None) -> Iterator[str]:
    """A server of the test database. Nothing is rolled back: every world has an org of its own."""
    server = LiveServerThread("127.0.0.1", StaticFilesHandler, connections_override={})
    server.daemon = True
    server.start()
    server.is_ready.wait()
    if server.error:
        raise server.error
    yield f"http://127.0.0.1:{server.port}"
    server.terminate()


@pytest.fixture
def world(address: str) -> World:
    return make_world()


class Desk:
    """One person at a browser of their own."""

    def __init__(self, browser: Browser, address: str, world: World, *roles: str) -> None:
        self.username = f"{roles[0].split()[0].lower()}.{world.org.id}"
        client = staff_of(world, *roles, username=self.username)
        context = browser.new_context(base_url=address, viewport={"width": 1280, "height": 900})
        context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": address}])
        self.problems: list[str] = []
        self.page: Page = context.new_page()
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("requestfailed", lambda request: self.problems.append(request.url))
        self.page.on("request", lambda request: self._must_stay(request.url, address))

    def _must_stay(self, url: str, address: str) -> None:
        if not url.startswith((address, "data:", "blob:")):
            self.problems.append(f"asked another host: {url}")

    def open(self, path: str) -> Page:
        self.page.goto(path)
        return self.page

    def check(self) -> None:
        """The page as it stands: no script failed, nothing left the house, readable at every width and colour."""
        for width in (1280, 390):
            for scheme in ("light", "dark"):
                self.page.set_viewport_size({"width": width, "height": 900})
                # The page looks at the scheme of the system only while it loads, and a page that was posted cannot be
                # loaded again.
                self.page.evaluate("dark => document.documentElement.classList.toggle('dark', dark)", scheme == "dark")
                self._check_layout(f"{self.page.url} at {width} in {scheme}")
        self.page.set_viewport_size({"width": 1280, "height": 900})
        assert self.problems == []

    def _check_layout(self, where: str) -> None:
        # Colours fade over: a contrast measured meanwhile is of neither scheme.
        self.page.wait_for_timeout(250)
        assert not self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth"), f"{where} overflows"
        found: Any = Axe().run(self.page).response["violations"]
        grave = [(each["id"], [node["html"] for node in each["nodes"]]) for each in found if each["impact"] in GRAVE]
        assert grave == [], where


def test_points_are_given_back_with_a_preview(browser: Browser, address: str, world: World) -> None:
    redemption = redeemed(world, "7.5")
    desk = Desk(browser, address, world, "Reversal operator")
    page = desk.open(f"/admin/loyalty/redemption/{redemption.pk}/change/")
    desk.check()
    page.get_by_role("link", name="Reverse points").click()
    expect(page.get_by_label("Points")).to_have_value("7.5")
    desk.check()
    page.get_by_label("Points").fill("2.5")
    page.get_by_label("Note").fill("receipt 17")
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_text("2.5 points come back.")).to_be_visible()
    desk.check()
    page.get_by_role("button", name="Give the points back").dblclick()
    expect(page.get_by_text("gave back 2.5 points, 0 of them to expired lots.")).to_be_visible()
    assert Reversal.objects.get(org=world.org).made_by == desk.username


NOTE_PROGRESS = """
  const text = document.getElementById("progress-text");
  const seen = [];
  new MutationObserver(() => seen.push(text.textContent)).observe(text, {childList: true});
  addEventListener("pagehide", () => sessionStorage.setItem("seen", seen.join()));
"""


def test_a_file_is_uploaded_checked_and_reversed(
    browser: Browser, address: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_service, "STEP_SECONDS", 0)
    lines = ["redemption_id,points,reason", *(f"{redeemed(world, 3).public_id},2," for _ in range(5)), "nobody,1,x"]
    desk = Desk(browser, address, world, "Reversal operator")
    page = desk.open("/admin/reversals/bulkrun/add/")
    desk.check()
    page.locator("input[type=file]").set_input_files(
        {"name": "returns.csv", "mimeType": "text/csv", "buffer": "\n".join(lines).encode()}
    )
    page.get_by_label("Reason for rows without one").fill("shop closed")
    page.get_by_role("button", name="Upload and check").click()
    confirm = page.get_by_role("button", name="Reverse 5 rows, 10 points")
    expect(confirm).to_be_visible()
    expect(page.get_by_role("progressbar", name="Checked; nothing has moved yet")).to_have_attribute(
        "aria-valuemax", "5"
    )
    desk.check()
    page.evaluate(NOTE_PROGRESS)
    confirm.press("Enter")
    expect(page.get_by_text("Reversed (5)")).to_be_visible()
    assert page.evaluate("sessionStorage.getItem('seen')") == ",".join(f"{n} of 5 done" for n in range(1, 6))
    desk.check()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download as CSV").click()
    assert download.value.path().read_text().count(",reversed,") == 5
    assert Reversal.objects.filter(org=world.org, made_by=desk.username, points=2).count() == 5
    page.get_by_role("link", name="Not possible (1)").click()
    expect(page.get_by_role("cell", name="nobody")).to_be_visible()


def test_a_bulk_run_that_is_stopped_says_why_and_goes_on(browser: Browser, address: str, world: World) -> None:
    redemptions = [redeemed(world, 3) for _ in range(2)]
    desk = Desk(browser, address, world, "Reversal operator")
    page = desk.open(f"/admin/loyalty/redemption/?org={world.org.id}")
    for box in page.get_by_role("checkbox", name="Select record").all():
        box.check()
    page.locator("select[name=action]").select_option(label="Reverse in bulk")
    page.get_by_role("button", name="Run").click()
    desk.check()
    page.get_by_label("Note").fill("shop closed")
    page.get_by_role("button", name="Check them").click()
    confirm = page.get_by_role("button", name="Reverse 2 rows, 6 points")
    expect(confirm).to_be_visible()
    set_value(world.org, "Reversal_paused", "yes")
    confirm.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("898 Points reversal currently unavailable.")
    desk.check()
    set_value(world.org, "Reversal_paused", "no")
    page.reload()
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_text("Reversed (2)")).to_be_visible()
    assert Reversal.objects.filter(org=world.org).count() == len(redemptions)
