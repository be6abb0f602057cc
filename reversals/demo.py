"""Runs `make demo`: imports a small real ledger, sends one reversal over HTTP, and serves the project until stopped."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path
from typing import Any

import django
from django.core.management import call_command

ROOT = Path(__file__).parent.parent
LEDGER = Path(__file__).parent / "demo_ledger"
SQLITE = "sqlite:///"
START_SECONDS = 60  # on a busy machine
ORG_ID, PROGRAM_ID, USERNAME, ADMIN = 100737, 973, "demo.till", "admin"
ORG_NAME = "Demo brand"


def main() -> None:
    port = os.environ.get("PORT", "8000")
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        sys.exit(f"error: PORT is {port!r}; expected a number from 1 to 65535")
    # The keys, the password and the secret are new at each start, so those of an earlier demo stop working.
    os.environ |= {"SECRET_KEY": secrets.token_urlsafe(50), "DEBUG": "off", "DJANGO_SETTINGS_MODULE": "config.settings"}
    os.environ |= {"STAFF_SECOND_FACTOR": "off", "HTTPS_ONLY": "off", "LOG_FORMAT": "line"}
    os.environ.setdefault("GRANIAN_WORKERS", "1")
    url = os.environ.setdefault("DATABASE_URL", "sqlite:///var/demo.sqlite3")
    if url.startswith(SQLITE) and "LEDGER_ANCHOR" not in os.environ:
        _keep_the_anchor_beside(ROOT / url.removeprefix(SQLITE))
    # SIGTERM stops the server too, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    django.setup()
    _refuse_a_database_in_use()
    print("Preparing the demo ledger ...", flush=True)
    call_command("migrate", verbosity=0)
    secret = _make_org()
    password = _make_admin()
    _make_colleagues()
    server = subprocess.Popen([sys.executable, "-m", "config.together", "--port", port, "--log-level", "warning"])
    try:
        _wait_for(server, port)
        _reverse_and_print(port, secret)
        _print_addresses(port, secret, password)
        server.wait()
    except KeyboardInterrupt:
        pass
    finally:
        server.terminate()
        server.wait()


def _keep_the_anchor_beside(database: Path) -> None:
    """Gives the database an anchor of its own, because that of another one would look like tampering."""
    anchor = Path(f"{database}.anchor")
    if not database.exists():
        anchor.unlink(missing_ok=True)
    os.environ["LEDGER_ANCHOR"] = str(anchor)


def _refuse_a_database_in_use() -> None:
    """Ends the demo before it changes a database that no demo created."""
    from django.contrib.auth.models import User
    from django.db import connection

    from loyalty.models import Org

    if Org._meta.db_table not in connection.introspection.table_names():
        return
    is_demo = Org.objects.filter(id=ORG_ID, name=ORG_NAME).exists()
    if not is_demo and (Org.objects.exists() or User.objects.exists()):
        sys.exit(
            "error: the database in DATABASE_URL has orgs or users, and the demo would reset the password of the user"
            f" {ADMIN}. The demo needs a database of its own: unset DATABASE_URL, or run make demo"
        )


def _make_org() -> str:
    """Creates the demo org, its ledger and an API client, switches reversals on, and returns the client's secret."""
    from loyalty.clients.api_clients import add_secret, create_api_client
    from loyalty.emf.stored import set_emf
    from loyalty.models import ApiClient, ApiSecret, Org
    from loyalty.orgs import create_org, create_program

    if not Org.objects.filter(id=ORG_ID).exists():
        org = create_org(org_id=ORG_ID, name=ORG_NAME, country="IN", v2_enabled=True)
        create_program(org=org, public_id=PROGRAM_ID, name="Demo program")
        set_emf(
            org=org,
            key="Allow_points_redemption_reversal",
            value="yes",
            ticket="DEMO-1",
            reason="to try reversals",
            changed_by="demo",
        )
    call_command("import_ledger", str(LEDGER))
    client = ApiClient.objects.filter(org_id=ORG_ID, username=USERNAME).first()
    if client is None:
        return create_api_client(org=Org.objects.get(id=ORG_ID), username=USERNAME, is_confirmed=True)[1]
    ApiSecret.objects.filter(org_id=ORG_ID, client=client).delete()
    return add_secret(client, is_confirmed=True)


def _make_admin() -> str:
    """Creates a superuser for the back office, or finds it, and returns its new password."""
    from django.contrib.auth.models import User

    password = secrets.token_urlsafe(12)
    user, _ = User.objects.get_or_create(username=ADMIN, defaults={"is_staff": True, "is_superuser": True})
    user.set_password(password)
    user.save()
    return password


def _make_colleagues() -> None:
    """Creates a user who reverses and one who approves, who cannot sign in before they are given a password."""
    from django.contrib.auth.models import Group, User

    from loyalty.models import OrgAccess

    for username, role in {"demo.operator": "Reversal operator", "demo.approver": "Approver"}.items():
        user, is_new = User.objects.get_or_create(username=username, defaults={"is_staff": True})
        if is_new:
            user.set_unusable_password()
            user.save()
            user.groups.set(Group.objects.filter(name=role))
            OrgAccess.objects.create(user=user, org_id=ORG_ID)


def _wait_for(server: "subprocess.Popen[bytes]", port: str) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if server.poll() is not None:
            sys.exit(f"error: the server did not start; is port {port} in use? Choose another: make demo PORT=8001")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/admin/login/", timeout=START_SECONDS).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
        else:
            return
    sys.exit(f"error: the server did not respond within {START_SECONDS} seconds")


def _next_request() -> dict[str, Any]:
    """Returns the request to reverse 1 point, or the rest if less, of the latest redemption with points remaining."""
    from django.db.models import F

    from loyalty.models import Redemption

    redemption = Redemption.objects.filter(org_id=ORG_ID, points_reversed__lt=F("points")).order_by("-redeemed_at")[0]
    points = min(redemption.points - redemption.points_reversed, 1)
    return {
        "redemptionId": redemption.public_id,
        "pointsToBeReversed": float(points),
        "identifier": {"type": "ID", "value": str(redemption.customer.public_id)},
    }


def _reverse_and_print(port: str, secret: str) -> None:
    body = _next_request()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v2/points/reverse",
        data=json.dumps(body).encode(),
        headers={
            "Authorization": "Basic " + b64encode(f"{USERNAME}:{secret}".encode()).decode(),
            "Content-Type": "application/json",
            "Idempotency-Key": f"demo-{secrets.token_hex(8)}",
        },
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        reply = json.load(response)
    print(f"\nPOST /v2/points/reverse\n{json.dumps(body, indent=2)}\n\n200\n{json.dumps(reply, indent=2)}")


def _print_addresses(port: str, secret: str, password: str) -> None:
    body = json.dumps(_next_request())
    print(
        f"\nBack office   http://127.0.0.1:{port}/admin/   user {ADMIN}, password {password}"
        f"\n              (the demo asks for a password only; in production, staff also enter a code from their phone)"
        f"\nThe API       http://127.0.0.1:{port}/docs/    user {USERNAME}, password {secret}"
        f"\n\nTry it:\n\ncurl -i -u {USERNAME}:{secret} -H 'Content-Type: application/json' \\\n"
        f"  -d '{body}' \\\n  http://127.0.0.1:{port}/v2/points/reverse\n\nServing until Ctrl-C.",
        flush=True,
    )


if __name__ == "__main__":
    main()
