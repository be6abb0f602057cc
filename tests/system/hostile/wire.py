"""Malformed and ambiguous HTTP as raw bytes: for example, one request that another program would read as two.

A 400, 414 or 431 without a code comes from the server itself, which then closes the connection.
"""

from dataclasses import dataclass

from tests.system.hostile.requests import AUTHORIZATION, DRY_RUN, READ, REVERSE, body

VALID = body()
LENGTH = f"Content-Length: {len(VALID)}".encode()
CHUNKED = b"Transfer-Encoding: chunked"

OK = (200, None)
INVALID = (400, 887)
UNAUTHORIZED = (401, 401)
UNREADABLE = (400, None)


def head(
    *lines: bytes, method: bytes = b"POST", target: str = DRY_RUN, version: bytes = b"HTTP/1.1", secret: bool = True
) -> bytes:
    """The request line and the headers."""
    authorization = b"Authorization: " + AUTHORIZATION[1].encode() if secret else b"X-Nobody: 1"
    begin = method + b" " + target.encode() + b" " + version
    return b"\r\n".join([begin, b"Host: localhost", authorization, b"Content-Type: application/json", *lines, b"", b""])


def chunk(content: bytes, *, size: bytes | None = None) -> bytes:
    """One chunk, with `size` instead of its true size if that is given."""
    return (b"%x" % len(content) if size is None else size) + b"\r\n" + content + b"\r\n"


LAST = b"0\r\n\r\n"
IN_CHUNKS = chunk(VALID) + LAST
# If a server read it as a separate request, points would move.
SMUGGLED = head(LENGTH, target=REVERSE) + VALID
GET = head(method=b"GET", target=READ)


@dataclass(frozen=True, slots=True)
class WireCase:
    """The bytes to send, and the HTTP status and error code of each expected answer."""

    name: str
    raw: bytes
    answers: tuple[tuple[int, int | None], ...]
    closes: bool = False
    """Whether the server closes the connection after these answers."""


def refused(name: str, raw: bytes, status: int = 400) -> WireCase:
    """A case that the server refuses before the application sees it."""
    return WireCase(name, raw, ((status, None),), closes=True)


def answered(name: str, raw: bytes, *answers: tuple[int, int | None], closes: bool = False) -> WireCase:
    return WireCase(name, raw, answers, closes)


def _get_with(line: bytes) -> bytes:
    return GET.replace(b"Host: localhost\r\n", b"Host: localhost\r\n" + line + b"\r\n")


LENGTHS = [
    answered("a length and chunks: the chunks count", head(LENGTH, CHUNKED) + IN_CHUNKS, OK, closes=True),
    answered("chunks and a length: the chunks count", head(CHUNKED, LENGTH) + IN_CHUNKS, OK, closes=True),
    answered(
        "a length that ends within the chunks: the rest is not read as a request",
        head(b"Content-Length: 4", CHUNKED) + IN_CHUNKS + SMUGGLED,
        OK,
        closes=True,
    ),
    answered(
        "chunks that end within the length: the rest is not read as a request",
        head(b"Content-Length: %d" % (5 + len(SMUGGLED)), CHUNKED) + LAST + SMUGGLED,
        INVALID,
        closes=True,
    ),
    refused("two lengths", head(LENGTH, b"Content-Length: 0") + VALID),
    refused("two lengths in one line", head(LENGTH + b", 0") + VALID),
    refused("the same length twice in one line", head(LENGTH + b", %d" % len(VALID)) + VALID),
    answered("the same length twice", head(LENGTH, LENGTH) + VALID, OK),
    answered("a length with leading zeros", head(b"Content-Length: 000%d" % len(VALID)) + VALID, OK),
    refused("a length with a plus sign", head(b"Content-Length: +%d" % len(VALID)) + VALID),
    refused("a negative length", head(b"Content-Length: -1") + VALID),
    refused("a length in hexadecimal digits", head(b"Content-Length: 0x69") + VALID),
    refused("a length with a decimal", head(b"Content-Length: %d.0" % len(VALID)) + VALID),
    refused("a length in words", head(b"Content-Length: many") + VALID),
    refused("a length in superscript", head(b"Content-Length: \xb2") + VALID),
    refused("an empty length", head(b"Content-Length:") + VALID),
    refused("a length beyond 64 bits", head(b"Content-Length: 99999999999999999999") + VALID),
    answered("a length beyond 63 bits", head(b"Content-Length: 9223372036854775808") + VALID, (413, 413), closes=True),
    refused("a space between the length and its colon", head(b"Content-Length : %d" % len(VALID)) + VALID),
    answered("no length: the body is not read as a request", head() + VALID, INVALID, UNREADABLE, closes=True),
    answered(
        "a length one byte too small: the byte is not read as a request",
        head(b"Content-Length: %d" % (len(VALID) - 1)) + VALID,
        INVALID,
        UNREADABLE,
        closes=True,
    ),
    answered(
        "a request in the body of a GET",
        head(b"Content-Length: %d" % len(SMUGGLED), method=b"GET", target=READ) + SMUGGLED,
        OK,
    ),
    answered("a request in the body of another", head(b"Content-Length: %d" % len(SMUGGLED)) + SMUGGLED, INVALID),
    answered(
        "a request in a body that is not read",
        head(b"Content-Length: %d" % len(SMUGGLED), target="/nowhere") + SMUGGLED,
        (404, 404),
    ),
    answered(
        "a request in the body of a request without credentials",
        head(b"Content-Length: %d" % len(SMUGGLED), secret=False) + SMUGGLED,
        UNAUTHORIZED,
    ),
    answered(
        "a request in the chunks of a request without credentials",
        head(CHUNKED, secret=False) + chunk(SMUGGLED) + LAST,
        UNAUTHORIZED,
    ),
]

CODINGS = [
    *(
        answered(f"chunks declared as {line!r}", head(line) + IN_CHUNKS, OK)
        for line in (
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding: Chunked",
            b"TRANSFER-ENCODING:CHUNKED",
            b"Transfer-Encoding: \tchunked \t",
        )
    ),
    *(
        refused(f"chunks declared as {line!r}", head(line) + IN_CHUNKS)
        for line in (
            b"Transfer-Encoding:",
            b"Transfer-Encoding: xchunked",
            b"Transfer-Encoding: chunked-x",
            b"Transfer-Encoding: identity",
            b"Transfer-Encoding: chunked, identity",
            b"Transfer-Encoding: chunked;q=1",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            b'Transfer-Encoding: "chunked"',
            b"Transfer-Encoding: \x0bchunked",
            b"Transfer-Encoding: chunked\0",
            b"Transfer-Encoding : chunked",
            b"Transfer-Encoding:\r\n chunked",
            b" Transfer-Encoding: chunked",
            b"X-A: a\r\n Transfer-Encoding: chunked",
            b"X-A: a\rTransfer-Encoding: chunked",
        )
    ),
    *(
        answered(f"chunks of another coding, declared as {line!r}", head(line) + IN_CHUNKS, INVALID)
        for line in (
            b"Transfer-Encoding: gzip, chunked",
            b"Transfer-Encoding: identity, chunked",
            b"Transfer-Encoding: chunked, chunked",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
        )
    ),
    answered(
        "an underscore in the header's name",
        head(b"Transfer_Encoding: chunked") + IN_CHUNKS,
        INVALID,
        UNREADABLE,
        closes=True,
    ),
]

CHUNKS = [
    answered("chunk size: with leading zeros", head(CHUNKED) + chunk(VALID, size=b"000%x" % len(VALID)) + LAST, OK),
    answered("chunk size: in upper case", head(CHUNKED) + chunk(VALID.ljust(0xAB), size=b"AB") + LAST, OK),
    answered("chunk size: followed by a space", head(CHUNKED) + chunk(VALID, size=b"%x " % len(VALID)) + LAST, OK),
    answered("chunk size: with an extension", head(CHUNKED) + chunk(VALID, size=b'%x;a="b"' % len(VALID)) + LAST, OK),
    answered("a chunk for each byte", head(CHUNKED) + b"".join(chunk(b"%c" % byte) for byte in VALID) + LAST, OK),
    answered("a header after the chunks", head(CHUNKED) + chunk(VALID) + b"0\r\nIdempotency-Key: !\r\n\r\n", OK),
    answered("a length after the chunks", head(CHUNKED) + chunk(VALID) + b"0\r\nContent-Length: 5\r\n\r\n", OK),
    *(
        answered(f"chunk size: {name}", head(CHUNKED) + chunk(VALID, size=size) + LAST, INVALID, closes=True)
        for name, size in {
            "missing": b"",
            "a word": b"many",
            "negative": b"-1",
            "with a plus sign": b"+%x" % len(VALID),
            "preceded by 0x": b"0x%x" % len(VALID),
            "preceded by a space": b" %x" % len(VALID),
            "with an underscore": b"6_9",
            "beyond 64 bits": b"1" + b"0" * 16 + b"%x" % len(VALID),
            "too small": b"5",
            "ended by a line feed only": b"%x\n" % len(VALID),
            "followed by 20,000 characters": b"%x;" % len(VALID) + b"a" * 20_000,
            "followed by a line break in quotes": b'%x;a="\r\n"' % len(VALID),
        }.items()
    ),
    answered("10 MB in one chunk", head(CHUNKED) + chunk(b" " * 10_000_000) + LAST, (413, 413), closes=True),
    answered("100,000 chunks of one byte", head(CHUNKED) + chunk(b" ") * 100_000 + LAST, (413, 413), closes=True),
]

LINES = [
    refused("HTTP/0.9", b"GET " + READ.encode() + b"\r\n\r\n"),
    refused("HTTP/1.2", head(LENGTH, version=b"HTTP/1.2") + VALID),
    refused("HTTP/2.0 in the request line", head(LENGTH, version=b"HTTP/2.0") + VALID),
    refused("the version in lower case", head(LENGTH, version=b"http/1.1") + VALID),
    refused("a version with a letter at the end", head(LENGTH, version=b"HTTP/1.1x") + VALID),
    answered("HTTP/1.0 with a length", head(LENGTH, version=b"HTTP/1.0") + VALID, OK, closes=True),
    answered("HTTP/1.0 with keep-alive", head(LENGTH, b"Connection: keep-alive", version=b"HTTP/1.0") + VALID, OK),
    answered("HTTP/1.0 without a length", head(version=b"HTTP/1.0") + VALID, INVALID, closes=True),
    refused("HTTP/1.0 with chunks", head(CHUNKED, version=b"HTTP/1.0") + IN_CHUNKS),
    answered("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", closes=True),
    answered(
        "an upgrade to HTTP/2",
        head(LENGTH, b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk") + VALID,
        OK,
    ),
    answered(
        "an upgrade to a web socket",
        head(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: AAAA", method=b"GET", target=READ),
        OK,
    ),
    refused("the beginning of TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100),
    refused("every byte value", bytes(range(256))),
    refused("an SMTP greeting", b"EHLO localhost\r\n\r\n"),
    refused("a space before the method", b" " + GET),
    refused("two spaces after the method", GET.replace(b"GET ", b"GET  ")),
    refused("a tab after the method", GET.replace(b"GET ", b"GET\t")),
    refused("no method", GET.removeprefix(b"GET ")),
    refused("a method with a colon", GET.replace(b"GET ", b"GET: ")),
    answered("a method in lower case", GET.replace(b"GET ", b"get "), OK),
    answered("an empty line before the request", b"\r\n\r\n" + GET, OK),
    answered("lines that end in line feeds only", GET.replace(b"\r\n", b"\n"), OK),
    refused("a header on two lines", _get_with(b"X-A: a\r\n b")),
    refused("a header without a colon", _get_with(b"nonsense")),
    refused("a header without a name", _get_with(b": a")),
    refused("a header with a NUL", _get_with(b"X-A: a\0b")),
    refused("a header with a control character", _get_with(b"X-A: a\x01b")),
    refused("a header with a carriage return", _get_with(b"X-A: a\rb")),
    refused("a header with a control character in its name", _get_with(b"X\x01A: a")),
    refused("a header with a Latin-1 letter in its name", _get_with(b"X-\xe9: a")),
    answered("a key with bytes that are not UTF-8", _get_with(b"Idempotency-Key: \xff\xfe"), OK),
    refused("a header of 1 MB", _get_with(b"X-A: " + b"a" * 1_000_000), 431),
    refused("200 headers", _get_with(b"\r\n".join([b"X-A: a"] * 200)), 431),
    refused("a target of 70,000 characters", GET.replace(READ.encode(), b"/" + b"r" * 70_000), 414),
    refused("a target with a Latin-1 byte", GET.replace(READ.encode(), b"/\xff")),
    refused("a target with a space", GET.replace(READ.encode(), b"/a b")),
    refused("a target without a slash", GET.replace(READ.encode(), b"v2/points")),
]

ADDRESSES = [
    answered("an address with its host", GET.replace(READ.encode(), b"http://localhost" + READ.encode()), OK),
    answered("an address with another host", GET.replace(READ.encode(), b"http://evil.example" + READ.encode()), OK),
    answered(
        "an address with credentials",
        head(method=b"GET", target=f"http://till.1:x@localhost{READ}", secret=False),
        UNAUTHORIZED,
    ),
    answered("an address of two slashes", GET.replace(READ.encode(), b"/" + READ.encode()), (404, 404)),
    answered("an address with a fragment", GET.replace(READ.encode(), READ.encode() + b"#a"), OK),
    answered("a tunnel", b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", (404, 404)),
    answered("the whole server", b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", (404, 404)),
    *(
        answered(name, GET.replace(b"Host: localhost\r\n", host), (400, 400))
        for name, host in {
            "no host": b"",
            "an empty host": b"Host:\r\n",
            "another host": b"Host: evil.example\r\n",
            "two hosts": b"Host: localhost\r\nHost: evil.example\r\n",
            "a host with a path": b"Host: localhost/../admin\r\n",
            "a host with a user": b"Host: localhost@evil.example\r\n",
            "a host with a malformed port": b"Host: localhost:evil\r\n",
        }.items()
    ),
]

EXPECTATIONS = [
    answered("a body that waits for 100 Continue", head(LENGTH, b"Expect: 100-continue") + VALID, OK),
    answered("an unknown expectation", head(LENGTH, b"Expect: 200-maybe") + VALID, OK),
    answered(
        "a body that waits for 100 Continue, without credentials",
        head(LENGTH, b"Expect: 100-continue", secret=False) + VALID,
        UNAUTHORIZED,
    ),
    answered("three requests at once", (head(LENGTH) + VALID) * 3, OK, OK, OK),
    answered("50 requests at once", GET * 50, *[OK] * 50),
    answered(
        "a valid request between two invalid ones",
        head(LENGTH).replace(b"json", b"xml") + VALID + GET + head(LENGTH) + b"x" * len(VALID),
        (415, 415),
        OK,
        INVALID,
    ),
    answered("nonsense followed by a request", b"nonsense\r\n\r\n" + SMUGGLED, UNREADABLE, closes=True),
]

WIRE = [*LENGTHS, *CODINGS, *CHUNKS, *LINES, *ADDRESSES, *EXPECTATIONS]
