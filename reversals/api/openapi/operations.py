"""The operations of the OpenAPI document, one decorator for each view method."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from drf_spectacular.utils import extend_schema

from reversals.api.fields import KEY_CHARACTERS, LONGEST_KEY
from reversals.api.openapi import examples, schemas
from reversals.api.openapi.responses import (
    JSON,
    Failure,
    examples_of,
    failures_by_status,
    of_platform,
    refusals,
    refusals_of_engine,
    schema_of,
    shown,
    succeeded,
)
from reversals.api.openapi.schemas import Schema, ref
from reversals.api.reads.bodies import LARGEST_LIMIT, PAGE_LIMIT
from reversals.api.reversal_json import EXPANDABLE
from reversals.refusals import ErrorCode, ReadError, RedemptionError

API_CLIENT = "apiClient"

MOVEMENTS, READS, DOCUMENTS = "Movements", "Reads", "Documents"
TAGS = {
    MOVEMENTS: "Redeem points, and reverse redemptions. Send an `Idempotency-Key` with every call, so that a retry"
    " never moves points twice.",
    READS: "Read redemptions, reversals and points. These calls change nothing.",
    DOCUMENTS: "This document. No credentials are needed.",
}

Method = TypeVar("Method", bound=Callable[..., object])


def operation(
    operation_id: str,
    summary: str,
    *,
    tag: str,
    methods: str,
    succeeds: Schema,
    failures: Iterable[Failure],
    description: str = "",
    parameters: Iterable[Schema] = (),
    body: Schema | None = None,
    needs_credentials: bool = True,
) -> Callable[[Method], Method]:
    """Returns the decorator that gives a view's method its operation in the document.

    `failures` are specific to the address. The failures that every address has are added.
    """
    platform = of_platform(400, *([401, 429] if needs_credentials else []), 405, 500, methods=methods)
    described: Schema = {
        "operationId": operation_id,
        "summary": summary,
        "description": description,
        "tags": [tag],
        "parameters": list(parameters),
        "requestBody": body,
        "security": [{API_CLIENT: []}] if needs_credentials else [],
        "responses": {"200": succeeds} | failures_by_status([*failures, *platform], methods=methods),
    }
    return extend_schema(operation={name: value for name, value in described.items() if value not in (None, "")})


def _body(schema: str, samples: Schema) -> Schema:
    return {"required": True, "content": {JSON: {"schema": ref(schema), "examples": samples}}}


def _in_path(name: str, description: str, schema: Schema) -> Schema:
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


def _in_query(name: str, description: str, schema: Schema, **more: object) -> Schema:
    return {"name": name, "in": "query", "description": description, "schema": schema, **more}


_KEY = f"[{KEY_CHARACTERS}]{{1,{LONGEST_KEY}}}"
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A unique key that makes a request safe to retry. Create one key for each return or purchase, and"
    " send it with every retry. The same request with the same key receives the first reply again, byte for byte, and"
    " no points move. A different request with the same key is refused with HTTP 422. Temporary failures (HTTP 409, 429"
    " and 5xx) do not use up the key. The key may be enclosed in double quotes. If this header is"
    " missing, `X-Idempotency-Key` is read.",
    "schema": {"type": "string", "pattern": f'^({_KEY}|"{_KEY}")$', "examples": ["return-4711"]},
}
_CUSTOMER_ID = _in_path(
    "customerId",
    "The id of the customer.",
    {"type": "string", "pattern": "^[1-9][0-9]{0,18}$", "examples": ["564847023"]},
)
_ID = {"type": "string", "minLength": 1, "maxLength": 64}
_NAME = {"type": "string", "minLength": 1}
_TIME = {"type": "string", "format": "date-time"}

_OF_ENGINE = refusals_of_engine()

reverse_points = operation(
    "reverse-redeemed-points",
    "Reverse redeemed points",
    tag=MOVEMENTS,
    methods="POST",
    description="Reverses all or part of a redemption. Points are reversed to the lots they were drawn from, the last"
    " lot drawn from first. Points reversed to a lot that has expired are expired, unless the org re-issues them.\n\n"
    "Name the redemption by `redemptionId` or by `externalReferenceNumber`, and its customer by `identifier`.\n\n"
    "Note: if the org's error dialect is `engine`, most refusals have HTTP status 200 and the codes of the loyalty"
    " engine. To recognise a success in both dialects, check that the reply contains `orgId`.",
    parameters=[
        _IDEMPOTENCY_KEY,
        _in_query(
            "dryRun",
            "If true, checks the request and returns what a reversal would do. No points move, and the Idempotency-Key"
            " stays unused.",
            {"type": "boolean", "default": False},
        ),
        _in_query(
            "expand",
            "Adds parts to the reply: `lines` lists the points reversed to each lot, `redemption` shows the redemption"
            " after the reversal. Separate several values with commas.",
            {"type": "array", "minItems": 1, "items": {"type": "string", "enum": list(EXPANDABLE)}},
            style="form",
            explode=False,
        ),
    ],
    body=_body("ReversalRequest", examples.REVERSAL_REQUESTS),
    succeeds=succeeded(
        "The points were reversed, or could be reversed if this is a dry run. In the `engine` dialect, also most"
        " refusals.",
        {"oneOf": [ref("Reversed"), ref("ReversedDryRun"), schema_of(_OF_ENGINE)]},
        examples.REVERSAL_REPLIES | examples_of(_OF_ENGINE),
        takes_key=True,
    ),
    failures=refusals(ErrorCode),
)

redeem_points = operation(
    "redeem-points",
    "Redeem points of a customer",
    tag=MOVEMENTS,
    methods="POST",
    description="Draws points from the customer's lots, those that expire first. If the org allows cross-member"
    " redemption, the lots of the customer's group are used as well.",
    parameters=[_CUSTOMER_ID, _IDEMPOTENCY_KEY],
    body=_body("RedemptionRequest", examples.REDEMPTION_REQUESTS),
    succeeds=succeeded(
        "The points were redeemed, or could be redeemed if this is a dry run.",
        {"oneOf": [ref("Redeemed"), ref("RedeemedDryRun")]},
        examples.REDEMPTION_REPLIES,
        takes_key=True,
    ),
    failures=[*refusals(RedemptionError), *of_platform(404)],
)

read_redemption = operation(
    "read-redemption",
    "Retrieve a redemption",
    tag=READS,
    methods="GET, HEAD",
    description="Returns a redemption with the lots it drew from and all of its reversals, oldest first.",
    parameters=[_in_path("redemptionId", "The id of the redemption.", _ID)],
    succeeds=succeeded("The redemption in its current state.", ref("Redemption"), examples.REDEMPTION),
    failures=refusals(ReadError, without={ReadError.INVALID_REQUEST}),
)

read_reversal = operation(
    "read-reversal",
    "Retrieve a reversal",
    tag=READS,
    methods="GET, HEAD",
    description="Returns a reversal with the points it reversed to each lot.",
    parameters=[_in_path("reversalId", "The id of the reversal.", _ID)],
    succeeds=succeeded("The reversal.", ref("Reversal"), examples.REVERSAL),
    failures=refusals(ReadError, without={ReadError.INVALID_REQUEST}),
)

list_reversals = operation(
    "list-reversals",
    "List reversals",
    tag=READS,
    methods="GET, HEAD",
    description="Returns the org's reversals, newest first. If there are several filters, a reversal must match all of"
    " them. A filter with an unknown id returns an empty list.",
    parameters=[
        _in_query("redemptionId", "Only reversals of this redemption.", _NAME),
        _in_query("externalReferenceNumber", "Only reversals of the redemption with this number.", _NAME),
        _in_query(
            "customerId",
            "Only reversals of this customer's redemptions, and reversals to this customer's lots.",
            _NAME,
        ),
        _in_query("from", "Only reversals made at or after this time. The time needs an offset or `Z`.", _TIME),
        _in_query("to", "Only reversals made before this time. The time needs an offset or `Z`.", _TIME),
        _in_query(
            "limit",
            "The maximum number of reversals to return.",
            {"type": "integer", "minimum": 1, "maximum": LARGEST_LIMIT, "default": PAGE_LIMIT},
        ),
        _in_query("cursor", "The `nextCursor` of the previous page.", schemas.PUBLIC_ID),
    ],
    succeeds=succeeded("One page of reversals.", ref("ReversalList"), examples.REVERSAL_LIST),
    failures=refusals(ReadError, without={ReadError.NOT_FOUND}),
)

read_points = operation(
    "read-points",
    "Retrieve the points of a customer",
    tag=READS,
    methods="GET, HEAD",
    description="Returns the points in the customer's own lots now, without points of other members of a group.",
    parameters=[_CUSTOMER_ID],
    succeeds=succeeded("The customer's points.", ref("Points"), examples.POINTS),
    failures=refusals(ReadError, without={ReadError.INVALID_REQUEST}),
)

read_document = operation(
    "read-document",
    "Retrieve this document",
    tag=DOCUMENTS,
    methods="GET, HEAD",
    succeeds=shown(
        "The OpenAPI 3.1 document.", JSON, {"type": "object", "required": ["openapi", "info", "paths", "components"]}
    ),
    failures=(),
    needs_credentials=False,
)

view_document = operation(
    "view-document",
    "View this document and try calls",
    tag=DOCUMENTS,
    methods="GET, HEAD",
    succeeds=shown("An HTML page.", "text/html; charset=utf-8", {"type": "string"}),
    failures=(),
    needs_credentials=False,
)
