"""The corpus, and games with HTTP itself, over a socket against the server that ships."""

import socket
from contextlib import ExitStack

import pytest

from tests.system.hostile.conversation import answers_in, send
from tests.system.hostile.corpus import CORPUS
from tests.system.hostile.requests import REVERSE, Hostile
from tests.system.hostile.wire import CHUNKED, GET, GOOD, IN_CHUNKS, LENGTH, OK, WIRE, Game, chunk, head

# The server's database is its own, whichever the run is on.
pytestmark = pytest.mark.usefixtures("on_sqlite")

GOODBYE = GET.replace(b"Host:", b"Connection: close\r\nHost:", 1)


@pytest.fixture(scope="module")
def good(port: int) -> bytes:
    """What a good request is answered before anything hostile was sent; it says that no points were reversed."""
    [(answer, content)] = answers_in(send(port, GOODBYE))
    assert answer == (200, None)
    assert b'"pointsReversed":0.0,' in content
    return content


def test_each_hostile_request_gets_expected_answer_and_next_request_succeeds(port: int, good: bytes) -> None:
    answered = {hostile.name: answer_to(port, hostile, good) for hostile in CORPUS}
    assert answered == {hostile.name: (hostile.status, hostile.code) for hostile in CORPUS}


def answer_to(port: int, hostile: Hostile, good: bytes) -> tuple[int, int | None]:
    """The answer to the request, after which the same connection, or a new one, answers the good request as before."""
    (answer, _), *others = answers_in(send(port, hostile.raw + GOODBYE), method=hostile.method)
    assert [content for _, content in others or answers_in(send(port, GOODBYE))] == [good], hostile.name
    return answer


@pytest.mark.parametrize("game", WIRE, ids=lambda game: game.name)
def test_each_wire_case_gets_expected_answers_and_next_request_succeeds(port: int, good: bytes, game: Game) -> None:
    answers = answers_in(send(port, game.raw + GOODBYE))
    expected = game.answers if game.closes else (*game.answers, (200, None))
    assert tuple(answer for answer, _ in answers) == expected
    assert game.closes or answers[-1][1] == good
    assert [content for _, content in answers_in(send(port, GOODBYE))] == [good]


@pytest.mark.parametrize(
    "raw",
    [head(LENGTH, target=REVERSE) + GOOD, head(CHUNKED, target=REVERSE) + IN_CHUNKS],
    ids=["with a length", "in chunks"],
)
def test_request_cut_off_anywhere_moves_no_points(port: int, good: bytes, raw: bytes) -> None:
    last = raw.rindex(GOOD[-2:])  # of the bytes without which the body is no JSON
    for sent in range(1, last + 2, 7):
        answers = answers_in(send(port, raw[:sent], is_all=True))
        assert [answer for answer, _ in answers] in ([], [(400, None)], [(400, 887)]), raw[:sent]
    assert [content for _, content in answers_in(send(port, GOODBYE))] == [good]


def test_chunked_body_without_last_chunk_is_accepted_if_json_is_complete(port: int) -> None:
    """The server says nothing of a missing end; no byte that could have come would have changed the body's meaning."""
    [(answer, _)] = answers_in(send(port, head(CHUNKED) + chunk(GOOD), is_all=True))
    assert answer == OK


def test_hundred_unauthenticated_requests_without_bodies_do_not_block_the_server(port: int, good: bytes) -> None:
    with ExitStack() as waiting:
        for _ in range(100):
            connection = waiting.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
            connection.sendall(head(LENGTH, target=REVERSE, secret=False))
            assert connection.recv(12) == b"HTTP/1.1 401"
        assert [content for _, content in answers_in(send(port, GOODBYE))] == [good]
