"""redis: its inline commands, and RESP, whose answers are lines and counts in one stream."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from command import run
from conftest import need
from daemons import daemon

from landline import ReadTimeout, SocketStream, open_tcp_stream

pytestmark = [pytest.mark.usefixtures("no_leaks"), pytest.mark.peer("redis-server")]

HOST = "127.0.0.1"

Answer: TypeAlias = "bytes | int | list[Answer] | None"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[int]:
    """The port of a redis-server that keeps nothing."""

    def command(port: int) -> list[object]:
        here = ["--port", port, "--bind", HOST, "--dir", tmp_path]
        return [need("redis-server"), *here, "--save", "", "--appendonly", "no", "--daemonize", "no"]

    with daemon(command, tmp_path / "redis.log") as port:
        yield port


def encoded(*words: bytes) -> bytes:
    """A command as an array of counted strings."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def answer(stream: SocketStream) -> Answer:
    """The next answer of any kind, however deep."""
    line = stream.read_until(b"\r\n")
    kind, rest = line[:1], line[1:-2]
    if kind in b"+-":
        return line[:-2]
    if kind == b":":
        return int(rest)
    if int(rest) < 0:
        return None
    if kind == b"$":
        return stream.read_exactly(int(rest) + 2)[:-2]
    assert kind == b"*", line
    return [answer(stream) for _ in range(int(rest))]


def test_inline_commands(redis: int) -> None:
    with open_tcp_stream(HOST, redis, read_timeout=10) as stream:
        stream.write(b"PING\r\n")
        assert stream.readline() == b"+PONG\r\n"
        stream.write(b"SET word landline\r\n")
        assert stream.readline() == b"+OK\r\n"
        stream.write(b"GET word\r\n")
        assert stream.readline() == b"$8\r\n"
        assert stream.read_exactly(10) == b"landline\r\n"
        stream.write(b"QUIT\r\n")
        assert list(stream) == [b"+OK\r\n"]


def test_inline_commands_in_text(redis: int) -> None:
    with open_tcp_stream(HOST, redis, element_type=str, read_timeout=10) as stream:
        stream.write("SET wort Grüße\r\nGET wort\r\n")
        assert [stream.readline() for _ in range(3)] == ["+OK\n", "$7\n", "Grüße\n"]


def test_counted_strings_of_any_content(redis: int) -> None:
    values = [b"", b"\r\n", b"$5\r\nhello\r\n", bytes(range(256)) * 8192]
    with open_tcp_stream(HOST, redis, read_timeout=10) as stream:
        for value in values:
            stream.write(encoded(b"SET", b"key", value))
            assert answer(stream) == b"+OK"
            stream.write(encoded(b"GET", b"key"))
            assert answer(stream) == value


def test_pipelining_ten_thousand_commands(redis: int) -> None:
    count = 10_000
    with open_tcp_stream(HOST, redis, read_timeout=10) as stream:
        for number in range(count):
            stream.write(encoded(b"RPUSH", b"list", b"value %d" % number))
        stream.write(encoded(b"LRANGE", b"list", b"0", b"-1"))
        assert [answer(stream) for _ in range(count)] == list(range(1, count + 1))
        assert answer(stream) == [b"value %d" % number for number in range(count)]


def test_an_answer_that_comes_after_timeouts_is_whole(redis: int) -> None:
    with open_tcp_stream(HOST, redis, read_timeout=0.05) as waiting, open_tcp_stream(HOST, redis) as other:
        waiting.write(encoded(b"BLPOP", b"queue", b"0"))
        for _ in range(3):
            with pytest.raises(ReadTimeout):
                answer(waiting)
        other.write(encoded(b"RPUSH", b"queue", b"at last"))
        assert answer(other) == 1
        waiting.read_timeout = 10
        assert answer(waiting) == [b"queue", b"at last"]


def test_what_subscribers_are_told(redis: int) -> None:
    with open_tcp_stream(HOST, redis, read_timeout=10) as listening, open_tcp_stream(HOST, redis) as speaking:
        listening.write(encoded(b"SUBSCRIBE", b"news"))
        assert answer(listening) == [b"subscribe", b"news", 1]
        assert listening.read_no_hang() is None
        for number in range(100):
            speaking.write(encoded(b"PUBLISH", b"news", b"%d" % number))
        assert [answer(speaking) for _ in range(100)] == [1] * 100
        assert [answer(listening) for _ in range(100)] == [[b"message", b"news", b"%d" % n] for n in range(100)]


def test_the_command_as_a_client(redis: int) -> None:
    done = run("connect", HOST, redis, stdin=b"SET word landline\r\nGET word\r\nQUIT\r\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"+OK\r\n$8\r\nlandline\r\n+OK\r\n", b"")
