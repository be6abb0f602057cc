"""Sign-in to the back office: the password, the second factor, the lock-out, and the end of sessions."""

import re
import time
from base64 import b32decode
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
import time_machine
from axes.models import AccessAttempt
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone
from django_otp.oath import totp
from django_otp.plugins.otp_static.models import StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from config.floods import refusing_floods
from loyalty.models import StaffChange
from loyalty.staff.signin import gate, hashing, limits

pytestmark = pytest.mark.django_db

PASSWORD = "a long password"
HOME, LOGIN = "/admin/", "/admin/login/"
CODE_PAGE, NEW_PAGE = "/admin/second-factor/", "/admin/second-factor/new/"


@pytest.fixture(autouse=True)
def quick_passwords(settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def meera() -> User:
    return User.objects.create_superuser("meera", password=PASSWORD)


@pytest.fixture
def second_factor(settings) -> None:
    settings.STAFF_SECOND_FACTOR = True


def enter_password(
    client: Client, password: str = PASSWORD, *, username: str = "meera", **options: str
) -> HttpResponse:
    return client.post(LOGIN, {"username": username, "password": password}, **options)


def code_now(device: TOTPDevice, *, steps: int = 0) -> str:
    return f"{totp(device.bin_key, t0=-30 * steps):06d}"


def with_device(user: User) -> TOTPDevice:
    return TOTPDevice.objects.create(user=user, name="app", confirmed=True)


def text_of(page: HttpResponse) -> str:
    return page.content.decode()


def signed_in(client: Client) -> bool:
    return client.get(HOME).status_code == 200


def test_sign_in_without_a_next_page_redirects_to_the_home_page(meera: User) -> None:
    client = Client()
    assert enter_password(client)["Location"] == HOME
    assert client.post("/admin/logout/")["Location"] == LOGIN


# The second factor


def test_first_sign_in_sets_up_the_second_factor_and_shows_recovery_codes_once(
    meera: User, second_factor: None
) -> None:
    client = Client()
    enter_password(client)
    page = client.get(HOME, follow=True)
    assert page.redirect_chain[-1] == (f"{NEW_PAGE}?next=%2Fadmin%2F", 302)
    key = b32decode(re.search(r'id="key">([A-Z2-7 ]+)<', text_of(page)).group(1).replace(" ", ""))
    assert 'src="data:image/svg+xml' in text_of(page)
    assert not TOTPDevice.objects.exists()

    page = client.post(NEW_PAGE, {"code": f"{totp(key):06d}"})
    codes = re.findall(r'<code class="font-semibold text-important">(\w{8})</code>', text_of(page))
    assert (page.status_code, len(set(codes))) == (200, 10)
    assert "no-store" in page["Cache-Control"]
    assert set(codes) == set(StaticToken.objects.filter(device__user=meera).values_list("token", flat=True))
    assert signed_in(client)
    assert client.get(NEW_PAGE)["Location"] == HOME
    change = StaffChange.objects.get(subject="auth.user")
    assert (change.action, change.made_by, change.before, change.after) == (
        "second factor set up",
        "meera",
        {"second factor": False},
        {"second factor": True},
    )


def test_wrong_first_code_does_not_set_up_the_second_factor(meera: User, second_factor: None) -> None:
    client = Client()
    enter_password(client)
    key_page = text_of(client.get(NEW_PAGE))
    page = client.post(NEW_PAGE, {"code": "000000"})
    assert "This code is wrong." in text_of(page)
    assert re.search(r'id="key">.*?<', key_page).group() in text_of(page)
    assert not TOTPDevice.objects.exists()
    assert not StaticToken.objects.exists()
    assert not StaffChange.objects.exists()
    assert not signed_in(client)


def test_password_alone_opens_no_page_if_a_device_is_set_up(meera: User, second_factor: None) -> None:
    device = with_device(meera)
    client = Client()
    enter_password(client)
    wanted = reverse("admin:loyalty_org_changelist") + "?q=1"
    page = client.get(wanted, follow=True)
    assert page.redirect_chain[-1] == (f"{CODE_PAGE}?next={quote(wanted, safe='')}", 302)
    # Somebody with a stolen password cannot set up another device.
    assert client.get(NEW_PAGE).status_code == 302
    assert client.post(NEW_PAGE, {"code": "123456"}).status_code == 302
    assert list(TOTPDevice.objects.all()) == [device]

    page = client.post(page.redirect_chain[-1][0], {"code": code_now(device)})
    assert page["Location"] == wanted
    assert signed_in(client)


def test_code_works_only_once(meera: User, second_factor: None) -> None:
    device = with_device(meera)
    code = code_now(device)
    for expected in (302, 200):
        client = Client()
        enter_password(client)
        assert client.post(CODE_PAGE, {"code": code}).status_code == expected


def test_recovery_code_works_only_once(meera: User, second_factor: None) -> None:
    with_device(meera)
    codes = meera.staticdevice_set.create(name="recovery codes").token_set
    codes.create(token="abcd2345")
    codes.create(token="efgh2345")
    client = Client()
    enter_password(client)
    page = client.post(CODE_PAGE, {"code": " ABCD 2345 "}, follow=True)
    assert "You have 1 recovery code left." in text_of(page)
    assert signed_in(client)
    again = Client()
    enter_password(again)
    assert "This code is wrong." in text_of(again.post(CODE_PAGE, {"code": "abcd2345"}))


def test_wrong_codes_make_the_user_wait(meera: User, second_factor: None) -> None:
    device = with_device(meera)
    client = Client()
    enter_password(client)
    start = time.time()

    def answer_after(seconds: float, code: str | None = None) -> HttpResponse:
        with time_machine.travel(start + seconds, tick=False):
            return client.post(CODE_PAGE, {"code": code or code_now(device)})

    for seconds in (0, 10):
        assert "This code is wrong." in text_of(answer_after(seconds, "000000"))
    assert "Too many wrong codes. Try again in 2 seconds." in text_of(answer_after(10.5))
    assert answer_after(13).status_code == 302


@pytest.mark.parametrize("address", ["https://evil.example/", "//evil.example", "javascript:alert(1)", "\\\\evil", ""])
def test_sign_in_does_not_redirect_to_another_site(meera: User, second_factor: None, address: str) -> None:
    device = with_device(meera)
    client = Client()
    enter_password(client)
    page = client.post(f"{CODE_PAGE}?next={quote(address, safe='')}", {"code": code_now(device)})
    assert page["Location"] == HOME


@pytest.mark.parametrize("page", [CODE_PAGE, NEW_PAGE])
def test_second_factor_pages_redirect_to_sign_in_without_a_password(second_factor: None, page: str) -> None:
    assert Client().get(page)["Location"] == f"{LOGIN}?next=%2Fadmin%2F"
    assert Client().post(page, {"code": "123456"})["Location"] == f"{LOGIN}?next=%2Fadmin%2F"


def test_user_without_second_factor_can_sign_out(meera: User, second_factor: None) -> None:
    client = Client()
    enter_password(client)
    assert client.get("/admin/second-factor/leave/").status_code == 405
    assert client.post("/admin/second-factor/leave/")["Location"] == LOGIN
    assert "_auth_user_id" not in client.session


def test_post_without_csrf_token_is_refused(meera: User, second_factor: None) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(meera)
    for address in (CODE_PAGE, NEW_PAGE, "/admin/second-factor/leave/"):
        assert client.post(address, {"code": "123456"}).status_code == 403


def test_password_is_enough_if_the_second_factor_is_off(meera: User) -> None:
    client = Client()
    assert enter_password(client).status_code == 302
    assert signed_in(client)


# The lock-out


def test_five_wrong_passwords_lock_the_username_from_that_address(meera: User) -> None:
    client = Client()
    tries = [enter_password(client, "wrong") for _ in range(5)]
    assert [each.status_code for each in tries] == [200, 200, 200, 200, 429]
    locked = enter_password(client)
    assert locked.status_code == 429
    assert "Sign-in with this username is locked from your address for 15 minutes." in text_of(locked)
    assert not signed_in(client)
    # Neither another address nor another username is locked.
    assert enter_password(Client(), REMOTE_ADDR="203.0.113.9").status_code == 302
    assert enter_password(Client(), "wrong", username="ravi").status_code == 200


def test_lock_ends_after_fifteen_minutes(meera: User) -> None:
    for _ in range(6):
        enter_password(Client(), "wrong")
    with time_machine.travel(timezone.now() + timedelta(minutes=14)):
        assert enter_password(Client()).status_code == 429
    with time_machine.travel(timezone.now() + timedelta(minutes=16)):
        assert enter_password(Client()).status_code == 302


def test_right_password_resets_the_count_of_wrong_ones(meera: User) -> None:
    for _ in range(2):
        for _ in range(4):
            assert enter_password(Client(), "wrong").status_code == 200
        assert enter_password(Client()).status_code == 302


def test_forged_forwarding_header_does_not_evade_the_lock(meera: User) -> None:
    for number in range(5):
        enter_password(Client(), "wrong", HTTP_X_FORWARDED_FOR=f"203.0.113.{number}", HTTP_USER_AGENT=f"agent {number}")
    assert enter_password(Client(), HTTP_X_FORWARDED_FOR="203.0.113.77").status_code == 429


def test_unknown_and_existing_usernames_get_the_same_response(meera: User) -> None:
    def answers(username: str) -> list[tuple[int, str]]:
        pages = [enter_password(Client(), "wrong", username=username) for _ in range(6)]
        return [(page.status_code, re.sub(r'value="[^"]*"', "", text_of(page))) for page in pages]

    assert answers("meera") == answers("nobody")


@pytest.mark.parametrize(
    "username", ["q" * 151, "q" * 300, "\ufdfa" * 100], ids=["one too long", "very long", "too long once normalised"]
)
def test_too_long_a_username_is_refused(username: str) -> None:
    page = enter_password(Client(), username=username)
    assert page.status_code == 200
    assert "Ensure this value has at most 150 characters" in text_of(page)
    assert not AccessAttempt.objects.exists()


# Sessions


def test_session_ends_after_thirty_idle_minutes(meera: User) -> None:
    client = Client()
    enter_password(client)
    start = timezone.now()
    for minutes in (29, 58):
        with time_machine.travel(start + timedelta(minutes=minutes)):
            assert signed_in(client)
    with time_machine.travel(start + timedelta(minutes=89)):
        assert not signed_in(client)
    assert not signed_in(client)


def test_session_ends_after_twelve_hours_of_use(meera: User) -> None:
    client = Client()
    enter_password(client)
    start = timezone.now()
    for quarters in range(1, 48):
        with time_machine.travel(start + timedelta(minutes=15 * quarters)):
            assert signed_in(client)
    with time_machine.travel(start + timedelta(hours=12, minutes=1)):
        assert not signed_in(client)


def test_session_that_waits_for_a_code_ends_when_idle(meera: User, second_factor: None) -> None:
    device = with_device(meera)
    client = Client()
    enter_password(client)
    with time_machine.travel(timezone.now() + timedelta(minutes=31)):
        assert client.post(CODE_PAGE, {"code": code_now(device)})["Location"].startswith(LOGIN)
        assert not signed_in(client)


def test_session_cookie_ends_with_the_browser_and_is_hidden_from_scripts(meera: User, settings) -> None:
    client = Client()
    cookie = enter_password(client).cookies["sessionid"]
    assert (cookie["expires"], cookie["max-age"]) == ("", "")
    assert (cookie["httponly"], cookie["samesite"], cookie["secure"]) == (True, "Lax", "")


@pytest.mark.parametrize("key", ["\0" + "a" * 31, "\0" * 32, "é" * 32, "A" * 32, "a" * 400, "short", ""])
def test_invalid_session_cookie_is_treated_as_no_session(meera: User, key: str) -> None:
    client = Client()
    client.cookies["sessionid"] = key
    assert client.get(HOME)["Location"] == f"{LOGIN}?next={HOME}"
    assert client.get(LOGIN).status_code == 200
    assert enter_password(client)["Location"] == HOME
    assert signed_in(client)


def test_new_password_ends_the_users_other_sessions(meera: User) -> None:
    here, there = Client(), Client()
    enter_password(here)
    enter_password(there)
    new = "another long password"
    values = {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
    assert here.post("/admin/password_change/", values).status_code == 302
    assert signed_in(here)
    assert not signed_in(there)
    change = StaffChange.objects.get(subject="auth.user")
    assert (change.action, change.made_by, change.after) == ("password changed", "meera", {"password": "changed"})


def test_failed_password_change_is_not_recorded(meera: User) -> None:
    client = Client()
    enter_password(client)
    values = {"old_password": "wrong", "new_password1": "another long one", "new_password2": "another long one"}
    assert client.post("/admin/password_change/", values).status_code == 200
    assert not StaffChange.objects.exists()


def test_fifth_wrong_old_password_signs_out_and_locks_the_username(meera: User) -> None:
    client = Client()
    enter_password(client)
    guess = {"old_password": "a wrong guess", "new_password1": "another long one", "new_password2": "another long one"}
    for _ in range(4):
        page = client.post("/admin/password_change/", guess)
        assert page.status_code == 200
        assert "Your old password was entered incorrectly." in text_of(page)
    page = client.post("/admin/password_change/", guess, follow=True)
    assert page.redirect_chain == [(LOGIN, 302)]
    assert "Sign-in with this username is locked from your address for 15 minutes." in text_of(page)
    assert not signed_in(client)
    assert enter_password(client).status_code == 429
    [change] = StaffChange.objects.filter(subject="auth.user")
    assert (change.action, change.made_by, change.reason) == (
        "signed out",
        "meera",
        "Too many wrong passwords on the password change page.",
    )
    [attempt] = AccessAttempt.objects.all()
    assert "guess" not in attempt.post_data
    assert "another" not in attempt.post_data


def test_other_errors_in_the_password_form_do_not_count_as_guesses(meera: User) -> None:
    client = Client()
    enter_password(client)
    for values in ({}, {"old_password": PASSWORD, "new_password1": "short", "new_password2": "other"}):
        for _ in range(6):
            assert client.post("/admin/password_change/", values).status_code == 200
    assert signed_in(client)
    assert not AccessAttempt.objects.exists()


def test_address_that_signs_in_too_often_is_refused_before_a_hash(meera: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TRIES_PER_MINUTE", 3)
    with time_machine.travel(timezone.now(), tick=False):
        answers = [Client().post(LOGIN, {"username": f"user{n}", "password": "a guess"}).status_code for n in range(5)]
        assert answers == [200, 200, 200, 429, 429]
        refused = enter_password(Client())
        assert refused.status_code == 429
        assert "Too many sign-ins" in text_of(refused)
        assert int(refused["Retry-After"]) <= 60
        elsewhere = Client(REMOTE_ADDR="192.0.2.9")
        assert elsewhere.post(LOGIN, {"username": "meera", "password": PASSWORD}).status_code == 302


def answers_of(*requests: tuple[str, str, str], address: str = "192.0.2.7") -> list[int]:
    """Sends requests (method, path, cookie), and returns the status of each, or 0 if it reached Django."""
    statuses: list[int] = []

    def django(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        statuses.append(0)
        return [b""]

    def start_response(status: str, headers: list[tuple[str, str]]) -> None:
        named = dict(headers)
        assert 0 < int(named["Retry-After"]) <= 60
        assert len(named["X-CAP-REQUEST-ID"]) == 32
        statuses.append(int(status[:3]))

    application = refusing_floods(django)
    for method, path, cookie in requests:
        environ = RequestFactory().generic(method, path, REMOTE_ADDR=address, HTTP_COOKIE=cookie).environ
        application(environ, start_response)
    return statuses


def test_further_sign_ins_of_a_refused_address_do_not_reach_django(
    meera: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TRIES_PER_MINUTE", 1)
    with time_machine.travel(timezone.now(), tick=False):
        assert answers_of(("POST", LOGIN, "")) == [0]
        for _ in range(2):
            Client(REMOTE_ADDR="192.0.2.7").post(LOGIN, {"username": "x", "password": "a guess"})
        assert answers_of(("POST", LOGIN, ""), ("GET", LOGIN, ""), ("POST", "/v2/points/reverse", "")) == [429, 0, 0]
        assert answers_of(("POST", LOGIN, ""), address="192.0.2.8") == [0]
    with time_machine.travel(timezone.now() + timedelta(minutes=1)):
        assert answers_of(("POST", LOGIN, "")) == [0]


def test_address_that_opens_many_pages_signed_out_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PAGES_PER_MINUTE", 2)
    monkeypatch.setattr(limits, "_minute", limits._Minute(0))
    opened = [("GET", LOGIN, "sessionid=x"), ("GET", "/admin/", ""), ("GET", "/admin/x/", ""), ("GET", LOGIN, "")]
    with time_machine.travel(timezone.now(), tick=False):
        assert answers_of(*opened) == [0, 0, 429, 429]
        assert answers_of(("GET", "/admin/", "csrftoken=y; sessionid=x"), ("GET", "/static/x.css", "")) == [0, 0]
        monkeypatch.setattr(limits, "ADDRESSES_KEPT", 1)
        assert answers_of(*opened, address="192.0.2.8") == [0, 0, 0, 0]
    with time_machine.travel(timezone.now() + timedelta(minutes=1)):
        assert answers_of(("GET", LOGIN, "")) == [0]


def test_address_with_many_wrong_passwords_over_all_usernames_is_refused(
    meera: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FAILURES_OF_AN_ADDRESS", 3)
    for number in range(3):
        Client().post(LOGIN, {"username": f"user{number}", "password": "a guess"})
    assert enter_password(Client()).status_code == 429


def test_sign_in_while_others_are_hashed_is_503_and_not_a_failed_one(
    meera: User, settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.PASSWORD_HASHERS = ["loyalty.staff.signin.hashing.BoundedPBKDF2PasswordHasher"]
    meera.set_password(PASSWORD)
    meera.save()
    for _ in range(hashing.AT_ONCE):
        hashing._places.acquire()
    try:
        refused = enter_password(Client())
    finally:
        hashing._places.release(hashing.AT_ONCE)
    assert (refused.status_code, refused["Retry-After"]) == (503, "2")
    assert not AccessAttempt.objects.exists()
    client = Client()
    enter_password(client)
    assert signed_in(client)


def test_large_body_of_a_signed_out_user_is_413() -> None:
    large = {"username": "x" * gate.LARGEST_BODY, "password": "y"}
    assert Client().post(LOGIN, large).status_code == 413
    assert Client().post("/admin/reversals/bulkrun/upload/", large).status_code == 413


def test_hashes_of_django_are_still_accepted() -> None:
    with_django = PBKDF2PasswordHasher().encode(PASSWORD, "salt", 1_000)
    assert hashing.BoundedPBKDF2PasswordHasher().verify(PASSWORD, with_django)
