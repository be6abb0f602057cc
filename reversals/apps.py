"""Configures the app that moves points."""

from django.apps import AppConfig


class ReversalsConfig(AppConfig):
    name = "reversals"
