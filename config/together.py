"""Starts the server and a worker beside it: `python -m config.together`, with the options of `config.serve`.

WORKER=off starts the server alone. Both end together. A worker that ends by itself is started again.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

MANAGE = Path(__file__).parent.parent / "manage.py"
POLL_SECONDS = 0.5
SECONDS_BEFORE_A_RESTART = 2
# Longer than the server waits for its calls (`config.serve`), and the worker for its task.
STOP_SECONDS = 30


def main() -> None:
    is_with_worker = os.environ.get("WORKER", "").strip().lower() not in {"off", "no", "false", "0"}
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
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
        for process in processes:
            process.terminate()
        for process in processes:
            _wait_for(process)
    sys.exit(max(server.returncode, 0))


def _stop(number: int, frame: FrameType | None) -> None:
    """Ends both at the first SIGINT or SIGTERM, and ignores further ones."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _start(*words: str) -> "subprocess.Popen[bytes]":
    """Starts the process in a session of its own.

    A terminal sends Ctrl-C to a whole group of processes, so the server would get one signal there and a second one
    from here. Granian's main process can wait for ever if two signals arrive at once.
    """
    return subprocess.Popen([sys.executable, *words], start_new_session=True)


def _wait_for(process: "subprocess.Popen[bytes]") -> None:
    """Waits until the process has ended, and kills it and its children if it does not end in time."""
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    main()
