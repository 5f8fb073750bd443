"""Syslog over UDP: a sender of single messages, and a small receiver that prints what comes.

    python examples/syslog_udp.py receive --port 5514
    python examples/syslog_udp.py send localhost --port 5514 --severity warning "the disk is nearly full"

Shown: a connected UDP socket, which hears when nobody receives at the other end; a server for datagrams; a message
that is checked before it is believed. Nothing confirms a datagram: that none was refused is all that can be known.
Source: RFC 5424 (the messages), RFC 5426 (over UDP).
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import sys
from contextlib import suppress
from datetime import UTC, datetime

from landline import Datagram, ReadTimeout, open_udp_socket, start_up_udp_server

SEVERITIES = ["emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"]
USER = 1  # the facility: a program of somebody's

LARGEST = 2048  # bytes; RFC 5426 section 3.2: every receiver should take so many, and none must take more

MESSAGE = re.compile(
    rb"<(?P<priority>\d{1,3})>1 (?P<time>\S+) (?P<host>\S+) (?P<program>\S+) (?P<process>\S+) \S+ "
    rb'(?:-|(?:\[[^\]"]+(?:"(?:\\.|[^"\\])*"[^\]"]*)*\])+)'
    rb"(?: (?:\xef\xbb\xbf)?(?P<text>.*))?",
    re.DOTALL,
)


def message(severity: str, program: str, text: str) -> bytes:
    """Section 6, without structured data."""
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    priority = 8 * USER + SEVERITIES.index(severity)
    head = f"<{priority}>1 {time} {name(socket.gethostname(), 255)} {name(program, 48)} {os.getpid()} - - "
    return head.encode("ascii") + b"\xef\xbb\xbf" + text.encode("utf-8", "surrogateescape")


def name(text: str, longest: int) -> str:
    """What a field may hold: printable ASCII without spaces."""
    return re.sub(r"[^!-~]", "", text)[:longest] or "-"


def send(options: argparse.Namespace) -> None:
    data = message(options.severity, options.program, options.text)
    if len(data) > LARGEST:
        raise ValueError(f"the message has {len(data)} bytes, and receivers need not take more than {LARGEST}")
    with open_udp_socket(options.host, options.port, timeout=10, read_timeout=options.listen) as udp:
        udp.send(data)
        with suppress(ReadTimeout):  # silence is what we hope for
            udp.receive()


def receive(options: argparse.Namespace) -> None:
    where = options.host or "localhost"
    with start_up_udp_server(show, options.port, local_address=where) as server:
        print(f"receiving at {', '.join(map(str, server.addresses))}", flush=True)
        server.serve_forever()  # until Ctrl-C or SIGTERM


def show(datagram: Datagram) -> None:
    """The server's handler. Whatever comes is printed in one line, and nothing in it can steer a terminal."""
    sent = MESSAGE.fullmatch(datagram.data)
    if sent is None or int(sent["priority"]) > 191:
        print(f"{datagram.address.host} sends what is not RFC 5424: {datagram.data[:100]!r}", flush=True)
        return
    severity = SEVERITIES[int(sent["priority"]) % 8]
    host, program, text = (printable(sent[field]) for field in ("host", "program", "text"))
    print(f"{datagram.address.host} {severity}: {host} {program}: {text}", flush=True)


def printable(data: bytes | None) -> str:
    text = (data or b"").decode("utf-8", "replace")
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def main() -> None:
    parser = argparse.ArgumentParser(description="Send and receive syslog messages over UDP.")
    actions = parser.add_subparsers(required=True)
    sender = actions.add_parser("send", help="send one message")
    sender.set_defaults(do=send)
    sender.add_argument("host")
    sender.add_argument("text")
    sender.add_argument("--severity", choices=SEVERITIES, default="notice")
    sender.add_argument("--program", default="landline")
    sender.add_argument("--listen", type=float, default=0.2, metavar="S", help="for a refusal (default: 0.2 s)")
    receiver = actions.add_parser("receive", help="print what comes, until Ctrl-C")
    receiver.set_defaults(do=receive)
    receiver.add_argument("host", nargs="?", help="the address to receive at (default: localhost)")
    for each in (sender, receiver):
        each.add_argument("--port", default="514")
    options = parser.parse_args()
    options.do(options)


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(str(error))
