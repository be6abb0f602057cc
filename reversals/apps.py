from django.apps import AppConfig


class ReversalsConfig(AppConfig):
    name = "reversals"
