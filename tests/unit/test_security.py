"""The list of docs/security.md against the tests that it names, and the audit of dependencies."""

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


def test_each_risk_and_each_chapter_has_its_line() -> None:
    assert {row[0].split()[0] for row in ROWS} == RISKS | CHAPTERS


def test_each_line_that_holds_names_tests_and_no_other_does() -> None:
    for subject, state, says, shown_by in ROWS:
        assert says, subject
        assert state in {"holds", "missing", "does not apply"}, subject
        assert bool(shown_by) == (state == "holds"), subject


def test_each_named_test_exists() -> None:
    written = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    named = [name for row in ROWS for name in re.findall(r"`(\w+)`", row[3])]
    assert len(named) > len(ROWS)
    assert set(named) - written == set()


def test_the_audit_reads_the_lock_alone_and_fails_where_it_cannot_tell() -> None:
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
