"""examples/smtp_starttls.py: against aiosmtpd, and against servers that do not keep to what they should."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pytest
from example_programs import (
    HOST,
    Authority,
    Conversation,
    daemon,
    dead_port,
    failure,
    peer,
    received_whole,
    run,
    silent,
)

pytestmark = pytest.mark.usefixtures("no_leaks")

Serve: TypeAlias = Callable[[socket.socket], None]

SERVER = Path(__file__).with_name("mail_server.py")

MAIL = "Subject: Grüße\n\nein Punkt:\n.\n..zwei\nkein Zeilenende".encode()
WHO = ["me@here.example", "you@there.example", "they@there.example"]


class Served(NamedTuple):
    """A mail server that runs: its port, what it has got, and who signs for it."""

    port: int
    mailbox: Path
    ca_file: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("mail")
    me = Authority(folder).issue(HOST)
    words = [sys.executable, "-X", "utf8", "-W", "ignore", SERVER]
    with daemon(lambda port: [*words, port, me.cert_file, me.key_file], folder / "mailbox") as port:
        yield Served(port, folder / "mailbox", me.ca_file)


def send(port: int, ca_file: Path, *options: object, **extra: str) -> subprocess.CompletedProcess[bytes]:
    return run("smtp_starttls", HOST, *WHO, "--port", port, "--ca", ca_file, *options, stdin=MAIL, **extra)


def got(served: Served, before: str) -> str:
    """What has come into the mailbox since."""
    return served.mailbox.read_text("utf-8").removeprefix(before)


def test_a_mail_goes_over_tls_as_it_is(served: Served) -> None:
    before = got(served, "")
    done = send(served.port, served.ca_file)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(f"{HOST}: TLSv1.3, ".encode())
    assert done.stdout.endswith(b"it is in good hands\n")
    content = MAIL.replace(b"\n", b"\r\n") + b"\r\n"
    assert got(served, before) == f"{WHO[0]} {WHO[1:]} False {content!r}\n"


def test_the_user_is_authenticated_over_tls(served: Served) -> None:
    before = got(served, "")
    assert send(served.port, served.ca_file, SMTP_USER="me", SMTP_PASSWORD="secret").returncode == 0
    assert f"{WHO[0]} {WHO[1:]} True " in got(served, before)


def test_a_refusal_is_told_in_a_sentence_without_the_password(served: Served) -> None:
    before = got(served, "")
    told = failure(send(served.port, served.ca_file, SMTP_USER="me", SMTP_PASSWORD="wrong"))
    assert told.startswith(f"{HOST}:{served.port} answers AUTH PLAIN with 535: ")
    assert got(served, before) == ""


def test_a_server_that_is_not_trusted_gets_nothing(served: Served, tmp_path: Path) -> None:
    before = got(served, "")
    told = failure(send(served.port, Authority(tmp_path).file))
    assert f"the certificate shown for '{HOST}' was refused" in told
    assert got(served, before) == ""


def playing(*after_hello: str, hello: Sequence[str] = ("250-mail.example", "250 STARTTLS")) -> Serve:
    """A server that greets, and says ``after_hello`` when STARTTLS has come; then the program must go."""

    def serve(connection: socket.socket) -> None:
        with Conversation(connection) as mail:
            mail.say("220-mail.example", "220 welcome")
            assert mail.hear().startswith("EHLO [127.0.0.1]")
            mail.say(*hello)
            heard = mail.hear()
            assert heard == "STARTTLS" or "STARTTLS" not in hello[-1], heard
            if heard:
                mail.say(*after_hello)
                connection.shutdown(socket.SHUT_WR)
                received_whole(connection)

    return serve


@pytest.mark.parametrize(
    ("serve", "told"),
    [
        (playing(hello=["250 mail.example"]), "does not offer STARTTLS, and nothing is sent in the clear"),
        (playing("454 not now"), "answers STARTTLS with 454: not now"),
        (playing("220 go ahead", "250 mail.example, and a trap"), "plaintext before TLS"),
        (playing("220 go ahead"), "the TLS handshake"),
        (playing(), "has ended the connection instead of an answer to STARTTLS"),
        (lambda connection: None, "has ended the connection instead of an answer to the connection"),
        (lambda connection: connection.sendall(b"SSH-2.0-no mail\r\n"), "does not speak SMTP: 'SSH-2.0-no mail"),
    ],
    ids=["none offered", "refused", "injected", "gone in the handshake", "gone before", "gone at once", "no SMTP"],
)
def test_a_server_without_tls_gets_no_mail(serve: Serve, told: str, tmp_path: Path) -> None:
    with peer(serve) as port:
        sentence = failure(send(port, Authority(tmp_path).file))
    assert told in sentence
    assert f"{HOST}:{port}" in sentence


@pytest.mark.parametrize("accepted", [True, False])
def test_only_a_mail_that_was_accepted_counts_as_sent(accepted: bool, tmp_path: Path) -> None:
    me = Authority(tmp_path).issue(HOST)

    def serve(connection: socket.socket) -> None:
        with Conversation(connection) as mail:
            mail.say("220 welcome")
            for answer in ("250-mail.example\r\n250 STARTTLS", "220 go ahead"):
                mail.hear()
                mail.say(answer)
            with Conversation(me.server_context().wrap_socket(connection, server_side=True)) as secure:
                for answer in ("250 mail.example", "250 ok", "250 ok", "250 ok", "354 go on"):
                    secure.hear()
                    secure.say(answer)
                while secure.hear() != ".":
                    pass
                if accepted:
                    secure.say("250 it is in good hands")

    with peer(serve) as port:
        done = send(port, me.ca_file)
    if accepted:
        assert (done.returncode, done.stderr) == (0, b"")
    else:
        failure(done)


def test_a_silent_server_is_told_in_a_sentence(tmp_path: Path) -> None:
    with peer(silent) as port:
        told = failure(send(port, Authority(tmp_path).file, "--timeout", "0.1"))
    assert f"nothing came from {HOST}:{port} within" in told


def test_a_dead_port_is_told_in_a_sentence(tmp_path: Path) -> None:
    with dead_port() as port:
        assert "Connection refused" in failure(send(port, Authority(tmp_path).file))
