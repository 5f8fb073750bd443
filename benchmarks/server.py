"""The C programs: compiled for this run into a temporary directory, and the servers running.

Compiling takes two seconds and leaves nothing behind; a cached binary would need a rule for when it is
out of date. The certificates are made anew too, for the same reason: a root, an intermediate and a
certificate for HOST, of each kind of key.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

from .wire import FILE_SIZE, HOST, Server, TlsServer


class NoServer(Exception):
    """It cannot be had here; the message says why."""


@contextlib.contextmanager
def running_server(core: int) -> Iterator[Server]:
    """The server of `server.c` on that core; it ends with the block, or when this process dies. Raises NoServer."""
    with tempfile.TemporaryDirectory(prefix="landline-bench-") as directory:
        folder = Path(directory)
        try:
            program, client, load = (compiled(name, folder) for name in ("server", "client", "load"))
        except (OSError, subprocess.CalledProcessError) as error:
            raise NoServer(f"no C program can be compiled here: {error}") from error
        with running(core, program) as ports:
            yield Server(core=core, file=made_file(folder), client=str(client), load=str(load), **ports)


@contextlib.contextmanager
def running_tls_server(core: int) -> Iterator[TlsServer]:
    """The same for `tls_server.c`."""
    with tempfile.TemporaryDirectory(prefix="landline-bench-") as directory:
        folder = Path(directory)
        try:
            program, client = (compiled(name, folder, "-lssl", "-lcrypto") for name in ("tls_server", "tls_client"))
            roots = make_certificates(folder)
        except (OSError, subprocess.CalledProcessError) as error:
            raise NoServer("no C program on OpenSSL can be compiled here (its headers: libssl-dev)") from error
        except ImportError as error:
            raise NoServer(f"no certificates: {error}") from error
        all_roots = ""
        if of_system := system_roots():
            all_roots = str(folder / "all_roots.pem")
            Path(all_roots).write_bytes(of_system + roots.read_bytes())
        version = subprocess.check_output([client, "version"], text=True).strip()
        with running(core, program, folder / "ec.pem", folder / "rsa.pem") as ports:
            yield TlsServer(
                file=made_file(folder),
                client=str(client),
                roots=str(roots),
                all_roots=all_roots,
                openssl=version,
                **ports,
            )


@contextlib.contextmanager
def running(core: int, *command: Path | str) -> Iterator[dict[str, int]]:
    """Start a server on that core; its process, and its ports by service."""
    here = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    finally:
        os.sched_setaffinity(0, here)
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        lines = [line.split() for line in takewhile("\n".__ne__, process.stdout)]
        try:
            yield {"pid": process.pid, **{name: int(port) for name, port in lines}}
        finally:
            process.stdin.close()


def compiled(name: str, directory: Path, *libraries: str) -> Path:
    source, binary = Path(__file__).with_name(f"{name}.c"), directory / name
    compiler = os.environ.get("CC", "gcc")
    subprocess.run([compiler, "-O2", "-Wall", "-pthread", "-o", binary, source, *libraries], check=True)
    return binary


def made_file(folder: Path) -> str:
    """Of FILE_SIZE bytes, none of them zero; in the page cache, as it has just been written."""
    path = folder / "file"
    path.write_bytes(b"x" * FILE_SIZE)
    return str(path)


def make_certificates(folder: Path) -> Path:
    """ec.pem and rsa.pem, each a key with its certificates, and the file of their roots, which is returned."""
    import trustme

    roots = folder / "roots.pem"
    with roots.open("wb") as file:
        for name, kind in (("ec", trustme.KeyType.ECDSA), ("rsa", trustme.KeyType.RSA)):
            root = trustme.CA(key_type=kind)
            leaf = root.create_child_ca(kind).issue_cert(HOST, key_type=kind)
            leaf.private_key_and_cert_chain_pem.write_to_path(folder / f"{name}.pem")
            file.write(root.cert_pem.bytes())
    return roots


def system_roots() -> bytes:
    """What `create_default_context()` would load, some 140 authorities. b"" on a system that has none."""
    file = ssl.get_default_verify_paths().cafile
    return Path(file).read_bytes() if file else b""
