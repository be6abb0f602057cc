"""The back office pages of the ledger: orgs, programs, settings, API clients, users and changes."""

from loyalty.admin import clients, emf, emf_page, groups, held_changes, orgs, users

__all__ = ["clients", "emf", "emf_page", "groups", "held_changes", "orgs", "users"]
