"""Defines hostile requests, and the one valid request from which most of them differ in one way."""

from base64 import b64encode
from dataclasses import dataclass, replace

REDEMPTION_ID = "R41453239231"
CUSTOMER_ID = 564000111
POINTS = "5.47"
USERNAME, SECRET = "till.1", "a-secret-of-more-than-32-characters"

REVERSE = "/v2/points/reverse"
# A dry run, because a request that is accepted must not move points.
DRY_RUN = f"{REVERSE}?dryRun=true"
REDEEM = f"/v2/customers/{CUSTOMER_ID}/redemptions"
READ = f"/v2/points/redemptions/{REDEMPTION_ID}"
REVERSALS = "/v2/points/reversals"


def basic(credentials: bytes) -> str:
    return "Basic " + b64encode(credentials).decode()


AUTHORIZATION = ("Authorization", basic(f"{USERNAME}:{SECRET}".encode()))
JSON = ("Content-Type", "application/json")


def body(
    *,
    redemption: str = f'"{REDEMPTION_ID}"',
    points: str = "0.001",
    identifier: str = f'{{"type":"ID","value":"{CUSTOMER_ID}"}}',
    more: str = "",
) -> bytes:
    """The body of a reversal; each value is JSON text, and `more` contains further members."""
    return f'{{"redemptionId":{redemption},"pointsToBeReversed":{points},"identifier":{identifier}{more}}}'.encode()


@dataclass(frozen=True, slots=True)
class Hostile:
    """One request with the HTTP status and the error code of its expected answer."""

    name: str
    status: int
    code: int | None = None
    method: str = "POST"
    target: str = DRY_RUN
    headers: tuple[tuple[str, str], ...] = (AUTHORIZATION, JSON)
    body: bytes = body()

    @property
    def raw(self) -> bytes:
        """The bytes of the request on a socket."""
        lines = [f"{self.method} {self.target} HTTP/1.1", "Host: localhost"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines += [f"Content-Length: {len(self.body)}"] if self.body or self.method == "POST" else []
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body

    def with_header(self, name: str, *values: str) -> "Hostile":
        """Returns the request with these values of one header instead of its own."""
        others = tuple(header for header in self.headers if header[0] != name)
        return replace(self, headers=others + tuple((name, value) for value in values))


def reversal(name: str, sent: bytes, status: int = 400, code: int | None = 887) -> Hostile:
    """Returns a reversal with this body."""
    return Hostile(name, status, code, body=sent)


def reading(name: str, target: str, status: int, code: int | None = None) -> Hostile:
    """Returns a GET request for this address."""
    return Hostile(name, status, code, "GET", target, (AUTHORIZATION,), b"")


def sending(name: str, header: str, *values: str, status: int = 200, code: int | None = None) -> Hostile:
    """Returns the valid request with these values of one header."""
    return Hostile(name, status, code).with_header(header, *values)
