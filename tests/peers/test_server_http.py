"""A server of ours for HTTP/1.0, behind nginx and by itself, with curl and wrk as its clients; with TLS too.

nginx opens a connection for each request, as it does unless told otherwise: each page ends with its connection, so one
that is closed too early, or not properly, is a page cut short.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import (
    Identity,
    matrix,  # noqa: F401 - the fixture `certificates`
)
from children import child
from proxy_daemons import V4, Proxy, curl, fetched, nginx, speaking, wrk
from served import LARGE, PAGES, Asked, fingerprint, pages, serve_pages_beside
from tls_daemons import (
    BOTH_VERSIONS,
    HOST,
    Parties,
    parties_fixture,  # noqa: F401 - the fixture `parties`
)

from landline import Server, SocketStream, start_up_server
from landline.testing.contract.stage import until

pytestmark = pytest.mark.usefixtures("no_leaks", "quick_leak_checks")

BEHIND = """
server {
    listen 127.0.0.1:<front>;
    location / { proxy_pass http://127.0.0.1:<ours>; }
    location /unbuffered/ {
        proxy_pass http://127.0.0.1:<ours>/;
        proxy_buffering off;
        proxy_request_buffering off;
    }
}
"""

BEHIND_TLS = """
server {
    listen 127.0.0.1:<front>;
    proxy_ssl_protocols TLSv<version>;
    proxy_ssl_verify on;
    proxy_ssl_verify_depth 3;
    proxy_ssl_trusted_certificate <trusted>;
    proxy_ssl_server_name on;
    proxy_ssl_certificate <certificate>;
    proxy_ssl_certificate_key <key>;
    location / { proxy_pass https://127.0.0.1:<ours>; proxy_ssl_name localhost; }
    location /misnamed/ { proxy_pass https://127.0.0.1:<ours>/; proxy_ssl_name other.example; }
    location /distrusted/ {
        proxy_pass https://127.0.0.1:<ours>/;
        proxy_ssl_name localhost;
        proxy_ssl_session_reuse off;
        proxy_ssl_trusted_certificate <other>;
    }
}
"""


@pytest.fixture
def server() -> Iterator[Server]:
    with start_up_server(pages) as made:
        yield made


@pytest.fixture
def behind(server: Server, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Gives the address of a page by way of nginx. At the end nginx must have had nothing to complain of."""
    with nginx(tmp_path, BEHIND, ours=server.port) as proxy:
        yield lambda path: f"http://{V4}:{proxy['front']}{path}"
        assert proxy.complaints() == []


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Our server has nothing to log."""
    yield
    assert not caplog.records


# ---- in the clear --------------------------------------------------------------------------------------


@pytest.mark.peer("nginx", "curl")
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("path", [path.decode() for path in PAGES])
@pytest.mark.parametrize("way", ["", "/unbuffered"])
def test_a_page_arrives_whole_by_way_of_nginx(path: str, way: str, behind: Callable[[str], str]) -> None:
    assert fetched(behind(way + path)) == PAGES[path.encode()]


@pytest.mark.peer("nginx", "curl")
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("way", ["", "/unbuffered"])
def test_what_is_posted_arrives_whole_by_way_of_nginx(way: str, behind: Callable[[str], str], tmp_path: Path) -> None:
    for data in (b"", b"a=1", LARGE * 3):
        (tmp_path / "posted").write_bytes(data)
        assert fetched(behind(way + "/"), "--data-binary", f"@{tmp_path}/posted") == fingerprint(data)


@pytest.mark.peer("nginx", "curl")
@pytest.mark.usefixtures("quiet")
def test_heads_and_refusals_pass_through_nginx(behind: Callable[[str], str]) -> None:
    head = fetched(behind("/large"), "--head").split(b"\r\n")
    assert head[0] == b"HTTP/1.1 200 OK"
    assert b"Content-Length: %d" % len(LARGE) in head
    refused = curl(behind("/missing"))
    assert (refused.returncode, refused.stdout) == (22, b"")
    assert b"404" in refused.stderr


@pytest.mark.peer("curl")
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("version", ["--http1.0", "--http1.1"])
def test_curl_is_served_directly(version: str, server: Server, tmp_path: Path) -> None:
    """Pages one after another and four at a time, and a body for which a client of 1.1 would wait to be asked."""
    url = f"http://{V4}:{server.port}"
    for path, page in PAGES.items():
        assert fetched(url + path.decode(), version) == page
    at_once = ("--parallel", "--parallel-max", 4, "--no-progress-meter", "-o", tmp_path / "#1")
    assert curl(f"{url}/unmeasured?[1-12]", version, *at_once).returncode == 0
    assert all((tmp_path / str(number)).read_bytes() == LARGE for number in range(1, 13))
    (tmp_path / "posted").write_bytes(LARGE)
    posted = fetched(url, version, "-H", "Expect:", "--data-binary", f"@{tmp_path}/posted")
    assert posted == fingerprint(LARGE)


@pytest.mark.peer("wrk")
@pytest.mark.parametrize("path", ["/small", "/large"])
def test_load_is_answered_without_an_error(path: str) -> None:
    with start_up_server(asked := Asked()) as server:
        assert wrk(f"http://{V4}:{server.port}{path}") <= asked.times


@pytest.mark.peer("wrk", "nginx")
def test_load_by_way_of_nginx_is_answered_without_an_error(behind: Callable[[str], str]) -> None:
    wrk(behind("/small"))


@pytest.mark.peer("wrk")
def test_load_is_shared_by_several_processes_at_one_port() -> None:
    with child(serve_pages_beside, 0) as one:
        port = int(one.said()[0])
        with child(serve_pages_beside, port) as other:
            assert int(other.said()[0]) == port
            requests = wrk(f"http://{V4}:{port}/small")
            shares = [int(each.ask("served?")[0]) for each in (one, other)]
    assert min(shares) > requests // 10
    assert sum(shares) >= requests


# ---- with TLS ------------------------------------------------------------------------------------------


@pytest.mark.peer("curl")
@pytest.mark.usefixtures("quiet")
@BOTH_VERSIONS
def test_curl_is_served_with_tls(version: str, parties: Parties) -> None:
    seen: list[Any] = []

    def handler(stream: SocketStream) -> None:
        pages(stream)
        seen.append(stream.tls)

    options = ("--http1.0", "--cacert", parties.trusted_file, f"--tlsv{version}", "--tls-max", version)
    with start_up_server(handler, ssl_ctx=parties.server_context()) as server:
        for path, page in PAGES.items():
            assert fetched(f"https://{HOST}:{server.port}{path.decode()}", "-4", *options) == page
        assert fetched(f"https://{V4}:{server.port}/", *options, "--data-binary", "x") == fingerprint(b"x")
    assert {tls.version for tls in seen} == {f"TLSv{version}"}


@pytest.mark.peer("curl")
@BOTH_VERSIONS
def test_curl_that_trusts_others_is_not_served(
    version: str, parties: Parties, caplog: pytest.LogCaptureFixture
) -> None:
    """Its alert is logged, and the handler never called; the next client is served."""
    url = "https://{host}:{port}/small"
    limits = ("-4", f"--tlsv{version}", "--tls-max", version)
    with start_up_server(asked := Asked(), ssl_ctx=parties.server_context()) as server:
        refused = curl(url.format(host=HOST, port=server.port), *limits, "--cacert", other_file(parties))
        assert (refused.returncode, refused.stdout) == (60, b"")
        until(lambda: caplog.records)
        assert asked.times == 0
        trusted = ("--cacert", parties.trusted_file)
        assert fetched(url.format(host=HOST, port=server.port), *limits, *trusted) == PAGES[b"/small"]
    (record,) = caplog.records
    assert (record.levelname, record.exc_info) == ("WARNING", None)
    assert "does not trust the authority" in record.getMessage()


def other_file(parties: Parties) -> str:
    """An authority that has not certified our server."""
    other: Identity = parties.eve
    path = other.path.with_suffix(".authority")
    path.write_bytes(Path(other.cert_file).read_bytes().partition(b"-----END CERTIFICATE-----\n")[2])
    return str(path)


@pytest.mark.peer("wrk")
@BOTH_VERSIONS
def test_load_with_tls_is_answered_without_an_error(version: str, parties: Parties) -> None:
    context = parties.server_context(openssl_ctx_configure_callback=speaking(version))
    with start_up_server(asked := Asked(), ssl_ctx=context) as server:
        assert wrk(f"https://{V4}:{server.port}/small") <= asked.times


@pytest.fixture
def behind_tls(version: str, parties: Parties, tmp_path: Path) -> Iterator[tuple[list[Any], str, Proxy]]:
    """What our server knows of nginx's sessions, the address of nginx, and nginx: it asks us with its certificate."""
    seen: list[Any] = []

    def handler(stream: SocketStream) -> None:
        seen.append(stream.tls)
        pages(stream)

    files = {"trusted": parties.trusted_file, "other": other_file(parties)}
    own = {"certificate": parties.ann.cert_file, "key": parties.ann.key_file}
    with (
        start_up_server(handler, ssl_ctx=parties.server_context(verify_callback=True)) as server,
        nginx(tmp_path, BEHIND_TLS, ours=server.port, version=version, **files, **own) as proxy,
    ):
        yield seen, f"http://{V4}:{proxy['front']}", proxy


@pytest.mark.peer("nginx", "curl")
@BOTH_VERSIONS
def test_nginx_verifies_us_and_shows_its_certificate(
    version: str, behind_tls: tuple[list[Any], str, Proxy], tmp_path: Path
) -> None:
    seen, url, proxy = behind_tls
    for path, page in PAGES.items():
        assert fetched(url + path.decode()) == page
    (tmp_path / "posted").write_bytes(LARGE)
    assert fetched(url, "--data-binary", f"@{tmp_path}/posted") == fingerprint(LARGE)
    assert {(tls.version, tls.certificate.subject) for tls in seen} == {(f"TLSv{version}", "Ann")}
    assert [tls.session_reused for tls in seen] == [False, True, True, True, True]
    assert proxy.complaints() == []


@pytest.mark.peer("nginx", "curl")
@BOTH_VERSIONS
@pytest.mark.parametrize(
    ("way", "why"),
    [
        ("/misnamed", "upstream SSL certificate does not match"),
        ("/distrusted", "upstream SSL certificate verify error"),
    ],
)
def test_nginx_passes_nothing_on_from_a_server_that_it_does_not_trust(
    way: str, why: str, version: str, behind_tls: tuple[list[Any], str, Proxy], caplog: pytest.LogCaptureFixture
) -> None:
    """It closes after the handshake, or breaks it off; the clients after it are served."""
    _, url, proxy = behind_tls
    refused = curl(f"{url}{way}/small")
    assert (refused.returncode, refused.stdout) == (22, b"")
    assert b"502" in refused.stderr
    assert why in "".join(proxy.complaints())
    until(lambda: caplog.records)
    assert fetched(f"{url}/small") == PAGES[b"/small"]
