"""The code that ``landline demo`` shows, line by line as it runs.

Written as a reader would write it, with nothing of the demonstration in it; the servers are in demo.py.
"""

from __future__ import annotations

import time
from textwrap import fill

from .. import ReadTimeout, SslVerificationFailure, create_ssl_client_context, open_tcp_stream

__all__ = ["fetch", "meet_nobody", "race", "read_on", "trust"]


def fetch(port: int) -> None:
    with open_tcp_stream("localhost", port, element_type=str) as http:
        http.write("GET / HTTP/1.0\r\n\r\n")
        http.flush()
        print("Waiting to reply...", end="", flush=True)
        while (character := http.read_no_hang(1)) is None:
            print(".", end="", flush=True)
            time.sleep(0.25)
        http.unread(character)
        print()
        for line in http:
            print(line, end="")
        print(http.report)


def read_on(port: int) -> None:
    with open_tcp_stream("localhost", port, read_timeout=0.5) as stream:
        try:
            stream.readline()
        except ReadTimeout as timeout:
            print(fill(f"ReadTimeout: {timeout}"))
            print(f"{stream.bytes_received} bytes have come, and are kept")
        stream.write(b"go on\n")
        print(stream.readline())


def race(port: int) -> None:
    with open_tcp_stream("two-addresses.example", port) as stream:
        print(stream.readline().decode(), end="")
        print(stream.report)


def trust(port: int, ca_file: str) -> None:
    try:
        open_tcp_stream("localhost", port, ssl_ctx=True)
    except SslVerificationFailure as refusal:
        print(fill(f"SslVerificationFailure: {refusal}"))
    ctx = create_ssl_client_context(openssl_trusted_file=ca_file)
    with open_tcp_stream("localhost", port, ssl_ctx=ctx) as stream:
        print(stream.readline().decode(), end="")
        print(fill(str(stream.tls)))


def meet_nobody(port: int) -> None:
    _stream, condition = open_tcp_stream("localhost", port, errorp=False)
    if condition is not None:
        refused = isinstance(condition, ConnectionRefusedError)
        print(fill(f"SocketConnectError: {condition}"))
        print("Also a ConnectionRefusedError:", refused)
        print(condition.report)
