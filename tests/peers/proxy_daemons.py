"""nginx and HAProxy in front of a server of ours, or behind a client; curl and wrk as the clients.

A configuration is a text with names in it, ``<like_this>``. A name that is given no value is a free port, and
`Proxy` tells which. The port ``<ready>`` is where a proxy shows that it has started, so that no trial connection
comes to a server behind it.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from conftest import lacking, need
from daemons import daemon, free_port

from landline.testing.contract.stage import PATIENCE

V4, V6 = "127.0.0.1", "::1"

NGINX = """
daemon off;
master_process off;
pid <folder>/pid;
error_log stderr;
events { }
http {
    access_log off;
    client_max_body_size 0;
    client_body_temp_path <folder>/body;
    proxy_temp_path <folder>/proxy;
    fastcgi_temp_path <folder>/fastcgi;
    uwsgi_temp_path <folder>/uwsgi;
    scgi_temp_path <folder>/scgi;
    server { listen 127.0.0.1:<ready>; return 204; }
    %s
}
"""

HAPROXY = """
global
    maxconn 200
    nbthread 1
defaults
    mode tcp
    timeout connect 20s
    timeout client 20s
    timeout server 20s
    timeout check 20s
frontend ready
    bind 127.0.0.1:<ready>
    mode http
    http-request return status 204
%s
"""


class Proxy:
    """One that runs: ``proxy["name"]`` is the port of that name."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._known: dict[str, object] = {}

    def __getitem__(self, name: str) -> int:
        port = self._known[name]
        assert isinstance(port, int)
        return port

    def complaints(self) -> list[str]:
        """What nginx has logged that is more than a hint."""
        lines = self._log.read_text("utf-8", "replace").splitlines()
        return [line for line in lines if re.search(r"\[(error|crit|alert|emerg)\]", line)]

    def fill(self, template: str, known: dict[str, object]) -> str:
        self._known = known
        return re.sub(r"<(\w+)>", lambda found: str(self._value(found[1])), template)

    def _value(self, name: str) -> object:
        if name not in self._known:
            self._known[name] = free_port()
        return self._known[name]


@contextlib.contextmanager
def nginx(folder: Path, http: str, **known: object) -> Iterator[Proxy]:
    """An nginx with these lines in its block "http"."""
    options = ("-e", "stderr", "-p", str(folder), "-c")
    with _running("nginx", options, folder, NGINX % http, known) as proxy:
        yield proxy


@contextlib.contextmanager
def haproxy(folder: Path, sections: str, **known: object) -> Iterator[Proxy]:
    with _running("haproxy", ("-db", "-f"), folder, HAPROXY % sections, known) as proxy:
        yield proxy


@contextlib.contextmanager
def _running(
    name: str, options: tuple[str, ...], folder: Path, template: str, known: dict[str, object]
) -> Iterator[Proxy]:
    program, file, log = need(name), folder / f"{name}.conf", folder / f"{name}.log"
    proxy = Proxy(log)

    def command(port: int) -> list[object]:
        file.write_text(proxy.fill(template, {"folder": folder, "ready": port, **known}), "utf-8")
        return [program, *options, file]

    with daemon(command, log):
        yield proxy


def curl(url: str, *options: object) -> subprocess.CompletedProcess[bytes]:
    """The answer's body is its standard output; its status is not 0 when the answer says that something is wrong."""
    words = [need("curl"), "-q", "-sS", "--fail", "--noproxy", "*", *options, url]
    return subprocess.run([*map(str, words)], capture_output=True, check=False, timeout=PATIENCE)


def fetched(url: str, *options: object) -> bytes:
    """What curl gets, without a complaint."""
    done = curl(url, *options)
    assert (done.returncode, done.stderr) == (0, b""), done.stderr
    return done.stdout


def wrk(url: str) -> int:
    """A second of load by 16 clients: how many requests had an answer; none may lack one, or have a bad one."""
    words = [need("wrk"), "-t", "1", "-c", "16", "-d", "1s", "--timeout", f"{PATIENCE:.0f}s", url]
    done = subprocess.run(words, capture_output=True, check=True, text=True, timeout=PATIENCE)
    assert "Socket errors" not in done.stdout, done.stdout
    assert "Non-2xx" not in done.stdout, done.stdout
    found = re.search(r"(\d+) requests in ", done.stdout)
    assert found, done.stdout + done.stderr
    requests = int(found[1])
    assert requests > 0, done.stdout
    return requests


def speaking(version: str) -> Callable[[ssl.SSLContext], None]:
    """For a context that is to speak this version of TLS and no other."""
    only = ssl.TLSVersion[f"TLSv{version.replace('.', '_')}"]

    def configure(context: ssl.SSLContext) -> None:
        context.minimum_version = context.maximum_version = only

    return configure


def need_ipv6() -> None:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind((V6, 0))
    except OSError:
        lacking("needs IPv6 on the loopback interface")
