"""aiosmtpd: a whole SMTP dialogue in text, whose line ends are CR LF both ways."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemons import daemon

from landline import TextSocketStream, open_tcp_stream

pytestmark = pytest.mark.usefixtures("no_leaks")

HOST = "127.0.0.1"


@pytest.fixture
def mailbox(tmp_path: Path) -> Path:
    """The file where the server shows the mail that it got."""
    return tmp_path / "mail"


@pytest.fixture
def smtp(mailbox: Path) -> Iterator[int]:
    """The port of an aiosmtpd that shows what it gets."""

    def command(port: int) -> list[object]:
        show = ["-c", "aiosmtpd.handlers.Debugging", "stdout"]
        return [sys.executable, "-X", "utf8", "-u", "-m", "aiosmtpd", "-n", "-u", "-l", f"{HOST}:{port}", *show]

    with daemon(command, mailbox) as port:
        yield port


def reply(stream: TextSocketStream) -> tuple[int, list[str]]:
    """A reply of one or more lines: its code and texts."""
    texts = []
    while True:
        line = stream.readline()
        assert line.endswith("\r\n"), line
        texts.append(line[4:-2])
        if line[3] == " ":
            return int(line[:3]), texts
        assert line[3] == "-", line


def test_a_whole_dialogue(smtp: int, mailbox: Path) -> None:
    with open_tcp_stream(HOST, smtp, element_type=str, newline="\r\n", read_timeout=10) as mail:

        def say(line: str) -> tuple[int, list[str]]:
            mail.write(line + "\n")  # which newline="\r\n" sends as CR LF
            return reply(mail)

        assert reply(mail)[0] == 220
        code, texts = say("EHLO landline.example")
        assert (code, len(texts) > 1) == (250, True)
        assert "SMTPUTF8" in texts
        assert say("MAIL FROM:<me@landline.example> SMTPUTF8")[0] == 250
        assert say("RCPT TO:<you@landline.example>")[0] == 250
        assert say("DATA")[0] == 354
        lines = ["Subject: Grüße", "", "..a line that begins with a dot", "ein süßer Schluß"]
        mail.writelines(f"{line}\n" for line in lines)
        assert say(".")[0] == 250
        assert say("NONSENSE")[0] == 500
        code, _ = say("QUIT")
        assert code == 221
        assert mail.readline() == ""
    shown = mailbox.read_text("utf-8")
    assert "Subject: Grüße\n" in shown
    assert "\n.a line that begins with a dot\nein süßer Schluß\n" in shown


def test_commands_sent_ahead_are_answered_in_their_order(smtp: int) -> None:
    with open_tcp_stream(HOST, smtp, element_type=str, newline="\r\n", read_timeout=10) as mail:
        mail.writelines(["HELO landline.example\n", *["NOOP\n"] * 100, "QUIT\n"])
        assert [reply(mail)[0] for _ in range(103)] == [220, 250, *[250] * 100, 221]
