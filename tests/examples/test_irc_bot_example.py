"""examples/irc_bot.py, with a server that is played by the test."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from example_programs import (
    HOST,
    Authority,
    Conversation,
    dead_port,
    failure,
    interrupt,
    listening,
    peer,
    port_of,
    read_until,
    run,
    started,
    until_it_waits,
)

pytestmark = pytest.mark.usefixtures("no_leaks")

ASKED = ["NICK bot", "USER bot 0 * :a bot on landline"]


@contextlib.contextmanager
def meeting(*options: str) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket, Conversation]]:
    """The bot, the socket that it may come back to, and its first connection."""
    with (
        listening() as listener,
        started("irc_bot", HOST, "bot", "#here", "--port", port_of(listener), "--pause", "0.01", *options) as bot,
        Conversation.accepted(listener) as irc,
    ):
        yield bot, listener, irc


def welcome(irc: Conversation, nick: str = "bot") -> None:
    assert [irc.hear(), irc.hear()] == [f"NICK {nick}", ASKED[1]]
    irc.say(f":irc.example 001 {nick} :Welcome")
    assert irc.hear() == "JOIN #here"


def told(bot: subprocess.Popen[bytes], wanted: bytes) -> None:
    assert bot.stdout is not None
    assert wanted in read_until(bot.stdout.fileno(), wanted)


def test_it_joins_and_answers() -> None:
    with meeting() as (_, _, irc):
        welcome(irc)
        irc.say("PING :are you there", ":me!u@h PRIVMSG #here :hello", ":me!u@h PRIVMSG #here :!time")
        assert irc.hear() == "PONG :are you there"
        assert irc.hear().startswith("PRIVMSG #here :me: it is ")
        irc.say(":me!u@h PRIVMSG bot !roll")
        assert irc.hear().startswith("PRIVMSG me :me: you rolled a ")


def test_a_name_that_is_taken_gets_longer() -> None:
    with meeting() as (_, _, irc):
        assert [irc.hear(), irc.hear()] == ASKED
        irc.say(":irc.example 433 * bot :Nickname is already in use")
        assert irc.hear() == "NICK bot_"
        irc.say(":irc.example 001 bot_ :Welcome")
        assert irc.hear() == "JOIN #here"


def test_it_comes_back_after_a_reset() -> None:
    with meeting() as (bot, listener, irc):
        welcome(irc)
        irc.reset()
        with Conversation.accepted(listener) as again:
            welcome(again)
        told(bot, b"; once more in ")


def test_it_comes_back_after_an_error_and_waits_longer_each_time() -> None:
    with meeting() as (bot, listener, irc):
        welcome(irc)
        irc.say("ERROR :Closing Link (too many)")
        told(bot, b"says: Closing Link (too many); once more in 0.0 s\n")
        irc.close()
        for _ in range(5):
            with Conversation.accepted(listener):
                pass  # which lets it in no more
        with Conversation.accepted(listener) as again:
            welcome(again)
            assert bot.stdout is not None
            waits = re.findall(rb"; once more in ([\d.]+) s\n", read_until(bot.stdout.fileno(), b"bot is on "))
        assert len(waits) == 5
        assert float(waits[-1]) >= 0.1  # 0.01 s, doubled five times, give or take a half


def test_a_silent_server_is_asked_and_the_line_begun_before_is_read_on() -> None:
    with meeting("--silence", "0.1") as (_, _, irc):
        welcome(irc)
        irc.connection.sendall(b":me!u@h PRIVMSG #he")
        assert irc.hear() == "PING :are you there?"
        irc.connection.sendall(b"re :!time\r\n")
        assert irc.hear().startswith("PRIVMSG #here :me: it is ")


def test_a_server_that_gives_no_sign_of_life_is_left() -> None:
    with meeting("--silence", "0.1") as (bot, listener, irc):
        welcome(irc)
        assert irc.hear() == "PING :are you there?"
        assert irc.hear() == ""
        with Conversation.accepted(listener) as again:
            welcome(again)
        told(bot, b"gives no sign of life; once more in ")


def test_ctrl_c_says_goodbye() -> None:
    with meeting() as (bot, _, irc):
        welcome(irc)
        until_it_waits(bot)
        assert interrupt(bot) == (130, "")
        assert irc.hear() == "QUIT :goodbye"
        assert irc.hear() == ""


TLS = ["localhost", "bot", "#here", "--tls", "--port"]


def test_it_speaks_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = authority.issue("localhost").server_context()
    with listening() as listener, started("irc_bot", *TLS, port_of(listener), SSL_CERT_FILE=str(authority.file)):
        connection, _ = listener.accept()
        with Conversation(context.wrap_socket(connection, server_side=True)) as irc:
            welcome(irc)


def test_a_server_that_is_not_trusted_is_told_in_a_sentence(tmp_path: Path) -> None:
    context = Authority(tmp_path).issue("localhost").server_context()

    def serve(connection: socket.socket) -> None:
        with pytest.raises(ssl.SSLError, match="unknown ca"):
            context.wrap_socket(connection, server_side=True)

    with peer(serve) as port:
        told = failure(run("irc_bot", *TLS, port, SSL_CERT_FILE=str(Authority(tmp_path, "other").file)))
    assert "the certificate shown for 'localhost' was refused" in told


def test_a_dead_port_is_told_in_a_sentence() -> None:
    with dead_port() as port:
        assert "Connection refused" in failure(run("irc_bot", HOST, "bot", "#here", "--port", port))


def test_a_server_that_goes_before_its_welcome_is_told_in_a_sentence() -> None:
    with peer(lambda connection: None) as port:
        told = failure(run("irc_bot", HOST, "bot", "#here", "--port", port))
    assert f"{HOST}:{port}" in told
