"""`landline serve` as a person runs it: what it says, what it does with connections, and how it ends."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import PATIENCE, Terminal, failure, read_until, received_whole, run, started
from tls_support import authority, certificate

HOST = "127.0.0.1"

pytestmark = [
    pytest.mark.usefixtures("no_leaks"),
    pytest.mark.skipif(sys.platform != "linux", reason="terminals and signals as Linux has them"),
]


class Serving:
    """A running `landline serve`.

    Attributes:
        said: what it has said so far.
        port: where it listens; 0 for a Unix domain socket.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.said = ""
        self.wait_for("connect with: ")
        self.wait_for("\n", after="connect with: ")
        found = re.match(r"listening at 127\.0\.0\.1:(\d+)", self.said)
        self.port = int(found[1]) if found else 0

    def wait_for(self, wanted: str, after: str = "") -> None:
        """Until it has said this, behind ``after``."""
        assert self.process.stdout is not None
        while wanted not in self.said[self.said.find(after) :]:
            descriptor = self.process.stdout.fileno()
            assert select.select([descriptor], [], [], PATIENCE)[0], f"{wanted!r} was not said, but {self.said!r}"
            more = os.read(descriptor, 65536).decode()
            assert more, self.said
            self.said += more

    def hint(self) -> list[str]:
        """The words of the `landline connect` that it has told."""
        line = next(line for line in self.said.splitlines() if line.startswith("connect with: landline "))
        return shlex.split(line.removeprefix("connect with: landline "))

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=PATIENCE)
        self.said += out.decode()
        assert err == b"", err
        return self.process.returncode


@contextlib.contextmanager
def serving(*words: object, **extra: str) -> Iterator[Serving]:
    with started("serve", *words, **extra) as process:
        yield Serving(process)


def alive(group: int) -> bool:
    """Whether a process of this group is there."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def exchange(port: int, data: bytes) -> bytes:
    """What a client gets that sends this and ends its side."""
    with socket.create_connection((HOST, port), PATIENCE) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        return received_whole(client)


# ---- what it serves ----------------------------------------------------------------------------------


def test_an_echo_with_lines_about_it() -> None:
    with serving("--echo") as server:
        assert exchange(server.port, b"hello" * 100_000) == b"hello" * 100_000
        server.wait_for("500.0 kB in, 500.0 kB out")
        assert server.stop() == 0
    lines = server.said.splitlines()
    assert lines[:2] == [
        f"listening at {HOST}:{server.port} (echo)",
        f"connect with: landline connect localhost {server.port}",
    ]
    moment = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d 127\.0\.0\.1:\d+ "
    assert re.fullmatch(moment + "connected", lines[2])
    assert re.fullmatch(moment + "ended; 500.0 kB in, 500.0 kB out, [0-9] s", lines[3])
    assert lines[4:] == ["ended; 1 connection in all"]


def test_what_is_discarded_is_not_answered() -> None:
    with serving("--discard") as server:
        assert exchange(server.port, b"x" * 1_000_000) == b""
        assert server.stop() == 0


def test_a_file_is_for_everybody_and_read_anew_each_time(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"one")
    with serving("--file", file) as server:
        assert exchange(server.port, b"ignored") == b"one"
        file.write_bytes(b"two" * 1_000_000)
        assert exchange(server.port, b"") == b"two" * 1_000_000
        file.unlink()
        with pytest.raises(ConnectionResetError), socket.create_connection((HOST, server.port), PATIENCE) as client:
            client.recv(1)
        server.wait_for("not served: No such file or directory")
        assert server.stop() == 0


def test_a_command_runs_for_each_connection_and_knows_its_peer() -> None:
    with serving("--exec", "tr a-z A-Z; echo $LANDLINE_PEER") as server:
        with socket.create_connection((HOST, server.port), PATIENCE) as client:
            client.sendall(b"hello\n")
            client.shutdown(socket.SHUT_WR)
            me = f"{HOST}:{client.getsockname()[1]}\n"
            assert received_whole(client) == b"HELLO\n" + me.encode()
        assert server.stop() == 0


def test_a_command_that_ends_first_ends_the_connection() -> None:
    with serving("--exec", "echo bye") as server:
        with socket.create_connection((HOST, server.port), PATIENCE) as client:
            assert received_whole(client) == b"bye\n"
        assert server.stop() == 0


def test_a_command_that_is_killed_resets_the_connection() -> None:
    with serving("--exec", "echo half; kill -9 $$") as server:
        with pytest.raises(ConnectionResetError), socket.create_connection((HOST, server.port), PATIENCE) as client:
            received_whole(client)
        assert server.stop() == 0


def test_a_command_ends_with_its_connection(tmp_path: Path) -> None:
    """Its whole process group, when the peer has gone away."""
    note = tmp_path / "pid"
    with serving("--exec", f"echo $$ >{note}; sleep 1000 & while echo .; do sleep 0.05; done") as server:
        with socket.create_connection((HOST, server.port), PATIENCE) as client:
            client.recv(1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        group = int(note.read_text())
        end = time.monotonic() + PATIENCE
        while alive(group):
            assert time.monotonic() < end
            time.sleep(0.02)
        assert server.stop() == 0


def test_datagrams_are_sent_back() -> None:
    with serving("--echo", "--udp") as server:
        done = run(*server.hint(), "--read-timeout", "0.4", stdin=b"hello")
        assert done.stdout == b"hello"
        assert server.stop() == 0
    assert server.said.endswith("ended; 1 datagram from 1 peer, 5 bytes in, 5 bytes out\n")


def test_a_unix_domain_socket(tmp_path: Path) -> None:
    path = tmp_path / "a socket"
    with serving("--echo", "--unix", path) as server:
        assert run(*server.hint(), stdin=b"hello").stdout == b"hello"
        server.wait_for("client 1 ended")
        assert server.stop() == 0
    assert not path.exists()


# ---- TLS ---------------------------------------------------------------------------------------------


def test_a_throw_away_certificate_is_trusted_by_the_line_that_is_told() -> None:
    with serving("--echo", "--tls") as server:
        words = server.hint()
        authority_file = Path(words[words.index("--ca") + 1])
        assert b"PRIVATE" not in authority_file.read_bytes()
        assert run(*words, stdin=b"hello").stdout == b"hello"
        assert run("connect", HOST, server.port, "--tls", "--ca", authority_file, stdin=b"a").stdout == b"a"
        assert "which is not known here" in failure(run("connect", "localhost", server.port, "--tls"))
        server.wait_for("connected, TLSv1.3")
        assert server.stop() == 0
    assert not authority_file.exists()


def test_ones_own_certificate(tmp_path: Path) -> None:
    leaf = certificate("localhost")
    leaf.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "leaf.pem"))
    authority().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with serving("--echo", "--tls", "--cert", tmp_path / "leaf.pem") as server:
        assert run(*server.hint(), "--ca", tmp_path / "ca.pem", stdin=b"hello").stdout == b"hello"
        assert server.stop() == 0


def test_without_trustme_the_remedy_is_told(tmp_path: Path) -> None:
    (tmp_path / "trustme.py").write_text("raise ImportError", "ascii")
    told = failure(run("serve", "--echo", "--tls", PYTHONPATH=str(tmp_path)))
    assert told.endswith("needs trustme to make a certificate; install it with: pip install trustme")


# ---- limits and ends ---------------------------------------------------------------------------------


def test_max_connections_lets_others_wait() -> None:
    with serving("--echo", "--max-connections", "1") as server:
        with socket.create_connection((HOST, server.port), PATIENCE) as first:
            first.sendall(b"1")
            assert first.recv(1) == b"1"
            with socket.create_connection((HOST, server.port), PATIENCE) as second:
                second.sendall(b"2")
                second.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    second.recv(1)
                first.close()
                second.settimeout(PATIENCE)
                assert second.recv(1) == b"2"
        assert server.stop() == 0


def test_an_idle_connection_is_given_up_after_the_read_timeout() -> None:
    with serving("--echo", "--read-timeout", "0.2") as server:
        with socket.create_connection((HOST, server.port), PATIENCE) as client:
            assert client.recv(1) == b""
        server.wait_for("given up: nothing came for 0.2 s")
        assert server.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_connections_end(number: signal.Signals) -> None:
    with serving("--echo", "--drain", PATIENCE) as server:
        with socket.create_connection((HOST, server.port), PATIENCE) as client:
            client.sendall(b"1")
            assert client.recv(1) == b"1"
            server.process.send_signal(number)
            server.wait_for(f"ending: 1 connection may take {PATIENCE:g} s to end; a second Ctrl-C ends at once")
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((HOST, server.port), PATIENCE)
            client.sendall(b"2")
            assert client.recv(1) == b"2"
        assert server.process.wait(PATIENCE) == 0


def test_a_second_signal_ends_at_once() -> None:
    with contextlib.ExitStack() as opened:
        server = opened.enter_context(serving("--echo", "--drain", "1000"))
        client = opened.enter_context(socket.create_connection((HOST, server.port), PATIENCE))
        client.sendall(b"1")
        assert client.recv(1) == b"1"
        server.process.send_signal(signal.SIGINT)
        server.wait_for("ending: ")
        assert server.stop(signal.SIGINT) == 0


def test_a_reader_of_its_lines_that_goes_away_does_not_end_it() -> None:
    with started("serve", "--echo") as process:
        assert process.stdout is not None
        said = read_until(process.stdout.fileno(), b"connect with")
        process.stdout.close()
        found = re.search(rb":(\d+) ", said)
        assert found is not None
        for _ in range(3):
            assert exchange(int(found[1]), b"hello") == b"hello"
        process.terminate()
        assert process.wait(PATIENCE) == 0


def test_at_a_terminal_a_table_shows_the_connections() -> None:
    with Terminal("serve", "--echo", LINES="24") as terminal:
        terminal.wait_for(b"0 open, 0 in all")
        found = re.search(rb"127\.0\.0\.1:(\d+) \(echo\)", terminal.shown)
        assert found is not None
        with socket.create_connection((HOST, int(found[1])), PATIENCE) as client:
            client.sendall(b"hello")
            assert client.recv(5) == b"hello"
            terminal.wait_for(b"1 open, 1 in all")
            terminal.shown = b""
            terminal.wait_for(f"{HOST}:{client.getsockname()[1]}".encode())
            terminal.wait_for(b"5 bytes   5 bytes   -")
        terminal.wait_for(b"ended; 5 bytes in, 5 bytes out, ")
        terminal.type(b"\x03")
        assert terminal.wait() == 0
    assert terminal.shown.rstrip().endswith(b"ended; 1 connection in all")


# ---- wrongly -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("", "exactly one of --echo, --discard, --file, --exec, --http is needed; none was given."),
        ("--echo --discard", "--echo and --discard were given."),
        ("--echo --key f --tls", "--key needs --cert."),
        ("--echo --cert f", "--cert needs --tls."),
        ("--http . --udp", "--udp and --http exclude each other."),
        ("--echo --unix p 80", "--unix and SERVICE exclude each other."),
        ("--echo -4 -6", "-4 and -6 exclude each other."),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(
    words: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from landline.cli.app import app

    with pytest.raises(SystemExit) as ended:
        app(["serve", *words.split()], prog_name="landline")
    assert ended.value.code == 2
    assert told in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--http", "/nowhere"], "/nowhere cannot be served: it is no directory"),
        (["--file", "/nowhere"], "/nowhere cannot be served: No such file or directory"),
        (["--echo", "--local-address", "203.0.113.9"], "could not listen at 203.0.113.9:0: Cannot assign requested"),
        (["--echo", "--drain", "-1"], "--drain -1 is not allowed"),
    ],
)
def test_what_cannot_be_served_is_told_in_one_line(words: list[str], told: str) -> None:
    assert failure(run("serve", *words)).startswith(told)
