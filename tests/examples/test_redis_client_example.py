"""examples/redis_client.py: against redis-server, and against peers that break what it relies on."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest
from conftest import need
from example_programs import HOST, daemon, dead_port, failure, peer, received_whole, run, silent
from redis_client import Redis

from landline import open_tcp_stream

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a redis-server that keeps nothing."""
    folder = tmp_path_factory.mktemp("redis")
    words = [
        need("redis-server"),
        "--bind",
        HOST,
        "--dir",
        folder,
        "--save",
        "",
        "--appendonly",
        "no",
        "--enable-debug-command",
        "yes",
    ]
    with daemon(lambda port: [*words, "--port", port], folder / "log") as port:
        yield port


def told(port: int, *command: object, stdin: str = "") -> list[str]:
    """The lines that it prints, when all is well."""
    done = run("redis_client", "--port", port, *command, stdin=stdin.encode())
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode().splitlines()


def test_a_command_on_the_command_line(redis: int) -> None:
    assert told(redis, "SET", "one", "two words, ünd a -dash") == ["OK"]
    assert told(redis, "GET", "one") == ["two words, ünd a -dash"]
    assert told(redis, "GET", "nothing") == ["None"]


def test_commands_from_standard_input_are_answered_in_order(redis: int) -> None:
    count = 3000
    commands = ["DEL list", *(f"RPUSH list 'value {number}'" for number in range(count)), "LRANGE list 0 -1"]
    answers = told(redis, stdin="\n".join(commands))
    assert answers[1:-1] == [str(number) for number in range(1, count + 1)]
    assert answers[-1] == str([f"value {number}" for number in range(count)])


def test_every_kind_of_value_of_version_3(redis: int) -> None:
    kinds = [
        "string",
        "integer",
        "double",
        "bignum",
        "null",
        "array",
        "set",
        "map",
        "attrib",
        "true",
        "false",
        "verbatim",
    ]
    answers = told(redis, "--resp3", stdin="\n".join(f"DEBUG PROTOCOL {kind}" for kind in kinds))
    assert answers == [
        "Hello World", "12345", "3.141", "1234567999999999999999999999999999999", "None", "[0, 1, 2]", "[0, 1, 2]",
        "{'0': False, '1': True, '2': False}", "Some real reply following the attribute", "True", "False",
        "This is a verbatim\nstring".splitlines()[0], "string",
    ]  # fmt: skip


def test_what_the_server_says_unasked_is_passed_over(redis: int) -> None:
    """A client that tracks its keys is told of changes, in front of the answer to its next command."""
    commands = ["CLIENT TRACKING ON", "GET key", "SET key 1", "GET key"]
    assert told(redis, "--resp3", stdin="\n".join(["DEL key", *commands]))[1:] == ["OK", "None", "OK", "1"]


def test_an_error_is_an_answer_and_those_behind_it_follow(redis: int) -> None:
    done = run("redis_client", "--port", redis, stdin=b"SET word a\nINCR word\nGET word\n")
    assert done.stdout == b"OK\n(error) ERR value is not an integer or out of range\na\n"
    assert failure(done) == "1 of 3 commands failed"


def test_neither_side_waits_for_ever_for_the_other_to_read() -> None:
    """The peer reads nothing before all of its answers are taken, and both are more than fits in between.

    In this process: so much would take long from standard input.
    """
    count, size = 20, 1_000_000

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"$%d\r\n%b\r\n" % (size, bytes(size)) * count)
        received_whole(connection)

    with peer(serve) as port, open_tcp_stream(HOST, port, read_timeout=5, write_timeout=5) as stream:
        answers = Redis(stream).pipeline([["SET", "key", "x" * size]] * count)
        assert list(answers) == [bytes(size)] * count


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"", "has ended the connection before its answer"),
        (b"*3\r\n:1\r\n", "has ended the connection before its answer"),
        (b"$10\r\nhalf", "the peer ended after 4 bytes, before 12 bytes came"),
        (b"HTTP/1.1 400 Bad Request\r\n", "does not speak the protocol of redis: b'HTTP/1.1 400 Bad Request"),
        (b"*many\r\n", "does not speak the protocol of redis"),
        (b"*1\r\n" * 2000, "does not speak the protocol of redis"),
    ],
)
def test_an_answer_that_is_none(answer: bytes, sentence: str) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            received_whole(connection)

    with peer(serve) as port:
        assert sentence in failure(run("redis_client", "--port", port, "PING"))


def test_a_silent_server_is_told_in_a_sentence() -> None:
    with peer(silent) as port:
        told = failure(run("redis_client", "--port", port, "--timeout", "0.1", "PING"))
    assert "nothing came from" in told


def test_a_dead_port_is_told_in_a_sentence() -> None:
    with dead_port() as port:
        assert "Connection refused" in failure(run("redis_client", "--host", HOST, "--port", port, "PING"))
