"""What each address takes and answers. A view says which operation it is by one decorator from here."""

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

MOVEMENTS, READS, DOCUMENTS = TAGS = ("Movements", "Reads", "Documents")

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
    """The decorator of a view's method: the operation exactly as it stands in the document.

    `failures` are those of the address alone; what the platform answers at every address is added.
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
    "description": "Makes every retry safe: the same key with the same request gets the same reply, byte for byte, and"
    " nothing moves twice. Bare or in double quotes.",
    "schema": {"type": "string", "pattern": f'^({_KEY}|"{_KEY}")$', "examples": ["return-4711"]},
}
_CUSTOMER_ID = _in_path(
    "customerId",
    "The customer's id.",
    {"type": "string", "pattern": "^[1-9][0-9]{0,18}$", "examples": ["564847023"]},
)
_ID = {"type": "string", "minLength": 1, "maxLength": 64}
_NAME = {"type": "string", "minLength": 1}
_TIME = {"type": "string", "format": "date-time"}

_OF_ENGINE = refusals_of_engine()

reverse_points = operation(
    "reverse-redeemed-points",
    "Reverse redeemed points, all or part, into the lots that they came from",
    tag=MOVEMENTS,
    methods="POST",
    description="An org whose dialect is `engine` is answered most refusals with HTTP 200 and the engine's codes:"
    " there `orgId` tells a success.",
    parameters=[
        _IDEMPOTENCY_KEY,
        _in_query(
            "dryRun",
            "True asks what would happen; nothing moves, and no key is taken.",
            {"type": "boolean", "default": False},
        ),
        _in_query(
            "expand",
            "What to add to the reply.",
            {"type": "array", "minItems": 1, "items": {"type": "string", "enum": list(EXPANDABLE)}},
            style="form",
            explode=False,
        ),
    ],
    body=_body("ReversalRequest", examples.REVERSAL_REQUESTS),
    succeeds=succeeded(
        "The points were reversed, or in a dry run could be; or the engine's dialect refuses.",
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
    parameters=[_CUSTOMER_ID, _IDEMPOTENCY_KEY],
    body=_body("RedemptionRequest", examples.REDEMPTION_REQUESTS),
    succeeds=succeeded(
        "The points were redeemed, or in a dry run could be.",
        {"oneOf": [ref("Redeemed"), ref("RedeemedDryRun")]},
        examples.REDEMPTION_REPLIES,
        takes_key=True,
    ),
    failures=[*refusals(RedemptionError), *of_platform(404)],
)

read_redemption = operation(
    "read-redemption",
    "A redemption with its draws and its reversals",
    tag=READS,
    methods="GET, HEAD",
    parameters=[_in_path("redemptionId", "The redemption's id.", _ID)],
    succeeds=succeeded("The redemption as it stands.", ref("Redemption"), examples.REDEMPTION),
    failures=refusals(ReadError, without={ReadError.INVALID_REQUEST}),
)

read_reversal = operation(
    "read-reversal",
    "A reversal with its lines",
    tag=READS,
    methods="GET, HEAD",
    parameters=[_in_path("reversalId", "The reversal's id.", _ID)],
    succeeds=succeeded("The reversal.", ref("Reversal"), examples.REVERSAL),
    failures=refusals(ReadError, without={ReadError.INVALID_REQUEST}),
)

list_reversals = operation(
    "list-reversals",
    "Reversals of the org, newest first",
    tag=READS,
    methods="GET, HEAD",
    description="A reversal is listed where every filter lets it through; a filter that names nothing lists nothing.",
    parameters=[
        _in_query("redemptionId", "Those of this redemption.", _NAME),
        _in_query("externalReferenceNumber", "Those of the redemption with this number.", _NAME),
        _in_query("customerId", "Those that gave this customer points back.", _NAME),
        _in_query("from", "Made at this time or later.", _TIME),
        _in_query("to", "Made before this time.", _TIME),
        _in_query(
            "limit",
            "How many at most.",
            {"type": "integer", "minimum": 1, "maximum": LARGEST_LIMIT, "default": PAGE_LIMIT},
        ),
        _in_query("cursor", "The `nextCursor` of the page before.", schemas.PUBLIC_ID),
    ],
    succeeds=succeeded("One page.", ref("ReversalList"), examples.REVERSAL_LIST),
    failures=refusals(ReadError, without={ReadError.NOT_FOUND}),
)

read_points = operation(
    "read-points",
    "What points a customer has",
    tag=READS,
    methods="GET, HEAD",
    parameters=[_CUSTOMER_ID],
    succeeds=succeeded("The customer's own points now.", ref("Points"), examples.POINTS),
    failures=refusals(ReadError, without={ReadError.INVALID_REQUEST}),
)

read_document = operation(
    "read-document",
    "This document",
    tag=DOCUMENTS,
    methods="GET, HEAD",
    succeeds=shown("OpenAPI 3.1.", JSON, {"type": "object", "required": ["openapi", "info", "paths", "components"]}),
    failures=(),
    needs_credentials=False,
)

view_document = operation(
    "view-document",
    "This document to read, with calls to try",
    tag=DOCUMENTS,
    methods="GET, HEAD",
    succeeds=shown("A page.", "text/html; charset=utf-8", {"type": "string"}),
    failures=(),
    needs_credentials=False,
)
