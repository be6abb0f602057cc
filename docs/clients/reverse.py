"""Reverses redeemed points, and prints the id of the reversal. Requires only Python.

    python reverse.py HOST USER SECRET REDEMPTION_ID CUSTOMER_ID [POINTS]

HOST is a URL such as http://127.0.0.1:8000. Without POINTS, all remaining points are reversed.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid
from base64 import b64encode
from http.client import HTTPException

TRIES = 5


class NotReversed(Exception):
    """The points were not reversed. The message gives the reason."""


def reverse(host, user, secret, redemption_id, customer_id, points=None, *, key):
    """Returns the id of the reversal. The same key on every try makes sure that the points are reversed once."""
    body = {"redemptionId": redemption_id, "identifier": {"type": "ID", "value": customer_id}}
    if points is not None:
        body["pointsToBeReversed"] = points
    request = urllib.request.Request(
        host + "/v2/points/reverse",
        data=json.dumps(body).encode(),
        headers={
            "Authorization": "Basic " + b64encode(f"{user}:{secret}".encode()).decode(),
            "Content-Type": "application/json",
            "Idempotency-Key": key,
        },
    )
    reply = send(request)
    # A success has an orgId. Note: in the engine's error dialect, a failure may have HTTP status 200.
    if reply.get("orgId"):
        return reply["reversalId"]
    error = reply["errors"][0]
    raise NotReversed(f"{error['code']} {error['message']}: {error['reason']}")


def send(request):
    """Returns the reply. If the server is busy or the connection fails, sends the request again."""
    attempt = 0
    while True:
        attempt += 1
        seconds = attempt
        try:
            status, headers, reply = answer(request)
            if status not in (409, 503) or attempt == TRIES:
                return reply
            seconds = int(headers.get("Retry-After", attempt))
        except (OSError, HTTPException, ValueError) as error:
            if attempt == TRIES:
                raise NotReversed(f"no reply: {error}; try again with the same key") from error
        time.sleep(seconds)


def answer(request):
    """Returns status, headers and reply. Raises OSError if the connection fails."""
    try:
        response = urllib.request.urlopen(request, timeout=10)
    except urllib.error.HTTPError as error:
        response = error
    with response:
        return response.status, response.headers, json.load(response)


if __name__ == "__main__":
    if len(sys.argv) not in (6, 7):
        sys.exit("usage: reverse.py HOST USER SECRET REDEMPTION_ID CUSTOMER_ID [POINTS]")
    # Use one key for each return. A till that may be switched off before the reply must store the key with the return.
    try:
        print(reverse(*sys.argv[1:], key=os.environ.get("IDEMPOTENCY_KEY") or uuid.uuid4().hex))
    except NotReversed as error:
        sys.exit(f"not reversed: {error}")
