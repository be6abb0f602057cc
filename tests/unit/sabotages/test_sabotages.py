"""Checks in a copy of the project that the named test of each sabotage fails."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection

from tests.unit.sabotages.sabotages import SABOTAGES, Sabotage

ROOT = Path(__file__).parent.parent.parent.parent
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "var", ".hypothesis", "__pycache__", ".*_cache", "mutants")

by_name = pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda sabotage: sabotage.name)


@by_name
def test_each_replaced_text_occurs_once_in_its_file(sabotage: Sabotage) -> None:
    text = (ROOT / sabotage.path).read_text()
    assert [text.count(before) for before, _ in sabotage.edits] == [1] * len(sabotage.edits)


@by_name
def test_test_that_a_sabotage_names_exists(sabotage: Sabotage) -> None:
    path, _, name = sabotage.test.partition("::")
    functions = [node for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.FunctionDef)]
    assert not name or name in {function.name for function in functions}


@pytest.mark.deep
@by_name
def test_named_test_fails_on_sabotaged_code(sabotage: Sabotage, tmp_path: Path) -> None:
    if sabotage.needs_postgresql != (connection.vendor == "postgresql"):
        pytest.skip("runs on the other database")
    copy = tmp_path / "project"
    shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
    (copy / "var").mkdir()
    broken = copy / sabotage.path
    text = broken.read_text()
    for before, after in sabotage.edits:
        text = text.replace(before, after)
    broken.write_text(text)
    # A separate database next to the one that this test uses.
    environment = os.environ | {"DATABASE_URL": os.environ["DATABASE_URL"].replace("/postgres?", "/sabotaged?")}
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", sabotage.test]
    done = subprocess.run(words, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert f"FAILED {sabotage.test}" in done.stdout, done.stdout + done.stderr
