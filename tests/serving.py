"""The server as it ships, on SQLite with the demo ledger, for tests that need a real socket."""

import json
import os
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path

from tests.templates import copy_migrated_sqlite

ROOT = Path(__file__).parent.parent
SECRET = "a-secret-of-more-than-32-characters"
HEADERS = {
    "Authorization": "Basic " + b64encode(f"till.1:{SECRET}".encode()).decode(),
    "Content-Type": "application/json",
}

# Runs management commands, given as JSON, in one process: starting Python costs more than most of them.
COMMANDS = "import json, sys, django; django.setup(); from django.core.management import call_command as run; "
COMMANDS += "[run(*words) for words in json.loads(sys.argv[1])]"


def manage(environment: dict[str, str], *commands: tuple[str, ...]) -> str:
    """Runs the commands one after the other, and returns their output."""
    settings = {"DJANGO_SETTINGS_MODULE": "config.settings"}
    words = [sys.executable, "-c", COMMANDS, json.dumps(commands)]
    done = subprocess.run(words, cwd=ROOT, env=environment | settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def with_demo_ledger(url: str) -> dict[str, str]:
    """Fills the empty database with the demo ledger and one API client; returns the environment of a server on it."""
    environment = os.environ | {"DATABASE_URL": url}
    if url.startswith("sqlite:///"):
        copy_migrated_sqlite(Path(url.removeprefix("sqlite:///")))
    manage(
        environment,
        ("migrate", "-v0"),
        ("create_org", "100737", "Demo"),
        ("create_program", "100737", "973", "Main"),
        ("create_api_client", "100737", "till.1", "--secret", SECRET),
        ("set_emf", "100737", "Allow_points_redemption_reversal", "yes", "--ticket", "T-1", "--reason", "test"),
        ("import_ledger", "reversals/demo_ledger"),
    )
    return environment


@contextmanager
def serving(environment: dict[str, str], *options: str, python: str = sys.executable) -> Iterator[int]:
    """Runs the server on a free port with these options and this interpreter; stops it after the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [python, "-m", "config.serve", *options, "--port", str(port)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_it_answers(port)
        yield port
    finally:
        server.terminate()
        server.wait(timeout=30)


def _wait_until_it_answers(port: int) -> None:
    for _ in range(600):
        with suppress(OSError), closing(HTTPConnection("127.0.0.1", port, timeout=1)) as connection:
            connection.request("GET", "/health/live")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.05)
    raise AssertionError("the server did not start")
