"""The C programs: compiled for this run into a temporary directory, and the server running.

Compiling takes a second and leaves nothing behind; a cached binary would need a rule for when it is
out of date.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .wire import Server


@contextlib.contextmanager
def running_server() -> Iterator[Server]:
    """The server of `server.c`; it ends with the block, or when this process dies."""
    with tempfile.TemporaryDirectory(prefix="landline-bench-") as directory:
        server, client = compiled("server", Path(directory)), compiled("client", Path(directory))
        with subprocess.Popen(
            [server], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            ports = dict(line.split() for line in iter(process.stdout.readline, "\n"))
            try:
                yield Server(
                    client=str(client), **{name: int(port) for name, port in ports.items()}
                )
            finally:
                process.stdin.close()


def compiled(name: str, directory: Path) -> Path:
    source, binary = Path(__file__).with_name(f"{name}.c"), directory / name
    compiler = os.environ.get("CC", "gcc")
    subprocess.run([compiler, "-O2", "-Wall", "-pthread", "-o", binary, source], check=True)
    return binary
