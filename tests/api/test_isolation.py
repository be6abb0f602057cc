"""Every API call and command treats rows of another org like rows that do not exist."""

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
from tests.builders import World, make_customer, make_lot, make_world, operator_of, redeem, redeemed, request_for

pytestmark = pytest.mark.django_db

METHODS = {"get", "post", "put", "patch", "delete"}
POINTS = 10


@dataclass(frozen=True)
class Names:
    """The ids that a call or a command can name: of another org's rows, or of no rows."""

    redemption: str
    reversal: str
    reference: str
    customer: str
    program: str
    mobile: str = "919876500001"
    email: str = "asha@stranger.example"
    client: str = "till.of.nobody"

    def removed_from(self, text: str) -> str:
        """Replaces the ids in the text. No id equals another text of a reply."""
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
    """Returns ids of another org: a redemption with a reversal, a program, a customer and a client."""
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
    """Returns a call that posts a reversal with these ids in `identifier` (type and name) and other fields."""

    def call(world: World, names: Names) -> HttpResponse:
        kind, _, name = fields["identifier"].partition(" ")
        body: dict[str, Any] = {"identifier": {"type": kind, "value": getattr(names, name)}}
        body |= {field: getattr(names, value) for field, value in fields.items() if field != "identifier"}
        return world.ask(body)

    return call


def reversing_own(field: str) -> Call:
    """Returns a call that posts a reversal of the caller's own redemption with one foreign id in `field`."""

    def call(world: World, names: Names) -> HttpResponse:
        redemption = redeemed(world, POINTS)
        value: Any = names.program if field == "programId" else {"type": "ID", "value": names.customer}
        return world.ask(request_for(redemption, 1, **{field: value}))

    return call


def reading(address: str, **parameters: str) -> Call:
    """Returns a call that gets the address. Names in braces are replaced in the address and the parameters."""

    def call(world: World, names: Names) -> HttpResponse:
        sent = {parameter: value.format(**vars(names)) for parameter, value in parameters.items()}
        return world.read(address.format(**vars(names)), **sent)

    return call


def redeeming(**fields: str) -> Call:
    def call(world: World, names: Names) -> HttpResponse:
        body = {"points": 1} | {field: getattr(names, name) for field, name in fields.items()}
        return world.ask(body, address=f"/v2/customers/{names.customer}/redemptions")

    return call


def redeeming_own(world: World, names: Names) -> HttpResponse:
    make_lot(world.asha, POINTS, program=world.program)
    return world.redeem(world.asha, 1, programId=names.program)


# Each operation of the document, with every way to name a row in it. Public operations name no rows.
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
# The owning org gets the same reply too, because the redemption is another customer's.
ALIKE = "reverse-redeemed-points customer"
EACH_CALL = [pytest.param(call, id=f"{name} {way}") for name, ways in CALLS.items() for way, call in ways.items()]


def test_every_operation_of_the_api_is_covered() -> None:
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


def reply_of(response: HttpResponse, names: Names) -> tuple[int, str, dict[str, str]]:
    """Returns status, body without the ids, and headers."""
    headers = {name: value for name, value in response.items() if name not in {"X-CAP-REQUEST-ID", "Content-Length"}}
    return response.status_code, names.removed_from(response.content.decode()), headers


@pytest.mark.parametrize("call", [each for each in EACH_CALL if each.id != ALIKE])
def test_owning_org_gets_another_reply_than_for_unknown_rows(call: Call, stranger: World, strangers: Names) -> None:
    assert reply_of(call(stranger, strangers), strangers) != reply_of(call(stranger, UNKNOWN), UNKNOWN)


@pytest.mark.parametrize("call", EACH_CALL)
def test_rows_of_another_org_get_the_same_reply_as_unknown_rows(call: Call, strangers: Names) -> None:
    replies = []
    for names in (UNKNOWN, strangers):
        world = make_world()
        operator_of(world, username="meera")
        world.read("/v2/points/reversals")  # records the last use of the secret
        with CaptureQueriesContext(connection) as captured:
            response = call(world, names)
        headers = {
            name: value for name, value in response.items() if name not in {"X-CAP-REQUEST-ID", "Content-Length"}
        }
        body = names.removed_from(response.content.decode()).replace(str(world.org.id), "~")
        replies.append((response.status_code, body, headers, len(captured)))
    assert replies[0] == replies[1]


def test_idempotency_key_of_another_org_is_not_replayed(strangers: Names) -> None:
    own, stranger = make_world(), make_world()
    theirs = stranger.reverse(redeemed(stranger, POINTS), 2, key="key-1").json()
    response = own.reverse(redeemed(own, POINTS), 3, key="key-1")
    assert (response.status_code, "Idempotent-Replayed" in response) == (200, False)
    assert response.json()["reversalId"] != theirs["reversalId"]


def test_cursor_of_another_org_lists_none_of_its_reversals() -> None:
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


# The arguments of each command that name a row; None if a command names no rows, or only rows that it creates.
COMMANDS: dict[str, Words | None] = {
    "cover_redemptions": None,
    "create_api_client": None,
    "create_org": None,
    "create_program": None,
    "create_webhook": None,
    "deliver_events": None,
    "distribute_ledger": None,
    "doctor": None,
    "document_api": None,
    "erase_customer": lambda world, names, folder: [
        *(str(world.org.id), names.customer, "--ticket", "T-1", "--reason", "why", "--by", "meera")
    ],
    "export_customer": lambda world, names, folder: [str(world.org.id), names.customer],
    "hashed_secrets": None,
    "import_ledger": importing,
    "limit_api_client": lambda world, names, folder: [str(world.org.id), names.client, "5", "--reason", "why"],
    "maintenance": None,
    "purge_attempts": None,
    "purge_events": None,
    "reverse_points": lambda world, names, folder: [
        *(str(world.org.id), names.redemption, "--reason", "why", "--by", "meera")
    ],
    "migrate": None,
    "merge_customers": lambda world, names, folder: [
        *(str(world.org.id), names.customer, str(world.asha.public_id)),
        *("--ticket", "T-1", "--reason", "why", "--by", "meera"),
    ],
    "rotate_webhook_secret": None,
    "seal_ledger": None,
    "set_emf": setting,
    "set_identifier": lambda world, names, folder: [
        *(str(world.org.id), names.customer, "EMAIL", "new@example.com"),
        *("--ticket", "T-1", "--reason", "why", "--by", "meera"),
    ],
    "set_group": lambda world, names, folder: [str(world.org.id), "2", "--add", names.customer],
    "verify_ledger": None,
    "work": None,
}
NAMING = {name: words for name, words in COMMANDS.items() if words is not None}


def test_every_command_is_covered() -> None:
    assert {name for name, app in get_commands().items() if app in {"loyalty", "reversals"}} == set(COMMANDS)


@pytest.mark.parametrize("name", NAMING)
def test_command_reports_rows_of_another_org_as_unknown(name: str, strangers: Names, tmp_path: Path) -> None:
    messages = []
    for names in (UNKNOWN, strangers):
        world = make_world()
        with pytest.raises(CommandError) as refused:
            call_command(name, *NAMING[name](world, names, tmp_path), stdout=io.StringIO(), stderr=io.StringIO())
        messages.append(names.removed_from(str(refused.value)).replace(str(world.org.id), "~"))
    assert messages[0] == messages[1]
