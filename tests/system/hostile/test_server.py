"""Sends the corpus, and malformed HTTP, over a socket to the server as it ships."""

import socket
from contextlib import ExitStack

import pytest

from tests.system.hostile.conversation import answers_in, send
from tests.system.hostile.corpus import CORPUS
from tests.system.hostile.requests import REVERSE, Hostile
from tests.system.hostile.wire import CHUNKED, GET, IN_CHUNKS, LENGTH, OK, VALID, WIRE, WireCase, chunk, head

# The server has its own database, so the database of the run does not matter.
pytestmark = pytest.mark.usefixtures("on_sqlite")

LAST_REQUEST = GET.replace(b"Host:", b"Connection: close\r\nHost:", 1)


@pytest.fixture(scope="module")
def valid(port: int) -> bytes:
    """The answer to a valid request before any hostile one; it states that no points were reversed."""
    [(answer, content)] = answers_in(send(port, LAST_REQUEST))
    assert answer == (200, None)
    assert b'"pointsReversed":0.0,' in content
    return content


def test_each_hostile_request_gets_expected_answer_and_next_request_succeeds(port: int, valid: bytes) -> None:
    answered = {hostile.name: answer_to(port, hostile, valid) for hostile in CORPUS}
    assert answered == {hostile.name: (hostile.status, hostile.code) for hostile in CORPUS}


def answer_to(port: int, hostile: Hostile, valid: bytes) -> tuple[int, int | None]:
    """Returns the answer to the request; checks that the same or a new connection then answers the valid request."""
    (answer, _), *others = answers_in(send(port, hostile.raw + LAST_REQUEST), method=hostile.method)
    assert [content for _, content in others or answers_in(send(port, LAST_REQUEST))] == [valid], hostile.name
    return answer


@pytest.mark.parametrize("case", WIRE, ids=lambda case: case.name)
def test_each_wire_case_gets_expected_answers_and_next_request_works(port: int, valid: bytes, case: WireCase) -> None:
    answers = answers_in(send(port, case.raw + LAST_REQUEST))
    expected = case.answers if case.closes else (*case.answers, (200, None))
    assert tuple(answer for answer, _ in answers) == expected
    assert case.closes or answers[-1][1] == valid
    assert [content for _, content in answers_in(send(port, LAST_REQUEST))] == [valid]


@pytest.mark.parametrize(
    "raw",
    [head(LENGTH, target=REVERSE) + VALID, head(CHUNKED, target=REVERSE) + IN_CHUNKS],
    ids=["with a length", "in chunks"],
)
def test_request_cut_off_anywhere_moves_no_points(port: int, valid: bytes, raw: bytes) -> None:
    last = raw.rindex(VALID[-2:])  # the last byte without which the body is not JSON
    for sent in range(1, last + 2, 7):
        answers = answers_in(send(port, raw[:sent], is_all=True))
        assert [answer for answer, _ in answers] in ([], [(400, None)], [(400, 887)]), raw[:sent]
    assert [content for _, content in answers_in(send(port, LAST_REQUEST))] == [valid]


def test_chunked_body_without_last_chunk_is_accepted_if_json_is_complete(port: int) -> None:
    """The server does not report the missing chunk, and no further byte could change the meaning of the body."""
    [(answer, _)] = answers_in(send(port, head(CHUNKED) + chunk(VALID), is_all=True))
    assert answer == OK


def test_hundred_unauthenticated_requests_without_bodies_do_not_block_the_server(port: int, valid: bytes) -> None:
    with ExitStack() as waiting:
        for _ in range(100):
            connection = waiting.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
            connection.sendall(head(LENGTH, target=REVERSE, secret=False))
            assert connection.recv(12) == b"HTTP/1.1 401"
        assert [content for _, content in answers_in(send(port, LAST_REQUEST))] == [valid]
