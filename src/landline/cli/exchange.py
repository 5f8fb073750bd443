"""Both directions at once: standard input to the peer, the peer to standard output.

The calling thread receives, a second one sends; they share nothing but the stream, which allows that, and so
neither can hold up the other whatever the peer does. One thread with a poll on everything was rejected:
standard output cannot be made non-blocking without doing the same to every program that shares it, and poll
does not say how much a pipe takes. Memory is one block per direction.

The descriptors are used directly. Python's own buffers would keep back what has come until more comes, and the
interpreter, when it exits, waits for the lock of a buffered reader that is blocked on a terminal.

The sending thread is a daemon: a read from a terminal cannot be interrupted, and must not keep the command
alive after the peer has ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from threading import Condition, Thread

from .. import ReadTimeout, SocketIOError, SocketStream, StreamClosed
from ..sync.wait import wait_for_sockets
from .output import writing

__all__ = ["Exchange"]

STDIN, STDOUT = 0, 1

BLOCK = 1 << 18
"""Bytes per step. Larger ones bring nothing, and pipes hold less than this anyway."""

INPUT_PAUSE = 0.5
"""Seconds without input, after the peer's end, until the input counts as idle. A peer that has ended may still
read (``nc -N -l 9000 </dev/null >copy`` ends first and takes everything), so a file or a pipe that still gives
something goes on being sent; a pipe that is merely open must not keep the command alive. socat waits as long.
At a terminal there is nothing to wait for."""


class Exchange:
    """One exchange over an open stream, which stays the caller's to end."""

    def __init__(self, stream: SocketStream) -> None:
        self._stream = stream
        self._input_ended = False
        self._received = b""  # the last of it
        self._failure: OSError | None = None
        self._state = Condition()
        self._sending = False  # input has been read that is not sent yet
        self._over = False  # the sending thread has ended

    def run(self) -> None:
        """Pass bytes until the peer has ended, and the input that was there by then is sent.

        Raises:
            OutputClosed: nobody reads standard output any more.
            SocketIOError: the connection failed, or nothing came within the stream's read_timeout.
            OSError: standard input or output failed.
        """
        try:
            Thread(target=self._send_input, name="landline input", daemon=True).start()
        except RuntimeError as error:
            raise OSError(f"no thread to read standard input in: {error}") from error
        try:
            with _waking_at_signals(self._stream):
                while data := self._stream.read1(BLOCK):
                    self._received = data
                    _write_all(data)
        except StreamClosed:
            if self._failure is None:
                raise
        except ReadTimeout as timeout:
            peer, limit = self._stream.peer_address, self._stream.read_timeout
            raise OSError(f"nothing came from {peer} within --read-timeout {limit:g} seconds") from timeout
        self._let_input_pause()
        if self._failure is not None:
            raise self._failure

    def give_up(self) -> None:
        """End the stream after run() has failed."""
        if os.isatty(STDOUT) and self._received and not self._received.endswith(b"\n"):
            with contextlib.suppress(OSError):
                os.write(STDOUT, b"\n")  # what is told next, or the prompt, begins a line
        # A proper end tells the peer that this was all. At a terminal Ctrl-C is as good a way to leave as Ctrl-D.
        if self._input_ended or os.isatty(STDIN):
            self._stream.close()
        else:
            self._stream.abort()

    def _send_input(self) -> None:
        try:
            while data := _read_some():
                self._enter(sending=True)
                self._stream.write(data)
                self._stream.flush()
                self._enter(sending=False)
            self._stream.shutdown("output")
            self._input_ended = True
        except StreamClosed:
            pass  # the command is ending
        except SocketIOError as error:
            # The receiving side goes on: what the peer said before it broke off may explain it.
            self._failure = error
        except OSError as error:
            self._failure = error
            self._stream.abort()  # which ends the receiving side
        finally:
            self._enter(over=True)

    def _enter(self, *, sending: bool = False, over: bool = False) -> None:
        with self._state:
            self._sending, self._over = sending, over
            self._state.notify()

    def _let_input_pause(self) -> None:
        """Wait while input that has been read is being sent, and for more of it while it keeps coming."""
        patience = 0.0 if os.isatty(STDIN) else INPUT_PAUSE
        with self._state:
            while not self._over:
                self._state.wait_for(lambda: not self._sending)
                if not self._over and not self._state.wait_for(lambda: self._sending or self._over, patience):
                    return


@contextlib.contextmanager
def _waking_at_signals(stream: SocketStream) -> Iterator[None]:
    """Inside, a signal ends a read even if it comes just before the read blocks.

    Python looks for signals, then calls the kernel; one that comes in between (Ctrl-C as an answer to a
    prompt, typed by a program) would only be noticed when the peer says something more. A thread that is told of
    signals by the interpreter's own handler ends the wait.
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)

    def watch() -> None:
        with receiver:
            if receiver.recv(1):
                with contextlib.suppress(OSError):
                    stream.shutdown("input")

    watcher = Thread(target=watch, name="landline signals", daemon=True)
    watcher.start()
    before = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        sender.close()


def _read_some() -> bytes:
    while True:
        try:
            return os.read(STDIN, BLOCK)
        except BlockingIOError:  # another program that shares it has made it non-blocking
            wait_for_sockets([STDIN], (), None)
        except OSError as error:
            raise OSError(f"reading standard input failed: {error.strerror}") from error


def _write_all(data: bytes) -> None:
    view = memoryview(data)
    while view:
        with writing():
            try:
                view = view[os.write(STDOUT, view) :]
            except BlockingIOError:
                wait_for_sockets((), [STDOUT], None)
