"""A migrated SQLite file of which tests take copies: migrating takes many seconds, a copy none."""

import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "var" / "templates"
CODE = ("config", "loyalty", "reversals")


def copy_migrated_sqlite(path: Path) -> None:
    """Copies a migrated database to `path`."""
    shutil.copy(_migrated_sqlite(), path)


@cache
def _migrated_sqlite() -> Path:
    """The file for the current code. Creates it if it is missing, and removes older ones."""
    made = FOLDER / f"{_digest()}.sqlite3"
    if made.exists():
        return made
    FOLDER.mkdir(parents=True, exist_ok=True)
    older = set(FOLDER.glob("*.sqlite3"))
    # It gets its name when it is whole: another run may look for it or make it at the same time.
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        begun = Path(folder) / "migrated.sqlite3"
        words = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
        subprocess.run(words, cwd=ROOT, env=os.environ | {"DATABASE_URL": f"sqlite:///{begun}"}, check=True)
        begun.rename(made)
    for file in older:
        file.unlink(missing_ok=True)
    return made


def _digest() -> str:
    """A digest of the code and of the locked versions, because migrations import both."""
    files = sorted(file for folder in CODE for file in (ROOT / folder).rglob("*.py"))
    digest = sha256()
    for file in (ROOT / "requirements.lock", *files):
        digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]
