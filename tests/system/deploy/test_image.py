"""The image and all of `deploy/compose.yaml`, built and run by podman."""

import json
import os
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.system.deploy.base_images import ensure
from tests.system.deploy.machines import DEPLOY, make_certificate
from tests.system.faults.load import HEADERS, SECRET
from tests.system.faults.machines import ROOT, free_port, wait_until

pytestmark = pytest.mark.deep
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
COMPOSER = str(Path(sys.executable).with_name("podman-compose"))
PULLED = {service["image"] for service in COMPOSE["services"].values() if "build" not in service}
# A machine that is a container itself may not raise them to podman's own values.
LIMITS = '[containers]\ndefault_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\n'
SETTINGS = """SECRET_KEY=a-secret-key-for-this-test-of-more-than-fifty-characters-0123456789
API_PEPPER=a-pepper-for-this-test-of-more-than-fifty-characters-0123456789
ALLOWED_HOSTS=localhost
CSRF_TRUSTED_ORIGINS=https://localhost
POSTGRES_PASSWORD=superuser
DATABASE_PASSWORD=application
"""


@dataclass
class Podman:
    """podman and podman-compose on a copy of `deploy/`."""

    folder: Path
    environment: dict[str, str]

    def run(self, *words: str) -> str:
        return self._run(["podman", *words])

    def compose(self, *words: str) -> str:
        return self._run([COMPOSER, "--project-name", "loyalty", *words])

    def up(self, *services: str) -> None:
        """Starts services without what they depend on, because Debian's podman 4 cannot wait for it."""
        self.compose("up", "--detach", "--no-deps", "--no-build", *services)

    def manage(self, *words: str) -> str:
        """Runs a command of the project in a running container, as docs/deployment.md says."""
        return self.compose("exec", "-T", "app1", "python", "manage.py", *words)

    def is_healthy(self, service: str) -> bool:
        """Runs the health check itself, because podman leaves its schedule to systemd."""
        words = ["podman", "healthcheck", "run", f"loyalty_{service}_1"]
        return subprocess.run(words, env=self.environment, capture_output=True, check=False).returncode == 0

    def inspect(self, service: str) -> dict[str, Any]:
        [found] = json.loads(self.run("inspect", f"loyalty_{service}_1"))
        return dict(found)

    def _run(self, words: list[str]) -> str:
        done = subprocess.run(
            words, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()


@pytest.fixture(scope="module")
def podman(once: None, tmp_path_factory: pytest.TempPathFactory) -> Podman:
    """Podman with the base images, and the image of the application in podman's own format."""
    if shutil.which("podman") is None or not Path(COMPOSER).exists() or os.geteuid() != 0:
        pytest.skip("needs root, apt-get install podman runc debootstrap, and pip install podman-compose in .venv")
    folder = tmp_path_factory.mktemp("deploy")
    (folder / "containers.conf").write_text(LIMITS)
    # Not the settings of the tests, because podman-compose prefers variables to the file .env.
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    made = Podman(folder, kept | {"CONTAINERS_CONF": str(folder / "containers.conf")})
    ensure(made.run, PULLED | {"python:3.13-slim", "debian:trixie-slim"}, tmp_path_factory.mktemp("images"))
    build_image(made, "--tag", "loyalty-back-office")
    return made


def build_image(podman: Podman, *words: str) -> None:
    podman.run("build", *_with_package_index(), *words, "--file", str(DEPLOY / "Containerfile"), str(ROOT))


def _with_package_index() -> list[str]:
    """Options with which pip uses the same index during the build as on this machine."""
    options = [sys.executable, "-m", "pip", "config", "list"]
    text = subprocess.run(options, capture_output=True, text=True, check=True).stdout
    named = {re.sub(r"/simple/?$", "", path) for path in re.findall(r"(?<![:/\w])(?:file://)?(/[\w./-]+)", text)}
    paths = {path for path in named | {"/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt"} if Path(path).exists()}
    return ["--network=host", *(f"--volume={path}:{path}:ro" for path in sorted(paths))]


@pytest.fixture(scope="module")
def stack(podman: Podman) -> Iterator[Callable[[], HTTPSConnection]]:
    """All containers of deploy/compose.yaml with the demo ledger; yields what connects to the proxy."""
    port = free_port()
    for file in DEPLOY.iterdir():
        shutil.copy(file, podman.folder)
    composed = (DEPLOY / "compose.yaml").read_text()
    assert '"443:443"' in composed
    (podman.folder / "compose.yaml").write_text(composed.replace('"443:443"', f'"127.0.0.1:{port}:443"'))
    (podman.folder / ".env").write_text(SETTINGS)
    (podman.folder / "certificates").mkdir()
    certificate = make_certificate(podman.folder / "certificates")
    try:
        podman.compose("--podman-build-args=--network=host", "build", "pgbouncer")
        podman.up("postgres")
        wait_until(lambda: podman.is_healthy("postgres"), seconds=120)
        podman.up("pgbouncer")
        podman.compose("run", "--rm", "--no-deps", "migrate")
        podman.up("app1", "app2", "worker")
        wait_until(lambda: podman.is_healthy("app1") and podman.is_healthy("app2"), seconds=120)
        podman.up("proxy")
        _fill(podman)
        context = ssl.create_default_context(cafile=str(certificate))
        yield lambda: HTTPSConnection("localhost", port, timeout=15, context=context)
    finally:
        podman.compose("down", "--volumes", "--timeout", "20")


def _fill(podman: Podman) -> None:
    podman.manage("create_org", "100737", "Demo")
    podman.manage("create_program", "100737", "973", "Main")
    podman.manage("create_api_client", "100737", "till.1", "--secret", SECRET)
    setting = ("100737", "Allow_points_redemption_reversal", "yes", "--ticket", "T-1", "--reason", "test")
    podman.manage("set_emf", *setting)
    podman.manage("import_ledger", "reversals/demo_ledger")


def test_image_holds_the_packages_of_the_runtime_lock_and_no_more(podman: Podman) -> None:
    locked = set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    listed = json.loads(podman.run("run", "--rm", "loyalty-back-office", "pip", "list", "--format=json"))
    installed = {package["name"].lower().replace("_", "-") for package in listed} - {"pip"}
    # Some locked packages are only for other systems or versions of Python.
    assert installed <= {name.lower().replace("_", "-") for name in locked}
    assert len(installed) >= 35
    size = podman.run("run", "--rm", "loyalty-back-office", "du", "-sm", "/app/.venv")
    assert int(size.split()[0]) < 200


def test_health_check_is_in_the_image_of_docker_and_in_the_compose_file(podman: Podman) -> None:
    build_image(podman, "--format=docker", "--tag", "loyalty-in-docker-format")
    [image] = json.loads(podman.run("image", "inspect", "loyalty-in-docker-format"))
    [command] = re.findall(r'CMD python -c "(.+)"', (DEPLOY / "Containerfile").read_text())
    assert command in image["Healthcheck"]["Test"][1]
    assert COMPOSE["services"]["app1"]["healthcheck"]["test"] == ["CMD", "python", "-c", command]


def test_reversal_through_the_proxy_of_the_containers_is_replayed_by_its_key(
    podman: Podman, stack: Callable[[], HTTPSConnection]
) -> None:
    answers = []
    sql = "SELECT r.public_id, c.public_id FROM loyalty_redemption r JOIN loyalty_customer c ON c.id = r.customer_id"
    found = podman.compose(
        *("exec", "-T", "postgres", "psql", "--host=/var/run/postgresql", "--username=postgres", "--tuples-only"),
        *("--no-align", "--command", f"{sql} WHERE c.status = 'ACTIVE' LIMIT 1", "loyalty"),
    )
    redemption_id, customer_id = found.split("|")
    body = {"redemptionId": redemption_id, "identifier": {"type": "ID", "value": customer_id}}
    for _ in range(2):
        with closing(stack()) as connection:
            connection.request("POST", "/v2/points/reverse", json.dumps(body), HEADERS | {"Idempotency-Key": "image-1"})
            reply = connection.getresponse()
            answers.append((reply.status, reply.headers["Idempotent-Replayed"], reply.read()))
    assert [answer[:2] for answer in answers] == [(200, None), (200, "true")]
    assert answers[0][2] == answers[1][2]
    assert json.loads(podman.manage("verify_ledger", "--json"))["ok"]


def test_containers_cannot_write_gain_rights_or_fill_the_disk(
    podman: Podman, stack: Callable[[], HTTPSConnection]
) -> None:
    for service in set(COMPOSE["services"]) - {"migrate"}:
        found = podman.inspect(service)
        host = found["HostConfig"]
        assert host["ReadonlyRootfs"], service
        assert host["Memory"] > 0, service
        assert host["PidsLimit"] > 0, service
        assert host["LogConfig"]["Size"] not in {"", "0B"}, service
        process = int(found["State"]["Pid"])
        status = dict(re.findall(r"^(\w+):\s+(\w+)$", Path(f"/proc/{process}/status").read_text(), re.MULTILINE))
        assert status["NoNewPrivs"] == "1", service
        if service != "proxy":
            assert int(status["CapBnd"], 16) == 0, service


def test_containers_stop_in_order_without_an_error_and_start_again(
    podman: Podman, stack: Callable[[], HTTPSConnection]
) -> None:
    # Docker has this order by itself; podman-compose stops all at once.
    order = ("proxy", "app1", "app2", "worker", "pgbouncer", "postgres")
    for service in order:
        podman.compose("stop", service)
    assert {service: podman.inspect(service)["State"]["ExitCode"] for service in order} == dict.fromkeys(order, 0)
    podman.compose("start", *reversed(order))
    wait_until(lambda: podman.is_healthy("app1") and podman.is_healthy("app2"), seconds=120)
