"""The ledger's part of the back office: whose rows, who may, and what people change."""

from loyalty.admin import clients, emf, emf_page, groups, orgs, people, webhooks

__all__ = ["clients", "emf", "emf_page", "groups", "orgs", "people", "webhooks"]
