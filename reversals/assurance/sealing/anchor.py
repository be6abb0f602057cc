"""Appends each seal as a line of JSON to the anchor, an append-only file outside the database, and reads it.

A line with an owner names the database that appends the lines below it. No other database may append, because a
restored copy has the same seals as the original at first, and would continue the chain in another way.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from loyalty.errors import InvalidOperation
from reversals.assurance.sealing.owner import this_database
from reversals.models import Seal


@dataclass(frozen=True, slots=True)
class AnchoredSeal:
    """A seal as recorded in the file."""

    number: int
    hash: str


class Anchor:
    """The open file, locked so that no other process appends to it."""

    def __init__(self, file: BinaryIO, *, last: int, unfinished: str) -> None:
        self._file = file
        self._last = last
        self._unfinished = unfinished  # the start of a line, left by a crash

    def append_missing(self) -> None:
        """Appends the seals of the database that are missing from the file, and returns once they are on disk."""
        for seal in Seal.objects.filter(id__gt=self._last).order_by("id"):
            self._write(_line(seal))
            self._last = seal.id
        self._sync()

    def append_owner(self, owner: str) -> None:
        """Appends the line that makes the database the owner, and returns once it is on disk."""
        line = json.dumps({"owner": owner}) + "\n"
        if not line.startswith(self._unfinished):
            self.append_missing()
        self._write(line)
        self._sync()

    def _write(self, line: str) -> None:
        self._file.write(("\n" + line if self._unfinished else line).encode())
        self._unfinished = ""

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())


@contextmanager
def opened(path: Path, *, take_over: bool = False) -> Iterator[Anchor]:
    """Opens the anchor for appending, and creates it if it does not exist. Waits while another process appends.

    A line that a crash left unfinished stays, and the full line is written below it. Raises InvalidOperation if the
    file contradicts the database, or belongs to another database and `take_over` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        text = path.read_text(encoding="utf-8")
        contents = _read(text)
        if problems := contents.problems + disagreements(contents.seals):
            raise InvalidOperation(
                f"{problems[0]}; keep {path} as evidence, find out what happened to the database, and then run"
                " seal_ledger with a new file"
            )
        owner = this_database()
        if contents.owner not in (None, owner) and not take_over:
            raise InvalidOperation(
                f"{path} belongs to another database ({contents.owner}), and this is {owner}. If this database is a"
                " copy, set LEDGER_ANCHOR to a new file. If it replaces the other database for good, for example after"
                " a failover, run seal_ledger --take-over"
            )
        _sync_folder(path.parent)
        anchor = Anchor(file, last=len(contents.seals), unfinished=text.rpartition("\n")[2])
        if contents.owner != owner:
            anchor.append_owner(owner)
        yield anchor


def read(path: Path) -> tuple[list[AnchoredSeal], list[str]]:
    """Returns the seals in the file, and a message for each problem with the file itself."""
    try:
        contents = _read(path.read_text(encoding="utf-8"))
        return contents.seals, contents.problems
    except FileNotFoundError:
        return [], [f"anchor: the file {path} does not exist"]
    except (OSError, UnicodeDecodeError) as error:
        return [], [f"anchor: {path} cannot be read ({error})"]


def disagreements(seals: list[AnchoredSeal]) -> list[str]:
    """Returns a message for each seal in the file that the database lacks or has with a different hash."""
    stored = dict(Seal.objects.values_list("id", "hash"))
    problems = []
    for seal in seals:
        if seal.number not in stored:
            problems.append(f"anchor: seal {seal.number} is in the file but no longer in the database")
        elif seal.hash != stored[seal.number]:
            problems.append(f"anchor: seal {seal.number} has a different hash in the database than in the file")
    return problems


def _line(seal: Seal) -> str:
    facts = {"seal": seal.id, "sealed_at": seal.sealed_at.isoformat(), "rows": seal.count, "hash": seal.hash}
    return json.dumps(facts) + "\n"


@dataclass(slots=True)
class _Contents:
    seals: list[AnchoredSeal] = field(default_factory=list)
    owner: str | None = None
    problems: list[str] = field(default_factory=list)


def _read(text: str) -> _Contents:
    contents = _Contents()
    seals = contents.seals
    # The text after the last line break is empty, or is a line that a crash left unfinished.
    for place, (line, following) in enumerate(pairwise(text.split("\n")), start=1):
        if following.startswith(line):
            continue  # an unfinished line, written in full below
        parsed = _parsed(line)
        if isinstance(parsed, str):
            contents.owner = parsed
        elif parsed is None or parsed.number != len(seals) + 1:
            contents.problems.append(f"anchor: line {place} is not seal {len(seals) + 1}, the next in order")
            break
        else:
            seals.append(parsed)
    return contents


def _parsed(line: str) -> AnchoredSeal | str | None:
    """Returns the seal or the owner in the line, or None if it has neither."""
    try:
        facts = json.loads(line)
        return str(facts["owner"]) if "owner" in facts else AnchoredSeal(int(facts["seal"]), str(facts["hash"]))
    except (ValueError, KeyError, TypeError):
        return None


def _sync_folder(folder: Path) -> None:
    """Syncs the folder, because the name of a new file is on disk only after that."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
