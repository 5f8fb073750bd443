"""nginx with TLS as the server of our client, and curl as the client of our server.

nginx tells in its answers what it knows of a connection: its version, name, protocol, whether the session was
resumed, and what it thinks of our certificate.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import (
    Identity,
    matrix,  # noqa: F401 - the fixture `certificates`
)
from conftest import need
from daemons import daemon, free_port
from tls_daemons import (
    ADDRESS,
    BIG,
    BOTH_VERSIONS,
    HOST,
    Parties,
    digits,
    opened,
    parties_fixture,  # noqa: F401 - the fixture `parties`
    waiting,
)

from landline import (
    SocketStream,
    SslError,
    SslFailure,
    SslVersionOrCipherMismatch,
    start_up_server,
)
from landline.errors import SslVerificationFailure
from landline.testing.contract.stage import PATIENCE, expect, until

pytestmark = pytest.mark.usefixtures("no_leaks", "quick_leak_checks")

CONTENT = digits(BIG, seed=4)

CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        listen 127.0.0.1:{plain};
        root {folder}/site;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols TLSv{version};
        ssl_session_cache shared:sessions:1m;
        ssl_client_certificate {trusted};
        ssl_verify_client optional;
        ssl_verify_depth 3;
        location /facts {{
            return 200 "$ssl_protocol,$ssl_server_name,$ssl_alpn_protocol,$ssl_session_reused,$ssl_client_verify";
        }}
        location /members {{
            if ($ssl_client_verify != SUCCESS) {{ return 403; }}
            return 200 "$ssl_client_s_dn";
        }}
    }}
}}
"""


class Nginx:
    """Where it listens: with TLS at `port`, in the clear at `plain`."""

    def __init__(self, port: int, plain: int) -> None:
        self.port = port
        self.plain = plain


@pytest.fixture
def nginx(version: str, parties: Parties, tmp_path: Path) -> Iterator[Nginx]:
    """It speaks `version`, and serves a big file."""
    program = need("nginx")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "big").write_bytes(CONTENT)
    configuration = tmp_path / "nginx.conf"
    plain = 0

    def command(port: int) -> list[object]:
        nonlocal plain
        plain = free_port()
        words = CONFIGURATION.format(
            folder=tmp_path,
            port=port,
            plain=plain,
            version=version,
            certificate=parties.server.cert_file,
            key=parties.server.key_file,
            trusted=parties.trusted_file,
        )
        configuration.write_text(words, "utf-8")
        return [program, "-e", "stderr", "-p", tmp_path, "-c", configuration]

    with daemon(command, tmp_path / "nginx.log") as port:
        yield Nginx(port, plain)


def get(stream: SocketStream, path: str, host: str = HOST) -> tuple[int, bytes]:
    """Status and body of the answer to one request over a connection that is kept."""
    stream.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("ascii"))
    head = stream.read_until(b"\r\n\r\n")
    return int(head.split()[1]), stream.read_exactly(int(fields_of(head)[b"content-length"]))


def fields_of(head: bytes) -> dict[bytes, bytes]:
    lines = (line.partition(b":") for line in head.split(b"\r\n")[1:-2])
    return {name.lower(): value.strip() for name, _, value in lines}


def facts(stream: SocketStream) -> list[str]:
    """What nginx knows: version, name, protocol, "r" when resumed, the verdict on our certificate."""
    status, body = get(stream, "/facts")
    assert status == 200
    return body.decode().split(",")


# ---- our client, nginx's server ------------------------------------------------------------------


@pytest.mark.peer("nginx")
@BOTH_VERSIONS
def test_nginx_and_our_client_agree(version: str, nginx: Nginx, parties: Parties) -> None:
    with opened(nginx.port, parties.client_context(alpn=["http/1.1"])) as stream:
        assert facts(stream) == [f"TLSv{version}", HOST, "http/1.1", ".", "NONE"]
        assert stream.tls is not None
        assert (stream.tls.version, stream.tls.alpn) == (f"TLSv{version}", "http/1.1")
        assert stream.tls.chain[:2] == parties.server.chain_der
    with opened(nginx.port, parties.client_context(), ADDRESS) as stream:
        assert facts(stream) == [f"TLSv{version}", "", "", ".", "NONE"]
        assert stream.tls is not None
        assert stream.tls.alpn is None
    with expect(SslFailure) as caught:
        opened(nginx.port, parties.client_context(alpn=["spdy/3"]))
    assert "none of the protocols that were offered" in str(caught.error)


@pytest.mark.peer("nginx")
@BOTH_VERSIONS
def test_sessions_are_resumed_and_nginx_says_so_too(version: str, nginx: Nginx, parties: Parties) -> None:
    context = parties.client_context(parties.ann)
    for resumed in (False, True, True):
        with opened(nginx.port, context) as stream:
            assert facts(stream)[3:] == ["r" if resumed else ".", "SUCCESS"]
            assert stream.tls is not None
            assert stream.tls.session_reused is resumed
    with opened(nginx.port, context, ADDRESS) as stream:  # another name to check: never the same session
        assert facts(stream)[3:] == [".", "SUCCESS"]
    context.reset()
    with opened(nginx.port, context) as stream:
        assert facts(stream)[3:] == [".", "SUCCESS"]


@pytest.mark.peer("nginx")
@BOTH_VERSIONS
def test_client_certificates_at_nginx(version: str, nginx: Nginx, parties: Parties) -> None:
    """nginx shakes hands with anybody, and refuses in HTTP."""
    with opened(nginx.port, parties.client_context(parties.ann)) as stream:
        assert get(stream, "/members") == (200, b"CN=Ann")
    with opened(nginx.port, parties.client_context()) as stream:
        assert get(stream, "/members")[0] == 403
    with opened(nginx.port, parties.client_context(parties.eve)) as stream:
        status, body = get(stream, "/members")
        assert status == 400
        assert b"The SSL certificate error" in body


@pytest.mark.peer("nginx")
@BOTH_VERSIONS
def test_a_big_file_twice_and_small_answers_between(version: str, nginx: Nginx, parties: Parties) -> None:
    with opened(nginx.port, parties.client_context()) as stream:
        for _ in range(2):
            assert get(stream, "/big") == (200, CONTENT)
            assert facts(stream)[0] == f"TLSv{version}"


@pytest.mark.peer("nginx")
@BOTH_VERSIONS
def test_an_answer_of_nginx_ends_with_its_close_notify(version: str, nginx: Nginx, parties: Parties) -> None:
    with opened(nginx.port, parties.client_context()) as stream:
        stream.write(b"GET /big HTTP/1.0\r\n\r\n")
        assert stream.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        assert stream.read() == CONTENT


@pytest.mark.peer("nginx")
@pytest.mark.parametrize("version", ["1.2"])
def test_a_version_that_nginx_does_not_speak(nginx: Nginx, parties: Parties) -> None:
    with expect(SslVersionOrCipherMismatch):
        opened(nginx.port, "tls-v1-3")
    with expect(SslVerificationFailure):  # nobody has told this one of our authority
        opened(nginx.port, True)


@pytest.mark.peer("nginx")
@pytest.mark.parametrize("version", ["1.3"])
def test_a_port_that_speaks_plain_http(nginx: Nginx, parties: Parties) -> None:
    with expect(SslFailure) as caught:
        opened(nginx.plain, parties.client_context())
    assert "speaks plain HTTP, not TLS" in str(caught.error)
    assert "400 Bad Request" in str(caught.error)


# ---- curl's client, our server -------------------------------------------------------------------


def curl(parties: Parties, port: int, *options: object) -> subprocess.CompletedProcess[bytes]:
    """curl, asking our server for /."""
    trust = ("--cacert", parties.trusted_file, "--noproxy", "*", "--resolve", f"{HOST}:{port}:{ADDRESS}")
    words = [need("curl"), "-sS", "-q", *trust, *options, f"https://{HOST}:{port}/"]
    return subprocess.run([*map(str, words)], capture_output=True, check=False, timeout=PATIENCE)


def of_version(version: str) -> tuple[str, ...]:
    return (f"--tlsv{version}", "--tls-max", version)


def answering(seen: list[Any], body: Callable[[bytes], bytes] = lambda data: data) -> Callable[[SocketStream], None]:
    """A handler for one request: its answer is ``body`` of what was uploaded."""

    def handle(stream: SocketStream) -> None:
        head = stream.read_until(b"\r\n\r\n")
        fields = {
            name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in head.split(b"\r\n"))
        }
        if b"expect" in fields:
            stream.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        uploaded = stream.read_exactly(int(fields.get(b"content-length", b"0")))
        seen.append(stream.tls)
        answer = body(uploaded)
        stream.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(answer))
        stream.write(answer)

    return handle


@pytest.mark.peer("curl")
@BOTH_VERSIONS
def test_curl_fetches_and_uploads_a_big_file(version: str, parties: Parties, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(CONTENT)
    seen: list[Any] = []
    with start_up_server(answering(seen), ssl_ctx=parties.server_context(alpn=["http/1.1"])) as server:
        done = curl(parties, server.port, *of_version(version), "-T", tmp_path / "big")
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(CONTENT).digest()
    assert (seen[0].version, seen[0].alpn, seen[0].server_side) == (f"TLSv{version}", "http/1.1", True)


@pytest.mark.peer("curl")
@BOTH_VERSIONS
def test_an_answer_without_a_length_ends_with_close_notify(version: str, parties: Parties) -> None:
    """curl reports an end without one (status 56): closing our stream is a proper end."""

    def handle(stream: SocketStream) -> None:
        stream.read_until(b"\r\n\r\n")
        stream.write(b"HTTP/1.0 200 OK\r\n\r\n" + CONTENT)

    def break_off(stream: SocketStream) -> None:
        stream.read_until(b"\r\n\r\n")
        stream.write(b"HTTP/1.0 200 OK\r\n\r\n" + CONTENT[:1000])
        stream.flush()
        stream.abort()

    with start_up_server(handle, ssl_ctx=parties.server_context()) as server:
        done = curl(parties, server.port, *of_version(version))
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout == CONTENT
    with start_up_server(break_off, ssl_ctx=parties.server_context()) as server:
        assert curl(parties, server.port, *of_version(version)).returncode == 56


@pytest.mark.peer("curl")
@BOTH_VERSIONS
def test_curl_resumes_its_session(version: str, parties: Parties) -> None:
    """One process, two connections: each answer ends its connection."""
    seen: list[Any] = []
    with start_up_server(answering(seen), ssl_ctx=parties.server_context()) as server:
        again = f"https://{HOST}:{server.port}/again"
        assert curl(parties, server.port, *of_version(version), again).returncode == 0
    assert [tls.session_reused for tls in seen] == [False, True]


@pytest.mark.peer("curl")
@BOTH_VERSIONS
def test_client_certificates_of_curl(version: str, parties: Parties, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Any] = []
    with start_up_server(answering(seen), ssl_ctx=parties.server_context(verify_callback=True)) as server:

        def shows(identity: Identity | None) -> int:
            files = () if identity is None else ("--cert", identity.cert_file, "--key", identity.key_file)
            return curl(parties, server.port, *of_version(version), *files).returncode

        assert shows(parties.ann) == 0
        assert seen[0].certificate.subject == "Ann"
        # A handshake that fails, in TLS 1.2; data that cannot be received, in TLS 1.3.
        assert shows(None) in (35, 56)
        assert shows(parties.eve) in (35, 56)
        until(lambda: len(caplog.records) >= 2)
    assert len(seen) == 1


@pytest.mark.peer("curl")
@BOTH_VERSIONS
def test_a_header_in_the_clear_and_the_client_hello_behind_it(version: str, parties: Parties) -> None:
    """A PROXY header, whose sender does not wait: what has come with it is refused, or begins TLS if we say so."""
    seen: list[Any] = []
    answer = answering(seen)

    def handle(stream: SocketStream) -> None:
        until(lambda: waiting(stream) > 200)  # more than the header: it and the ClientHello are received together
        assert stream.readline().startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 ")
        with expect(SslError) as caught:
            stream.start_tls(parties.server_context())
        assert "plaintext before TLS" in str(caught.error)
        stream.start_tls(parties.server_context(), leftover="tls")
        answer(stream)

    with start_up_server(handle) as server:
        assert curl(parties, server.port, *of_version(version), "--haproxy-protocol").returncode == 0
    assert seen[0].version == f"TLSv{version}"
