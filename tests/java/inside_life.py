"""TLS through Java in threads, over and over, and with signals: what stays behind, and who gets the signal."""

from __future__ import annotations

import gc
import os
import platform
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import java_programs
import pytest
from certificates import Certificates, Identity
from certificates import matrix as _matrix  # noqa: F401 - the fixture `certificates`
from children import child, command
from conftest import need
from java_side import FULL, LOOPBACK, opened, trust_file_fixture, trust_of, unwatched, way_fixture

from landline import Server, SocketStream, SslVerificationFailure, open_tcp_stream_using_java, start_up_server
from landline.java import engine
from landline.java.bridge import Bridge
from landline.testing.contract.stage import PATIENCE, Task, until

__all__ = ["trust_file_fixture", "way_fixture"]

pytestmark = pytest.mark.usefixtures("way", "no_leaks")

MANY = 1000 if FULL else 60

PER_CONNECT = 4096 if FULL else 40_000
"""Bytes by which the JVM's heap may grow with each: its caches do, and make up for it in the long run. That no engine
is left is known exactly."""


@pytest.fixture(name="server")
def server_fixture(certificates: Certificates) -> Iterator[Server]:
    leaf, key = certificates.middle.issue(LOOPBACK)
    identity = Identity(leaf, key, (certificates.middle.certificate,), certificates.folder / "life")

    def echo(stream: SocketStream) -> None:
        for line in stream:
            stream.write(line)
            stream.flush()

    with start_up_server(echo, local_address=LOOPBACK, ssl_ctx=identity.server(), read_timeout=PATIENCE) as server:
        yield server


def said_back(stream: SocketStream, line: bytes = b"hello\n") -> None:
    with stream:
        stream.write(line)
        assert stream.readline() == line


def heap_in_use(way: Bridge) -> int:
    memory = way.find("java.lang.management.ManagementFactory").getMemoryMXBean()
    gc.collect()
    for _ in range(3):
        way.find("java.lang.System").gc()
    return int(memory.getHeapMemoryUsage().getUsed())


def java_threads(way: Bridge) -> int:
    return int(way.find("java.lang.management.ManagementFactory").getThreadMXBean().getThreadCount())


def direct_buffers(way: Bridge) -> int:
    kind = way.find("java.lang.management.BufferPoolMXBean")
    pools = way.find("java.lang.management.ManagementFactory").getPlatformMXBeans(kind)
    return next(int(pool.getCount()) for pool in pools if str(pool.getName()) == "direct")


# ---- many ------------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
@pytest.mark.parametrize("sockets", [False, True], ids=["engine", "socket"])
def test_connections_leave_neither_descriptors_nor_java_memory(
    sockets: bool, way: Bridge, server: Server, certificates: Certificates
) -> None:
    """Descriptors are counted by no_leaks. Handshakes that resume, and some that fail."""
    factory = unwatched(trust_of(certificates.root.pem))
    factory = factory.getSocketFactory() if sockets else factory
    made: list[Any] = []
    weakly = way.find("java.lang.ref.WeakReference")

    def connect(host: str, **more: Any) -> SocketStream:
        stream: SocketStream = open_tcp_stream_using_java(
            host, server.port, ipv6=False, factory=factory, read_timeout=PATIENCE,
            ssl_configure_callback=lambda engine: made.append(weakly(engine)), **more,
        )  # fmt: skip
        return stream

    def connect_often() -> None:
        for number in range(MANY):
            if number % 4:
                said_back(connect(LOOPBACK))
            else:
                with pytest.raises(SslVerificationFailure):
                    connect("localhost")

    connect_often()
    before = heap_in_use(way), direct_buffers(way)
    connect_often()
    assert heap_in_use(way) - before[0] < MANY * PER_CONNECT
    assert direct_buffers(way) <= before[1]
    assert len(made) == 2 * MANY
    assert [each for each in made if each.get() is not None] == []


def test_threads_leave_nothing_in_the_jvm(way: Bridge, server: Server, trust_file: Path) -> None:
    """jpype attaches a thread when it first calls Java, and leaves it there when it has ended."""
    before = java_threads(way)
    for _ in range(MANY):
        Task(lambda: said_back(opened(server.port, trust_file))).result()
    assert java_threads(way) <= before + 1


def test_a_thread_that_only_drops_what_is_javas_leaves_nothing_either(
    way: Bridge, server: Server, trust_file: Path
) -> None:
    streams = [opened(server.port, trust_file) for _ in range(8)]
    before = java_threads(way)

    def drop() -> None:
        streams.pop().abort()

    while streams:
        Task(drop).result()
    assert java_threads(way) <= before + 1


def test_idle_streams_have_no_java_memory_of_their_own(way: Bridge, server: Server, trust_file: Path) -> None:
    said_back(opened(server.port, trust_file))
    before = len(engine._desks)
    streams = [opened(server.port, trust_file) for _ in range(8)]
    assert len(engine._desks) == before
    for stream in streams:
        stream.close()


# ---- at once ---------------------------------------------------------------------------------------------


def test_many_threads_open_and_talk_at_once(server: Server, trust_file: Path) -> None:
    gate = threading.Barrier(8)

    def talk(number: int) -> None:
        gate.wait(PATIENCE)
        for turn in range(5):
            said_back(opened(server.port, trust_file), b"%d of %d\n" % (turn, number))

    for task in [Task(lambda number=number: talk(number)) for number in range(8)]:  # type: ignore[misc]
        task.result()


def test_one_thread_reads_while_another_writes(server: Server, trust_file: Path) -> None:
    lines = [b"%06d" % number * 200 + b"\n" for number in range(2000)]
    with opened(server.port, trust_file) as stream:
        reading = Task(lambda: [stream.readline() for _ in lines])
        for line in lines:
            stream.write(line)
        stream.flush()
        assert reading.result() == lines


# ---- other programs --------------------------------------------------------------------------------------


def test_ctrl_c_is_a_keyboard_interrupt_and_loses_nothing(server: Server, trust_file: Path) -> None:
    with child(java_programs.interrupted, server.port, trust_file) as program:
        assert program.said() == ["reading"]
        waits(program.process.pid)
        program.signal(signal.SIGINT)
        assert program.said() == ["interrupted"]
        assert program.said() == ["go", "on"]
        assert program.wait() == 0


def test_sigterm_ends_a_program_at_once(server: Server, trust_file: Path) -> None:
    with child(java_programs.terminated, server.port, trust_file) as program:
        assert program.said() == ["reading"]
        program.signal(signal.SIGTERM)
        assert program.wait() == -signal.SIGTERM


def test_a_jvm_that_runs_is_used(server: Server, trust_file: Path) -> None:
    with child(java_programs.in_a_jvm_that_runs, server.port, trust_file) as program:
        assert program.said() == ["hello", "yes"]
        assert program.wait() == 0


def test_a_program_may_end_with_streams_open(server: Server, trust_file: Path) -> None:
    words = command(java_programs.careless, server.port, trust_file)
    done = subprocess.run(
        words, input="end\n", capture_output=True, text=True, timeout=PATIENCE, check=False, env=without_tools()
    )
    assert (done.returncode, done.stdout) == (0, "ends\n"), done.stderr
    assert "Exception ignored" not in done.stderr.replace("ResourceWarning", "")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="pyjnius is installed where it needs no compiler")
def test_pyjnius_is_used_where_it_has_been_imported(server: Server, trust_file: Path) -> None:
    """As on Android. Its threads are taken off, too; and Java's words alone say what is wrong with a certificate."""
    home = Path(need("java")).resolve().parent.parent
    with child(java_programs.by_pyjnius, server.port, trust_file, environment={"JAVA_HOME": str(home)}) as program:
        assert program.said() == ["SslVerificationFailure", "20", "0"]
        assert program.wait() == 0


def without_tools() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "JAVA_TOOL_OPTIONS"}


def waits(pid: int) -> None:
    """Until the main thread of a process sleeps, in a system call."""
    state = Path(f"/proc/{pid}/task/{pid}/stat")
    until(lambda: state.read_text("ascii").rpartition(") ")[2][0] == "S")
