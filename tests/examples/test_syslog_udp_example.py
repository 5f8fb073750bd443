"""examples/syslog_udp.py: against `logger` of util-linux, plain sockets, and itself."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from conftest import need
from example_programs import (
    HOST,
    PATIENCE,
    failure,
    interrupt,
    port_told_by,
    read_until,
    run,
    started,
    taken_udp_port,
)

pytestmark = pytest.mark.usefixtures("no_leaks")

TEXT = "ein Text mit Umlauten: äöü"


@contextlib.contextmanager
def receiving() -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    with started("syslog_udp", "receive", "--port", "0") as receiver:
        yield receiver, port_told_by(receiver)


def line(receiver: subprocess.Popen[bytes]) -> str:
    """The next line that it prints."""
    assert receiver.stdout is not None
    told = read_until(receiver.stdout.fileno(), b"\n").decode()
    assert told.count("\n") == 1
    return told[:-1]


def test_a_message_is_one_of_rfc_5424() -> None:
    """Section 6: its priority, version, time, host, program and process; then the text behind a BOM."""
    with taken_udp_port() as (port, sock):
        done = run("syslog_udp", "send", HOST, TEXT, "--port", port, "--severity", "error", "--program", "my program")
        data = sock.recv(65536)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    head, mark, text = data.partition(b" - - \xef\xbb\xbf")
    assert (mark, text.decode()) == (b" - - \xef\xbb\xbf", TEXT)
    found = re.fullmatch(rb"<11>1 (\S+) (\S{1,255}) myprogram [0-9]{1,128}", head)
    assert found, head
    assert abs(datetime.fromisoformat(found[1].decode()) - datetime.now(UTC)) < timedelta(seconds=PATIENCE)


def test_what_it_sends_it_receives() -> None:
    with receiving() as (receiver, port):
        assert run("syslog_udp", "send", HOST, TEXT, "--port", port, "--severity", "alert").returncode == 0
        told = line(receiver)
    assert told.startswith(f"{HOST} alert: ")
    assert told.endswith(f" landline: {TEXT}")


@pytest.mark.parametrize("structured", [[], ["--sd-id=zoo@1", '--sd-param=tiger="very hungry"']])
def test_it_receives_what_logger_sends(structured: list[str]) -> None:
    words = [need("logger"), "--udp", "--server", HOST, "--rfc5424", "-p", "user.warning", "-t", "test", *structured]
    with receiving() as (receiver, port):
        subprocess.run([*words, "--port", str(port), "the disk is nearly full"], timeout=PATIENCE, check=True)
        assert re.fullmatch(rf"{HOST} warning: \S+ test: the disk is nearly full", line(receiver))


COMES = [
    (b"", "sends what is not RFC 5424: b''"),
    (b"<13>Oct 11 22:14:15 host su: an old one", "sends what is not RFC 5424: b'<13>Oct"),
    (b"<192>1 - - - - - -", "sends what is not RFC 5424: b'<192>"),
    (b"<0>1 - - - - - -", "emergency: - -: "),
    (rb'<8>1 - h p - - [a x="\"]\\" y=""][b] text]', "emergency: h p: text]"),
    (b"<15>1 - h p - - - \x1b[2J\nnext line\xff", "debug: h p: \ufffd[2J\ufffdnext line\ufffd"),
]


def test_whatever_comes_is_one_line_that_steers_no_terminal() -> None:
    with receiving() as (receiver, port), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for data, told in COMES:
            sock.sendto(data, (HOST, port))
            assert told in line(receiver)


def test_nobody_there_is_told_in_a_sentence() -> None:
    with taken_udp_port() as (port, sock):
        sock.close()
        told = failure(run("syslog_udp", "send", HOST, TEXT, "--port", port, "--listen", PATIENCE))
    assert told == f"{HOST}:{port} refused a datagram: nobody receives there"


def test_a_message_that_is_too_long_is_told_in_a_sentence() -> None:
    with taken_udp_port() as (port, _):
        assert "receivers need not take more than 2048" in failure(
            run("syslog_udp", "send", HOST, "x" * 2048, "--port", port)
        )


def test_ctrl_c_ends_the_receiver() -> None:
    with receiving() as (receiver, _):
        assert interrupt(receiver) == (0, "")


def test_a_port_that_is_taken_is_told_in_a_sentence() -> None:
    with taken_udp_port() as (port, _):
        assert "Address already in use" in failure(run("syslog_udp", "receive", "--port", port))
