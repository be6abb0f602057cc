"""The documentation says what the code does: refusals, settings, variables, commands, and the files that it names."""

import re
from pathlib import Path

import pytest

from config import __version__
from loyalty.emf.registry import REGISTRY
from reversals.refusals import ErrorCode, RedemptionError

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"


def test_tables_of_refusals_are_the_enumerations_in_their_order() -> None:
    rows = [
        f"| {error.row} | {error.code} | {error.status} | {error.name} | {error.message} |"
        for error in (*ErrorCode, *RedemptionError)
        if error.row
    ]
    table = re.findall(r"^(\| \d+ \| \d+ \| \d+ \| \w+ \| [^|]+ \|)", (DOCS / "refusals.md").read_text(), re.MULTILINE)
    assert table == rows


def test_every_code_of_a_refusal_can_be_looked_up() -> None:
    codes = {str(error.code) for error in (*ErrorCode, *RedemptionError) if error.row}
    assert set(re.findall(r"^\| (\d+) \| [a-z]", (DOCS / "refusals.md").read_text(), re.MULTILINE)) == codes


@pytest.mark.parametrize("key", REGISTRY)
def test_every_setting_is_listed_with_its_meaning(key: str) -> None:
    page = (DOCS / "emf-settings.md").read_text()
    assert f"| `{key}` |" in page
    assert REGISTRY[key].meaning in page


def test_every_environment_variable_is_in_the_example_and_the_documentation() -> None:
    names = set(
        re.findall(
            r'(?:env\.\w+|switch|whole_number|keys|networks|header|address|database)\("([A-Z_]+)"',
            (ROOT / "config" / "settings.py").read_text(),
        )
    )
    example = set(re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    documented = set(re.findall(r"^\| `([A-Z_]+)` \|", (DOCS / "configuration.md").read_text(), re.MULTILINE))
    assert names == example == documented


def test_every_command_is_documented() -> None:
    commands = {path.stem for path in ROOT.glob("*/management/commands/*.py") if path.stem != "__init__"}
    documented = set(re.findall(r"^\| `(\w+)[ `]", (DOCS / "commands.md").read_text(), re.MULTILINE))
    files = {"customers", "points", "redemptions"}
    assert documented - files == commands


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md", "docs/architecture.md", "tests/README.md"])
def test_files_that_a_page_names_exist(name: str) -> None:
    text = (ROOT / name).read_text()
    paths = re.findall(r"`((?:config|deploy|docs|loyalty|reversals|templates|tests)/[\w./-]*)`", text)
    assert [path for path in paths if not (ROOT / path).exists() and "NAME" not in path] == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_links_of_a_page_at_the_top_lead_to_files(name: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / name).read_text())
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_readme_has_at_most_150_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_changelog_begins_with_the_version() -> None:
    versions = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert __version__ in versions


# Words that CONTRIBUTING.md replaces by others. Migrations keep what they said, and the page itself lists the words.
OTHER_WORDS = re.compile(r"\b(?:(?:give|gives|gave|given)(?: \w+)? back|(?:come|comes|came) back|e-mails?)\b", re.I)


def test_no_text_uses_words_that_the_wording_rules_replace() -> None:
    folders = ("config", "deploy", "docs", "loyalty", "reversals", "templates", "tests")
    files = [*(path for folder in folders for path in ROOT.glob(f"{folder}/**/*.*")), *ROOT.glob("*.md")]
    texts = {
        path.relative_to(ROOT): path.read_text(errors="replace")
        for path in files
        if path.suffix in {".py", ".md", ".html", ".js", ".yaml"} and "migrations" not in path.parts
    }
    own = {"CONTRIBUTING.md", "tests/unit/test_documents.py"}
    found = {(str(path), word) for path, text in texts.items() for word in OTHER_WORDS.findall(text)}
    assert {(path, word) for path, word in found if path not in own} == set()


def locked(name: str) -> set[str]:
    """The lines `package==version` of a lock, without markers."""
    return set(re.findall(r"^[\w.-]+==\S+", (ROOT / name).read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_lock_names_no_address(name: str) -> None:
    assert locked(name)
    assert "://" not in (ROOT / name).read_text()


def test_development_lock_has_the_versions_of_the_runtime_lock() -> None:
    assert locked("requirements.lock") < locked("requirements-dev.lock")
