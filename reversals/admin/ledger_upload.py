"""The page on which ledger files are uploaded for an org. The worker imports them."""

from typing import Any

from django import forms
from django.contrib.admin.sites import site
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.template.defaultfilters import linebreaksbr
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.widgets import UnfoldAdminFileFieldWidget

from loyalty.admin.statuses import Status, badge
from loyalty.importing.files import COLUMNS, OPTIONAL
from loyalty.models import LedgerUpload, Org
from loyalty.staff.current_org import current_org
from reversals.admin.html import moment
from reversals.operations import ledger_uploads
from reversals.operations.worker import queue

SHOWN = 10
WAITING = LedgerUpload.Status.WAITING
_TONES = {WAITING: "info", LedgerUpload.Status.IMPORTED: "success", LedgerUpload.Status.REFUSED: "danger"}


class LedgerFilesForm(forms.Form):
    """One or more of the three ledger files."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for kind in COLUMNS:
            self.fields[kind] = forms.FileField(
                label=f"{kind}.csv",
                required=False,
                widget=UnfoldAdminFileFieldWidget(attrs={"accept": ".csv,.gz,text/csv"}),
                help_text="Columns: "
                + ", ".join(f"{name} (optional)" if name in OPTIONAL else name for name in COLUMNS[kind]),
            )

    def clean(self) -> dict[str, Any]:
        given = {kind: file for kind, file in (super().clean() or {}).items() if file}
        if not given and not self.errors:
            raise forms.ValidationError("Choose at least one file.")
        size = sum(file.size for file in given.values())
        if size > ledger_uploads.MOST_BYTES:
            raise forms.ValidationError(
                f"The files have {size:,} bytes; at most {ledger_uploads.MOST_BYTES:,} can be uploaded."
                " Compress them with gzip, or use the command below."
            )
        return given


def page(request: HttpRequest) -> HttpResponse:
    """Takes files for the org of the header, and shows what became of the latest ones."""
    org = _org(request)
    form = LedgerFilesForm(*((request.POST, request.FILES) if request.method == "POST" else ()))
    if request.method == "POST" and form.is_valid():
        files = {kind: (file.name, file.read()) for kind, file in form.cleaned_data.items()}
        ledger_uploads.add(org=org, made_by=request.user.get_username(), files=files)
        return redirect(f"{request.path}?org={org.id}")
    uploads = list(_uploads(org).order_by("-made_at")[:SHOWN])
    shown = {
        "title": f"Import ledger files: {org}",
        "form": form,
        "is_waiting": any(upload.status == WAITING for upload in uploads),
        "progress": f"{reverse('admin:import_ledger_progress')}?org={org.id}",
        "notice": _notice(),
        "uploads": {
            "headers": ["When", "By", "Status", "Outcome"],
            "rows": [
                [moment(each.made_at), each.made_by, _status(each), linebreaksbr(each.outcome)] for each in uploads
            ],
        },
        "org": org,
    }
    return TemplateResponse(request, "admin/import_ledger.html", site.each_context(request) | shown)


def progress(request: HttpRequest) -> HttpResponse:
    """Returns as JSON to the page's script whether files still wait."""
    waiting = _uploads(_org(request)).filter(status=WAITING).count()
    state = {"done": 0, "all": waiting, "working": waiting > 0, "notice": _notice()}
    return JsonResponse(state, headers={"Cache-Control": "no-store"})


def _org(request: HttpRequest) -> Org:
    org = current_org(request)
    if org is None or not request.user.has_perm(ledger_uploads.RIGHT):
        raise PermissionDenied
    return org


def _uploads(org: Org) -> Any:
    return LedgerUpload.objects.filter(org=org).defer("customers", "points", "redemptions")


def _notice() -> str:
    return "" if queue.is_somebody_working() else "No worker is running, so the files wait. Start manage.py work."


def _status(upload: LedgerUpload) -> str:
    return badge(Status(upload.get_status_display(), _TONES[LedgerUpload.Status(upload.status)]))


site.add_page("import/", page, name="import_ledger")  # type: ignore[attr-defined]
site.add_page("import/progress/", progress, name="import_ledger_progress")  # type: ignore[attr-defined]
