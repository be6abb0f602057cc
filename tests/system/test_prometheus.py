"""A real Prometheus scrapes the servers with the example configuration and evaluates the shipped alerts."""

import json
import shutil
import subprocess
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.serving import ROOT, serving
from tests.system.faults.machines import free_port, wait_until

pytestmark = pytest.mark.deep

TOKEN = "a-token-of-these-tests"


@pytest.fixture(autouse=True)
def _prometheus() -> None:
    if not (shutil.which("prometheus") and shutil.which("promtool")):
        pytest.skip("Prometheus is not installed; on Debian: apt install prometheus")


def promtool(*words: str, folder: Path) -> None:
    done = subprocess.run(["promtool", *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_are_valid_and_fire_when_they_should() -> None:
    promtool("check", "rules", "docs/alerts.yaml", folder=ROOT)
    promtool("test", "rules", "tests/system/alerts_test.yaml", folder=ROOT)


def test_example_configuration_scrapes_each_server(environment: dict[str, str], tmp_path: Path) -> None:
    (first, second), port = (free_port(), free_port()), free_port()
    shipped = (ROOT / "docs" / "prometheus.yaml").read_text()
    assert '"app1:8001", "app2:8001"' in shipped
    adapted = shipped.replace("app1:8001", f"127.0.0.1:{first}").replace("app2:8001", f"127.0.0.1:{second}")
    (tmp_path / "prometheus.yaml").write_text(adapted.replace(": 15s", ": 1s"))
    (tmp_path / "metrics_token").write_text(TOKEN)
    shutil.copy(ROOT / "docs" / "alerts.yaml", tmp_path)
    promtool("check", "config", "prometheus.yaml", folder=tmp_path)
    with serving(environment | _settings(first)), serving(environment | _settings(second)):
        words = ["prometheus", "--config.file=prometheus.yaml", f"--web.listen-address=127.0.0.1:{port}"]
        scraper = subprocess.Popen([*words, f"--storage.tsdb.path={tmp_path / 'data'}"], cwd=tmp_path, stderr=-3)
        try:
            wait_until(lambda: len(_found(port, 'up{job="loyalty"} == 1')) == 2)
            wait_until(lambda: len(_found(port, "loyalty_database_up == 1")) == 2)
            assert len(_found(port, "loyalty_build_info")) == 2
            rules = _asked(port, "rules")["groups"][0]["rules"]
            assert {rule["health"] for rule in rules} <= {"ok", "unknown"}
        finally:
            scraper.terminate()
            scraper.wait(30)


def _settings(port: int) -> dict[str, str]:
    return {"MONITORING_ADDRESS": f"127.0.0.1:{port}", "METRICS_TOKEN": TOKEN}


def _found(port: int, expression: str) -> list[Any]:
    with suppress(OSError):
        return list(_asked(port, f"query?query={urllib.request.quote(expression)}")["result"])  # type: ignore[attr-defined]
    return []


def _asked(port: int, what: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{what}", timeout=10) as reply:
        return json.load(reply)["data"]
