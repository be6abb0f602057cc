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
    """Adds tags and components, and sorts the paths by tag and path."""
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
