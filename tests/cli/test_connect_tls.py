"""`landline connect` with the options about TLS, over Unix sockets, with PROXY headers and datagrams: as a process."""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from command import PATIENCE, Terminal, dead_port, failure, peer, received_whole, run
from tls_support import authority, certificate

from landline import SocketStream, start_up_server, start_up_unix_server

HOST = "127.0.0.1"

pytestmark = [
    pytest.mark.usefixtures("no_leaks"),
    pytest.mark.skipif(sys.platform != "linux", reason="terminals and Unix sockets as Linux has them"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the authority (ca.pem), and a client's certificate and key in one file and in two."""
    made = tmp_path_factory.mktemp("tls")
    authority().cert_pem.write_to_path(str(made / "ca.pem"))
    client = authority().issue_cert("client.example")
    client.private_key_and_cert_chain_pem.write_to_path(str(made / "client.pem"))
    client.private_key_pem.write_to_path(str(made / "key.pem"))
    client.cert_chain_pems[0].write_to_path(str(made / "cert.pem"))
    return made


def context(leaf: trustme.LeafCert, *, client: bool = False) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(made)
    made.set_alpn_protocols(["h2", "http/1.1"])
    if client:
        authority().configure_trust(made)
        made.verify_mode = ssl.CERT_REQUIRED
    return made


@contextlib.contextmanager
def tls_server(ssl_ctx: ssl.SSLContext) -> Iterator[tuple[int, list[str | None]]]:
    """Answers in capitals; gives its port, and the names that clients have asked for."""
    names: list[str | None] = []
    ssl_ctx.sni_callback = lambda _, name, context: names.append(name)

    def shout(stream: SocketStream) -> None:
        stream.write(stream.read().upper())

    with start_up_server(shout, ssl_ctx=ssl_ctx) as server:
        yield server.port, names


def test_tls_with_its_facts_in_the_report(folder: Path) -> None:
    with tls_server(context(certificate(HOST))) as (port, _):
        arguments = ["connect", HOST, port, "--tls", "--ca", folder / "ca.pem", "--alpn", "foo,http/1.1", "--report"]
        done = run(*arguments, stdin=b"hello")
    assert (done.returncode, done.stdout) == (0, b"HELLO")
    *report, facts = done.stderr.decode().splitlines()
    assert report[-1].endswith("TLS handshake: TLSv1.3")
    assert facts.startswith("TLSv1.3, TLS_AES_256_GCM_SHA384, http/1.1; verified: '127.0.0.1', by 'trustme ")


def test_without_a_terminal_nothing_is_told(folder: Path) -> None:
    with tls_server(context(certificate(HOST))) as (port, _):
        done = run("connect", HOST, port, "--tls", "--ca", folder / "ca.pem", stdin=b"hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"HELLO", b"")


def test_at_a_terminal_the_head_line_tells_what_was_agreed_upon(folder: Path) -> None:
    words = "--tls", "--ca", folder / "ca.pem"
    with tls_server(context(certificate(HOST))) as (port, _), Terminal("connect", HOST, port, *words) as terminal:
        terminal.wait_for(b"TLSv1.3, TLS_AES_256_GCM_SHA384; verified: '127.0.0.1'")
        terminal.type(b"hello\n\x04")
        assert terminal.wait() == 0
    assert terminal.shown.endswith(b"hello\r\nHELLO\r\n")


def test_a_stranger_is_refused_and_the_remedy_is_an_option() -> None:
    with tls_server(context(certificate(HOST))) as (port, _):
        told = failure(run("connect", HOST, port, "--tls"))
    assert told.startswith("the certificate shown for '127.0.0.1' was refused: ")
    assert "--ca" in told
    assert "openssl_trusted_file" not in told


def test_no_verify_warns_loudly() -> None:
    with tls_server(context(certificate("other.example"))) as (port, _):
        done = run("connect", HOST, port, "--tls", "--no-verify", stdin=b"hello")
        assert (done.returncode, done.stdout) == (0, b"HELLO")
        assert done.stderr.startswith(b"landline: WARNING: --no-verify: nobody knows who is at the other end.")
        for extra, begin in ({"NO_COLOR": "1"}, b"landline: WARNING"), ({}, b"\x1b[1;31mlandline: WARNING"):
            with Terminal("connect", HOST, port, "--tls", "--no-verify", **extra) as terminal:
                terminal.wait_for(b"NOT VERIFIED: 'other.example'")
                assert terminal.shown.startswith(begin)


def test_sni_is_sent_and_the_certificate_must_be_for_the_host_all_the_same(folder: Path) -> None:
    with tls_server(context(certificate("localhost"))) as (port, names):
        for sni in ["other.example"], [""], []:
            words = ["--sni", *sni] if sni else []
            assert run("connect", "localhost", port, "--tls", "--ca", folder / "ca.pem", *words).returncode == 0
    assert names == ["other.example", None, "localhost"]
    with tls_server(context(certificate("other.example"))) as (port, names):
        told = failure(run("connect", "localhost", port, "--tls", "--ca", folder / "ca.pem", "--sni", "other.example"))
    assert "it is not for 'localhost'" in told


def test_a_client_certificate_from_one_file_or_two(folder: Path) -> None:
    with tls_server(context(certificate(HOST), client=True)) as (port, _):
        for words in ["--cert", folder / "client.pem"], ["--cert", folder / "cert.pem", "--key", folder / "key.pem"]:
            assert run("connect", HOST, port, "--tls", "--ca", folder / "ca.pem", *words, stdin=b"a").stdout == b"A"
        assert run("connect", HOST, port, "--tls", "--ca", folder / "ca.pem").returncode == 1


def test_a_server_that_does_not_speak_tls_is_told() -> None:
    def greet(connection: socket.socket) -> None:
        connection.sendall(b"220 ready\r\n")
        with contextlib.suppress(ConnectionResetError):
            received_whole(connection)

    with peer(greet) as port:
        assert "TLS" in failure(run("connect", HOST, port, "--tls"))


def test_starttls_ends_in_tls_or_in_an_error_but_never_in_the_clear(folder: Path) -> None:
    """Whatever the server says, no byte of the input is sent without TLS."""
    got = b""

    def refuse(connection: socket.socket) -> None:
        nonlocal got
        connection.sendall(b"+OK ready\r\n")
        got = connection.recv(100)
        connection.sendall(b"-ERR no\r\n")
        with contextlib.suppress(ConnectionResetError):
            got += received_whole(connection)

    with peer(refuse) as port:
        told = failure(run("connect", HOST, port, "--starttls", "pop3", stdin=b"USER me\r\n"))
    assert told.endswith("gave no consent to STLS; it said '-ERR no'")
    assert got == b"STLS\r\n"


# ---- other ways to connect ---------------------------------------------------------------------------


def test_a_unix_domain_socket_in_the_clear_and_with_tls(tmp_path: Path, folder: Path) -> None:
    def shout(stream: SocketStream) -> None:
        stream.write(stream.read().upper())

    path = tmp_path / "s"
    told = failure(run("connect", "--unix", path))
    assert told == f"could not connect to {path}: No such file or directory"
    with start_up_unix_server(shout, path):
        assert run("connect", "--unix", path, stdin=b"ping").stdout == b"PING"
    words = ["--tls", "--sni", "localhost", "--ca", folder / "ca.pem"]
    with start_up_unix_server(shout, path, ssl_ctx=context(certificate("localhost"))):
        assert run("connect", "--unix", path, *words, stdin=b"ping").stdout == b"PING"
    with start_up_unix_server(shout, path, ssl_ctx=context(certificate("other.example"))):
        assert "it is not for 'localhost'" in failure(run("connect", "--unix", path, *words))


def test_a_proxy_header_comes_first() -> None:
    got = b""

    def listen(connection: socket.socket) -> None:
        nonlocal got
        got = received_whole(connection)

    with peer(listen) as port:
        run("connect", HOST, port, "--proxy-protocol", "v1", stdin=b"hello")
    head, _, rest = got.partition(b"\r\n")
    assert head.startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 ")
    assert head.endswith(b" %d" % port)
    assert rest == b"hello"


def test_crlf_ends_lines_as_text_protocols_do() -> None:
    got = b""

    def listen(connection: socket.socket) -> None:
        nonlocal got
        got = received_whole(connection)

    with peer(listen) as port:
        run("connect", HOST, port, "--crlf", stdin=b"\none\r\ntwo\n\rthree\r")
    assert got == b"\r\none\r\ntwo\r\n\rthree\r"


def test_the_hexadecimal_dump_fits_80_columns_and_shows_both_directions() -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(received_whole(connection)[::-1])

    with peer(answer) as port:
        done = run("connect", HOST, port, "--hex", stdin=bytes(range(60, 80)))
    assert done.stdout.decode().splitlines() == [
        "> 000000  3c 3d 3e 3f 40 41 42 43  44 45 46 47 48 49 4a 4b  |<=>?@ABCDEFGHIJK|",
        "> 000010  4c 4d 4e 4f                                       |LMNO|",
        "< 000000  4f 4e 4d 4c 4b 4a 49 48  47 46 45 44 43 42 41 40  |ONMLKJIHGFEDCBA@|",
        "< 000010  3f 3e 3d 3c                                       |?>=<|",
    ]
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_datagrams_go_and_come_and_the_end_of_the_input_is_waited_for() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind((HOST, 0))
        udp.settimeout(PATIENCE)

        def answer() -> None:
            data, client = udp.recvfrom(100)
            for part in data, b"", b" and more":
                udp.sendto(part, client)

        thread = threading.Thread(target=answer)
        thread.start()
        done = run("connect", HOST, udp.getsockname()[1], "--udp", "--read-timeout", "0.4", stdin=b"hello")
        thread.join()
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello and more", b"")


def test_a_datagram_that_nobody_receives_is_told() -> None:
    with dead_port() as port:
        assert "refused" in failure(run("connect", HOST, port, "--udp", stdin=b"hello"))


# ---- wrong usage -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--tls --starttls smtp h 1", "--tls and --starttls exclude each other."),
        ("--alpn h2 h 1", "--alpn needs --tls or --starttls."),
        ("--no-verify h 1", "--no-verify needs --tls or --starttls."),
        ("--tls --ca f --no-verify h 1", "--ca and --no-verify exclude each other."),
        ("--tls --key f h 1", "--key needs --cert."),
        ("--starttls gopher h 1", "'gopher' is not one of smtp, imap, "),
        ("--proxy-protocol v3 h 1", "'v3' is neither v1 nor v2."),
        ("--unix p h", "--unix and HOST exclude each other."),
        ("--unix p --tls", "TLS over --unix needs --sni NAME"),
        ("--udp --tls h 1", "--udp and --tls exclude each other."),
        ("--send-file f --crlf h 1", "--send-file and --crlf exclude each other."),
        ("--offset 1 h 1", "--offset needs --send-file."),
        ("--send-file f --offset -1 h 1", "a number of bytes is 0 or more."),
        ("--resume h 1", "--resume needs --receive-file."),
        ("", "missing; or --unix"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(
    words: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from landline.cli.app import app

    with pytest.raises(SystemExit) as ended:
        app(["connect", *words.split()], prog_name="landline")
    assert ended.value.code == 2
    assert told in " ".join(capsys.readouterr().err.split())
