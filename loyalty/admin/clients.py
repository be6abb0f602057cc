"""API clients: the tills and back ends that may call the API."""

from django.contrib import admin
from django.http import HttpRequest

from loyalty.admin.base import BackOfficeAdmin, Undeletable
from loyalty.models import ApiClient


@admin.register(ApiClient)
class ApiClientAdmin(Undeletable, BackOfficeAdmin):
    """Made by `create_api_client`, which shows the secret once; revoked here."""

    list_display = ["username", "org", "is_active", "created_at"]
    list_select_related = ["org"]
    readonly_fields = ["org", "username", "created_at"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False
