"""The OpenAPI document is valid, public and consistent with the refusals, and its viewer uses no other host."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from jsonschema import Draft202012Validator

from config import __version__
from loyalty.models import Redemption
from reversals.api.openapi.generation import document
from reversals.management.commands import document_api
from reversals.models import Reversal
from reversals.refusals import ErrorCode, Ladder, ReadError, RedemptionError
from tests.api import test_ladder
from tests.builders import World, redeemed, request_for
from tests.movements import test_redeem

DOCUMENT = document()
REVERSE = DOCUMENT["paths"]["/v2/points/reverse"]["post"]
REDEEM = DOCUMENT["paths"]["/v2/customers/{customerId}/redemptions"]["post"]
OF_READS = {
    "/v2/points/redemptions/{redemptionId}": {ReadError.INVALID_REQUEST},
    "/v2/points/reversals/{reversalId}": {ReadError.INVALID_REQUEST},
    "/v2/points/reversals": {ReadError.NOT_FOUND},
    "/v2/customers/{customerId}/points": {ReadError.INVALID_REQUEST},
}


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator(schema | {"components": DOCUMENT["components"]})


def codes_of(operation: dict[str, Any]) -> dict[int, set[int]]:
    """Returns the codes that the document allows for each HTTP status of a failure."""
    return {
        int(status): set(failure_properties(response["content"]["application/json"]["schema"])["code"]["enum"])
        for status, response in operation["responses"].items()
        if status != "200"
    }


def failure_properties(schema: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = schema["properties"]["errors"]["items"]["properties"]
    return properties


def codes_in(ladder: type[Ladder], *, without: set[Ladder], platform: set[int]) -> dict[int, set[int]]:
    codes: dict[int, set[int]] = {status: {status} for status in platform}
    for error in set(ladder) - without:
        codes.setdefault(error.status, set()).add(error.code)
    return codes


# The document


@pytest.mark.filterwarnings("default")
def test_document_is_valid_and_generated_without_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("spectacular", "--validate", "--fail-on-warn")
    assert capsys.readouterr().out.startswith("openapi: 3.1.0")


def test_document_is_public() -> None:
    response = Client().get("/openapi.json")
    assert (response.status_code, response["Content-Type"]) == (200, "application/json")
    assert response.json() == json.loads(json.dumps(DOCUMENT))
    assert response["X-CAP-REQUEST-ID"]


def test_document_has_the_projects_version() -> None:
    assert DOCUMENT["info"]["version"] == __version__


def test_document_has_exactly_the_addresses_of_the_api() -> None:
    assert {(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods} == {
        ("/v2/points/reverse", "post"),
        ("/v2/customers/{customerId}/redemptions", "post"),
        *((path, "get") for path in OF_READS),
        ("/openapi.json", "get"),
        ("/docs/", "get"),
    }


def test_only_the_document_needs_no_credentials() -> None:
    open_to_all = {path for path, methods in DOCUMENT["paths"].items() for it in methods.values() if not it["security"]}
    assert open_to_all == {"/openapi.json", "/docs/"}


# Codes


def test_documented_codes_of_a_reversal_are_its_refusals() -> None:
    expected = codes_in(
        ErrorCode, without={ErrorCode.NEEDS_APPROVAL, ErrorCode.NOT_APPROVABLE}, platform={400, 401, 405, 429, 500}
    )
    assert codes_of(REVERSE) == expected


def test_documented_codes_of_a_redemption_are_its_refusals() -> None:
    assert codes_of(REDEEM) == codes_in(RedemptionError, without=set(), platform={400, 401, 404, 405, 429, 500})


@pytest.mark.parametrize("path", OF_READS)
def test_documented_codes_of_a_read_are_its_refusals(path: str) -> None:
    expected = codes_in(ReadError, without=OF_READS[path], platform={400, 401, 405, 429, 500})
    assert codes_of(DOCUMENT["paths"][path]["get"]) == expected


def test_engines_codes_are_documented_under_200() -> None:
    alternatives = REVERSE["responses"]["200"]["content"]["application/json"]["schema"]["oneOf"]
    (engine,) = [schema for schema in alternatives if "$ref" not in schema]
    codes = {4102, 888, 4101, 3803, 3804, 885, 901, 904, 3802, 902, 827, 3801, 899, 903}
    assert set(failure_properties(engine)["code"]["enum"]) == codes


def test_statuses_with_retryable_failures_document_retry_after() -> None:
    promised = {
        (path, status): response["headers"]["Retry-After"]["schema"]["enum"]
        for path, methods in DOCUMENT["paths"].items()
        for operation in methods.values()
        for status, response in operation["responses"].items()
        if "Retry-After" in response["headers"] and status != "429"
    }
    moves = ("/v2/points/reverse", "/v2/customers/{customerId}/redemptions")
    assert promised == (
        {(path, "409"): [1] for path in moves}
        | {(path, "503"): [1, 5, 30] for path in moves}
        | {(path, "503"): [1, 30] for path in OF_READS}
    )


# Examples


def examples() -> Iterator[Any]:
    for path, methods in DOCUMENT["paths"].items():
        for operation in methods.values():
            for status, reply in [("request", operation.get("requestBody", {})), *operation["responses"].items()]:
                for content in reply.get("content", {}).values():
                    for name, example in content.get("examples", {}).items():
                        yield pytest.param(content["schema"], example["value"], id=f"{path} {status} {name}")


@pytest.mark.parametrize(("schema", "value"), list(examples()))
def test_every_example_matches_its_schema(schema: dict[str, Any], value: Any) -> None:
    validator(schema).validate(value)


def without_ids(reason: str, *ids: str) -> str:
    """Replaces numbers and ids in the reason, because they differ between ledgers."""
    return re.sub("|".join([*ids, r"\d+(\.\d+)?"]), "#", reason)


REFUSALS = [
    pytest.param(operation, error, build, id=f"{type(error).__name__} {error.name}")
    for operation, cases in ((REVERSE, test_ladder.CASES), (REDEEM, test_redeem.CASES))
    for error, build in cases.items()
]


@pytest.mark.django_db
@pytest.mark.parametrize(("operation", "error", "build"), REFUSALS)
def test_example_of_a_refusal_equals_the_real_reply(
    world: World, operation: dict[str, Any], error: Ladder, build: test_ladder.Case
) -> None:
    (got,) = build(world)().json()["errors"]
    shown = operation["responses"][str(error.status)]["content"]["application/json"]["examples"][error.name]
    (expected,) = shown["value"]["errors"]
    assert got | {"reason": ""} == expected | {"reason": ""}
    made = [
        *Reversal.objects.filter(org=world.org).values_list("public_id", flat=True),
        *Redemption.objects.filter(org=world.org).values_list("public_id", flat=True),
    ]
    assert without_ids(got["reason"], *made) == without_ids(expected["reason"], "zwU7b0", "gWpna6")


# Requests


@pytest.mark.django_db
@pytest.mark.parametrize(
    "points",
    [
        *(1, 2.5, 0.001, 999_999_999_999, "250.0", "1", "0250.000", "0.001", "00.5", "1.5000", None),
        *(0, -1, 10**12, "0", "0.0", "0.000", "-1", "+1", "1e2", " 1", "1.", ".5", "", "x", "1.0001", True, [], {}),
    ],
)
def test_document_and_server_accept_the_same_points(world: World, points: Any) -> None:
    body = request_for(redeemed(world)) | {"pointsToBeReversed": points}
    is_allowed = validator(REVERSE["requestBody"]["content"]["application/json"]["schema"]).is_valid(body)
    errors = world.ask(body).json()["errors"]
    assert is_allowed is not any(error["code"] in {887, 878} for error in errors)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"redemptionId": 123456},
        {"redemptionId": None, "externalReferenceNumber": "ORD-1"},
        {"externalReferenceNumber": None, "programId": None, "notes": {"a": []}},
        {"identifier": {"type": "cardExternalId", "value": 1, "source": "x"}},
        {"identifier": {"type": "phone", "value": "1"}},
        {"externalReferenceNumber": "ORD-1"},
        {"redemptionId": None},
        {"redemptionId": ""},
        {"redemptionId": "x" * 65},
        {"redemptionId": True},
        {"redemptionId": None, "externalReferenceNumber": "x" * 129},
        {"identifier": None},
        {"identifier": {"type": "ID"}},
        {"identifier": {"type": "PASSPORT", "value": "1"}},
        {"identifier": {"type": "ID", "value": ""}},
        {"identifier": {"type": "ID", "value": None}},
        {"programId": {}},
        {"programId": ""},
    ],
)
def test_document_and_server_accept_the_same_other_fields(world: World, changes: dict[str, Any]) -> None:
    body = request_for(redeemed(world)) | changes
    is_allowed = validator(REVERSE["requestBody"]["content"]["application/json"]["schema"]).is_valid(body)
    assert is_allowed is not any(error["code"] == 887 for error in world.ask(body).json()["errors"])


# The pages


def test_viewer_and_its_assets_are_served_locally() -> None:
    page = Client().get("/docs/")
    html = page.content.decode()
    assert page.status_code == 200
    assert "//" not in re.sub(r"<!--.*?-->", "", html)
    assert "<script>" not in html
    policy = page["Content-Security-Policy"].split("; ")  # in any order
    assert {"connect-src 'self'", "script-src 'self'"} <= set(policy)
    loaded = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert len(loaded) == 6
    for address in loaded:
        response = Client().get(address)
        assert response.status_code == 200, address
        assert b"".join(response.streaming_content if response.streaming else [response.content])


def test_settings_of_the_viewer_contain_no_other_host() -> None:
    script = Client().get("/docs/?script=")
    text = script.content.decode()
    assert script["Content-Type"] == "application/javascript"
    assert 'url: "/openapi.json"' in text
    assert '"validatorUrl": null' in text
    assert "http" not in text
    assert not script.cookies


def test_docs_without_slash_redirects_to_docs_with_slash() -> None:
    assert Client().get("/docs").headers["Location"] == "/docs/"


@pytest.mark.parametrize("address", ["/docs/", "/openapi.json"])
def test_documents_accept_only_get_and_head(address: str) -> None:
    response = Client().post(address)
    assert (response.status_code, response["Allow"]) == (405, "GET, HEAD")
    assert response.json()["errors"][0]["code"] == 405


# docs/api.md


def test_docs_api_md_is_up_to_date() -> None:
    call_command("document_api", "--check")


def test_check_fails_for_a_stale_page_and_does_not_write_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "api.md"
    page.write_text("old")
    monkeypatch.setattr(document_api, "PAGE", page)
    with pytest.raises(SystemExit) as exit_code:
        call_command("document_api", "--check")
    assert exit_code.value.code == 1
    assert page.read_text() == "old"
    call_command("document_api")
    call_command("document_api", "--check")
