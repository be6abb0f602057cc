"""SECRET_KEY and API_PEPPER change on running servers: no call is 401, and nobody is signed out."""

import json
import os
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.cookiejar import CookieJar
from threading import Event
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, OpenerDirector, build_opener

import pytest
from django_otp.oath import totp

from tests.serving import manage, serving
from tests.system.test_maintenance import answer

OLD_KEY, NEW_KEY, NEW_PEPPER = os.environ["SECRET_KEY"], "n" * 50, "new-pepper-" * 4
# What the servers are restarted with, one after the other; see "A key has leaked" in the runbook. The old pepper is
# derived from the old key.
STEPS = [
    {"SECRET_KEY": OLD_KEY},
    {"SECRET_KEY": OLD_KEY, "SECRET_KEY_FALLBACKS": NEW_KEY, "API_PEPPER_FORMER": NEW_PEPPER},
    {"SECRET_KEY": NEW_KEY, "SECRET_KEY_FALLBACKS": OLD_KEY, "API_PEPPER": NEW_PEPPER},
    {"SECRET_KEY": NEW_KEY, "API_PEPPER": NEW_PEPPER},
]
DEVICE_KEY = "6a6b" * 10
MAKE_USER = f"""
from django.contrib.auth.models import User
from django_otp.plugins.otp_totp.models import TOTPDevice
user = User.objects.create_superuser("root", password="a long password")
TOTPDevice.objects.create(user=user, name="app", confirmed=True, key="{DEVICE_KEY}")
"""


def post(browser: OpenerDirector, url: str, **fields: str) -> str:
    """Opens the page with a form and sends the form. Returns the page that follows."""
    page = browser.open(url).read().decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert token is not None
    form = urlencode(fields | {"csrfmiddlewaretoken": token.group(1)}).encode()
    return str(browser.open(url, form).read().decode())


def signed_in(port: int, *, code: int) -> OpenerDirector:
    """A browser in which the user has given the password and a code: the one of now, or the next one."""
    browser = build_opener(HTTPCookieProcessor(CookieJar()))
    address = f"http://127.0.0.1:{port}/admin"
    post(browser, f"{address}/login/", username="root", password="a long password")
    post(browser, f"{address}/second-factor/", code=f"{totp(bytes.fromhex(DEVICE_KEY), t0=-30 * code):06d}")
    assert is_signed_in(browser, port)
    return browser


def is_signed_in(browser: OpenerDirector, port: int) -> bool:
    page = browser.open(f"http://127.0.0.1:{port}/admin/auth/user/")
    return page.status == 200 and page.url.endswith("/admin/auth/user/")


def calls(ports: tuple[int, int], over: Event, name: str) -> Counter[tuple[int, int]]:
    """Calls the servers in turn until it is over, at least four times. Counts each status and code."""
    answers: Counter[tuple[int, int]] = Counter()
    while not over.is_set() or answers.total() < 4:
        count = answers.total()
        answers[answer(ports[count % 2], f"{name}-{count}")[:2]] += 1
    return answers


@pytest.mark.once
def test_no_call_is_401_and_nobody_is_signed_out_while_keys_rotate(installation: dict[str, str]) -> None:
    steps = [installation | {"STAFF_SECOND_FACTOR": "on"} | step for step in STEPS]
    manage(steps[0], ("shell", "-v0", "-c", MAKE_USER))
    answers: Counter[tuple[int, int]] = Counter()
    pages: list[bool] = []
    browser = None
    with ThreadPoolExecutor(4) as pool, ExitStack() as servers:
        first = servers.enter_context(serving(steps[0]))
        browser = signed_in(first, code=0)
        for number, step in enumerate(steps[1:], start=1):
            second = servers.enter_context(serving(step))
            over, ports = Event(), (first, second)
            clients = [pool.submit(calls, ports, over, f"{number}-{each}") for each in range(4)]
            pages += [is_signed_in(browser, port) for port in (second, first) * 2]
            over.set()
            answers += sum((client.result() for client in clients), Counter())
            pages.append(is_signed_in(browser, second))
            if number == 2:  # every secret is hashed anew before the former pepper goes
                assert json.loads(manage(step, ("hashed_secrets", "--json")))["former"] == 0
            first = second
        signed_in(first, code=1)
    assert set(answers) == {(200, 0)}
    assert pages == [True] * 15
