"""Base classes of the lists and forms: rows of the user's orgs only, no counts of whole tables, audited changes."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ERROR_FLAG, ChangeList
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import DataError, models
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.html import format_html
from unfold.admin import ModelAdmin, TabularInline
from unfold.widgets import UnfoldAdminTextareaWidget

from loyalty.admin.lists import HIDDEN_FILTER, ExactSearch, InfinitePaginator, OfferedFilters
from loyalty.admin.views import columns_of
from loyalty.ledger.points import grouped
from loyalty.models import Org, OrgRow, StaffChange
from loyalty.staff.access import orgs_of
from loyalty.staff.audit import record_change
from loyalty.staff.current_org import current_org, zone_of

REASON_LENGTH = 500
VIEW_CHANGES = "loyalty.view_staffchange"


class ReadOnly:
    """Rows that staff can only read."""

    def has_add_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False


class Undeletable:
    """Rows that cannot be deleted, because other rows refer to them."""

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False


class ReadOnlyInline(ReadOnly, TabularInline):
    """Read-only rows on the page of another row."""

    extra = 0


def right(points: Decimal) -> str:
    """Returns the amount for a list, aligned to the right, with commas between the thousands."""
    return format_html('<span class="amount">{}</span>', grouped(points))


def points_column(name: str) -> Callable[[Any], str]:
    """Returns a list column of points, aligned to the right, with commas between the thousands."""

    @admin.display(description=name.replace("_", " "))
    def column(row: Any) -> str:
        points = getattr(row, name)
        return "" if points is None else right(points)

    column.__name__ = name

    return column


class Forgiving:
    """A list that treats values that no column can hold like unknown filters, instead of failing with 500."""

    def get_changelist(self, request: HttpRequest, **options: Any) -> type[ChangeList]:
        return OfferedFilters

    def response_action(self: Any, request: HttpRequest, queryset: models.QuerySet[Any]) -> HttpResponseBase | None:
        """Runs the action on the selected rows. No list offers to select the rows of all its pages."""
        if request.POST.get("select_across", "0") != "0":
            chosen = request.POST.copy()
            chosen["select_across"] = "0"
            request.POST = chosen  # type: ignore[assignment]
        try:
            for row_id in request.POST.getlist(ACTION_CHECKBOX_NAME):
                self.opts.pk.to_python(row_id)
        except ValidationError:
            self.message_user(
                request,
                "One of the selected rows does not exist. Nothing was changed. Select the rows again.",
                messages.ERROR,
            )
            return None
        return super().response_action(request, queryset)  # type: ignore[misc]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        try:
            return super().changelist_view(request, extra_context)  # type: ignore[misc]
        # The address contains a number that no column can hold, or a look-up that Django refuses.
        except (OverflowError, DataError, DisallowedModelAdminLookup):
            return redirect(f"{request.path}?{ERROR_FLAG}=1")


class Recorded:
    """Rows whose history is the audit of changes by staff."""

    def history_view(
        self: Any, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Shows the changes that staff made to the row, newest first, to users who may read such changes."""
        if not request.user.has_perm(VIEW_CHANGES):
            raise PermissionDenied
        row = self.get_object(request, unquote(object_id))
        if row is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        if not self.has_view_or_change_permission(request, row):
            raise PermissionDenied
        changes = StaffChange.objects.filter(subject=self.opts.label_lower, subject_id=str(row.pk))
        context = self.admin_site.each_context(request) | {"opts": self.opts, "original": row}
        context |= {"title": f"History of {row}", "changes": changes.order_by("-made_at")[: self.list_per_page]}
        return TemplateResponse(request, "admin/history.html", context)


class BackOfficeAdmin(Forgiving, Recorded, ModelAdmin):
    """Rows of the orgs that the user may work on. Rows of other orgs are not found."""

    list_per_page = 50
    list_disable_select_all = True
    paginator = InfinitePaginator
    list_max_show_all = 0
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # each facet would count the whole table
    ordering = ["-id"]
    org_path = "org"  # the look-up from a row to its org

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Shows times in the time zone of the org whose rows the list shows."""
        shows_org = any(isinstance(each, type) and issubclass(each, OneOrg) for each in self.get_list_filter(request))
        zone = zone_of(current_org(request) if shows_org else None)
        with timezone.override(zone):
            response = super().changelist_view(request, extra_context)
            # A template would be rendered after this method, in UTC.
            return response.render() if isinstance(response, TemplateResponse) else response

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        rows = super().get_queryset(request)
        if request.user.is_superuser:
            return rows
        return rows.filter(**{f"{self.org_path}__in": orgs_of(request.user)})

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        context["show_history"] = request.user.has_perm(VIEW_CHANGES)
        return super().render_change_form(request, context, *args, **kwargs)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        parent = db_field.remote_field.model
        if parent is Org:
            kwargs["queryset"] = orgs_of(request.user).order_by("id")
        elif hasattr(parent, "org"):
            kwargs["queryset"] = parent._default_manager.filter(org__in=orgs_of(request.user)).order_by("id")
        return super().formfield_for_foreignkey(db_field, request, **kwargs)


class OneOrg(admin.SimpleListFilter):
    """Limits a list to the current org, so that it is read from an index that begins with the org.

    The page does not show it as a filter, because the header says which org it is and changes it.
    """

    title = "org"
    parameter_name = "org"
    template = HIDDEN_FILTER

    def __init__(self, request: HttpRequest, *args: Any) -> None:
        self.org = current_org(request)
        super().__init__(request, *args)

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return []

    def has_output(self) -> bool:
        return True  # otherwise Django ignores the filter

    def choices(self, changelist: Any) -> Iterator[Any]:
        return iter(())

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        return queryset.filter(org=self.org or 0)


class LedgerAdmin(ReadOnly, BackOfficeAdmin):
    """Read-only rows of the ledger, one org at a time, newest first."""

    list_filter: Any = [OneOrg]
    newest_by = "id"
    sortable_by: Any = ()  # the names of columns in whose order an index has the rows
    more_columns: Any = ()  # columns that a user can choose to see
    list_before_template = "admin/parts/views.html"

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        return columns_of(request, self)


class PageAdmin(ExactSearch, LedgerAdmin):
    """Ledger rows shown on a page instead of a form. `page` returns the context of `page_template`."""

    page_template: str

    def page(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Returns the context of the row's page."""
        raise NotImplementedError

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        row = self.get_object(request, unquote(object_id))
        if row is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        if request.method == "POST" or not self.has_view_permission(request, row):
            raise PermissionDenied
        return self.render_page(request, self.page_template, row, self.page(request, row))

    def render_page(self, request: HttpRequest, template: str, row: Any, shown: dict[str, Any]) -> TemplateResponse:
        context = self.admin_site.each_context(request) | {"opts": self.opts, "original": row, "title": str(row)}
        return TemplateResponse(request, template, context | shown)


class ReasonedForm(forms.ModelForm):
    """A form for a change, with the reason that the audit stores."""

    reason = forms.CharField(
        max_length=REASON_LENGTH,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text="Why you are making this change. The reason is kept with the change forever.",
    )


class ReasonedAdmin(Undeletable, BackOfficeAdmin):
    """Rows that staff change. Each change is recorded with its reason and the values before and after."""

    form = ReasonedForm

    def get_fields(self, request: HttpRequest, obj: models.Model | None = None) -> list[Any]:
        fields = [name for name in super().get_fields(request, obj) if name != "reason"]
        may_save = self.has_change_permission(request, obj) if obj else self.has_add_permission(request)
        return [*fields, "reason"] if may_save else fields

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        names = [name for name in form.changed_data if name != "reason"]
        stored = _locked(obj) if change else None
        before = {name: _as_recorded(stored, name) for name in names} if stored is not None else {}
        # Without force_insert Django updates a row that got the same primary key meanwhile.
        obj.save(force_insert=not change)
        record_change(
            obj,
            org=obj if isinstance(obj, Org) else getattr(obj, "org", None),
            action="changed" if change else "added",
            made_by=request.user.get_username(),
            reason=form.cleaned_data["reason"],
            before=before,
            after={name: _as_recorded(obj, name) for name in names},
        )


def _locked(row: models.Model) -> models.Model:
    """Returns the row as it is stored, and locks it. A cluster locks rows of one org only, so the query names it."""
    rows = type(row)._default_manager.select_for_update()
    return rows.get(pk=row.pk, org_id=row.org_id) if isinstance(row, OrgRow) else rows.get(pk=row.pk)


def _as_recorded(row: models.Model, name: str) -> Any:
    """Returns a field's value as the audit stores it."""
    value = getattr(row, name)
    return value if value is None or isinstance(value, bool | int) else str(value)
