"""Prints the statements of one reversal as a script for pgbench, which shows the upper limit of any server."""

import json
import logging
import re
import sys

import django

from tests import environment  # noqa: F401  sets the environment before Django reads it

django.setup()

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from benchmarks.ledgers import SEQUENCE, authorization, customers_of
from loyalty.models import ApiClient, ApiSecret, Program

# Each run of the script reverses the next even redemption, as each call to the server reverses the next odd one.
# `first`, `new_id`, `clients` and `run`, which counts the runs of each client, come from the command line.
VARIABLES = """\
\\set run :run + 1
\\set call :run * :clients + :client_id
\\set n 2 * ((:first + :call) % ({rows} / 2)) + 2
\\set customer :n % {customers}
"""
NEW_ID = "\\set {name} :new_id + :call * 10 + {number}\n"
# The public id that the server looks up, and the one that it stores, which must be unique.
LOOKED_UP = "substr(encode(int8send(:new_1), 'base64'), 1, 6)"
STORED = f"substr(encode(int8send(nextval('{SEQUENCE}') << 28), 'base64'), 1, 6)"


def reversal_script(rows: int) -> str:
    """The statements of a reversal of the last odd redemption, with variables instead of its ids."""
    redemption = rows - 1
    customer = redemption % customers_of(rows)
    text, public_id = _captured(redemption, customers_of(rows))
    kept = {
        row_id for model in (Program, ApiClient, ApiSecret) for row_id in model.objects.values_list("id", flat=True)
    }
    new_ids = [row_id for row_id in dict.fromkeys(re.findall(r"\b\d{16,19}\b", text)) if int(row_id) not in kept]
    variables = {row_id: f"new_{number}" for number, row_id in enumerate(new_ids, start=1)}
    replaced = {
        f"'R{redemption}'": "('R' || :n)",
        str(1_000_000_001 + customer): "(1000000001 + :customer)",
        f"customer.public_id = {customer + 1}": "customer.public_id = :customer + 1",
        str(2_000_000_000 + redemption): "(2000000000 + :n)",
        str(3_000_000_000 + redemption): "(3000000000 + :n)",
        str(4_000_000_000 + redemption): "(4000000000 + :n)",
        **{row_id: f":{name}" for row_id, name in variables.items()},
    }
    for literal, variable in replaced.items():
        if literal not in text:
            raise RuntimeError(f"the statements do not contain {literal}")
        text = text.replace(literal, variable)
    text = text.replace(f"'{public_id}'", LOOKED_UP, 1).replace(f"'{public_id}'", STORED)
    new = "".join(NEW_ID.format(name=name, number=number) for number, name in enumerate(variables.values()))
    return VARIABLES.format(rows=rows, customers=customers_of(rows)) + new + text


def _captured(redemption: int, customers: int) -> tuple[str, str]:
    """The statements with their values, one a line, and the public id of the reversal."""
    client = Client(headers={"Authorization": authorization("till.1")})
    # The first call of an hour also records the use of the secret.
    for number in (redemption - 2, redemption):
        identifier = {"type": "ID", "value": str(number % customers + 1)}
        body = {"redemptionId": f"R{number}", "identifier": identifier, "pointsToBeReversed": 0.001}
        with CaptureQueriesContext(connection) as captured:
            reply = client.post("/v2/points/reverse", json.dumps(body), content_type="application/json")
        if reply.status_code != 200:
            raise RuntimeError(reply.content)
    text = "".join(" ".join(query["sql"].split()) + ";\n" for query in captured)
    # Replaces texts that pgbench would read as variables: times, and the colons in the stored reply.
    text = re.sub(r"'[^']*'::timestamptz", "now()", text)
    return re.sub(r"'\{[^']*\}'", lambda kept: kept[0].replace(":", "="), text), reply.json()["reversalId"]


if __name__ == "__main__":
    logging.disable(logging.INFO)
    print(reversal_script(int(sys.argv[1])))
