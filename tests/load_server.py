"""A server under load, in a process of its own (children.py). It obeys lines; its clients are load_clients.py's."""

from __future__ import annotations

import gc
import logging
import os
import random
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from children import heard, say

from landline import SocketError, SocketStream, start_up_server
from landline.sync import workers

ANSWER = 200_000
"""Bytes of an answer: more than a socket takes at once."""

LONGEST_WORK = 0.1
"""Seconds that an answer takes to make, at most."""

LONG = 600
"""Seconds for a handshake: those who drip it are not what this is about."""


def serve(handler: str, most: str, idle: str, identity_file: str = "") -> None:
    """A server with one of the handlers below; ``idle``: seconds that its idle threads stay, "" for the usual ones.

    Says what the process is like before it, then the port. Obeys ``status``, ``count``, ``ends``, ``answered``, and
    ``terminate SECONDS``, which is answered when it is done and lets other commands pass meanwhile.
    """
    context = None
    if identity_file:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(identity_file)
    if idle:
        workers.IDLE = float(idle)
    log = Counted()
    logging.getLogger("landline").addHandler(log)
    served = Served()
    handlers: dict[str, Callable[[SocketStream], object]] = {"echo": served.echo, "answer": served.answer}
    say(*status(0, log))
    server = start_up_server(handlers[handler], max_connections=int(most), ssl_ctx=context, handshake_timeout=LONG)
    say(server.port)

    def terminate(drain: float) -> None:
        while handler == "answer" and served.begun == len(served.answered):
            time.sleep(0.0001)  # in the midst of something
        begun, at_work = time.monotonic(), served.begun - len(served.answered)
        server.terminate(drain)
        say("ended", drain, time.monotonic() - begun, at_work)

    while words := heard():
        match words:
            case ["status"]:
                say(*status(server.connections, log))
            case ["count"]:
                say(server.connections, threads())
            case ["ends"]:
                say(*(f"{name}={count}" for name, count in served.ends.items()))
            case ["answered"]:
                say(served.begun, *served.answered)
            case ["terminate", seconds]:
                threading.Thread(target=terminate, args=(float(seconds),)).start()
            case _:
                raise ValueError(words)


class Served:
    """What the handlers do, and did."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._never = threading.Event()
        self.begun = 0
        self.answered: list[int] = []
        self.ends: Counter[str] = Counter()

    def echo(self, stream: SocketStream) -> None:
        """Give lines back; half a line at the end, too."""
        end = "end"
        try:
            for line in stream:
                stream.write(line)
                stream.flush()
        except SocketError as error:
            end = type(error).__name__
        with self._lock:
            self.ends[end] += 1

    def answer(self, stream: SocketStream) -> None:
        """One line is a number; after some work come that line, and many bytes."""
        with self._lock:
            self.begun += 1
        line = stream.readline()
        number = int(line)
        self._never.wait(random.Random(number).uniform(0, LONGEST_WORK))
        stream.write(line)
        stream.write(bytes(ANSWER))
        with self._lock:
            self.answered.append(number)


class Counted(logging.Handler):
    """How often the server has complained; of errors standard error tells more."""

    def __init__(self) -> None:
        super().__init__()
        self.levels: Counter[int] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        self.levels[record.levelno] += 1
        if record.levelno >= logging.ERROR:
            sys.stderr.write(f"{self.format(record)}\n")


def status(connections: int, log: Counted) -> tuple[int, ...]:
    """The numbers of test_server_load.Status."""
    gc.collect()
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    memory = sum(int(line.split()[1]) for line in lines if line.startswith(("VmRSS:", "VmPTE:")))
    descriptors = len(os.listdir("/proc/self/fd"))
    objects = len(gc.get_objects())
    levels = log.levels[logging.WARNING], log.levels[logging.ERROR]
    return connections, memory, descriptors, threads(), objects, sys.getallocatedblocks(), *levels


def threads() -> int:
    """As the system counts them: a thread that Python has forgotten is one, too."""
    return len(os.listdir("/proc/self/task"))
