"""What a hostile request is, and the one good request that most of them distort."""

from base64 import b64encode
from dataclasses import dataclass, replace

REDEMPTION_ID = "R41453239231"
CUSTOMER_ID = 564000111
POINTS = "5.47"
USERNAME, SECRET = "till.1", "a-secret-of-more-than-32-characters"

REVERSE = "/v2/points/reverse"
# What is accepted all the same must move no points.
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
    """The body of a reversal, each value as it is written in JSON, and further members."""
    return f'{{"redemptionId":{redemption},"pointsToBeReversed":{points},"identifier":{identifier}{more}}}'.encode()


@dataclass(frozen=True, slots=True)
class Hostile:
    """One request and its answer: the HTTP status, and the code in the envelope of failures."""

    name: str
    status: int
    code: int | None = None
    method: str = "POST"
    target: str = DRY_RUN
    headers: tuple[tuple[str, str], ...] = (AUTHORIZATION, JSON)
    body: bytes = body()

    @property
    def raw(self) -> bytes:
        """The request as it goes over a socket."""
        lines = [f"{self.method} {self.target} HTTP/1.1", "Host: localhost"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines += [f"Content-Length: {len(self.body)}"] if self.body or self.method == "POST" else []
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body

    def with_header(self, name: str, *values: str) -> "Hostile":
        """The same with these values of one header, in place of those that it has."""
        others = tuple(header for header in self.headers if header[0] != name)
        return replace(self, headers=others + tuple((name, value) for value in values))


def reversal(name: str, sent: bytes, status: int = 400, code: int | None = 887) -> Hostile:
    """A reversal with this body."""
    return Hostile(name, status, code, body=sent)


def reading(name: str, target: str, status: int, code: int | None = None) -> Hostile:
    """A GET of this address."""
    return Hostile(name, status, code, "GET", target, (AUTHORIZATION,), b"")


def sending(name: str, header: str, *values: str, status: int = 200, code: int | None = None) -> Hostile:
    """The good request with these values of one header."""
    return Hostile(name, status, code).with_header(header, *values)
