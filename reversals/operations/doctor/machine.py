"""Checks this machine and its settings: secrets, switches, the anchor, and disks."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.db import connection

from reversals.assurance.sealing import anchor as anchors
from reversals.models import Seal
from reversals.operations.doctor.findings import Finding, fine, warning, wrong

SHORTEST_SECRET = 32
FEWEST_CHARACTERS = 10  # different ones in a secret
WARNED_BELOW, WRONG_BELOW = 0.10, 0.03  # free share of a disk
COUNTERS = Path("/dev/shm")  # noqa: S108


def secrets() -> Iterator[Finding]:
    former = _former_keys()
    values = {"SECRET_KEY": settings.SECRET_KEY, "API_PEPPER": settings.API_PEPPER} | former
    if settings.METRICS_TOKEN:
        values["METRICS_TOKEN"] = settings.METRICS_TOKEN
    if password := settings.DATABASES["default"].get("PASSWORD"):
        values["the password of DATABASE_URL"] = password
    problems = [f"{name} is too short or too simple" for name, value in values.items() if _is_weak(name, value)]
    names = sorted(values)
    for number, one in enumerate(names):
        problems += [f"{one} and {two} are equal" for two in names[number + 1 :] if values[one] == values[two]]
    if problems:
        yield wrong(
            "secrets",
            "; ".join(problems),
            expected=f"different random texts of at least {SHORTEST_SECRET} characters",
            do='Make new ones: python3 -c "import secrets; print(secrets.token_urlsafe(50))", see A key has leaked.',
        )
    elif former:
        yield warning(
            "secrets",
            f"still accepted: {', '.join(former)}",
            expected="no former key, except while keys rotate",
            do="Finish the rotation, see the runbook under A key has leaked; hashed_secrets names who is left.",
        )
    elif not settings.API_PEPPER_IS_SET:
        yield warning(
            "secrets",
            "API_PEPPER is not set, so a new SECRET_KEY changes the hash of every API secret",
            expected="API_PEPPER set",
            do="Set API_PEPPER to the derived value, see the runbook under A key has leaked.",
        )
    else:
        yield fine("secrets", "long and different")


def _former_keys() -> dict[str, str]:
    """Returns the former keys and peppers that are set, by name."""
    keys = settings.SECRET_KEY_FALLBACKS
    # The last ones are derived from the former keys.
    peppers = settings.API_PEPPER_FORMER[: len(settings.API_PEPPER_FORMER) - len(keys)]
    named = {"SECRET_KEY_FALLBACKS": keys, "API_PEPPER_FORMER": peppers}
    return {f"{name} {number}": key for name, keys in named.items() for number, key in enumerate(keys, start=1)}


def _is_weak(name: str, value: str) -> bool:
    if name.startswith("the password"):  # it may be short if only this machine can connect
        return value.lower() in {"postgres", "password", "loyalty", "secret", "changeme", "admin"}
    shortest = SHORTEST_SECRET if name != "METRICS_TOKEN" else SHORTEST_SECRET // 2
    guessable = value.startswith(("not-a-secret", "django-insecure")) or len(set(value)) < FEWEST_CHARACTERS
    return len(value) < shortest or guessable


def switches() -> Iterator[Finding]:
    problems = [
        text
        for is_so, text in (
            (settings.DEBUG, "DEBUG is on: tracebacks are shown to callers"),
            (not settings.STAFF_SECOND_FACTOR, "STAFF_SECOND_FACTOR is off: a password alone signs staff in"),
            ("*" in settings.ALLOWED_HOSTS, "ALLOWED_HOSTS is *: links can be made to point to another host"),
            (not settings.HTTPS_ONLY, "HTTPS_ONLY is off: secrets and cookies may travel in clear text"),
        )
        if is_so
    ]
    if problems:
        do = "Set the variables as docs/configuration.md says, unless this is a trial."
        yield warning("switches", "; ".join(problems), expected="the values for production", do=do)
    else:
        yield fine("switches", "as production needs them")


def anchor() -> Iterator[Finding]:
    """Checks who may write the anchor, and that it agrees with the seals in the database."""
    path = settings.LEDGER_ANCHOR
    if not path.exists():
        report = wrong if Seal.objects.exists() else warning
        do = "Find the file, or set LEDGER_ANCHOR to it. If nothing was sealed yet, start the worker."
        yield report("anchor", f"{path} does not exist", expected="a line for each seal", do=do)
        return
    if not os.access(path, os.R_OK):
        do = "Run doctor as the user who appends to it, to compare it with the database."
        yield warning("anchor", f"this user cannot read {path}", expected="a readable anchor", do=do)
        return
    status = path.stat()
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield wrong(
            "anchor",
            f"{path} can be written by other users than its owner ({stat.filemode(status.st_mode)})",
            expected="-rw-r--r--, owned by the user of the worker",
            do=f"chmod 644 {path}, and chown it to the user who runs the worker and not the server.",
        )
        return
    lines, problems = anchors.read(path)
    problems = problems + anchors.disagreements(lines)
    if problems:
        do = "Keep the file as evidence, see the runbook under Invariant broken."
        yield wrong("anchor", problems[0], expected="the seals of the database", do=do)
        return
    yield fine(
        "anchor", f"{len(lines)} seals agree, {'this user' if os.access(path, os.W_OK) else 'another user'} writes"
    )


def disk() -> Iterator[Finding]:
    """Checks the disks of this machine that the server, the anchor and SQLite write to."""
    folders = {settings.BASE_DIR / "var", settings.LEDGER_ANCHOR.parent, COUNTERS}
    if connection.vendor == "sqlite" and settings.DATABASES["default"]["NAME"] != ":memory:":
        folders.add(Path(settings.DATABASES["default"]["NAME"]).parent)
    usages = {folder: shutil.disk_usage(folder) for folder in folders if folder.is_dir()}
    folder = min(usages, key=lambda each: usages[each].free / usages[each].total)
    usage = usages[folder]
    share = usage.free / usage.total
    found = f"{share:.0%} of {folder} free ({usage.free // 1_000_000} MB)"
    if share >= WARNED_BELOW:
        yield fine("disk", found, value=share)
        return
    report = wrong if share < WRONG_BELOW else warning
    do = "Free space or enlarge the disk, see the runbook under Disk nearly full."
    yield report("disk", found, expected=f"at least {WARNED_BELOW:.0%}", do=do, value=share)
