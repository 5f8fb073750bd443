"""`landline connect --starttls` against real servers: aiosmtpd, Dovecot (IMAP and POP3) and PostgreSQL.

What is sent after the upgrade is the protocol's own, so that the server's answer proves that it was the peer of it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import PATIENCE, failure, run, started
from conftest import lacking, need
from daemons import daemon, free_port
from tls_support import authority, certificate

HOST = "127.0.0.1"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers as Debian has them")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that servers which give up root can still read, with a key, its certificate and who signed it."""
    with tempfile.TemporaryDirectory(prefix="landline-") as name:
        made = Path(name)
        made.chmod(0o755)
        leaf = certificate(HOST)
        leaf.private_key_pem.write_to_path(str(made / "key.pem"))
        (made / "chain.pem").write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        authority().cert_pem.write_to_path(str(made / "ca.pem"))
        yield made


def upgraded(protocol: str, port: int, folder: Path, words: bytes) -> bytes:
    """What the server answers to these words, which bid it goodbye, after TLS has begun.

    The input stays open: asyncio, and so aiosmtpd, takes a half close for hanging up.
    """
    arguments = ["connect", HOST, port, "--starttls", protocol, "--ca", folder / "ca.pem", "--report"]
    with started(*arguments, "--read-timeout", "20") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(words)
        said = process.stdout.read()
        told = process.stderr.read().decode()
        assert process.wait(PATIENCE) == 0, told
    assert "; verified: '127.0.0.1', by " in told
    return said


def test_smtp_of_aiosmtpd(folder: Path, tmp_path: Path) -> None:
    def command(port: int) -> list[object]:
        server = [sys.executable, "-W", "ignore", "-X", "utf8", "-u", "-m", "aiosmtpd", "-n", "-u", "-l"]
        return [*server, f"{HOST}:{port}", "--tlscert", folder / "chain.pem", "--tlskey", folder / "key.pem"]

    with daemon(command, tmp_path / "log") as port:
        said = upgraded("smtp", port, folder, b"EHLO me.example\r\nMAIL FROM:<me@example.org>\r\nQUIT\r\n")
    assert b"\r\n250 OK\r\n" in said
    assert b"STARTTLS" not in said
    assert said.endswith(b"221 Bye\r\n")


@pytest.fixture
def dovecot(folder: Path, tmp_path: Path) -> Iterator[dict[str, int]]:
    """The ports of IMAP and POP3."""
    program = need("dovecot")
    if os.geteuid() != 0:
        lacking("Dovecot's login processes need root")
    base = folder / "dovecot"
    base.mkdir(exist_ok=True)
    ports: dict[str, int] = {}

    def command(port: int) -> list[object]:
        ports.update(imap=port, pop3=free_port())
        settings = f"""
protocols = imap pop3
base_dir = {base}
state_dir = {base}
listen = {HOST}
log_path = /dev/stderr
ssl = required
ssl_cert = <{folder}/chain.pem
ssl_key = <{folder}/key.pem
mail_location = maildir:{base}/mail
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = static
  args = uid=mail gid=mail home={base}/home
}}
service imap-login {{
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {ports["pop3"]}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
"""
        file = folder / "settings.conf"  # in base_dir Dovecot makes a link of its own
        file.write_text(settings, "utf-8")
        return [program, "-F", "-c", file]

    with daemon(command, tmp_path / "log"):
        yield ports


def test_imap_and_pop3_of_dovecot(dovecot: dict[str, int], folder: Path) -> None:
    said = upgraded("imap", dovecot["imap"], folder, b"a CAPABILITY\r\nb LOGOUT\r\n")
    assert b"\r\na OK" in said
    assert b"STARTTLS" not in said
    assert b"LOGINDISABLED" not in said
    said = upgraded("pop3", dovecot["pop3"], folder, b"CAPA\r\nQUIT\r\n")
    assert said.startswith(b"+OK")
    assert b"STLS" not in said
    assert b"SASL PLAIN" in said


@pytest.fixture
def postgres(folder: Path, tmp_path: Path) -> Iterator[int]:
    need("pg_ctlcluster")
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
    base = folder / "postgres"
    user = pwd.getpwuid(os.geteuid())
    as_user: list[str] = []
    if user.pw_uid == 0:  # which PostgreSQL refuses
        user = pwd.getpwnam("postgres")
        as_user = [need("setpriv"), f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]
    base.mkdir()
    key = base / "key.pem"
    shutil.copy(folder / "key.pem", key)
    key.chmod(0o600)
    for made in base, key:
        os.chown(made, user.pw_uid, user.pw_gid)
    data = base / "data"
    subprocess.run(
        [*as_user, programs / "initdb", "-D", data, "-A", "trust", "-U", "landline", "--no-sync", "--locale=C"],
        check=True,
        capture_output=True,
    )
    settings = {
        "ssl": "on",
        "ssl_cert_file": folder / "chain.pem",
        "ssl_key_file": key,
        "listen_addresses": HOST,
        "unix_socket_directories": "",
        "fsync": "off",
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    with daemon(
        lambda port: [*as_user, programs / "postgres", "-D", data, "-p", port, *options], tmp_path / "log"
    ) as port:
        yield port


def test_postgresql(postgres: int, folder: Path) -> None:
    """StartupMessage, a question, Terminate (PostgreSQL's manual, 55.7)."""
    who = b"user\0landline\0database\0postgres\0\0"
    startup = struct.pack("!II", 8 + len(who), 196608) + who
    question = b"SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()\0"
    ask = b"Q" + struct.pack("!I", 4 + len(question)) + question
    said = upgraded("postgres", postgres, folder, startup + ask + b"X\0\0\0\4")
    assert b"TLSv1.3" in said
    assert b"SELECT 1" in said


def test_another_protocol_is_told_by_what_the_server_said(folder: Path, tmp_path: Path) -> None:
    def command(port: int) -> list[object]:
        return [sys.executable, "-W", "ignore", "-u", "-m", "aiosmtpd", "-n", "-u", "-l", f"{HOST}:{port}"]

    with daemon(command, tmp_path / "log") as port:
        told = failure(run("connect", HOST, port, "--starttls", "imap"))
        assert "gave no IMAP greeting; it said '220 " in told
        told = failure(run("connect", HOST, port, "--starttls", "smtp"))
        assert "does not offer STARTTLS; it offers '8BITMIME, SMTPUTF8, HELP'" in told
