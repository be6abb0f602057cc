"""Starts the server that ships: `python -m config.serve`, with granian's own options or its environment variables."""

import os
import sys
import tempfile
from pathlib import Path

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
    counted = tempfile.mkdtemp(prefix="loyalty-counted-")
    environment = DEFAULTS | {"PROMETHEUS_MULTIPROC_DIR": counted} | os.environ
    granian = str(Path(sys.executable).parent / "granian")
    os.execve(granian, [granian, *sys.argv[1:], "config.wsgi:application"], environment)  # noqa: S606


if __name__ == "__main__":
    main()
