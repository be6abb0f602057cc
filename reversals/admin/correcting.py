"""The page on which a user requests the correction of a wrong reversal, which a second user then approves."""

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse

from loyalty.admin.links import page_of
from loyalty.staff.access import orgs_of
from reversals.admin.html import in_points
from reversals.admin.reversing import CorrectForm, approval_in_words, preview_of_correction, take_step
from reversals.manual import manual_reversals
from reversals.models import Approval, Reversal

CORRECT = ("reversals.add_correction", "reversals.view_reversal")


def may_correct(request: HttpRequest, reversal: Reversal) -> bool:
    """Returns whether the user may request a correction of the reversal. A reversal is corrected at most once."""
    return bool(request.user.has_perms(CORRECT)) and not reversal.corrections.exists()


def correct_view(request: HttpRequest, reversal_id: int) -> HttpResponse:
    """Shows the form, then its preview, then creates the approval request. Each step is posted by the page before."""
    reversal = Reversal.objects.filter(org__in=orgs_of(request.user), id=reversal_id).first()
    if reversal is None:
        raise Http404
    if not request.user.has_perms(CORRECT):
        raise PermissionDenied
    username = request.user.get_username()
    step = take_step(
        request,
        CorrectForm,
        org_id=reversal.org_id,
        preview=lambda form: manual_reversals.preview_correction(form.wanted(reversal, made_by=username)),
        confirm=lambda form: manual_reversals.ask_to_correct(form.wanted(reversal, made_by=username)),
    )
    if isinstance(step, HttpResponse):
        return step
    if isinstance(step, Approval):
        messages.warning(request, approval_in_words(step))
        return redirect(page_of(reversal))
    shown = admin.site.each_context(request) | {
        "opts": Reversal._meta,
        "original": reversal,
        "form": step.form,
        "title": f"Correct reversal {reversal}",
        "explanation": f"This reversal reversed {in_points(reversal.points)} to their lots. A correction takes all of"
        " them back from those lots, after a second user has approved it.",
        "back": page_of(reversal),
    }
    if step.preview is None:
        return TemplateResponse(request, "admin/manual/form.html", shown)
    return TemplateResponse(request, "admin/manual/preview.html", shown | preview_of_correction(step.preview))


admin.site.add_page(  # type: ignore[attr-defined]
    "reversals/reversal/<int:reversal_id>/correct/", correct_view, name="reversals_reversal_correct"
)
