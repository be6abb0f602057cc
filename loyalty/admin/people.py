"""People of the back office: their roles, their orgs, and the record of what they change."""

from django.contrib import admin

from loyalty.admin.base import BackOfficeAdmin, ReadOnly
from loyalty.models import StaffChange


@admin.register(StaffChange)
class StaffChangeAdmin(ReadOnly, BackOfficeAdmin):
    list_display = ["made_at", "made_by", "org", "subject_name", "action", "reason"]
    list_select_related = ["org"]
