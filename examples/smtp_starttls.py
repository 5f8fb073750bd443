"""Hand a mail over to a mail server by SMTP, encrypted from STARTTLS on.

    python examples/smtp_starttls.py mail.example.org me@example.org you@example.org < message.eml
    SMTP_USER=me SMTP_PASSWORD=secret python examples/smtp_starttls.py ...

Shown: start_tls() on a stream that has been used in the clear. Whatever somebody in between has sent ahead for the
time after it is refused, the server's certificate must be for the host that was asked for, and what the server said
before is forgotten. Source: RFC 3207, RFC 5321, RFC 4954 and 4616 (AUTH PLAIN).
"""

from __future__ import annotations

import argparse
import os
import sys
from base64 import b64encode
from collections.abc import Iterable
from contextlib import suppress

from landline import SocketStream, create_ssl_client_context, open_tcp_stream

MOST_LINES = 200  # of one reply


class Refused(Exception):
    """The server has answered with a code from 400 on."""


def reply(mail: SocketStream, to: str) -> list[str]:
    """The texts of the next reply, which has one or more lines; only the last has no "-" after its code."""
    texts = []
    for _ in range(MOST_LINES):
        line = mail.readline().decode("utf-8", "replace")
        if not line.endswith("\n"):
            raise EOFError(f"{mail.peer_address} has ended the connection instead of an answer to {to}")
        if not line[:3].isdigit() or line[3:4] not in ("-", " ", "\r", "\n"):
            raise Refused(f"{mail.peer_address} does not speak SMTP: {line[:80]!r}")
        texts.append(line[4:].rstrip())
        if line[3:4] != "-":
            if line[0] not in "23":
                raise Refused(f"{mail.peer_address} answers {to} with {line[:3]}: {' '.join(texts)}")
            return texts
    raise Refused(f"{mail.peer_address} answers {to} with more than {MOST_LINES} lines")


def say(mail: SocketStream, command: str, *, shown: str | None = None) -> list[str]:
    mail.write(command.encode() + b"\r\n")
    return reply(mail, shown or command)


def offers(mail: SocketStream) -> dict[str, str]:
    """What the server can, by name; to be asked again after STARTTLS."""
    host = mail.local_address.host if mail.local_address else "127.0.0.1"
    _, *lines = say(mail, f"EHLO [IPv6:{host}]" if ":" in host else f"EHLO [{host}]")
    return {name.upper(): rest for name, _, rest in (line.partition(" ") for line in lines)}


def body(lines: Iterable[bytes]) -> Iterable[bytes]:
    """Each line with CR LF, and one more dot where it begins with one: a dot alone is the end (section 4.5.2)."""
    for line in lines:
        line = line.rstrip(b"\r\n") + b"\r\n"
        yield b"." + line if line.startswith(b".") else line
    yield b".\r\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Send the mail on standard input by SMTP with STARTTLS.")
    parser.add_argument("host")
    parser.add_argument("sender")
    parser.add_argument("recipient", nargs="+")
    parser.add_argument("--port", default=587)
    parser.add_argument("--ca", metavar="FILE", help="trust these authorities (PEM) instead of the system's")
    parser.add_argument("--timeout", type=float, default=30, metavar="S")
    options = parser.parse_args()
    limit = options.timeout
    trust = create_ssl_client_context(openssl_trusted_file=options.ca)
    with open_tcp_stream(options.host, options.port, timeout=limit, read_timeout=limit, write_timeout=limit) as mail:
        reply(mail, "the connection")
        if "STARTTLS" not in offers(mail):
            raise Refused(f"{mail.peer_address} does not offer STARTTLS, and nothing is sent in the clear")
        say(mail, "STARTTLS")
        mail.start_tls(trust)
        if mail.tls:
            print(f"{options.host}: {mail.tls.version}, {mail.tls.cipher}")
        offered = offers(mail)
        if user := os.environ.get("SMTP_USER"):
            secret = b64encode(f"\0{user}\0{os.environ.get('SMTP_PASSWORD', '')}".encode()).decode()
            say(mail, f"AUTH PLAIN {secret}", shown="AUTH PLAIN")
        say(mail, f"MAIL FROM:<{options.sender}>" + (" BODY=8BITMIME" if "8BITMIME" in offered else ""))
        for recipient in options.recipient:
            say(mail, f"RCPT TO:<{recipient}>")
        say(mail, "DATA")
        mail.writelines(body(sys.stdin.buffer))
        print(*reply(mail, "the mail"))
        with suppress(OSError, EOFError, Refused):  # the mail is the server's from here on, whatever happens
            say(mail, "QUIT")


if __name__ == "__main__":
    try:
        main()
    except (OSError, EOFError, Refused) as error:
        sys.exit(str(error))
