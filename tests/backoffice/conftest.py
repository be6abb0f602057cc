"""Marks the tests of pages `once`, except for those whose statements, locks or times depend on the database."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent
ON_BOTH = {
    "test_admin.py",
    "test_api_clients.py",
    "test_approving.py",
    "test_bulk.py",
    "test_customer_page.py",
    "test_export.py",
    "test_find.py",
    "test_home.py",
    "test_inspect.py",
    "test_large_exports.py",
    "test_list_tools.py",
    "test_lists.py",
    "test_second_user.py",
    "test_staff_races.py",
    "test_walk.py",
    "test_webhooks.py",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == HERE and item.path.name not in ON_BOTH:
            item.add_marker(pytest.mark.once)
