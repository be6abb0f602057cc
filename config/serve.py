"""Starts the server that ships: `python -m config.serve`, with granian's own options or its environment variables."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

FOLDER = "loyalty-counted"
# The files are mapped into memory, and who writes to one that lies on a full disk is killed.
MEMORY = Path("/dev/shm")  # noqa: S108

DEFAULTS = {
    "GRANIAN_INTERFACE": "wsgi",
    "GRANIAN_HTTP": "1",  # no client speaks HTTP/2 in clear text, and its frames are one more parser
    "GRANIAN_WORKERS": "2",
    "GRANIAN_BLOCKING_THREADS": "4",
    "GRANIAN_WEBSOCKETS": "false",
    "GRANIAN_RESPAWN_FAILED_WORKERS": "true",
    # A worker that is told to stop while it starts does not hear it. No call takes so long.
    "GRANIAN_WORKERS_KILL_TIMEOUT": "15",
}


def main() -> None:
    """Becomes granian. What its workers count is summed up in a folder that is new at each start."""
    counted = _new_folder(MEMORY if os.access(MEMORY, os.W_OK) else Path(tempfile.gettempdir()))
    environment = DEFAULTS | {"PROMETHEUS_MULTIPROC_DIR": counted} | os.environ
    granian = str(Path(sys.executable).parent / "granian")
    os.execve(granian, [granian, *sys.argv[1:], "config.wsgi:application"], environment)  # noqa: S606


def _new_folder(parent: Path) -> str:
    """A folder that names this server, which keeps its process id; those of servers that have ended are removed."""
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
