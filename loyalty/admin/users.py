"""The pages of users (roles, orgs, passwords, second factors), of roles, and of the audit of changes.

Only superusers manage users, so that no user can grant rights that they do not have.
"""

from collections.abc import Iterator
from typing import Any

from django import forms
from django.apps import apps
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.auth.models import Group, User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import models
from django.forms.models import BaseInlineFormSet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html_join
from django.views.decorators.debug import sensitive_post_parameters
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import action
from unfold.forms import AdminPasswordChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldBooleanWidget

from loyalty.admin.base import Forgiving, OneOrg, PageAdmin, ReadOnly, ReasonedForm, Recorded, Undeletable
from loyalty.admin.confirmation import ReasonForm, ask, done
from loyalty.admin.filters import ByUser, period_of
from loyalty.admin.lists import InfinitePaginator
from loyalty.errors import InvalidOperation
from loyalty.models import OrgAccess, StaffChange
from loyalty.staff.audit import record_change
from loyalty.staff.locks import lock_users
from loyalty.staff.rights import ROLES_IN_WORDS, effective_rights, rights_of_role
from loyalty.staff.signin import second_factor

SHOWN = 50

for model in (User, Group, TOTPDevice, StaticDevice):
    # Their own pages ask for no reason, can delete users, and show the keys of devices.
    admin.site.unregister(model)


class SuperusersOnly:
    """Rows that only superusers see and change."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_superuser)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)


class ConfirmedForm(forms.ModelForm):
    """A user whose missing role or orgs must be confirmed, because the user could then do or see nothing."""

    without = forms.BooleanField(
        label="Yes, without a role or an org",
        required=False,
        widget=UnfoldBooleanWidget,
        help_text="A user without a role may do nothing, and a user without an org sees no rows.",
    )

    def clean(self) -> dict[str, Any] | None:
        given: dict[str, Any] | None = super().clean()
        cleaned = self.cleaned_data
        is_superuser = cleaned.get("is_superuser", self.instance.is_superuser)
        may_miss = cleaned.get("without") or is_superuser or not cleaned.get("is_active", self.instance.is_active)
        if not cleaned.get("groups") and not may_miss:
            self.add_error("groups", f"Choose a role, or tick “{self.fields['without'].label}”.")
        return given


class OrgAccessFormSet(BaseInlineFormSet):
    """The orgs of a user. It reads the tick of the user's form, because it is checked after that form."""

    def clean(self) -> None:
        super().clean()
        user = self.instance
        if user.is_superuser or not user.is_active or "without" in self.data:
            return
        kept = [each for each in self.forms if each.cleaned_data.get("org") and not each.cleaned_data.get("DELETE")]
        if not kept:
            label = ConfirmedForm.declared_fields["without"].label
            raise ValidationError(f"Choose an org, or tick “{label}”.")


class UserForm(ConfirmedForm, ReasonedForm):
    """A change of a user by a superuser. The password is set on another page."""


class NewUserForm(ConfirmedForm, UserCreationForm):
    """A new user, with a first password."""

    usable_password = None
    reason = ReasonedForm.declared_fields["reason"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("password1", "password2"):
            self.fields[name].required = True


class PasswordForm(AdminPasswordChangeForm):
    """A new password for another user."""

    reason = ReasonedForm.declared_fields["reason"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields.pop("usable_password", None)
        for name in ("password1", "password2"):
            self.fields[name].required = True


ORGS_SHOWN = 3


class OrgAccessInline(SuperusersOnly, TabularInline):
    model = OrgAccess
    formset = OrgAccessFormSet
    fields = ["org"]
    verbose_name = "org"
    verbose_name_plural = "Orgs that the user may work on (superusers may work on all orgs)"

    def get_extra(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> int:
        """Offers an empty row to a user without orgs."""
        return 0 if obj is not None and obj.org_accesses.exists() else 1

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_foreignkey(db_field, request, **kwargs)
        if field is not None:
            field.widget.attrs["aria-label"] = "Org"  # the table has no label for each row
        return field

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)


@admin.register(User)
class UserAdmin(Forgiving, Recorded, SuperusersOnly, Undeletable, ModelAdmin):
    """Users. A username cannot change, because the audit refers to it. To remove a user, make them inactive."""

    list_display = [
        "username",
        "full_name",
        "roles",
        "orgs",
        "is_active",
        "is_superuser",
        "has_second_factor",
        "last_login",
    ]
    list_filter = ["is_active", "groups"]
    list_per_page = 50
    paginator = InfinitePaginator
    list_max_show_all = 0
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    search_fields = ["username", "first_name", "last_name", "email"]
    ordering = ["username"]
    inlines = [OrgAccessInline]
    actions_detail = ["rights", "set_password", "reset_second_factor"]
    add_fieldsets = [
        (None, {"fields": ["username", "password1", "password2", "first_name", "last_name", "email"]}),
        ("Permissions", {"fields": ["groups", "is_superuser", "without"]}),
        (None, {"fields": ["reason"]}),
    ]
    fieldsets = [
        (None, {"fields": ["username", "first_name", "last_name", "email"]}),
        ("Permissions", {"fields": ["is_active", "groups", "is_superuser", "without"]}),
        ("Sign-in", {"fields": ["has_second_factor", "last_login", "date_joined"]}),
        (None, {"fields": ["reason"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[User]:
        devices = TOTPDevice.objects.filter(user=models.OuterRef("pk"), confirmed=True)
        return (
            super()
            .get_queryset(request)
            .prefetch_related("groups", "org_accesses__org")
            .annotate(has_device=models.Exists(devices))
        )

    def get_form(self, request: HttpRequest, obj: User | None = None, change: bool = False, **kwargs: Any) -> Any:
        return super().get_form(request, obj, change, **{"form": UserForm if obj else NewUserForm} | kwargs)

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> list[str]:
        if obj is None:
            return []
        # Users cannot deactivate or demote themselves, so at least one superuser always remains.
        own = ["is_active", "is_superuser"] if obj == request.user else []
        return ["username", *own, "has_second_factor", "last_login", "date_joined"]

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        options = {"label": "Roles", "help_text": "", "widget": UnfoldAdminCheckboxSelectMultipleWidget}
        field: Any = super().formfield_for_manytomany(db_field, request, **options | kwargs)
        field.label_from_instance = _role_in_words
        return field

    @admin.display(description="name")
    def full_name(self, user: User) -> str:
        return user.get_full_name()

    @admin.display(description="roles")
    def roles(self, user: User) -> str:
        return ", ".join(sorted(group.name for group in user.groups.all()))

    @admin.display(description="orgs")
    def orgs(self, user: User) -> str:
        if user.is_superuser:
            return "all"
        names = sorted(str(access.org) for access in user.org_accesses.all())
        more = len(names) - ORGS_SHOWN
        return ", ".join(names[:ORGS_SHOWN]) + (f" and {more} more" if more > 0 else "")

    @admin.display(description="second factor", boolean=True)
    def has_second_factor(self, user: User) -> bool:
        return user.has_device  # type: ignore[attr-defined]

    @method_decorator(sensitive_post_parameters())
    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        return super().add_view(request, form_url, {"title": "Add a user"} | (extra_context or {}))

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        # Lock the acting superuser too: if two superusers demote each other at once, the second is refused.
        acting: Any = request.user
        locked = lock_users([acting.pk, obj.pk] if change else [acting.pk])
        if not (locked[acting.pk].is_active and locked[acting.pk].is_superuser):
            raise PermissionDenied
        form.before = _as_recorded(locked[obj.pk]) if change else {}
        obj.is_staff = True  # a user without access to the back office is inactive or has no role
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        after = _as_recorded(User.objects.get(pk=form.instance.pk)) | ({} if change else {"password": "set"})
        changed = {name: value for name, value in after.items() if form.before.get(name, "") != value}
        if not changed:
            return
        before = {name: form.before[name] for name in changed if name in form.before}
        action, reason = "changed" if change else "added", form.cleaned_data["reason"]
        _record(request, form.instance, action, reason, before=before, after=changed)

    @action(description="Effective rights", url_path="rights")
    def rights(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Shows everything that the user may do and see, with the role that gives each right."""
        user = self._user(request, object_id)
        context = self.admin_site.each_context(request) | {"opts": self.opts, "original": user}
        context |= {"title": f"What {user} may do", "page": _page_of(user), "facts": _rights_facts(user)}
        if user.is_active and not user.is_superuser:
            rows = [[right.words, ", ".join(sources)] for right, sources in effective_rights(user)]
            context["table"] = {"headers": ["May", "Because of the role"], "rows": rows}
        return TemplateResponse(request, "admin/auth/rights.html", context)

    @action(description="Set password", url_path="set-password")
    @method_decorator(sensitive_post_parameters())
    def set_password(self, request: HttpRequest, object_id: str) -> HttpResponse:
        user = self._user(request, object_id)
        if user == request.user:
            return redirect("admin:password_change")
        form = PasswordForm(user, request.POST or None)

        def change(given: dict[str, Any]) -> User:
            form.save()
            _record(request, user, "password changed", given["reason"], before={}, after={"password": "changed"})
            return user

        if done(form, change) is not None:
            self.message_user(request, f"The password of {user} was changed.", messages.SUCCESS)
            return redirect(_page_of(user))
        title = f"Set the password of {user}"
        text = "This signs the user out everywhere. They then sign in with the new password."
        return ask(request, self, form, title=title, text=text, button="Set password", back=_page_of(user))

    @action(description="Reset second factor", url_path="reset-second-factor")
    def reset_second_factor(self, request: HttpRequest, object_id: str) -> HttpResponse:
        user = self._user(request, object_id)
        form = ReasonForm(request.POST or None)

        def reset(given: dict[str, Any]) -> User:
            if user == request.user:
                raise InvalidOperation("you cannot reset your own second factor; ask another superuser")
            second_factor.reset(user, made_by=request.user.get_username(), reason=given["reason"])
            return user

        if done(form, reset) is not None:
            text = f"The second factor of {user} was reset. They set up a new one when they next sign in."
            self.message_user(request, text, messages.SUCCESS)
            return redirect(_page_of(user))
        title, text = (
            f"Reset the second factor of {user}",
            "The user's authenticator app and recovery codes stop working. They set up new ones when they next sign in."
            " Make sure that the request really comes from the user.",
        )
        return ask(request, self, form, title=title, text=text, button="Reset second factor", back=_page_of(user))

    def _user(self, request: HttpRequest, object_id: str) -> User:
        if not request.user.is_superuser:
            raise PermissionDenied
        user: User | None = self.get_object(request, unquote(object_id))
        if user is None:
            raise Http404
        return user


@admin.register(Group)
class RoleAdmin(Forgiving, Recorded, ReadOnly, SuperusersOnly, ModelAdmin):
    """Roles, read-only. Migrations create them from `reversals/roles.py`."""

    list_display = ["name", "summary"]
    list_per_page = 50
    ordering = ["name"]
    paginator = InfinitePaginator
    list_max_show_all = 0
    show_full_result_count = False
    fields = readonly_fields = ["name", "summary", "permissions_in_words", "users"]

    @admin.display(description="in one sentence")
    def summary(self, role: Group) -> str:
        return ROLES_IN_WORDS.get(role.name, "")

    @admin.display(description="may")
    def permissions_in_words(self, role: Group) -> str:
        return format_html_join("", "<p>{}</p>", ([right.words] for right in rights_of_role(role)))

    @admin.display(description="users")
    def users(self, role: Group) -> str:
        return ", ".join(role.user_set.order_by("username").values_list("username", flat=True)[:SHOWN])


MadeAt = period_of("made_at")


class OneOrgOrNone(OneOrg):
    """The changes in the current org or, for superusers, the changes that belong to no org, such as those of users."""

    NONE = "none"
    title = "changes"

    def __init__(self, request: HttpRequest, *args: Any) -> None:
        super().__init__(request, *args)
        self.is_choice = bool(request.user.is_superuser)
        self.is_none = self.is_choice and request.GET.get(self.parameter_name) == self.NONE
        self.template = "admin/filter.html" if self.is_choice else OneOrg.template

    def choices(self, changelist: Any) -> Iterator[Any]:
        if self.is_choice:
            org, none = {"remove": [self.parameter_name]}, {"new_params": {self.parameter_name: self.NONE}}
            for name, is_selected, change in (
                (f"of {self.org}", not self.is_none, org),
                ("of no org (users)", self.is_none, none),
            ):
                yield {
                    "selected": is_selected,
                    "query_string": changelist.get_query_string(**change),
                    "display": name,
                }

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        return queryset.filter(org=None) if self.is_none else super().queryset(request, queryset)


class BySubject(admin.SimpleListFilter):
    title = parameter_name = "subject"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        options = [model._meta for model in model_admin.admin_site._registry]
        return sorted(
            ((each.label_lower, str(each.verbose_name)) for each in options), key=lambda choice: choice[1].lower()
        )

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        subject = self.value()
        return queryset.filter(subject=subject) if subject in dict(self.lookup_choices) else queryset


@admin.register(StaffChange)
class StaffChangeAdmin(PageAdmin):
    """The audit of changes by staff, one org at a time."""

    list_display = ["made_at", "made_by", "org", "kind", "subject_name", "action", "reason"]
    list_display_links = ["made_at"]
    list_filter = [OneOrgOrNone, MadeAt, ByUser, BySubject]
    list_filter_submit = True
    list_select_related = ["org"]
    newest_by = "made_at"
    ordering = ["-made_at", "-id"]
    sortable_by = ["made_at"]
    page_template = "admin/loyalty/staffchange/page.html"

    @admin.display(description="subject")
    def kind(self, change: StaffChange) -> str:
        return _kind_of(change)

    def page(self, request: HttpRequest, row: StaffChange) -> dict[str, Any]:
        names = dict.fromkeys([*row.before, *row.after])
        return {
            "title": f"{row.subject_name}: {row.action}",
            "facts": [
                ("When", f"{row.made_at:%Y-%m-%d %H:%M:%S} UTC"),
                ("By", row.made_by),
                ("Reason", row.reason),
                ("Org", row.org or "no org"),
                ("Subject", f"{_kind_of(row)} {row.subject_name}"),
                ("Request id", row.request_id or "not recorded"),
            ],
            "differences": {
                "headers": ["Field", "Before", "After"],
                "rows": [[name, _in_words(row.before, name), _in_words(row.after, name)] for name in names],
            },
        }


def _kind_of(change: StaffChange) -> str:
    """Returns the kind of row that was changed, in words."""
    try:
        return str(apps.get_model(change.subject)._meta.verbose_name)
    except (LookupError, ValueError):  # the model no longer exists
        return change.subject


def _in_words(values: dict[str, Any], name: str) -> str:
    if name not in values:
        return "—"
    value = values[name]
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "empty" if value in (None, "") else str(value)


def _as_recorded(user: User) -> dict[str, Any]:
    """Returns the user's fields as the audit stores them."""
    orgs = OrgAccess.objects.filter(user=user).select_related("org").order_by("org_id")
    return {
        "username": user.username,
        "first name": user.first_name,
        "last name": user.last_name,
        "email": user.email,
        "active": user.is_active,
        "superuser": user.is_superuser,
        "roles": ", ".join(user.groups.order_by("name").values_list("name", flat=True)),
        "orgs": ", ".join(str(access.org) for access in orgs),
    }


def _record(
    request: HttpRequest, user: User, action: str, reason: str, *, before: dict[str, Any], after: dict[str, Any]
) -> None:
    made_by = request.user.get_username()
    record_change(user, org=None, action=action, made_by=made_by, reason=reason, before=before, after=after)


def _role_in_words(role: Group) -> str:
    words = ROLES_IN_WORDS.get(role.name)
    return f"{role.name}: {words}" if words else role.name


def _rights_facts(user: User) -> list[tuple[str, Any]]:
    """Returns where the user's rights apply."""
    orgs = [str(access.org) for access in user.org_accesses.select_related("org").order_by("org_id")]
    roles = [role.name for role in user.groups.order_by("name")]
    where = ", ".join(orgs) or "no org, so the user sees no rows"
    return [
        ("Sign-in", "allowed" if user.is_active else "not allowed: the user is inactive, so no right applies"),
        ("Superuser", "yes: may do everything in every org" if user.is_superuser else "no"),
        ("Roles", ", ".join(roles) or "no role"),
        ("Orgs", "all" if user.is_superuser else where),
    ]


def _page_of(user: User) -> str:
    return reverse("admin:auth_user_change", args=[user.pk])
