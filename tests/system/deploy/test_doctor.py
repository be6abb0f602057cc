"""doctor examines the shipped stack through nginx and PgBouncer, and finds each setting that differs from it."""

import json
import os
import subprocess
import sys
from typing import Any

from tests.system.deploy.conftest import Stack
from tests.system.faults.machines import ROOT

# What the stack does not have: a worker with its anchor, backups, long-lived certificates and staff.
ABSENT = {"worker", "anchor", "backup", "certificate", "secrets", "switches", "disk"}


def examine(stack: Stack, **changes: str) -> dict[str, dict[str, Any]]:
    """Returns doctor's findings by check, run with the settings of a server and these changes to them."""
    public = {
        "PUBLIC_URL": f"https://localhost:{stack.through.args[1]}",
        "SSL_CERT_FILE": str(stack.servers[0].runtime / "server.crt"),
    }
    words = [sys.executable, "manage.py", "doctor", "--json"]
    environment = os.environ | stack.servers[0].environment | public | changes
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return {each["check"]: each for each in json.loads(done.stdout)["findings"]}


def test_shipped_stack_has_no_finding(stack: Stack) -> None:
    found = {name: each["found"] for name, each in examine(stack).items() if each["status"] != "ok"}
    assert found.keys() <= ABSENT, found


def test_wrong_pooler_setting_is_found(stack: Stack) -> None:
    finding = examine(stack, DATABASE_POOLER="off")["database"]
    assert finding["status"] == "error"
    assert "DATABASE_POOLER" in finding["do"], finding


def test_address_at_which_every_call_is_refused_is_found(stack: Stack) -> None:
    finding = examine(stack, PUBLIC_URL=f"http://localhost:{stack.servers[0].port}")["proxy"]
    assert finding["status"] == "error"
    assert (finding["found"], finding["expected"]) == ("a call is answered 403", "401 from the API")
