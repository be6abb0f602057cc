"""Starts the server and a worker beside it: `python -m config.together`, with the options of `config.serve`.

WORKER=off starts the server alone. Both end together. A worker that ends by itself is started again.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

MANAGE = Path(__file__).parent.parent / "manage.py"
POLL_SECONDS = 0.5
SECONDS_BEFORE_A_RESTART = 2


def main() -> None:
    is_with_worker = os.environ.get("WORKER", "").strip().lower() not in {"off", "no", "false", "0"}
    # SIGTERM ends both in good order, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    processes = [_start("-m", "config.serve", *sys.argv[1:])]
    server = processes[0]
    try:
        if is_with_worker:
            processes.append(_start(str(MANAGE), "work"))
        while server.poll() is None:
            time.sleep(POLL_SECONDS)
            if is_with_worker and processes[1].poll() is not None:
                time.sleep(SECONDS_BEFORE_A_RESTART)
                processes[1] = _start(str(MANAGE), "work")
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
    sys.exit(max(server.returncode, 0))


def _start(*words: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, *words])


if __name__ == "__main__":
    main()
