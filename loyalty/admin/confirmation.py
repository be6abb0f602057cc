"""Pages that ask for a reason, and do one thing for it."""

from collections.abc import Callable
from typing import Any, TypeVar

from django import forms
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from loyalty.admin.base import ReasonedForm
from loyalty.errors import InvalidOperation

Outcome = TypeVar("Outcome")


class ReasonForm(forms.Form):
    """The reason that the record of the change keeps."""

    reason = ReasonedForm.declared_fields["reason"]


def done(form: forms.Form, deed: Callable[[dict[str, Any]], Outcome]) -> Outcome | None:
    """What `deed` returns, done in one transaction with what the form holds.

    None: the form is not sent or not valid, or the deed is not possible, which the form then says.
    """
    if not form.is_valid():
        return None
    try:
        with transaction.atomic():
            return deed(form.cleaned_data)
    except InvalidOperation as error:
        message = str(error)
        form.add_error(None, f"{message[:1].upper()}{message[1:]}.")
    except ValidationError as error:
        form.add_error(None, ValidationError(error.messages))
    return None


def ask(
    request: HttpRequest,
    admin: Any,
    form: forms.Form,
    *,
    title: str,
    text: str,
    button: str,
    back: str,
    is_dangerous: bool = False,
) -> HttpResponse:
    """The page that asks: what will happen, the form, the button, and the way back."""
    context = admin.admin_site.each_context(request) | {
        "opts": admin.opts,
        "title": title,
        "text": text,
        "form": form,
        "button": button,
        "variant": "danger" if is_dangerous else "primary",
        "back": back,
    }
    return TemplateResponse(request, "admin/parts/ask.html", context)
