"""Starts the production server: `python -m config.serve`, with granian's options or environment variables."""

import json
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path

FOLDER = "loyalty-counted"
# Metric files are mapped into memory, and a process that writes to one on a full disk is killed.
MEMORY = Path("/dev/shm")  # noqa: S108

DEFAULTS = {
    "GRANIAN_INTERFACE": "wsgi",
    "GRANIAN_HTTP": "1",  # no client speaks HTTP/2 in clear text, and its frames are one more parser
    "GRANIAN_WORKERS": "2",
    "GRANIAN_BLOCKING_THREADS": "4",
    "GRANIAN_WEBSOCKETS": "false",
    "GRANIAN_RESPAWN_FAILED_WORKERS": "true",
    # A worker ignores a request to stop while it starts, so it is killed after 15 s. No call takes that long.
    "GRANIAN_WORKERS_KILL_TIMEOUT": "15",
}


def main() -> None:
    """Replaces this process with granian. Its workers write metrics to a folder that is new at each start."""
    _check_monitoring_address(os.environ.get("MONITORING_ADDRESS", ""))
    counted = _new_folder(MEMORY if os.access(MEMORY, os.W_OK) else Path(tempfile.gettempdir()))
    log = {"GRANIAN_LOG_CONFIG": _write_log_config(Path(counted)), "GRANIAN_LOG_LEVEL": _level().lower()}
    environment = DEFAULTS | log | {"PROMETHEUS_MULTIPROC_DIR": counted} | os.environ
    granian = str(Path(sys.executable).parent / "granian")
    os.execve(granian, [granian, *sys.argv[1:], "config.wsgi:application"], environment)  # noqa: S606


def _level() -> str:
    return os.environ.get("LOG_LEVEL") or "INFO"


def _write_log_config(folder: Path) -> str:
    """Writes a configuration with which granian's own lines look like those of the application. Returns its path."""
    is_text = os.environ.get("LOG_FORMAT") == "line"
    formatter = {
        "()": "logging.Formatter" if is_text else "pythonjsonlogger.json.JsonFormatter",
        **(
            {"fmt": "%(asctime)s %(levelname)s %(name)s [-] %(message)s"}
            if is_text
            else {
                "fmt": "%(levelname)s %(name)s %(message)s",
                "timestamp": "time",
                "rename_fields": {"levelname": "level", "name": "logger"},
            }
        ),
    }
    logger = {"handlers": ["console"], "level": _level().upper(), "propagate": False}
    path = folder / "log.json"
    path.write_text(
        json.dumps(
            {
                "version": 1,
                "disable_existing_loggers": False,
                "formatters": {"console": formatter},
                "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "console"}},
                "loggers": {"_granian": logger, "granian.access": logger},
            }
        )
    )
    return str(path)


def _check_monitoring_address(address: str) -> None:
    """Ends this process if another one listens there. The workers cannot tell it from a worker of their own server."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        return
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host.strip("[]"), int(port)), family=family).close()
    except OSError as error:
        sys.exit(f"MONITORING_ADDRESS is {address}, which cannot be used: {error}")


def _new_folder(parent: Path) -> str:
    """Creates a folder with this process id in its name, which granian keeps. Removes folders of ended servers."""
    for folder in parent.glob(f"{FOLDER}-*-*"):
        if not _is_running(int(folder.name.split("-")[2])):
            shutil.rmtree(folder, ignore_errors=True)
    return tempfile.mkdtemp(prefix=f"{FOLDER}-{os.getpid()}-", dir=parent)


def _is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs, as another user
        return True
    return True


if __name__ == "__main__":
    main()
