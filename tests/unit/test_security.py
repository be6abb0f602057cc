"""Compares the list in docs/security.md with the tests that it names, and checks the audit of dependencies."""

import re
from pathlib import Path

from django.conf import settings

ROOT = Path(settings.BASE_DIR)
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs" / "security.md").read_text().splitlines()
    if re.match(r"\| (API|V)\d", line)
]
RISKS = {f"API{number}" for number in range(1, 11)}
CHAPTERS = {f"V{number}" for number in range(1, 18)}


def test_each_risk_and_each_chapter_has_a_row() -> None:
    assert {row[0].split()[0] for row in ROWS} == RISKS | CHAPTERS


def test_only_rows_with_the_state_holds_name_tests() -> None:
    for subject, state, says, shown_by in ROWS:
        assert says, subject
        assert state in {"holds", "missing", "does not apply"}, subject
        assert bool(shown_by) == (state == "holds"), subject


def test_each_test_named_in_the_security_list_exists() -> None:
    written = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    named = [name for row in ROWS for name in re.findall(r"`(\w+)`", row[3])]
    assert len(named) > len(ROWS)
    assert set(named) - written == set()


def test_the_audit_checks_only_the_lock_file_and_fails_if_it_is_inconclusive() -> None:
    """The locked versions are looked up as they are: nothing is resolved."""
    makefile = (ROOT / "Makefile").read_text()
    (command,) = re.findall(r"^\tvar/audit/bin/pip-audit (.*)$", makefile, re.MULTILINE)
    assert set(command.split()) == {
        "--strict",
        "--require-hashes",
        "--disable-pip",
        "--requirement",
        "requirements-dev.lock",
    }
