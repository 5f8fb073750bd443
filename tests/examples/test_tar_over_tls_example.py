"""examples/tar_over_tls.py: both of its sides, the openssl program, and peers that cheat or die."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from ssl import CERT_REQUIRED, SSLSocket

import pytest
from conftest import need
from example_programs import (
    HOST,
    PATIENCE,
    Authority,
    Identity,
    dead_port,
    failure,
    interrupt,
    peer,
    port_told_by,
    read_until,
    run,
    started,
)

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def box(authority: Authority) -> Identity:
    return authority.issue(HOST)


@pytest.fixture(scope="module")
def me(authority: Authority) -> Identity:
    return authority.issue("me.example")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files large and empty, folders, a program, a link."""
    made = tmp_path / "folder"
    (made / "deep" / "deeper").mkdir(parents=True)
    (made / "large").write_bytes(os.urandom(3_000_000))
    (made / "deep" / "empty ünd so").write_bytes(b"")
    (made / "deep" / "deeper" / "program").write_text("#!/bin/sh\n")
    (made / "deep" / "deeper" / "program").chmod(0o755)
    (made / "link").symlink_to("deep/deeper/program")
    return made


@pytest.fixture
def target(tmp_path: Path) -> Path:
    made = tmp_path / "target"
    made.mkdir()
    return made


def seen(folder: Path) -> dict[str, object]:
    """What is in a folder."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        what: object = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(folder))] = (what, path.lstat().st_mode & 0o700)
    return found


def who(identity: Identity) -> list[object]:
    return ["--cert", identity.cert_file, "--key", identity.key_file, "--ca", identity.ca_file]


@contextmanager
def serving(folder: Path, box: Identity) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    with started("tar_over_tls", "serve", folder, "--port", 0, *who(box)) as server:
        yield server, port_told_by(server, "stderr")


def archive(name: str = "file", data: bytes = b"data" * 10_000) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w|") as file:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        file.addfile(info, io.BytesIO(data))
    return made.getvalue()


def test_a_folder_goes_there_and_back(box: Identity, me: Identity, folder: Path, target: Path, tmp_path: Path) -> None:
    (tmp_path / "back").mkdir()
    with serving(target, box) as (server, port):
        for action, where in (("put", folder), ("get", tmp_path / "back")):
            done = run("tar_over_tls", action, where, "--host", HOST, "--port", port, *who(me))
            assert (done.returncode, done.stdout, done.stderr) == (0, b"6 files and folders\n", b"")
        assert server.stderr is not None
        told = read_until(server.stderr.fileno(), b"get by").decode()
        assert "put by me.example at " in told
        assert interrupt(server)[0] == 0
    assert seen(target) == seen(tmp_path / "back") == seen(folder)


def test_the_openssl_program_gets_the_same(box: Identity, me: Identity, folder: Path) -> None:
    with serving(folder, box) as (_, port):
        words = [need("openssl"), "s_client", "-quiet", "-connect", f"{HOST}:{port}", "-CAfile", me.ca_file]
        words += ["-cert", me.cert_file, "-key", me.key_file, "-verify_return_error", "-verify_ip", HOST]
        with subprocess.Popen(
            list(map(str, words)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as openssl:
            out, told = openssl.communicate(b"get\n", timeout=PATIENCE)
    with tarfile.open(fileobj=io.BytesIO(out), mode="r|") as file:
        assert sorted(file.getnames()) == sorted(seen(folder)), told


def test_strangers_are_refused_by_both_sides(box: Identity, me: Identity, target: Path, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "other").issue("stranger.example")
    with serving(target, box) as (_, port):
        where = ["get", target, "--host", HOST, "--port", port]
        told = failure(
            run("tar_over_tls", *where, "--cert", stranger.cert_file, "--key", stranger.key_file, "--ca", me.ca_file)
        )
        assert "it does not trust the authority that signed this side's certificate" in told
        told = failure(
            run("tar_over_tls", *where, "--cert", me.cert_file, "--key", me.key_file, "--ca", stranger.ca_file)
        )
        assert f"the certificate shown for '{HOST}' was refused" in told


def test_a_key_that_is_not_there_is_told_by_both_sides(box: Identity, target: Path) -> None:
    lacking = ["--port", 0, "--cert", box.cert_file, "--key", target / "no.key", "--ca", box.ca_file]
    for action in ("serve", "get"):
        assert "no.key" in failure(run("tar_over_tls", action, target, *lacking))


def answering(box: Identity, answer: Callable[[SSLSocket], object]) -> Callable[[socket.socket], None]:
    """A server of Python's ssl that has heard the wish."""

    def serve(connection: socket.socket) -> None:
        context = box.server_context()
        context.verify_mode = CERT_REQUIRED
        context.load_verify_locations(box.ca_file)
        with context.wrap_socket(connection, server_side=True, suppress_ragged_eofs=False) as secure:
            assert secure.recv(4) == b"get\n"
            answer(secure)

    return serve


def properly(secure: SSLSocket, data: bytes) -> None:
    with suppress(OSError):  # the program may have seen enough, and gone
        secure.sendall(data)
        secure.unwrap().close()


WHOLE = archive()


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda secure: secure.sendall(WHOLE[:20_000]), "what has come may not be all"),
        (lambda secure: secure.sendall(WHOLE), "what has come may not be all"),
        (lambda secure: properly(secure, WHOLE[:20_000]), "unexpected end of data"),
        (lambda secure: properly(secure, b"no archive" * 2000), "invalid header"),
        (lambda secure: properly(secure, archive("../evil")), "outside the destination"),
    ],
    ids=["cut off", "cut off behind the archive", "half of it, properly ended", "no archive", "out of the folder"],
)
def test_what_is_not_a_whole_archive_is_told(
    answer: Callable[[SSLSocket], object], told: str, box: Identity, me: Identity, target: Path
) -> None:
    with peer(answering(box, answer)) as port:
        assert told in failure(run("tar_over_tls", "get", target, "--host", HOST, "--port", port, *who(me)))
    assert not (target.parent / "evil").exists()


def test_a_client_that_dies_is_told_no_number_and_the_server_goes_on(box: Identity, me: Identity, target: Path) -> None:
    with serving(target, box) as (server, port):
        connection = socket.create_connection((HOST, port), PATIENCE)
        with me.client_context().wrap_socket(connection, server_hostname=HOST) as secure:
            secure.sendall(b"put\n" + WHOLE)
            connection.close()
        assert server.stderr is not None
        assert b"receiving from" in read_until(server.stderr.fileno(), b" failed: ")
        done = run("tar_over_tls", "get", target, "--host", HOST, "--port", port, *who(me))
        assert done.returncode == 0


def test_a_dead_port_is_told_in_a_sentence(me: Identity, target: Path) -> None:
    with dead_port() as port:
        told = failure(run("tar_over_tls", "get", target, "--host", HOST, "--port", port, *who(me)))
    assert "Connection refused" in told
