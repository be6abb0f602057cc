"""Every call of the API and every command, asked for a stranger's rows, answers as for rows that nobody has."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command, get_commands
from django.db import connection
from django.http import HttpResponse
from django.test.utils import CaptureQueriesContext

from loyalty.clients.api_clients import create_api_client
from reversals.api.openapi.generation import document
from reversals.models import Reversal
from tests.builders import World, make_customer, make_lot, make_world, redeem, redeemed, request_for

pytestmark = pytest.mark.django_db

METHODS = {"get", "post", "put", "patch", "delete"}
POINTS = 10


@dataclass(frozen=True)
class Names:
    """What a call or a command can name: either a stranger's rows, or none at all."""

    redemption: str
    reversal: str
    reference: str
    customer: str
    program: str
    mobile: str = "919876500001"
    email: str = "asha@stranger.example"
    client: str = "till.of.nobody"

    def taken_out_of(self, text: str) -> str:
        """The text without the names, each of which is unlike any other text in an answer."""
        for name in (self.redemption, self.reversal, self.reference, self.customer, self.program, self.client):
            text = text.replace(name, "~")
        return text


UNKNOWN = Names(
    "Nobody1", "Nobod2", "reference of nobody", "987654321012", "123456789012", "919876500099", "no@no.example"
)
Call = Callable[[World, Names], HttpResponse]


@pytest.fixture
def stranger() -> World:
    return make_world()


@pytest.fixture
def strangers(stranger: World) -> Names:
    """The rows of a stranger's org: a redemption with a reversal, a program, a customer and a client."""
    world = stranger
    identifiers = {"MOBILE": "+919876500001", "EMAIL": "asha@stranger.example"}
    customer = make_customer(world.org, identifiers=identifiers)
    make_lot(customer, POINTS, program=world.program)
    reference = "reference of a stranger"
    redemption = redeem(customer, POINTS, program=world.program, external_reference_number=reference)
    assert world.reverse(redemption, 2).status_code == 200
    world.program.public_id = 900_000_000_000 + world.org.id
    world.program.save()
    reversal = Reversal.objects.get(org=world.org)
    create_api_client(org=world.org, username="till.of.strangers")
    return Names(
        redemption=redemption.public_id,
        reversal=reversal.public_id,
        reference=reference,
        customer=str(customer.public_id),
        program=str(world.program.public_id),
        client="till.of.strangers",
    )


def reversing(**fields: str) -> Call:
    """POSTs a reversal whose `identifier` (type and name) and other fields name what is asked for."""

    def call(world: World, names: Names) -> HttpResponse:
        kind, _, name = fields["identifier"].partition(" ")
        body: dict[str, Any] = {"identifier": {"type": kind, "value": getattr(names, name)}}
        body |= {field: getattr(names, value) for field, value in fields.items() if field != "identifier"}
        return world.ask(body)

    return call


def reversing_own(field: str) -> Call:
    """POSTs a reversal of the caller's own redemption, with one field that names what is asked for."""

    def call(world: World, names: Names) -> HttpResponse:
        redemption = redeemed(world, POINTS)
        value: Any = names.program if field == "programId" else {"type": "ID", "value": names.customer}
        return world.ask(request_for(redemption, 1, **{field: value}))

    return call


def reading(address: str, **parameters: str) -> Call:
    """GETs the address, in which and in whose parameters names stand in braces."""

    def call(world: World, names: Names) -> HttpResponse:
        asked = {parameter: value.format(**vars(names)) for parameter, value in parameters.items()}
        return world.read(address.format(**vars(names)), **asked)

    return call


def redeeming(**fields: str) -> Call:
    def call(world: World, names: Names) -> HttpResponse:
        body = {"points": 1} | {field: getattr(names, name) for field, name in fields.items()}
        return world.ask(body, address=f"/v2/customers/{names.customer}/redemptions")

    return call


def redeeming_own(world: World, names: Names) -> HttpResponse:
    make_lot(world.asha, POINTS, program=world.program)
    return world.redeem(world.asha, 1, programId=names.program)


# Each operation of the document, with every way to name a row in it; those for everyone name none.
CALLS: dict[str, dict[str, Call]] = {
    "reverse-redeemed-points": {
        "redemption of their customer": reversing(identifier="ID customer", redemptionId="redemption"),
        "reference": reversing(identifier="ID customer", externalReferenceNumber="reference"),
        "mobile": reversing(identifier="MOBILE mobile", redemptionId="redemption"),
        "email": reversing(identifier="EMAIL email", redemptionId="redemption"),
        "reversal": reversing(identifier="ID customer", redemptionId="reversal"),
        "program": reversing_own("programId"),
        "customer": reversing_own("identifier"),
    },
    "redeem-points": {"customer": redeeming(), "program": redeeming_own, "both": redeeming(programId="program")},
    "read-redemption": {"redemption": reading("/v2/points/redemptions/{redemption}")},
    "read-reversal": {"reversal": reading("/v2/points/reversals/{reversal}")},
    "list-reversals": {
        "redemption": reading("/v2/points/reversals", redemptionId="{redemption}"),
        "reference": reading("/v2/points/reversals", externalReferenceNumber="{reference}"),
        "customer": reading("/v2/points/reversals", customerId="{customer}"),
    },
    "read-points": {"customer": reading("/v2/customers/{customer}/points")},
    "read-document": {},
    "view-document": {},
}
# Answered alike by the org of the row too: the redemption is another customer's.
ALIKE = "reverse-redeemed-points customer"
EACH_CALL = [pytest.param(call, id=f"{name} {way}") for name, ways in CALLS.items() for way, call in ways.items()]


def test_every_operation_of_the_api_is_asked_here() -> None:
    operations = [
        operation
        for methods in document()["paths"].values()
        for method, operation in methods.items()
        if method in METHODS
    ]
    assert {operation["operationId"] for operation in operations} == set(CALLS)
    assert {each["operationId"] for each in operations if not each["security"]} == {
        name for name, ways in CALLS.items() if not ways
    }


def told_by(response: HttpResponse, names: Names) -> tuple[int, str, dict[str, str]]:
    """Status, body without the names, and headers."""
    headers = {name: value for name, value in response.items() if name not in {"X-CAP-REQUEST-ID", "Content-Length"}}
    return response.status_code, names.taken_out_of(response.content.decode()), headers


@pytest.mark.parametrize("call", [each for each in EACH_CALL if each.id != ALIKE])
def test_the_org_of_the_rows_is_told_of_them(call: Call, stranger: World, strangers: Names) -> None:
    assert told_by(call(stranger, strangers), strangers) != told_by(call(stranger, UNKNOWN), UNKNOWN)


@pytest.mark.parametrize("call", EACH_CALL)
def test_what_is_a_strangers_is_answered_as_what_is_nobodys(call: Call, strangers: Names) -> None:
    told = []
    for names in (UNKNOWN, strangers):
        world = make_world()
        world.read("/v2/points/reversals")  # keeps when the secret was last used
        with CaptureQueriesContext(connection) as captured:
            response = call(world, names)
        headers = {
            name: value for name, value in response.items() if name not in {"X-CAP-REQUEST-ID", "Content-Length"}
        }
        body = names.taken_out_of(response.content.decode()).replace(str(world.org.id), "~")
        told.append((response.status_code, body, headers, len(captured)))
    assert told[0] == told[1]


def test_a_strangers_key_repeats_nothing_of_theirs(strangers: Names) -> None:
    own, stranger = make_world(), make_world()
    theirs = stranger.reverse(redeemed(stranger, POINTS), 2, key="key-1").json()
    response = own.reverse(redeemed(own, POINTS), 3, key="key-1")
    assert (response.status_code, "Idempotent-Replayed" in response) == (200, False)
    assert response.json()["reversalId"] != theirs["reversalId"]


def test_a_strangers_cursor_leads_to_own_rows_alone() -> None:
    own, stranger = make_world(), make_world()
    for world in (stranger, own):
        for _ in range(3):
            world.reverse(redeemed(world, POINTS), 2)
    cursor = stranger.read("/v2/points/reversals", limit="1").json()["nextCursor"]
    theirs = set(Reversal.objects.filter(org=stranger.org).values_list("public_id", flat=True))
    response = own.read("/v2/points/reversals", cursor=cursor)
    assert not any(public_id in response.content.decode() for public_id in theirs)


# Commands


Words = Callable[[World, Names, Path], list[str]]


def importing(world: World, names: Names, folder: Path) -> list[str]:
    header = "org_id,program_id,customer_id,lot_ref,points,awarded_at,expires_at"
    row = f"{world.org.id},{names.program},{world.asha.public_id},L-1,5,2026-01-01T00:00:00Z,"
    (folder / "points.csv").write_text(f"{header}\n{row}\n")
    return [str(folder)]


def setting(world: World, names: Names, folder: Path) -> list[str]:
    key = ["Reversal_window_days", "5", "--program", names.program]
    return [str(world.org.id), *key, "--ticket", "T-1", "--reason", "why"]


# What each command is told so that it names a row; None where it names none, or only what it makes.
COMMANDS: dict[str, Words | None] = {
    "create_api_client": None,
    "create_org": None,
    "create_program": None,
    "create_webhook": None,
    "deliver_events": None,
    "document_api": None,
    "erase_customer": lambda world, names, folder: [
        *(str(world.org.id), names.customer, "--ticket", "T-1", "--reason", "why", "--by", "meera")
    ],
    "export_customer": lambda world, names, folder: [str(world.org.id), names.customer],
    "export_org": None,
    "import_ledger": importing,
    "import_org": None,
    "limit_api_client": lambda world, names, folder: [str(world.org.id), names.client, "5", "--reason", "why"],
    "purge_attempts": None,
    "purge_events": None,
    "reverse_points": lambda world, names, folder: [
        *(str(world.org.id), names.redemption, "--reason", "why", "--by", "meera")
    ],
    "seal_ledger": None,
    "set_emf": setting,
    "set_group": lambda world, names, folder: [str(world.org.id), "2", "--add", names.customer],
    "verify_ledger": None,
}
NAMING = {name: words for name, words in COMMANDS.items() if words is not None}


def test_every_command_is_run_here() -> None:
    assert {name for name, app in get_commands().items() if app in {"loyalty", "reversals"}} == set(COMMANDS)


@pytest.mark.parametrize("name", NAMING)
def test_a_command_for_one_org_finds_no_row_of_another(name: str, strangers: Names, tmp_path: Path) -> None:
    said = []
    for names in (UNKNOWN, strangers):
        world = make_world()
        with pytest.raises(CommandError) as refused:
            call_command(name, *NAMING[name](world, names, tmp_path), stdout=io.StringIO(), stderr=io.StringIO())
        said.append(names.taken_out_of(str(refused.value)).replace(str(world.org.id), "~"))
    assert said[0] == said[1]
