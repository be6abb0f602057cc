"""Appends each seal as a line of JSON to the anchor, an append-only file outside the database, and reads it."""

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
    """A seal as recorded in the file."""

    number: int
    hash: str


class Anchor:
    """The open file, locked so that no other process appends to it."""

    def __init__(self, file: BinaryIO, *, last: int, is_unfinished: bool) -> None:
        self._file = file
        self._last = last
        self._is_unfinished = is_unfinished

    def append_missing(self) -> None:
        """Appends the seals of the database that are missing from the file, and returns once they are on disk."""
        for seal in Seal.objects.filter(id__gt=self._last).order_by("id"):
            self._file.write((_line(seal) if not self._is_unfinished else "\n" + _line(seal)).encode())
            self._last, self._is_unfinished = seal.id, False
        self._file.flush()
        os.fsync(self._file.fileno())


@contextmanager
def opened(path: Path) -> Iterator[Anchor]:
    """Opens the anchor for appending, and creates it if it does not exist. Waits while another process appends.

    A line that a crash left unfinished stays, and the full line is written below it. Raises InvalidOperation if the
    file contradicts the database.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        text = path.read_text(encoding="utf-8")
        seals, problems = _read(text)
        problems += disagreements(seals)
        if problems:
            raise InvalidOperation(
                f"{problems[0]}; keep {path} as evidence, find out what happened to the database, and then run"
                " seal_ledger with a new file"
            )
        _sync_folder(path.parent)
        is_unfinished = bool(text) and not text.endswith("\n")
        yield Anchor(file, last=len(seals), is_unfinished=is_unfinished)


def read(path: Path) -> tuple[list[AnchoredSeal], list[str]]:
    """Returns the seals in the file, and a message for each problem with the file itself."""
    try:
        return _read(path.read_text(encoding="utf-8"))
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


def _read(text: str) -> tuple[list[AnchoredSeal], list[str]]:
    seals: list[AnchoredSeal] = []
    # The text after the last line break is empty, or is a line that a crash left unfinished.
    for place, (line, following) in enumerate(pairwise(text.split("\n")), start=1):
        if following.startswith(line):
            continue  # an unfinished line, written in full below
        seal = _parsed(line)
        if seal is None or seal.number != len(seals) + 1:
            return seals, [f"anchor: line {place} is not seal {len(seals) + 1}, the next in order"]
        seals.append(seal)
    return seals, []


def _parsed(line: str) -> AnchoredSeal | None:
    try:
        facts = json.loads(line)
        return AnchoredSeal(int(facts["seal"]), str(facts["hash"]))
    except (ValueError, KeyError, TypeError):
        return None


def _sync_folder(folder: Path) -> None:
    """Syncs the folder, because the name of a new file is on disk only after that."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
