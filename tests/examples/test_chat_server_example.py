"""examples/chat_server.py, with guests that are plain sockets, and netcat."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator

import pytest
from conftest import need
from example_programs import (
    HOST,
    PATIENCE,
    Conversation,
    failure,
    interrupt,
    listening,
    port_of,
    port_told_by,
    read_until,
    run,
    started,
)

pytestmark = pytest.mark.usefixtures("no_leaks")


@contextlib.contextmanager
def room() -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    with started("chat_server", 0) as server:
        yield server, port_told_by(server)


def coming(port: int, name: str) -> Conversation:
    """One who has said his name."""
    made = Conversation(socket.create_connection((HOST, port)), "\n")
    assert made.hear() == "What is your name?"
    made.say(name)
    return made


def guest(port: int, name: str) -> Conversation:
    """One who has come in."""
    made = coming(port, name)
    assert made.hear() == f"* {name} has come"
    return made


def test_all_hear_what_one_says() -> None:
    with room() as (_, port), guest(port, "Ann") as ann, guest(port, "Bob") as bob:
        ann.say("hello")
        assert [ann.hear(), ann.hear(), bob.hear()] == ["* Bob has come", "Ann: hello", "Ann: hello"]
        ann.close()
        assert bob.hear() == "* Ann has gone"


def test_netcat_is_a_guest_like_others() -> None:
    with room() as (_, port), guest(port, "Ann") as ann:
        said = subprocess.run(
            [need("nc"), "-N", HOST, str(port)], input=b"Cat\nmeow\n", capture_output=True, timeout=PATIENCE, check=True
        )
        assert [ann.hear() for _ in range(3)] == ["* Cat has come", "Cat: meow", "* Cat has gone"]
        assert said.stdout == b"What is your name?\n* Cat has come\nCat: meow\n"


def test_a_name_is_somebodys() -> None:
    with room() as (_, port), guest(port, "Ann") as ann:
        with coming(port, "Ann") as other:
            assert other.hear() == "There is somebody of that name here already."
            assert other.hear() == ""
        ann.say("still here")
        assert ann.hear() == "Ann: still here"


def test_one_who_does_not_read_holds_up_nobody_and_has_to_leave() -> None:
    lines = [f"{'x' * 900} {number}" for number in range(100)]
    with room() as (_, port), guest(port, "Slow") as slow:
        slow.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        with guest(port, "Ann") as ann, guest(port, "Bob") as bob:
            for _ in range(500):
                ann.say(*lines)
                news: list[str] = []
                for who in (ann, bob):  # each line is heard by those who read, whatever Slow does
                    news = []
                    while not news or not news[-1].endswith(" 99"):
                        news.append(who.hear())
                    assert [line for line in news if line.startswith("Ann: ")] == [f"Ann: {line}" for line in lines]
                if "* Slow has gone" in news:
                    return
    raise AssertionError("Slow is still there")


def test_a_line_without_an_end_costs_only_its_guest() -> None:
    with room() as (server, port), guest(port, "Long") as long, guest(port, "Ann") as ann:
        long.connection.sendall(b"x" * 5000)
        assert ann.hear() == "* Long has gone"
        assert server.stderr is not None
        assert b"no line end" in read_until(server.stderr.fileno(), b"\n")


def test_ctrl_c_is_told_to_all_who_read_and_ends_it() -> None:
    with room() as (server, port), guest(port, "Ann") as ann, guest(port, "Silent"):
        assert interrupt(server) == (0, "")
        assert [ann.hear(), ann.hear()] == ["* Silent has come", "* the room is closed"]


def test_a_port_that_is_taken_is_told_in_a_sentence() -> None:
    with listening() as listener:
        told = failure(run("chat_server", port_of(listener)))
    assert "Address already in use" in told
