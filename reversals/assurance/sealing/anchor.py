"""The anchor: a file outside the database to which each seal is appended, one line of JSON each, and never changed."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from loyalty.errors import InvalidOperation
from reversals.models import Seal


@dataclass(frozen=True, slots=True)
class AnchoredSeal:
    """A seal as the file has it."""

    number: int
    hash: str


class Anchor:
    """The open file, while nobody else appends to it."""

    def __init__(self, file: BinaryIO, *, last: int, is_unfinished: bool) -> None:
        self._file = file
        self._last = last
        self._is_unfinished = is_unfinished

    def append_missing(self) -> None:
        """Appends the seals of the database that the file lacks, and returns once they are on the disk."""
        for seal in Seal.objects.filter(id__gt=self._last).order_by("id"):
            self._file.write((_line(seal) if not self._is_unfinished else "\n" + _line(seal)).encode())
            self._last, self._is_unfinished = seal.id, False
        self._file.flush()
        os.fsync(self._file.fileno())


@contextmanager
def opened(path: Path) -> Iterator[Anchor]:
    """The anchor to append to, made if there is none; waits for whoever else does.

    A line that a crash left unfinished stays, and is written anew in full below. Raises InvalidOperation if the file
    contradicts the database.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        text = path.read_text(encoding="utf-8")
        seals, problems = _read(text)
        problems += disagreements(seals)
        if problems:
            raise InvalidOperation(
                f"{problems[0]}; keep {path} as evidence, find out what happened to the database, and then seal"
                " with a new file"
            )
        _sync_folder(path.parent)
        is_unfinished = bool(text) and not text.endswith("\n")
        yield Anchor(file, last=len(seals), is_unfinished=is_unfinished)


def read(path: Path) -> tuple[list[AnchoredSeal], list[str]]:
    """The seals in the file, and in sentences what is wrong with it as such."""
    try:
        return _read(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return [], [f"anchor: there is no file {path}"]
    except (OSError, UnicodeDecodeError) as error:
        return [], [f"anchor: {path} cannot be read ({error})"]


def disagreements(seals: list[AnchoredSeal]) -> list[str]:
    """In sentences, what the database has no longer, or has otherwise, of the seals in the file."""
    stored = dict(Seal.objects.values_list("id", "hash"))
    problems = []
    for seal in seals:
        if seal.number not in stored:
            problems.append(f"anchor: seal {seal.number} is in the file but no longer in the database")
        elif seal.hash != stored[seal.number]:
            problems.append(f"anchor: seal {seal.number} has another hash in the database than in the file")
    return problems


def _line(seal: Seal) -> str:
    facts = {"seal": seal.id, "sealed_at": seal.sealed_at.isoformat(), "rows": seal.count, "hash": seal.hash}
    return json.dumps(facts) + "\n"


def _read(text: str) -> tuple[list[AnchoredSeal], list[str]]:
    seals: list[AnchoredSeal] = []
    # After the last line's end comes nothing, or a line that a crash left unfinished.
    for place, (line, following) in enumerate(pairwise(text.split("\n")), start=1):
        if following.startswith(line):
            continue  # a line left unfinished, and again in full
        seal = _parsed(line)
        if seal is None or seal.number != len(seals) + 1:
            return seals, [f"anchor: line {place} is not seal {len(seals) + 1}, as the lines before it ask for"]
        seals.append(seal)
    return seals, []


def _parsed(line: str) -> AnchoredSeal | None:
    try:
        facts = json.loads(line)
        return AnchoredSeal(int(facts["seal"]), str(facts["hash"]))
    except (ValueError, KeyError, TypeError):
        return None


def _sync_folder(folder: Path) -> None:
    """The name of a new file is on the disk only once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
