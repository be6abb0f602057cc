"""The main tasks of the back office in a real browser; pages are checked at two widths, in light and dark schemes."""

import csv
import io
import os
import re
import shutil
from base64 import b32decode
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import User
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.db import connection
from django.test import Client
from django.test.testcases import LiveServerThread
from django.urls import reverse
from django_otp.oath import totp
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Locator, Page, expect, sync_playwright

from loyalty.models import Org, Program, ReasonCode
from reversals.manual.bulk import runs
from reversals.models import Correction, Reversal
from tests.backoffice.test_walk import (
    MODELS,
    NEVER,
    OPEN,
    PAGES,
    address_of,
    name_of,
    row_of,
    world_with_a_row_of_every_model,
)
from tests.builders import ON, World, make_customer, make_lot, make_world, redeem, redeemed, set_value, staff_of, work

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
VIEWS = ((1280, "light"), (390, "dark"), (390, "light"), (1280, "dark"))
NO_PAGES = ("_progress", "_result")  # they answer with JSON or a file
MOST_TABS = 80
MODELS_IN_SIDE_BAR = 10

CHANGE_COLOURS = """dark => {
  document.documentElement.classList.toggle("dark", dark);
  document.getAnimations().forEach(each => each.finish());
}"""
FOCUS_IS_VISIBLE = """() => {
  const focused = document.activeElement;
  return [focused, focused.parentElement]
    .map(each => getComputedStyle(each))
    .some(style => style.outlineStyle !== "none" || style.boxShadow !== "none");
}"""

DeskFor = Callable[..., "Desk"]

pytestmark = [
    pytest.mark.skipif(
        CHROMIUM is None and os.environ.get("BROWSER_TESTS") != "required",
        reason="Chromium was not found; install it, or set CHROMIUM to its path",
    ),
    pytest.mark.skipif(connection.vendor != "sqlite", reason="runs once, with the tests on SQLite"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module", autouse=True)
def _allow_orm_beside_the_browser() -> Iterator[None]:
    """Allows queries although Playwright's event loop runs in this thread; Django refuses them by default."""
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "yes"
    yield
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def address(committed: None) -> Iterator[str]:
    """A server on the test database. Nothing is rolled back, because every world has its own org."""
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
    """One user with their own browser, signed in if `client` has a session."""

    def __init__(self, browser: Browser, address: str, client: Client | None = None) -> None:
        self.address = address
        self.problems: list[str] = []
        self.context = browser.new_context(base_url=address, viewport={"width": 1280, "height": 900})
        if client is not None:
            cookie = {"name": "sessionid", "value": client.cookies["sessionid"].value, "url": address}
            self.context.add_cookies([cookie])  # type: ignore[list-item]
        self.page: Page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("requestfailed", lambda request: self.problems.append(request.url))
        self.page.on("request", lambda request: self._must_stay(request.url))
        self.page.on("console", self._must_not_complain)
        self.page.on("dialog", self._must_not_open)

    def _must_stay(self, url: str) -> None:
        if not url.startswith((self.address, "data:", "blob:")):
            self.problems.append(f"requested another host: {url}")

    def _must_not_complain(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.problems.append(f"{message.text} at {self.page.url}")

    def _must_not_open(self, dialog: Dialog) -> None:
        self.problems.append(f"a dialog opened: {dialog.message}")
        dialog.dismiss()

    def open(self, path: str) -> Page:
        self.page.goto(path)
        return self.page

    def check(self, title: str) -> None:
        """Checks that the page has this title, a correct layout and no accessibility problem of any level."""
        self.check_layout(title)
        # The findings of axe do not depend on the database, and it takes most of the time.
        if connection.vendor == "sqlite":
            for scheme in ("light", "dark"):
                assert self.violations(scheme) == [], f"{self.page.url} in {scheme}"

    def check_layout(self, title: str) -> None:
        """Checks the title, that the page fits both widths, that no script failed and no other host was requested."""
        expect(self.page).to_have_title(re.compile(rf"\s*{re.escape(title)}"))
        self.page.wait_for_load_state()
        for width in (390, 1280):
            self.page.set_viewport_size({"width": width, "height": 900})
            overflows = self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
            assert not overflows, f"{self.page.url} overflows at {width}"
        assert self.problems == []

    def violations(self, scheme: str) -> list[Any]:
        """Returns what axe finds in the page in this scheme, of any level."""
        # The page reads the system's colour scheme only while it loads, and the result of a POST cannot be reloaded.
        # Colours change in an animation; a contrast measured during it belongs to neither scheme.
        self.page.evaluate(CHANGE_COLOURS, scheme == "dark")
        found: Any = Axe().run(self.page).response["violations"]
        return [(each["id"], each["impact"], [node["html"] for node in each["nodes"]]) for each in found]

    def tab_to(self, target: Locator) -> None:
        """Presses Tab until the target has the focus, and checks that the focus is always visible."""
        expect(target).to_be_visible()
        for _ in range(MOST_TABS):
            self.page.keyboard.press("Tab")
            assert self.page.evaluate(FOCUS_IS_VISIBLE), self.page.evaluate("document.activeElement.outerHTML")
            if target.evaluate("each => each === document.activeElement"):
                return
        raise AssertionError(f"{target} was not reached with {MOST_TABS} tabs")


@pytest.fixture
def desk_for(browser: Browser, address: str, world: World) -> Iterator[Callable[..., Desk]]:
    """Creates a desk for a user with these roles in the world's org; the username starts with the first role."""
    desks = []

    def desk(*roles: str) -> Desk:
        client = staff_of(world, *roles, username=username_of(world, roles[0])) if roles else None
        desks.append(Desk(browser, address, client))
        return desks[-1]

    yield desk
    for each in desks:
        each.context.close()


def username_of(world: World, role: str) -> str:
    return f"{role.split()[0].lower()}.{world.org.id}"


def test_points_are_reversed_after_preview(desk_for: DeskFor, world: World) -> None:
    redemption = redeemed(world, "7.5")
    desk = desk_for("Reversal operator")
    page = desk.open(f"/admin/loyalty/redemption/{redemption.pk}/change/")
    desk.check("Redemption")
    page.get_by_role("link", name=REVERSE).click()
    expect(page.get_by_label("Points")).to_have_value("7.5")
    desk.check("Reverse points")
    page.get_by_label("Points").fill("2.5")
    page.get_by_label("Note").fill("receipt 17")
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_text("2.5 points will be reversed.")).to_be_visible()
    desk.check("Reverse points")
    page.get_by_role("button", name=REVERSE).dblclick()
    expect(page.get_by_text("reversed 2.5 points, 0 of them to expired lots.")).to_be_visible()
    assert Reversal.objects.get(org=world.org).made_by == username_of(world, "Reversal operator")


def test_a_file_is_uploaded_checked_and_reversed(
    desk_for: DeskFor, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "STEP_SECONDS", 0)
    lines = ["redemption_id,points,reason", *(f"{redeemed(world, 3).public_id},2," for _ in range(5)), "nobody,1,x"]
    desk = desk_for("Reversal operator")
    page = desk.open("/admin/reversals/bulkrun/add/")
    desk.check("Reverse in bulk")
    page.locator("input[type=file]").set_input_files(
        {"name": "returns.csv", "mimeType": "text/csv", "buffer": "\n".join(lines).encode()}
    )
    page.get_by_label("Reason for rows without one").fill("shop closed")
    page.get_by_role("button", name="Upload and check").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    desk.check("Bulk run returns.csv")
    work()
    confirm = page.get_by_role("button", name="Reverse 5 rows, 10 points")
    expect(confirm).to_be_visible()
    expect(page.get_by_role("progressbar", name="Rows checked; no points are reversed yet")).to_have_attribute(
        "aria-valuemax", "5"
    )
    desk.check("Bulk run returns.csv")
    confirm.press("Enter")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    for done in (1, 2):
        work(steps=1)
        expect(page.get_by_text(f"{done} of 5 done")).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("alert")).to_contain_text("Paused by ")
    page.get_by_role("button", name="Continue").click()
    work()
    expect(page.get_by_text("Reversed (5)")).to_be_visible()
    desk.check("Bulk run returns.csv")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download as CSV").click()
    assert download.value.path().read_text().count(",reversed,") == 5
    assert (
        Reversal.objects.filter(org=world.org, made_by=username_of(world, "Reversal operator"), points=2).count() == 5
    )
    page.get_by_role("link", name="Not possible (1)").click()
    expect(page.get_by_role("cell", name="nobody")).to_be_visible()


def test_stopped_bulk_run_shows_reason_and_can_be_continued(desk_for: DeskFor, world: World) -> None:
    redemptions = [redeemed(world, 3) for _ in range(2)]
    desk = desk_for("Reversal operator")
    page = desk.open(f"/admin/loyalty/redemption/?org={world.org.id}")
    for box in page.get_by_role("checkbox", name="Select record").all():
        box.check()
    desk.check("Redemptions")
    page.locator("select[name=action]").select_option(label="Reverse in bulk")
    page.get_by_role("button", name="Run").click()
    desk.check("Reverse in bulk")
    page.get_by_label("Note").fill("shop closed")
    page.get_by_role("button", name="Check redemptions").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    work()
    confirm = page.get_by_role("button", name="Reverse 2 rows, 6 points")
    expect(confirm).to_be_visible()
    set_value(world.org, "Reversal_paused", "yes")
    confirm.press("Enter")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    work()
    expect(page.get_by_role("alert")).to_contain_text("898 Points reversal currently unavailable.")
    desk.check("Bulk run")
    set_value(world.org, "Reversal_paused", "no")
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    work()
    expect(page.get_by_text("Reversed (2)")).to_be_visible()
    assert Reversal.objects.filter(org=world.org).count() == len(redemptions)


def test_reversals_are_switched_off_with_ticket_and_reason(desk_for: DeskFor, world: World) -> None:
    desk = desk_for("Back-end team")
    page = desk.open(f"/admin/loyalty/org/{world.org.id}/emf/")
    desk.check("EMF settings")
    page.get_by_role("switch", name="Reversals allowed").click()
    expect(page.get_by_text("every till of this org gets 818")).to_be_visible()
    desk.check("Reversals allowed")
    page.get_by_label("Ticket").fill("OPS-9")
    page.get_by_label("Reason").fill("Requested by the org.")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text(f"Reversals allowed ({ON}) is now no for the org.")).to_be_visible()
    newest = page.get_by_role("listitem").filter(has_text="yes → no")
    expect(newest).to_contain_text(f"by {username_of(world, 'Back-end team')}, ticket OPS-9")
    expect(newest).to_contain_text("Requested by the org.")
    desk.check("EMF settings")
    assert world.reverse(redeemed(world)).json()["errors"][0]["code"] == 818


def test_search_box_finds_customer_by_mobile_and_redemption_by_id(desk_for: DeskFor, world: World) -> None:
    ravi = make_customer(world.org, identifiers={"MOBILE": "+91 98765 43210"})
    redemption = redeemed(world)
    desk = desk_for("Reversal operator")
    page = desk.open("/admin/")
    desk.check("Home")
    find_in(page, "98765 43210")
    expect(page.get_by_role("heading", level=1)).to_contain_text(str(ravi.public_id))
    desk.check(f"Customer {ravi.public_id}")
    find_in(page, redemption.public_id)
    expect(page.get_by_role("link", name=REVERSE)).to_be_visible()
    find_in(page, "nobody's")
    expect(page.get_by_text("No results for “nobody's”.")).to_be_visible()
    desk.check("Find")


def test_no_page_violates_its_content_security_policy(desk_for: DeskFor, world: World) -> None:
    """The browser reports each violation on its console, and every desk records console errors."""
    world.reverse(redeemed(world), "2.5")
    desk = desk_for("Reversal operator", "Back-end team", "Auditor", "Approver")
    page = desk.open("/admin/")
    links = page.locator("#nav-sidebar a[href^='/admin/']")
    addresses = {str(links.nth(number).get_attribute("href")) for number in range(links.count())}
    assert len(addresses) > MODELS_IN_SIDE_BAR
    for address in sorted(addresses | {"/admin/password_change/"}):
        desk.open(address)
        desk.check_layout("")
    desk.open("/docs/")
    page.get_by_role("button", name="post /v2/points/reverse", exact=False).first.click()
    page.get_by_role("button", name="Try it out").click()
    expect(page.get_by_role("button", name="Execute")).to_be_visible()
    assert desk.problems == []

    desk.open("/admin/")
    page.evaluate("document.body.appendChild(document.createElement('script')).textContent = 'alert(1)'")
    assert len(desk.problems) == 1
    assert "Content Security Policy" in desk.problems[0]


LONG_NAME = "W" * 200
LARGE = 999_999_999_999


@pytest.fixture
def superuser(browser: Browser, address: str) -> Iterator[tuple[Desk, World]]:
    """A superuser's desk, and a world with a row of every model, names of 200 characters and amounts of 12 digits."""
    world = world_with_a_row_of_every_model()
    Org.objects.filter(pk=world.org.pk).update(name=LONG_NAME)
    Program.objects.filter(pk=world.program.pk).update(name=LONG_NAME)
    make_lot(world.asha, LARGE, program=world.program)
    redeem(world.asha, LARGE, program=world.program, external_reference_number="X" * 128)
    set_value(world.org, "Reversal_approval_points", str(LARGE))
    root = User.objects.create_superuser(f"root.{world.org.id}")
    client = Client()
    client.force_login(root)
    desk = Desk(browser, address, client)
    yield desk, world
    desk.context.close()


def pages_of(world: World, *, is_whole: bool) -> list[str]:
    """Returns the addresses of the pages that show something on GET, with this world's rows.

    Without `is_whole` it leaves out histories and forms for new rows, which are made of the same parts as the others.
    """
    found = [address_of(page, model, world) for page, (_, model) in PAGES.items() if not page.endswith(NO_PAGES)]
    for model in MODELS:
        for kind in ("changelist", "change", *(["history"] if is_whole else [])):
            rows = [] if kind == "changelist" else [row_of(model, world).pk]
            found.append(reverse(f"admin:{name_of(model, kind)}", args=rows))
        if is_whole and MODELS[model].add != NEVER:
            found.append(reverse(f"admin:{name_of(model, 'add')}"))
    customer = reverse("admin:loyalty_customer_change", args=[world.asha.pk])
    found += [f"{customer}?tab={tab}" for tab in ("lots", "redemptions", "activity")]
    return [*found, *(reverse(f"admin:{page}") for page in sorted(OPEN - {"jsi18n", "search"}))]


@pytest.mark.parametrize("is_whole", [False, pytest.param(True, marks=pytest.mark.deep)], ids=["sample", "whole"])
def test_no_page_violates_an_accessibility_rule_or_overflows(superuser: tuple[Desk, World], is_whole: bool) -> None:
    """The whole check takes both schemes at both widths; the sample takes a third of the pages, each in one of them."""
    desk, world = superuser
    desk.open(f"/admin/loyalty/lot/?org={world.org.id}")  # makes the world's org the current one
    found = []
    for number, path in enumerate(pages_of(world, is_whole=is_whole)[:: 1 if is_whole else 3]):
        page = desk.open(path)
        for turn, (width, scheme) in enumerate(VIEWS):
            if not is_whole and turn != number % len(VIEWS):
                continue
            page.set_viewport_size({"width": width, "height": 900})
            overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            wrong = desk.violations(scheme)
            if overflow > 0 or wrong:
                found.append((path, width, scheme, overflow, wrong))
    assert found == []


def test_api_document_violates_no_accessibility_rule_and_follows_the_dark_scheme(desk_for: DeskFor) -> None:
    desk = desk_for()
    for scheme in ("light", "dark"):
        desk.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page = desk.open("/docs/")
        page.get_by_role("button", name="post /v2/points/reverse", exact=False).first.click()
        page.get_by_role("button", name="Try it out").click()
        expect(page.get_by_role("button", name="Execute")).to_be_visible()
        assert desk.violations(scheme) == []
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(27, 31, 36)") is (scheme == "dark")


def test_keys_find_choose_rows_and_reverse_but_not_while_typing(desk_for: DeskFor, world: World) -> None:
    redemption = redeemed(world, "7.5")
    desk = desk_for("Reversal operator")
    page = desk.open(f"/admin/loyalty/customer/{world.asha.pk}/change/?tab=redemptions")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    desk.check("Customer")
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("jr?gh")
    expect(page.get_by_role("searchbox", name="Find by")).to_have_value("jr?gh")
    page.keyboard.press("Enter")
    expect(page.get_by_text("No results for")).to_be_visible()
    assert page.evaluate("window.getSelection().toString()") == "jr?gh"
    desk.open(f"/admin/loyalty/customer/{world.asha.pk}/change/?tab=redemptions")
    page.keyboard.press("j")
    expect(page.get_by_role("link", name=redemption.public_id)).to_be_focused()
    page.keyboard.press("r")
    expect(page.get_by_role("button", name="Preview")).to_be_visible()
    page.keyboard.press("g")
    page.keyboard.press("h")
    page.wait_for_url("**/admin/")


def find_in(page: Page, name: str) -> None:
    page.get_by_role("searchbox", name="Find by").fill(name)
    page.keyboard.press("Enter")


def test_second_user_approves_requests_of_first_user(desk_for: DeskFor, world: World) -> None:
    set_value(world.org, "Reversal_approval_points", "5")
    redemption = redeemed(world, "7.5")
    operator, approver = desk_for("Reversal operator"), desk_for("Approver")

    page = operator.open(f"/admin/loyalty/redemption/{redemption.pk}/reverse/")
    page.get_by_label("Note").fill("receipt 17")
    page.get_by_role("button", name="Preview").click()
    page.get_by_role("button", name="Request approval").click()
    expect(page.get_by_text("The request for 7.5 points waits for a second user's approval")).to_be_visible()
    assert not Reversal.objects.filter(org=world.org).exists()
    page = approver.open("/admin/reversals/attempt/")
    page.get_by_role("link", name="Home 1").click()
    approver.check("Home")
    page.get_by_role("button", name="Approve 7.5 points").click()
    expect(page.get_by_text("Approved. The reversal of 7.5 points was made.")).to_be_visible()

    reversal = Reversal.objects.get(org=world.org)
    page = operator.open(f"/admin/reversals/reversal/{reversal.pk}/change/")
    operator.check("Reversal")
    page.get_by_role("link", name="Correct this reversal").click()
    page.get_by_label("Note").fill("the wrong customer")
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_text("7.5 points will be taken back")).to_be_visible()
    operator.check("Correct reversal")
    page.get_by_role("button", name="Request approval").click()
    assert not Correction.objects.filter(org=world.org).exists()
    approve_newest(approver, "Approved. The correction of 7.5 points was made.")
    correction = Correction.objects.get(org=world.org)
    assert (correction.reversal, correction.approved_by) == (reversal, username_of(world, "Approver"))


def approve_newest(approver: Desk, message: str) -> None:
    page = approver.open("/admin/reversals/approval/")
    approver.check("Approvals")
    page.get_by_role("row").nth(1).get_by_role("link").first.click()
    approver.check("Request by")
    page.get_by_label("Comment").fill("seen the receipt")
    page.get_by_role("heading", level=1).evaluate("each => document.activeElement.blur()")
    page.keyboard.press("a")
    expect(page.get_by_role("button", name="Approve", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_text(message)).to_be_visible()


def test_an_auditor_downloads_the_list_as_csv(desk_for: DeskFor, world: World) -> None:
    redemption = redeemed(world)
    world.reverse(redemption, "2.5")
    desk = desk_for("Auditor")
    page = desk.open("/admin/reversals/reversal/")
    desk.check("Reversals")
    page.locator("summary", has_text="Export").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export CSV").click()
    rows = list(csv.DictReader(io.StringIO(download.value.path().read_text("utf-8-sig"))))
    assert [(row["redemption_id"], row["points"], row["made_by"]) for row in rows] == [
        (redemption.public_id, "2.5", "till.1")
    ]


def test_the_secret_of_a_new_api_client_is_shown_once(desk_for: DeskFor, world: World) -> None:
    desk = desk_for("Back-end team")
    page = desk.open("/admin/loyalty/apiclient/")
    desk.check("API clients")
    page.get_by_role("link", name="Add API client").click()
    desk.check("Add an API client")
    page.get_by_label("Username").fill("till.9")
    page.get_by_label("Reason").fill("a new shop")
    page.get_by_role("button", name="Add API client").click()
    secret = page.locator("#secret").inner_text()
    desk.check("New secret of till.9")
    assert world.ask({}, user="till.9", password=secret).status_code == 400
    page.get_by_role("link", name="I have copied the secret").click()
    expect(page.get_by_role("heading", name="Live secrets")).to_be_visible()
    assert secret not in page.content()
    desk.check("API client till.9")


def test_reversal_works_with_keyboard_alone(desk_for: DeskFor, world: World) -> None:
    redemption = redeemed(world, "7.5")
    desk = desk_for("Reversal operator")
    page = desk.open("/admin/")
    desk.tab_to(page.get_by_role("searchbox", name="Find by"))
    page.keyboard.type(redemption.public_id)
    page.keyboard.press("Enter")
    page.wait_for_url("**/change/")
    press_enter_on(desk, page.get_by_role("link", name=REVERSE))
    desk.tab_to(page.get_by_label("Note"))
    page.keyboard.type("receipt 17")
    press_enter_on(desk, page.get_by_role("button", name="Preview"))
    press_enter_on(desk, page.get_by_role("button", name=REVERSE))
    expect(page.get_by_text("reversed 7.5 points")).to_be_visible()
    assert Reversal.objects.get(org=world.org).points == redemption.points


def test_menus_and_filters_open_by_keyboard_on_a_narrow_screen(desk_for: DeskFor, world: World) -> None:
    world.reverse(redeemed(world), "2.5")
    desk = desk_for("Auditor")
    page = desk.open("/admin/")
    page.set_viewport_size({"width": 390, "height": 900})
    press_enter_on(desk, page.get_by_role("button", name="Show or hide the sidebar"))
    press_enter_on(desk, page.get_by_role("link", name="Reversals", exact=True))

    filters = page.get_by_role("list", name="Active filters")
    expect(filters.get_by_role("listitem")).to_have_text(["Period: 30 days"])
    press_enter_on(desk, page.get_by_role("button", name="Filters", exact=True))
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Filters", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    press_enter_on(desk, page.get_by_role("link", name="7 days"))
    expect(filters).to_contain_text("Period: 7 days")
    press_enter_on(desk, page.get_by_role("link", name="Remove the filter period: 7 days"))
    expect(filters).to_contain_text("Period: 30 days")

    press_enter_on(desk, page.get_by_role("button", name="Show or hide the sidebar"))
    press_enter_on(desk, page.get_by_role("button", name=username_of(world, "Auditor")))
    press_enter_on(desk, page.get_by_role("button", name="Log out"))
    expect(page.get_by_label("Password")).to_be_visible()


def press_enter_on(desk: Desk, target: Locator) -> None:
    desk.tab_to(target)
    desk.page.keyboard.press("Enter")


def test_staff_sign_in_with_a_second_factor(desk_for: DeskFor, world: World, settings: Any) -> None:
    settings.STAFF_SECOND_FACTOR = True
    staff_of(world, "Support", username=f"meera.{world.org.id}")
    desk = desk_for()
    page = desk.open("/admin/login/")
    desk.check("Log in")
    enter_password(page, f"meera.{world.org.id}")
    key = b32decode(page.locator("#key").inner_text().replace(" ", ""))
    desk.check("Set up your second factor")
    page.get_by_label("Code").fill(f"{totp(key):06d}")
    page.get_by_role("button", name="Confirm code").click()
    expect(page.get_by_role("list", name="Recovery codes").get_by_role("listitem")).to_have_count(10)
    desk.check("Save your recovery codes")
    page.get_by_role("link", name="I have saved the codes").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Home")
    desk.check("Home")

    desk.context.clear_cookies()
    desk.open("/admin/find/")
    enter_password(page, f"meera.{world.org.id}")
    desk.check("Enter your code")
    page.get_by_label("Code").fill("000000")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("This code is wrong.")).to_be_visible()


def enter_password(page: Page, username: str) -> None:
    page.get_by_label("Username").fill(username)
    page.get_by_label("Password").fill("a long password")
    page.get_by_role("button", name="Log in").click()


# Closes an attribute, a tag or a string. Alpine.js would execute its own attributes.
REVERSE = re.compile(r"^Reverse [\d.,]+ points?$")
PAYLOAD = "'\\\"><img class=evil src=x onerror=alert(1)><b class=evil x-init=alert(2)>{{7*7}}"


def test_input_of_customers_and_staff_is_never_executed(desk_for: DeskFor, world: World) -> None:
    Org.objects.filter(id=world.org.id).update(name=PAYLOAD)
    Program.objects.filter(id=world.program.id).update(name=PAYLOAD)
    ravi = make_customer(world.org, identifiers={"EXTERNAL_ID": PAYLOAD, "CARD_NUMBER": f"2{PAYLOAD}"})
    make_lot(ravi, 10, program=world.program)
    redemption = redeem(ravi, 10, program=world.program, external_reference_number=PAYLOAD)
    ReasonCode.objects.create(org=world.org, code="X", meaning=PAYLOAD)
    desk = desk_for("Reversal operator", "Back-end team", "Auditor", "Approver")

    page = desk.open(f"/admin/loyalty/redemption/{redemption.pk}/reverse/")
    page.get_by_label("Reason code").select_option("X")
    page.get_by_label("Note").fill(PAYLOAD)
    page.get_by_label("Points").fill(PAYLOAD[:20])
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_text("Enter a number")).to_be_visible()
    check_nothing_injected(desk)
    page.get_by_label("Points").fill("2")
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_text(f"Reason: X: {PAYLOAD}")).to_be_visible()
    check_nothing_injected(desk)
    page.get_by_role("button", name=REVERSE).click()
    expect(page.get_by_text("reversed 2 points")).to_be_visible()
    check_nothing_injected(desk)

    desk.open("/admin/reversals/bulkrun/add/")
    page.locator("input[type=file]").set_input_files(
        {"name": f"{PAYLOAD}.csv", "mimeType": "text/csv", "buffer": csv_file(PAYLOAD, PAYLOAD, PAYLOAD)}
    )
    page.get_by_role("button", name="Upload and check").click()
    expect(page.get_by_role("link", name="Not possible (1)")).to_be_visible()
    check_nothing_injected(desk)

    desk.open(f"/admin/loyalty/org/{world.org.id}/emf/{ON}/?value=no")
    page.get_by_label("Ticket").fill(PAYLOAD)
    page.get_by_label("Reason").fill(PAYLOAD)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text(f"Reversals allowed ({ON}) is now no for the org.")).to_be_visible()
    check_nothing_injected(desk)
    world.ask({"redemptionId": PAYLOAD, "externalReferenceNumber": PAYLOAD}, key="key")

    reversal = Reversal.objects.get(org=world.org)
    for path in (
        "",
        f"loyalty/customer/{ravi.pk}/change/",
        f"loyalty/customer/{ravi.pk}/lock/",
        "loyalty/customer/",
        "loyalty/redemption/",
        "loyalty/org/",
        "loyalty/emfchange/",
        "loyalty/reasoncode/",
        "reversals/attempt/",
        "reversals/bulkrun/",
        f"reversals/reversal/{reversal.pk}/change/",
        f"reversals/reversal/{reversal.pk}/correct/",
    ):
        desk.open(f"/admin/{path}")
        check_nothing_injected(desk)
    find_in(page, f"{PAYLOAD}?")
    expect(page.get_by_text(f"No results for “{PAYLOAD}?”.")).to_be_visible()
    check_nothing_injected(desk)
    find_in(page, PAYLOAD)
    expect(page.get_by_role("heading", name="Found")).to_be_visible()
    check_nothing_injected(desk)


def csv_file(*row: str) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([("redemption_id", "points", "reason"), row])
    return text.getvalue().encode()


def check_nothing_injected(desk: Desk) -> None:
    desk.check_layout("")
    assert desk.page.locator(".evil").count() == 0
