"""The replies of an operation: its success, and one reply for each HTTP status of its refusals."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from itertools import groupby

from reversals.api.authentication import ApiClientAuthentication
from reversals.api.openapi import schemas
from reversals.api.openapi.reasons import reason_of
from reversals.api.openapi.schemas import Schema
from reversals.refusals import ErrorCode, Ladder

JSON = "application/json"

# Only manual reversals need approval.
NOT_OVER_HTTP = {ErrorCode.NEEDS_APPROVAL, ErrorCode.NOT_APPROVABLE}

HEADERS: dict[str, Schema] = {
    "X-CAP-REQUEST-ID": {
        "description": "The id of this call. Quote it when you report a problem.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    },
    "Cache-Control": {"description": "Replies must not be cached.", "required": True, "schema": {"const": "no-store"}},
    "Idempotent-Replayed": {
        "description": "Present if this is the stored reply to an earlier request with the same Idempotency-Key.",
        "schema": {"const": "true"},
    },
    "WWW-Authenticate": {
        "description": "The authentication scheme: HTTP Basic.",
        "required": True,
        "schema": {"const": ApiClientAuthentication.CHALLENGE},
    },
}

_PLATFORM_REASONS = {
    400: "The request cannot be read. Check its host and headers.",
    401: "Send the HTTP Basic credentials of an active API client.",
    404: "This address does not exist. See /docs/ for the addresses of the API.",
    429: "Too many calls, or too many with wrong credentials. Wait the seconds that Retry-After says.",
    500: "An unexpected error occurred. Report the X-CAP-REQUEST-ID of this reply.",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure that an operation can return."""

    name: str
    code: int
    status: int
    message: str
    reason: str
    retry_after_seconds: int | None = None
    can_be_replayed: bool = False

    @property
    def example(self) -> Schema:
        error = {"status": False, "code": self.code, "message": self.message, "reason": self.reason}
        return {"summary": f"{self.code} {self.name}", "value": {"errors": [error], "warnings": []}}


def refusals(ladder: type[Ladder], *, without: Collection[Ladder] = ()) -> Iterator[Failure]:
    """Yields the failures of a list of refusals, in its order, except those that never occur at the address."""
    for error in ladder:
        if error not in NOT_OVER_HTTP and error not in without:
            yield Failure(
                name=error.name,
                code=error.code,
                status=error.status,
                message=error.message,
                reason=reason_of(error),
                retry_after_seconds=error.retry_after_seconds,
                can_be_replayed=error.holds_key,
            )


def of_platform(*statuses: int, methods: str = "") -> Iterator[Failure]:
    """Yields the platform's failures with these statuses. `methods` are the methods that the address accepts."""
    for status in statuses:
        phrase = HTTPStatus(status).phrase
        reason = _PLATFORM_REASONS.get(status) or f"This address accepts {methods}."
        yield Failure(phrase.upper().replace(" ", "_"), status, status, phrase, reason)


def failures_by_status(failures: Collection[Failure], *, methods: str) -> dict[str, Schema]:
    """Builds one reply for each status, with its codes, messages and headers, and an example of each failure."""
    in_order = sorted(failures, key=lambda failure: failure.status)
    return {
        str(status): _failed(list(group), methods=methods)
        for status, group in groupby(in_order, key=lambda failure: failure.status)
    }


def _failed(failures: list[Failure], *, methods: str) -> Schema:
    return {
        "description": ". ".join(dict.fromkeys(failure.message for failure in failures)) + ".",
        "headers": _failure_headers(failures, methods=methods),
        "content": {
            JSON: {
                "schema": schema_of(failures),
                "examples": examples_of(failures),
            }
        },
    }


def _failure_headers(failures: list[Failure], *, methods: str) -> Schema:
    headers = _headers("X-CAP-REQUEST-ID", "Cache-Control")
    seconds = sorted({failure.retry_after_seconds for failure in failures if failure.retry_after_seconds is not None})
    if seconds:
        headers["Retry-After"] = {
            "description": "The seconds to wait before sending the same request again.",
            "required": all(failure.retry_after_seconds is not None for failure in failures),
            "schema": {"type": "integer", "enum": seconds},
        }
    if any(failure.can_be_replayed for failure in failures):
        headers |= _headers("Idempotent-Replayed")
    match failures[0].status:
        case 401:
            headers |= _headers("WWW-Authenticate")
        case 429:
            headers["Retry-After"] = {
                "description": "The seconds to wait: the remainder of the current minute.",
                "required": True,
                "schema": {"type": "integer", "minimum": 1, "maximum": 60},
            }
        case 405:
            headers["Allow"] = {
                "description": "The methods that the address accepts.",
                "required": True,
                "schema": {"const": methods},
            }
    return headers


def refusals_of_engine() -> list[Failure]:
    """Returns the failures of a reversal that have HTTP status 200 in the engine's dialect."""
    return [
        Failure(f"{error.name} (engine)", code, 200, message, reason_of(error))
        for error in ErrorCode
        if error.engine_answer is not None
        for code, message in [error.engine_answer]
    ]


def schema_of(failures: Iterable[Failure]) -> Schema:
    """Returns the failure envelope, limited to the codes and messages of these failures."""
    return schemas.failure([(failure.code, failure.message) for failure in failures])


def examples_of(failures: Iterable[Failure]) -> Schema:
    return {failure.name: failure.example for failure in failures}


def succeeded(description: str, schema: Schema, examples: Schema, *, takes_key: bool = False) -> Schema:
    """Builds the reply of a successful call. A call with an Idempotency-Key (`takes_key`) can be replayed."""
    replayed = ["Idempotent-Replayed"] if takes_key else []
    return {
        "description": description,
        "headers": _headers("X-CAP-REQUEST-ID", "Cache-Control", *replayed),
        "content": {JSON: {"schema": schema, "examples": examples}},
    }


def shown(description: str, media_type: str, schema: Schema) -> Schema:
    """Builds the reply of a public page."""
    return {
        "description": description,
        "headers": _headers("X-CAP-REQUEST-ID"),
        "content": {media_type: {"schema": schema}},
    }


def _headers(*names: str) -> Schema:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
