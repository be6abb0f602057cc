"""The documents say what the code does: the ladder, the settings and the environment variables."""

import re
from pathlib import Path

import pytest

from loyalty.emf.registry import REGISTRY
from reversals.refusals import ErrorCode, RedemptionError

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()


def test_the_readmes_ladders_are_the_enumerations_in_their_order() -> None:
    rows = [
        f"| {error.row} | {error.code} | {error.status} | {error.name} | {error.message} |"
        for error in (*ErrorCode, *RedemptionError)
        if error.row
    ]
    table = re.findall(r"^\| \d+ \| \d+ \| \d+ \| \w+ \| .* \|$", README, re.MULTILINE)
    assert [row.rsplit(" | ", 1)[0] + " |" for row in table] == rows


@pytest.mark.parametrize("key", REGISTRY)
def test_every_setting_stands_in_the_readme_with_what_it_means(key: str) -> None:
    assert f"| `{key}` |" in README
    assert REGISTRY[key].meaning in README


def test_every_environment_variable_is_in_the_example_and_the_readme() -> None:
    names = set(
        re.findall(
            r'(?:env\.\w+|switch|whole_number|networks|database)\("([A-Z_]+)"',
            (ROOT / "config" / "settings.py").read_text(),
        )
    )
    example = set(re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert names == example
    assert all(f"`{name}`" in README for name in names)


def locked(name: str) -> set[str]:
    """The lines `package==version` of a lock, without markers."""
    return set(re.findall(r"^[\w.-]+==\S+", (ROOT / name).read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_lock_names_no_address(name: str) -> None:
    assert locked(name)
    assert "://" not in (ROOT / name).read_text()


def test_development_lock_has_the_versions_of_the_runtime_lock() -> None:
    assert locked("requirements.lock") < locked("requirements-dev.lock")
