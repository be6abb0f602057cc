"""Confirmation pages: they ask for a reason and then perform one change."""

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
    """A form that asks only for the reason that the audit stores."""

    reason = ReasonedForm.declared_fields["reason"]


def done(form: forms.Form, change: Callable[[dict[str, Any]], Outcome]) -> Outcome | None:
    """Runs `change` with the form's data in one transaction, and returns its result.

    Returns None if the form was not sent or is not valid, or if the change is refused. The form then has the error.
    """
    if not form.is_valid():
        return None
    try:
        with transaction.atomic():
            return change(form.cleaned_data)
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
    """Returns the confirmation page: what will happen, the form, the button, and a link back."""
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
