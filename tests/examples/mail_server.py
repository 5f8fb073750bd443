"""A mail server for tests in a process of its own: aiosmtpd with STARTTLS and one user, which shows what it gets.

python mail_server.py PORT CERT KEY
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import sys
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


class Mailbox:
    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.original_content or b""
        sys.stdout.write(f"{envelope.mail_from} {envelope.rcpt_tos} {bool(session.authenticated)} {content!r}\n")
        sys.stdout.flush()
        return "250 it is in good hands"


def authenticate(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
    known = isinstance(data, LoginPassword) and (data.login, data.password) == (b"me", b"secret")
    return AuthResult(success=known, handled=False)


async def serve(port: int, cert: str, key: str) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(Mailbox(), tls_context=context, authenticator=authenticate, hostname="mail.example"),
        "127.0.0.1",
        port,
    )
    await server.serve_forever()


logging.disable()
asyncio.run(serve(int(sys.argv[1]), *sys.argv[2:]))
