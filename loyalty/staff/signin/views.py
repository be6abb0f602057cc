"""The pages between the password and the back office: the second factor, set up once and asked for each time."""

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

OFFERED_KEY = "second_factor_key"  # in the session, until its first code is given

View = Callable[[HttpRequest], HttpResponse]


def awaits_second_factor(request: HttpRequest) -> bool:
    """Whether a member of staff has given the password, and the second factor is still to come."""
    user = request.user
    return bool(user.is_active and user.is_staff) and not second_factor.is_passed(user)


def second_factor_page(request: HttpRequest) -> HttpResponse:
    """Leads to the page that asks for the second factor, or has it set up; `next` is kept."""
    page = "enter_code" if second_factor.is_set_up(request.user) else "set_up_second_factor"
    return redirect(f"{reverse(f'admin:{page}')}?{urlencode({'next': _next(request)})}")


def _between(view: View) -> View:
    """For those who have given the password and not the second factor; others are led to where they belong."""

    @wraps(view)
    def led(request: HttpRequest) -> HttpResponse:
        sessions.end_if_over(request)
        if awaits_second_factor(request):
            return view(request)
        if request.user.is_authenticated:
            return redirect(_next(request))
        return redirect(f"{reverse('admin:login')}?{urlencode({'next': _next(request)})}")

    return sensitive_post_parameters()(never_cache(csrf_protect(led)))


@_between
def enter_code(request: HttpRequest) -> HttpResponse:
    """Asks for a code of the app, or a recovery code."""
    if not second_factor.is_set_up(request.user):
        return second_factor_page(request)
    form = CodeForm(request.POST or None)
    if form.is_valid():
        try:
            device = second_factor.verify(request.user, form.cleaned_data["code"])
        except WrongCode as wrong:
            form.add_error("code", str(wrong))
        else:
            _let_in(request, device)
            if not isinstance(device, second_factor.TOTPDevice):
                left = second_factor.recovery_codes_left(request.user)
                messages.warning(request, f"That recovery code is used up; you have {left} left.")
            return redirect(_next(request))
    return _page(request, "enter_code", "Enter your code", {"form": form})


@_between
def set_up(request: HttpRequest) -> HttpResponse:
    """Shows a new key until its first code is given, and then the recovery codes, once."""
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
            _let_in(request, device)
            return _page(request, "recovery_codes", "Keep your recovery codes", {"codes": codes})
    shown = {
        "form": form,
        "picture": segno.make(device.config_url, micro=False).svg_data_uri(scale=4, border=4, light="white"),
        "key": second_factor.key_in_text(device),
    }
    return _page(request, "set_up", "Set up your second factor", shown)


@require_POST
@csrf_protect
def leave(request: HttpRequest) -> HttpResponse:
    """Signs out a person who cannot or will not give the second factor."""
    logout(request)
    return redirect("admin:login")


def _let_in(request: HttpRequest, device: Any) -> None:
    # A new key, so that a session id known to others before the second factor is worth nothing after it.
    request.session.cycle_key()
    django_otp.login(request, device)


def _next(request: HttpRequest) -> str:
    """Where the person wanted to go, if that is a page of this site; else the home page."""
    address = request.GET.get("next", "")
    hosts = {request.get_host()}
    is_ours = url_has_allowed_host_and_scheme(address, allowed_hosts=hosts, require_https=request.is_secure())
    return address if is_ours else reverse("admin:index")


def _page(request: HttpRequest, name: str, title: str, shown: dict[str, Any]) -> HttpResponse:
    context = admin.site.each_context(request) | {"title": title, "next": _next(request)} | shown
    return TemplateResponse(request, f"admin/signin/{name}.html", context)
