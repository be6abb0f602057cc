"""The OpenAPI document is correct: generated requests get documented answers, and valid requests are never 887."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from config.wsgi import application
from loyalty.models import Redemption
from reversals.api.openapi.generation import document
from reversals.assurance.verification import broken_laws
from tests.builders import World, make_lot, redeem, set_value

pytestmark = pytest.mark.django_db

POSITIVE, NEGATIVE = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
# The published API answers a well-formed request for something that does not exist with 400, which this check forbids.
EXCLUDED_CHECKS = [positive_data_acceptance]
WITHOUT_INPUT = {"GET /docs/", "GET /openapi.json"}
OPERATIONS = [f"{method.upper()} {path}" for path, methods in document()["paths"].items() for method in methods]
RUNS_WITH_INPUT = [(label, mode) for label in OPERATIONS if label not in WITHOUT_INPUT for mode in GenerationMode]
RUNS = [*RUNS_WITH_INPUT, *((label, POSITIVE) for label in sorted(WITHOUT_INPUT))]


@contextmanager
def connection_kept() -> Iterator[None]:
    """Keeps the connection of the test's transaction open; requests to the WSGI application would close it."""
    signals = request_started, request_finished
    for signal in signals:
        signal.disconnect(close_old_connections)
    yield
    for signal in signals:
        signal.connect(close_old_connections)


def known_redemptions(world: World) -> list[Redemption]:
    """Creates so many large redemptions that random amounts can often be reversed and redeemed."""
    set_value(world.org, "Reversal_duplicate_window_seconds", "0")
    make_lot(world.asha, 10**11, program=world.program)
    return [
        redeem(world.asha, 10**9, program=world.program, external_reference_number=f"ORD-{number}")
        for number in range(20)
    ]


def fuzz(world: World, label: str, mode: GenerationMode, *, cases: int, derandomize: bool) -> Counter[int]:
    """Sends cases that follow or break the rules of one operation; returns the count of each HTTP status."""
    known = known_redemptions(world)
    reversal_id = world.reverse(known[0], 1).json()["reversalId"]
    schema = schemathesis.openapi.from_dict(document())
    schema.app = application
    schema.config.update(basic_auth=(world.username, world.secret))
    # A schema cannot forbid NUL in unknown members, so do not send it; test_strict_json.py does.
    schema.config.generation.update(allow_x00=False, with_security_parameters=False)
    operation = schema.find_operation_by_label(label)
    statuses: Counter[int] = Counter()

    @settings(
        max_examples=cases,
        derandomize=derandomize,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), redemption=st.sampled_from(known) | st.none())
    def send(case: Any, redemption: Redemption | None) -> None:
        if mode is POSITIVE and redemption is not None:
            use_existing_ids(case, redemption, reversal_id)
        response = case.call()
        case.validate_response(response, excluded_checks=EXCLUDED_CHECKS)
        statuses[response.status_code] += 1
        if mode is POSITIVE and response.status_code == 400:
            error = json.loads(response.content)["errors"][0]
            assert error["code"] != 887 or error["reason"].startswith("cursor:"), error

    with connection_kept():
        send()
    return statuses


def use_existing_ids(case: Any, redemption: Redemption, reversal_id: str) -> None:
    """Replaces the ids of the case by ids that exist in the ledger."""
    customer_id = str(redemption.customer.public_id)
    for ids in (case.path_parameters, case.query):
        known = {"customerId": customer_id, "redemptionId": redemption.public_id, "reversalId": reversal_id}
        ids |= {name: value for name, value in known.items() if name in ids}
    if isinstance(case.body, dict):
        named: dict[str, Any] = {"programId": redemption.program.public_id}
        if "identifier" in case.body:  # the reference number of a new redemption must be new
            named |= {
                "redemptionId": redemption.public_id,
                "externalReferenceNumber": redemption.external_reference_number,
                "identifier": {"type": "ID", "value": customer_id},
            }
        case.body |= {name: value for name, value in named.items() if case.body.get(name) is not None}


@pytest.mark.parametrize(("label", "mode"), RUNS)
def test_generated_requests_get_documented_answers(world: World, label: str, mode: GenerationMode) -> None:
    statuses = fuzz(world, label, mode, cases=13, derandomize=True)
    assert mode is NEGATIVE or statuses[200]
    assert broken_laws(world.org.id) == []


@pytest.mark.deep
@pytest.mark.parametrize(("label", "mode"), RUNS)
def test_ten_thousand_generated_requests_get_documented_answers(world: World, label: str, mode: GenerationMode) -> None:
    share = 10_000 // len(RUNS_WITH_INPUT) + 1
    statuses = fuzz(world, label, mode, cases=share, derandomize=False)
    assert (label, mode) not in RUNS_WITH_INPUT or statuses.total() >= share
    assert broken_laws(world.org.id) == []
