"""Programs that use TLS through Java, each run in a process of its own (children.py): no pytest here."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

from children import heard, say

from landline import SocketStream, open_tcp_stream_using_java

LOOPBACK, PASSWORD = "127.0.0.1", "secret"


def opened(port: str, trust_file: str) -> SocketStream:
    return open_tcp_stream_using_java(LOOPBACK, int(port), trust_store=trust_file, trust_store_password=PASSWORD)


def interrupted(port: str, trust_file: str) -> None:
    """Ctrl-C in a read that waits; then the answer is read after all."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with opened(port, trust_file) as stream:
        assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
        try:
            say("reading")
            stream.readline()
        except KeyboardInterrupt:
            say("interrupted")
        stream.write(b"go on\n")
        say(*stream.readline().decode().split())


def terminated(port: str, trust_file: str) -> None:
    """SIGTERM ends the program as it does without Java."""
    with opened(port, trust_file) as stream:
        say("reading")
        stream.readline()


def in_a_jvm_that_runs(port: str, trust_file: str) -> None:
    """The program has started its JVM itself."""
    import jpype

    jpype.startJVM("-Dmine=yes", interrupt=False)
    with opened(port, trust_file) as stream:
        stream.write(b"hello\n")
        say(*stream.readline().decode().split(), jpype.JClass("java.lang.System").getProperty("mine"))


def careless(port: str, trust_file: str) -> None:
    """Ends with a stream open, and with TLS in a thread that never ends."""
    from threading import Event, Thread

    stream = opened(port, trust_file)
    ready = Event()

    def forever() -> None:
        other = opened(port, trust_file)
        ready.set()
        with suppress(OSError):
            other.readline()

    Thread(target=forever, daemon=True).start()
    ready.wait()
    say("ends")
    heard()
    globals()["kept"] = stream


def by_pyjnius(port: str, trust_file: str) -> None:
    """The program has imported jnius."""
    import jnius

    assert jnius.autoclass("java.lang.System").getProperty("java.version")
    from threading import Thread

    from landline.java.bridge import bridge
    from landline.java.pyjnius import PyjniusBridge

    assert isinstance(bridge(), PyjniusBridge)
    assert "jpype" not in sys.modules
    with opened(port, trust_file) as stream:
        data = os.urandom(100_000).hex().encode() + b"\n"
        stream.write(data)
        assert stream.readline() == data
    count = jnius.autoclass("java.lang.management.ManagementFactory").getThreadMXBean().getThreadCount
    before = count()
    for _ in range(20):
        thread = Thread(target=lambda: opened(port, trust_file).close())
        thread.start()
        thread.join()
    try:
        open_tcp_stream_using_java(LOOPBACK, int(port))
    except OSError as error:
        say(type(error).__name__, error.verify_code, count() - before)  # type: ignore[attr-defined]
