"""Makes the document of all addresses, and completes what drf-spectacular makes of the addresses alone."""

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
    "description": "An API client's user name, and its secret or the secret's lower-case hex MD5.",
}


def document() -> dict[str, Any]:
    """The OpenAPI document."""
    made: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    return made


@cache
def written_document() -> str:
    """The document as JSON. It is the same until the program changes."""
    return written_json(document())


def as_published(endpoints: list[Endpoint]) -> list[Endpoint]:
    """Addresses in the form that clients are told: without the slash that may follow, and `{customerId}`."""
    return [
        (_published(path, optional_slash=regex.endswith("/?$")), regex, method, view)
        for path, regex, method, view in endpoints
    ]


def _published(path: str, *, optional_slash: bool) -> str:
    path = re.sub(r"_([a-z])(?=[a-z_]*\})", lambda match: match[1].upper(), path)
    return path.rstrip("/") if optional_slash else path


def complete(result: dict[str, Any], **_: object) -> dict[str, Any]:
    """Adds what the operations refer to, in the order in which it is read."""
    result["tags"] = [{"name": tag} for tag in TAGS]
    result["paths"] = dict(sorted(result["paths"].items(), key=_tag_and_path))
    result["components"] = {
        "schemas": REQUESTS | REPLIES,
        "headers": HEADERS,
        "securitySchemes": {API_CLIENT: CREDENTIALS},
    }
    return result


def _tag_and_path(path: tuple[str, dict[str, Any]]) -> tuple[int, str]:
    address, methods = path
    return min(TAGS.index(operation["tags"][0]) for operation in methods.values()), address
