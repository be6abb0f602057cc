"""People of the back office: their roles, their orgs, their second factor, and the record of what they change.

Only superusers manage people, so that nobody can give more than they have.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.apps import apps
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.auth.models import Group, User
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.html import format_html_join
from django.views.decorators.debug import sensitive_post_parameters
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice
from unfold.admin import ModelAdmin, TabularInline
from unfold.contrib.filters.admin import TextFilter
from unfold.decorators import action
from unfold.forms import AdminPasswordChangeForm, UserCreationForm
from unfold.paginator import InfinitePaginator
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from loyalty.admin.base import Forgiving, OneOrg, PageAdmin, ReadOnly, ReasonedForm, Recorded, Undeletable
from loyalty.admin.confirmation import ReasonForm, ask, done
from loyalty.errors import InvalidOperation
from loyalty.models import OrgAccess, StaffChange
from loyalty.staff.audit import record_change
from loyalty.staff.locks import lock_people
from loyalty.staff.signin import second_factor

SHOWN = 50

for model in (User, Group, TOTPDevice, StaticDevice):
    # The pages that they come with ask for no reason, delete people, and show the keys of devices.
    admin.site.unregister(model)


class SuperusersOnly:
    """Rows that superusers alone see and change."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_superuser)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)


class PersonForm(ReasonedForm):
    """What a superuser changes of a person; the password has a page of its own."""


class NewPersonForm(UserCreationForm):
    """A new person, with a first password."""

    usable_password = None
    reason = ReasonedForm.declared_fields["reason"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("password1", "password2"):
            self.fields[name].required = True


class PasswordForm(AdminPasswordChangeForm):
    """A new password for another person."""

    reason = ReasonedForm.declared_fields["reason"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields.pop("usable_password", None)
        for name in ("password1", "password2"):
            self.fields[name].required = True


class OrgAccessInline(SuperusersOnly, TabularInline):
    model = OrgAccess
    fields = ["org"]
    extra = 0
    verbose_name = "org"
    verbose_name_plural = "Orgs that the person may work on (a superuser may on all)"

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)


@admin.register(User)
class PersonAdmin(Forgiving, Recorded, SuperusersOnly, Undeletable, ModelAdmin):
    """The username names the person in the record for ever, so it stays; who leaves is made inactive."""

    list_display = ["username", "full_name", "roles", "is_active", "is_superuser", "has_second_factor", "last_login"]
    list_filter = ["is_active", "groups"]
    list_per_page = 50
    paginator = InfinitePaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    search_fields = ["username", "first_name", "last_name", "email"]
    ordering = ["username"]
    inlines = [OrgAccessInline]
    actions_detail = ["set_password", "reset_second_factor"]
    add_fieldsets = [
        (None, {"fields": ["username", "password1", "password2", "first_name", "last_name", "email"]}),
        ("What the person may do", {"fields": ["groups", "is_superuser"]}),
        (None, {"fields": ["reason"]}),
    ]
    fieldsets = [
        (None, {"fields": ["username", "first_name", "last_name", "email"]}),
        ("What the person may do", {"fields": ["is_active", "groups", "is_superuser"]}),
        ("Sign-in", {"fields": ["has_second_factor", "last_login", "date_joined"]}),
        (None, {"fields": ["reason"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[User]:
        devices = TOTPDevice.objects.filter(user=models.OuterRef("pk"), confirmed=True)
        return super().get_queryset(request).prefetch_related("groups").annotate(has_device=models.Exists(devices))

    def get_form(self, request: HttpRequest, obj: User | None = None, change: bool = False, **kwargs: Any) -> Any:
        return super().get_form(request, obj, change, **{"form": PersonForm if obj else NewPersonForm} | kwargs)

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> list[str]:
        if obj is None:
            return []
        # Who changes themself keeps what they need to put it right again; so a superuser is always left.
        own = ["is_active", "is_superuser"] if obj == request.user else []
        return ["username", *own, "has_second_factor", "last_login", "date_joined"]

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        options = {"label": "Roles", "help_text": "", "widget": UnfoldAdminCheckboxSelectMultipleWidget}
        return super().formfield_for_manytomany(db_field, request, **options | kwargs)

    @admin.display(description="name")
    def full_name(self, person: User) -> str:
        return person.get_full_name()

    @admin.display(description="roles")
    def roles(self, person: User) -> str:
        return ", ".join(sorted(group.name for group in person.groups.all()))

    @admin.display(description="second factor", boolean=True)
    def has_second_factor(self, person: User) -> bool:
        return person.has_device  # type: ignore[attr-defined]

    @method_decorator(sensitive_post_parameters())
    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        return super().add_view(request, form_url, {"title": "Add a person"} | (extra_context or {}))

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        # With the superuser who changes: of two who take each other's right at once, the second has none any more.
        changing: Any = request.user
        people = lock_people([changing.pk, obj.pk] if change else [changing.pk])
        if not (people[changing.pk].is_active and people[changing.pk].is_superuser):
            raise PermissionDenied
        form.before = _kept(people[obj.pk]) if change else {}
        obj.is_staff = True  # who may not use the back office is inactive, or has no role
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        after = _kept(User.objects.get(pk=form.instance.pk)) | ({} if change else {"password": "set"})
        changed = {name: value for name, value in after.items() if form.before.get(name, "") != value}
        if not changed:
            return
        before = {name: form.before[name] for name in changed if name in form.before}
        done_as, reason = "changed" if change else "added", form.cleaned_data["reason"]
        _record(request, form.instance, done_as, reason, before=before, after=changed)

    @action(description="Set the password", url_path="set-password")
    @method_decorator(sensitive_post_parameters())
    def set_password(self, request: HttpRequest, object_id: str) -> HttpResponse:
        person = self._person(request, object_id)
        if person == request.user:
            return redirect("admin:password_change")
        form = PasswordForm(person, request.POST or None)

        def change(given: dict[str, Any]) -> User:
            form.save()
            _record(request, person, "password changed", given["reason"], before={}, after={"password": "changed"})
            return person

        if done(form, change) is not None:
            self.message_user(request, f"The password of {person} is changed.", messages.SUCCESS)
            return redirect(_page_of(person))
        title, text = f"Set the password of {person}", "It ends what the person has open."
        return ask(request, self, form, title=title, text=text, button="Set the password", back=_page_of(person))

    @action(description="Reset the second factor", url_path="reset-second-factor")
    def reset_second_factor(self, request: HttpRequest, object_id: str) -> HttpResponse:
        person = self._person(request, object_id)
        form = ReasonForm(request.POST or None)

        def reset(given: dict[str, Any]) -> User:
            if person == request.user:
                raise InvalidOperation("your own second factor is reset by another superuser")
            second_factor.reset(person, made_by=request.user.get_username(), reason=given["reason"])
            return person

        if done(form, reset) is not None:
            self.message_user(request, f"The second factor of {person} is reset.", messages.SUCCESS)
            return redirect(_page_of(person))
        title, text = (
            f"Reset the second factor of {person}",
            "The app and the recovery codes that the person has stop working, and the next sign-in sets up new ones."
            " Make sure that it is really them who ask.",
        )
        return ask(request, self, form, title=title, text=text, button="Reset it", back=_page_of(person))

    def _person(self, request: HttpRequest, object_id: str) -> User:
        if not request.user.is_superuser:
            raise PermissionDenied
        person: User | None = self.get_object(request, unquote(object_id))
        if person is None:
            raise Http404
        return person


@admin.register(Group)
class RoleAdmin(Forgiving, Recorded, ReadOnly, SuperusersOnly, ModelAdmin):
    """Roles are made by migrations from `reversals/roles.py`; here they are read."""

    list_display = ["name"]
    list_per_page = 50
    ordering = ["name"]
    paginator = InfinitePaginator
    show_full_result_count = False
    fields = readonly_fields = ["name", "permissions_in_words", "people"]

    @admin.display(description="may")
    def permissions_in_words(self, role: Group) -> str:
        names = role.permissions.order_by("content_type__app_label", "name").values_list("name")
        return format_html_join("", "<p>{}</p>", names)

    @admin.display(description="people")
    def people(self, role: Group) -> str:
        return ", ".join(role.user_set.order_by("username").values_list("username", flat=True)[:SHOWN])


class OneOrgOrNone(OneOrg):
    """One org's changes; or for superusers those of no org, which are of people."""

    NONE = "none"

    def __init__(self, request: HttpRequest, *args: Any) -> None:
        super().__init__(request, *args)
        self.is_none = request.user.is_superuser and request.GET.get(self.parameter_name) == self.NONE
        if self.is_none:
            self.org = None

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        orgs = super().lookups(request, model_admin)
        return [*orgs, (self.NONE, "no org: people")] if request.user.is_superuser else orgs

    def choices(self, changelist: Any) -> Iterator[Any]:
        for choice, (value, _) in zip(super().choices(changelist), self.lookup_choices, strict=True):
            yield choice | ({"selected": self.is_none} if value == self.NONE else {})

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        return queryset.filter(org=None) if self.is_none else queryset.filter(org=self.org or 0)


class ByPerson(TextFilter):
    title = "username of the person"
    parameter_name = "made_by"

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        username = (self.value() or "").replace("\0", "")  # which PostgreSQL does not take
        return queryset.filter(made_by=username) if username else queryset


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


class ByPeriod(admin.SimpleListFilter):
    title = parameter_name = "period"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("1", "last 24 hours"), ("7", "last 7 days"), ("30", "last 30 days"), ("365", "last 365 days")]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        days = self.value() or ""
        if days not in dict(self.lookup_choices):
            return queryset
        return queryset.filter(made_at__gt=timezone.now() - timedelta(days=int(days)))


@admin.register(StaffChange)
class StaffChangeAdmin(PageAdmin):
    """What people changed, one org's at a time."""

    list_display = ["made_at", "made_by", "org", "kind", "subject_name", "action", "reason"]
    list_display_links = ["made_at"]
    list_filter = [OneOrgOrNone, ByPerson, BySubject, ByPeriod]
    list_filter_submit = True
    list_select_related = ["org"]
    ordering = ["-made_at"]
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
                ("Org", row.org or "none"),
                ("Subject", f"{_kind_of(row)} {row.subject_name}"),
                ("Request id", row.request_id or "none"),
            ],
            "differences": {
                "headers": ["Field", "Before", "After"],
                "rows": [[name, _in_words(row.before, name), _in_words(row.after, name)] for name in names],
            },
        }


def _kind_of(change: StaffChange) -> str:
    """What kind of row was changed, in words."""
    try:
        return str(apps.get_model(change.subject)._meta.verbose_name)
    except (LookupError, ValueError):  # of a kind that there is no more
        return change.subject


def _in_words(values: dict[str, Any], name: str) -> str:
    value = values.get(name)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value in (None, "") else str(value)


def _kept(person: User) -> dict[str, Any]:
    """The person as the record of a change keeps them."""
    orgs = OrgAccess.objects.filter(user=person).select_related("org").order_by("org_id")
    return {
        "username": person.username,
        "first name": person.first_name,
        "last name": person.last_name,
        "email": person.email,
        "active": person.is_active,
        "superuser": person.is_superuser,
        "roles": ", ".join(person.groups.order_by("name").values_list("name", flat=True)),
        "orgs": ", ".join(str(access.org) for access in orgs),
    }


def _record(
    request: HttpRequest, person: User, action: str, reason: str, *, before: dict[str, Any], after: dict[str, Any]
) -> None:
    made_by = request.user.get_username()
    record_change(person, org=None, action=action, made_by=made_by, reason=reason, before=before, after=after)


def _page_of(person: User) -> str:
    return reverse("admin:auth_user_change", args=[person.pk])
