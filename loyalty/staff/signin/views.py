"""The pages of the second factor: setting it up once, and entering a code at each sign-in."""

from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlencode

import django_otp
import segno
from django.contrib import admin, messages
from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST

from loyalty.errors import InvalidOperation
from loyalty.staff.signin import second_factor, sessions
from loyalty.staff.signin.forms import CodeForm
from loyalty.staff.signin.second_factor import WrongCode

OFFERED_KEY = "second_factor_key"  # in the session until the first code confirms it

View = Callable[[HttpRequest], HttpResponse]


def awaits_second_factor(request: HttpRequest) -> bool:
    """Returns whether a user of the back office has given the password but not yet the second factor."""
    user = request.user
    return bool(user.is_active and user.is_staff) and not second_factor.is_passed(user)


def second_factor_page(request: HttpRequest) -> HttpResponse:
    """Redirects to the page that asks for a code or sets up the second factor, and keeps `next`."""
    page = "enter_code" if second_factor.is_set_up(request.user) else "set_up_second_factor"
    return redirect(f"{reverse(f'admin:{page}')}?{urlencode({'next': _next(request)})}")


def _between(view: View) -> View:
    """Limits a view to users who have given the password but not yet the second factor.

    Redirects a signed-in user to the page that they asked for, and any other user to the sign-in page.
    """

    @wraps(view)
    def limited(request: HttpRequest) -> HttpResponse:
        sessions.end_if_over(request)
        if awaits_second_factor(request):
            return view(request)
        if request.user.is_authenticated:
            return redirect(_next(request))
        return redirect(f"{reverse('admin:login')}?{urlencode({'next': _next(request)})}")

    return sensitive_post_parameters()(never_cache(csrf_protect(limited)))


@_between
def enter_code(request: HttpRequest) -> HttpResponse:
    """Asks for a code of the app or for a recovery code."""
    if not second_factor.is_set_up(request.user):
        return second_factor_page(request)
    form = CodeForm(request.POST or None)
    if form.is_valid():
        try:
            device = second_factor.verify(request.user, form.cleaned_data["code"])
        except WrongCode as wrong:
            form.add_error("code", str(wrong))
        else:
            _complete_sign_in(request, device)
            if not isinstance(device, second_factor.TOTPDevice):
                left = second_factor.recovery_codes_left(request.user)
                messages.warning(request, _codes_left(left))
            return redirect(_next(request))
    return _page(request, "enter_code", "Enter your code", {"form": form})


@_between
def set_up(request: HttpRequest) -> HttpResponse:
    """Shows a new key until a first code confirms it, then shows the recovery codes once."""
    if second_factor.is_set_up(request.user):
        return second_factor_page(request)
    device = second_factor.new_device(request.user, request.session.get(OFFERED_KEY))
    request.session[OFFERED_KEY] = device.key
    form = CodeForm(request.POST or None)
    if form.is_valid():
        try:
            codes = second_factor.set_up(device, form.cleaned_data["code"])
        except WrongCode as wrong:
            form.add_error("code", str(wrong))
        except InvalidOperation:
            return second_factor_page(request)
        else:
            del request.session[OFFERED_KEY]
            _complete_sign_in(request, device)
            return _page(request, "recovery_codes", "Save your recovery codes", {"codes": codes})
    shown = {
        "form": form,
        "picture": segno.make(device.config_url, micro=False).svg_data_uri(scale=4, border=4, light="white"),
        "key": second_factor.key_in_text(device),
    }
    return _page(request, "set_up", "Set up your second factor", shown)


@require_POST
@csrf_protect
def leave(request: HttpRequest) -> HttpResponse:
    """Signs out a user who cannot give the second factor."""
    logout(request)
    return redirect("admin:login")


def _codes_left(count: int) -> str:
    left = f"{count} recovery code{'' if count == 1 else 's'} left"
    advice = "" if count else " Ask a superuser to reset your second factor, so that you get new ones."
    return f"This recovery code cannot be used again. You have {left}.{advice}"


def _complete_sign_in(request: HttpRequest, device: Any) -> None:
    # Change the session id, so that an id that leaked before the second factor is useless after it.
    request.session.cycle_key()
    django_otp.login(request, device)


def _next(request: HttpRequest) -> str:
    """Returns the page that the user asked for if it is on this site, else the home page."""
    address = request.GET.get("next", "")
    hosts = {request.get_host()}
    is_ours = url_has_allowed_host_and_scheme(address, allowed_hosts=hosts, require_https=request.is_secure())
    return address if is_ours else reverse("admin:index")


def _page(request: HttpRequest, name: str, title: str, shown: dict[str, Any]) -> HttpResponse:
    context = admin.site.each_context(request) | {"title": title, "next": _next(request)} | shown
    return TemplateResponse(request, f"admin/signin/{name}.html", context)
