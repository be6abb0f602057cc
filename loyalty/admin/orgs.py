"""Orgs, their programs, and the reasons that each org gives for reversals by hand."""

from django.contrib import admin
from django.http import HttpRequest

from loyalty.admin.base import ReasonedAdmin
from loyalty.models import Org, Program, ReasonCode


@admin.register(Org)
class OrgAdmin(ReasonedAdmin):
    org_path = "pk"
    list_display = ["id", "name", "country", "v2_enabled", "is_active"]
    search_fields = ["=id", "name"]

    def get_readonly_fields(self, request: HttpRequest, obj: Org | None = None) -> list[str]:
        return [] if obj is None else ["id"]


@admin.register(Program)
class ProgramAdmin(ReasonedAdmin):
    list_display = ["public_id", "name", "org", "is_active"]
    list_select_related = ["org"]
    search_fields = ["=public_id", "name"]

    def get_readonly_fields(self, request: HttpRequest, obj: Program | None = None) -> list[str]:
        return [] if obj is None else ["org", "public_id"]


@admin.register(ReasonCode)
class ReasonCodeAdmin(ReasonedAdmin):
    list_display = ["code", "meaning", "org", "is_active"]
    list_select_related = ["org"]
    search_fields = ["=code"]

    def get_readonly_fields(self, request: HttpRequest, obj: ReasonCode | None = None) -> list[str]:
        return [] if obj is None else ["org", "code"]
