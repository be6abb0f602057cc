"""Generates the OpenAPI document: drf-spectacular collects the operations, and this module adds the components."""

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from drf_spectacular.generators import SchemaGenerator

from reversals.api.openapi.operations import API_CLIENT, TAGS
from reversals.api.openapi.responses import HEADERS
from reversals.api.openapi.schemas import REPLIES, REQUESTS
from reversals.json_values import written_json

Endpoint = tuple[str, str, str, Callable[..., Any]]

CREDENTIALS = {
    "type": "http",
    "scheme": "basic",
    "description": "The username of an API client, with its secret as the password. Instead of the secret, its MD5 in"
    " lower-case hex is accepted.",
}


GUIDE = """

**Authentication.** Send the username and the secret of an API client with HTTP Basic authentication. They determine
the org of a call.

**Success and failure.** A reply with `orgId` is a success. Any other reply has exactly one error, with `code`,
`message` and `reason`. Base decisions on `code`. Show `reason` to people: it explains the
failure, and its text may change.

**Retries.** If a call gets no reply, or HTTP 409, 429 or 503, send the same request again with the same
`Idempotency-Key`. If the reply has the header `Retry-After`, wait that number of seconds first. Points then move only
once, however often you send the request.

**Points and times.** Points have at most 3 decimals. Times in replies are in UTC and have whole seconds.

**Support.** Each reply has the header `X-CAP-REQUEST-ID`. Quote it when you report a problem.
"""


def document() -> dict[str, Any]:
    """Builds the OpenAPI document."""
    generated: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    return generated


@cache
def written_document() -> str:
    """Returns the document as JSON. It is cached because only a change of the code changes it."""
    return written_json(document())


def as_published(endpoints: list[Endpoint]) -> list[Endpoint]:
    """Rewrites paths as clients know them: without an optional final slash, and with parameters in camelCase."""
    return [
        (_published(path, optional_slash=regex.endswith("/?$")), regex, method, view)
        for path, regex, method, view in endpoints
    ]


def _published(path: str, *, optional_slash: bool) -> str:
    path = re.sub(r"_([a-z])(?=[a-z_]*\})", lambda match: match[1].upper(), path)
    return path.rstrip("/") if optional_slash else path


def complete(result: dict[str, Any], **_: object) -> dict[str, Any]:
    """Adds the guide, tags and components, and sorts the paths by tag and path."""
    result["info"]["description"] += GUIDE
    result["tags"] = [{"name": tag, "description": description} for tag, description in TAGS.items()]
    result["paths"] = dict(sorted(result["paths"].items(), key=_tag_and_path))
    result["components"] = {
        "schemas": REQUESTS | REPLIES,
        "headers": HEADERS,
        "securitySchemes": {API_CLIENT: CREDENTIALS},
    }
    return result


def _tag_and_path(path: tuple[str, dict[str, Any]]) -> tuple[int, str]:
    address, methods = path
    return min(list(TAGS).index(operation["tags"][0]) for operation in methods.values()), address
