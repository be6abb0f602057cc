"""Lists of EMF settings and of their changes. Settings are changed on the org's EMF settings page."""

from typing import Any

from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from loyalty.admin.base import BackOfficeAdmin, OneOrg, ReadOnly
from loyalty.emf.registry import REGISTRY
from loyalty.models import EmfChange, EmfSetting


class OfKey(admin.SimpleListFilter):
    """Filters by key. The keys come from the registry, because a query for them would read the whole table."""

    title = "key"
    parameter_name = "key"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in REGISTRY]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        return queryset.filter(key=self.value()) if self.value() else queryset


@admin.register(EmfSetting)
class EmfSettingAdmin(ReadOnly, BackOfficeAdmin):
    """The stored values, read-only. The org's EMF settings page checks a change for conflicts before it is saved."""

    list_display = ["key", "value", "org_page", "program", "meaning"]
    list_filter = [OneOrg, OfKey]
    list_select_related = ["org", "program"]
    search_fields = ["key", "value", "=program__public_id"]
    ordering = ["key", "id"]
    fields = readonly_fields = ["key", "value", "meaning", "program", "org_page"]

    @admin.display(description="all settings of the org")
    def org_page(self, setting: EmfSetting) -> str:
        address = reverse("admin:org_emf", args=[setting.org_id])
        return format_html('<a class="text-link" href="{}">{}</a>', address, setting.org)

    @admin.display(description="what it does")
    def meaning(self, setting: EmfSetting) -> str:
        return REGISTRY[setting.key].meaning if setting.key in REGISTRY else ""


@admin.register(EmfChange)
class EmfChangeAdmin(ReadOnly, BackOfficeAdmin):
    list_display = ["changed_at", "key", "old_value", "new_value", "program", "ticket", "reason", "changed_by"]
    list_filter = [OneOrg, OfKey]
    list_select_related = ["program"]
    ordering = ["-changed_at", "-id"]
