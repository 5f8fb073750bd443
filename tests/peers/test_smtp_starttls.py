"""SMTP with STARTTLS (RFC 3207) against aiosmtpd, and against somebody in between who puts words into the dialogue.

The classic injection: commands or replies in the clear, in the same packet as "STARTTLS" or as its "220 ready". Who
reads ahead and keeps what it has takes them for the peer's words after TLS has begun.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from daemons import daemon
from test_smtp import HOST, reply
from tls_support import HOST as NAME
from tls_support import certificate, client_context, server_context

from landline import (
    SocketStream,
    SslCondition,
    SslError,
    SslFailure,
    TextSocketStream,
    open_tcp_stream,
    start_up_server,
)
from landline.testing.contract.stage import PATIENCE, Task

pytestmark = pytest.mark.usefixtures("no_leaks")

INJECTED = b"250 injected\r\n"


@pytest.fixture
def mailbox(tmp_path: Path) -> Path:
    return tmp_path / "mail"


@pytest.fixture
def smtp(mailbox: Path, tmp_path: Path) -> Iterator[int]:
    """The port of an aiosmtpd that takes mail after STARTTLS only, and shows what it gets."""
    leaf = certificate(HOST)
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(str(key))

    def command(port: int) -> list[object]:
        server = [sys.executable, "-W", "ignore", "-X", "utf8", "-u", "-m", "aiosmtpd", "-n", "-u", "-l"]
        show = ["-c", "aiosmtpd.handlers.Debugging", "stdout"]
        return [*server, f"{HOST}:{port}", "--tlscert", chain, "--tlskey", key, *show]

    with daemon(command, mailbox) as port:
        yield port


@contextmanager
def dialogue(port: int) -> Iterator[tuple[TextSocketStream, Callable[[str], tuple[int, list[str]]]]]:
    """A connection on which the server has greeted, and how to say a line on it and get the reply."""
    with open_tcp_stream(HOST, port, element_type=str, newline="\r\n", read_timeout=PATIENCE) as mail:

        def say(line: str) -> tuple[int, list[str]]:
            mail.write(line + "\n")
            return reply(mail)

        assert reply(mail)[0] == 220
        yield mail, say


def test_mail_is_delivered_after_starttls(smtp: int, mailbox: Path) -> None:
    with dialogue(smtp) as (mail, say):
        code, texts = say("EHLO landline.example")
        assert (code, "STARTTLS" in texts) == (250, True)
        assert say("MAIL FROM:<me@landline.example>")[0] == 530
        assert say("STARTTLS")[0] == 220
        mail.start_tls(client_context())
        assert mail.tls is not None
        assert (mail.tls.checked_name, mail.tls.verify().ok) == (HOST, True)
        code, texts = say("EHLO landline.example")
        assert (code, "STARTTLS" in texts) == (250, False)
        assert say("MAIL FROM:<me@landline.example> SMTPUTF8")[0] == 250
        assert say("RCPT TO:<you@landline.example>")[0] == 250
        assert say("DATA")[0] == 354
        mail.writelines(f"{line}\n" for line in ("Subject: Grüße", "", "unter vier Augen"))
        assert say(".")[0] == 250
        assert say("QUIT")[0] == 221
        assert mail.readline() == ""
    shown = mailbox.read_text("utf-8")
    assert "Subject: Grüße\n" in shown
    assert "\nunter vier Augen\n" in shown


# ---- somebody in between -------------------------------------------------------------------------------


class InBetween:
    """Passes a dialogue on, through ``alter``, which gets what either side sends and says what is passed on.

    Attributes:
        port: where the client has to connect.
        from_client: all that the client sent.
    """

    def __init__(self, server: int, alter: Callable[[bool, bytes], bytes]) -> None:
        self.from_client = b""
        self._alter = alter
        self._server = server
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._both: list[socket.socket] = []
        self._working = Task(self._work)

    def _work(self) -> None:
        client, _ = self._listener.accept()
        with client, socket.create_connection((HOST, self._server)) as server:
            up = Task(lambda: self._pass(client, server, True))
            self._pass(server, client, False)
            up.result()

    def _pass(self, source: socket.socket, target: socket.socket, up: bool) -> None:
        try:
            while data := source.recv(65536):
                if up:
                    self.from_client += data
                target.sendall(self._alter(up, data))
        except OSError:
            pass  # one of them has had enough
        for sock in (source, target):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self) -> None:
        self._listener.close()
        self._working.result()


@contextmanager
def in_between(server: int, alter: Callable[[bool, bytes], bytes]) -> Iterator[InBetween]:
    attacker = InBetween(server, alter)
    try:
        yield attacker
    finally:
        attacker.close()


def test_a_reply_injected_behind_220_ready_is_refused(smtp: int) -> None:
    def alter(up: bool, data: bytes) -> bytes:
        return data + INJECTED if data.startswith(b"220 Ready") else data

    with in_between(smtp, alter) as attacker:
        with dialogue(attacker.port) as (mail, say):
            assert say("EHLO landline.example")[0] == 250
            assert say("STARTTLS")[0] == 220
            with pytest.raises(SslError, match=f"plaintext before TLS: {len(INJECTED)} bytes") as caught:
                mail.start_tls(client_context())
            assert caught.value.ssl_code == "leftover"
            assert mail.tls is None
            assert reply(mail) == (250, ["injected"])  # to look at; and no TLS has begun
            mail.abort()
        assert attacker.from_client.endswith(b"STARTTLS\r\n")


def test_a_reply_injected_a_moment_later_is_no_tls(smtp: int) -> None:
    def alter(up: bool, data: bytes) -> bytes:
        return INJECTED if data[0] == 22 and not up else data  # instead of the server's part of the handshake

    with in_between(smtp, alter) as attacker:
        with dialogue(attacker.port) as (mail, say):
            assert say("STARTTLS")[0] == 220
            with pytest.raises(SslFailure, match="does not speak TLS; it began with '250 injected"):
                mail.start_tls(client_context())
            mail.write("AUTH PLAIN secret\n")
            for call in (mail.flush, mail.readline):
                with pytest.raises(SslCondition):
                    call()
        assert b"AUTH" not in attacker.from_client


def test_a_command_injected_behind_starttls_is_refused() -> None:
    """The same from the other side: our server, and what comes with the client's STARTTLS."""
    context, trusting = server_context(), client_context()
    ended: list[BaseException | bytes] = []

    def serve(stream: SocketStream) -> None:
        stream.write(b"220 landline\r\n")
        try:
            assert stream.readline() == b"STARTTLS\r\n"
            stream.write(b"220 ready\r\n")
            stream.start_tls(context)
            ended.append(stream.readline())
        except BaseException as error:
            ended.append(error)
            raise

    def alter(up: bool, data: bytes) -> bytes:
        return data + b"MAIL FROM:<injected@landline.example>\r\n" if data == b"STARTTLS\r\n" else data

    with (
        start_up_server(serve, read_timeout=PATIENCE) as server,
        in_between(server.port, alter) as attacker,
        dialogue(attacker.port) as (mail, say),
    ):
        assert say("STARTTLS")[0] == 220
        with pytest.raises(SslError):
            mail.start_tls(trusting, host=NAME)
    assert isinstance(ended[0], SslError)
    assert ended[0].ssl_code == "leftover"
