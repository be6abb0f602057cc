"""Configures Django's admin to use the back office as its site."""

from django.contrib.admin.apps import AdminConfig


class BackOfficeConfig(AdminConfig):
    default_site = "loyalty.staff.site.BackOffice"
