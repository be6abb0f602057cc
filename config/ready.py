"""Waits until the server on this machine is ready: `python -m config.ready PORT` fails if it is not within a minute."""

import sys
import time
from contextlib import closing
from http.client import HTTPConnection, HTTPException

SECONDS = 60
PAUSE = 0.2


def main(port: int) -> str | None:
    """Returns None as soon as the server is ready, or after a minute the last reason why it was not."""
    until = time.monotonic() + SECONDS
    while (reason := _why_not(port)) and time.monotonic() < until:
        time.sleep(PAUSE)
    return reason


def _why_not(port: int) -> str | None:
    """Returns what the server or its address answers, or None if the server is ready."""
    try:
        with closing(HTTPConnection("127.0.0.1", port, timeout=5)) as server:
            server.request("GET", "/health/ready")
            response = server.getresponse()
            body = response.read().decode()
            return None if response.status == 200 else f"not ready after {SECONDS} s: {body}"
    except (OSError, HTTPException) as error:
        return f"no answer after {SECONDS} s: {error}"


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
