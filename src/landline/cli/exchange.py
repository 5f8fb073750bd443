"""Both directions at once: a source to the peer, the peer to a sink; standard input and output, as a rule.

The calling thread receives, a second one sends; they share nothing but the stream, which allows that, and so
neither can hold up the other whatever the peer does. One thread with a poll on everything was rejected:
standard output cannot be made non-blocking without doing the same to every program that shares it, and poll
does not say how much a pipe takes. Memory is one block per direction.

The sending thread is a daemon: a read from a terminal cannot be interrupted, and must not keep the command
alive after the peer has ended.
"""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Iterator
from threading import Condition, Thread

from .. import ReadTimeout, SocketIOError, SocketStream, StreamClosed
from .sinks import Sink
from .sources import BLOCK, Source

__all__ = ["Exchange"]


class Exchange:
    """One exchange over an open stream, which stays the caller's to end."""

    def __init__(self, stream: SocketStream, source: Source, sink: Sink) -> None:
        self._stream = stream
        self._source = source
        self._sink = sink
        self._input_ended = False
        self._failure: OSError | None = None
        self._state = Condition()
        self._sending = False  # input has been read that is not sent yet
        self._over = False  # the sending thread has ended

    def run(self) -> None:
        """Pass bytes until the peer has ended, and the input that was there by then is sent.

        Raises:
            OutputClosed: nobody reads standard output any more.
            SocketIOError: the connection failed, or nothing came within the stream's read_timeout.
            OSError: the source or the sink failed.
        """
        try:
            with _waking_at_signals(self._stream):
                try:
                    Thread(target=self._send_input, name="landline input", daemon=True).start()
                except RuntimeError as error:
                    raise OSError(f"no thread to read standard input in: {error}") from error
                while data := self._stream.read1(BLOCK):
                    self._sink.write(data)
        except StreamClosed:
            if self._failure is None:
                raise
        except ReadTimeout as timeout:
            peer, limit = self._stream.peer_address or "the peer", self._stream.read_timeout
            raise OSError(f"nothing came from {peer} within --read-timeout {limit:g} seconds") from timeout
        self._let_input_pause()
        if self._failure is not None:
            raise self._failure

    def give_up(self) -> None:
        """End the stream after run() has failed."""
        # A proper end tells the peer that this was all. At a terminal Ctrl-C is as good a way to leave as Ctrl-D.
        if self._input_ended or self._source.typed:
            self._stream.close()
        else:
            self._stream.abort()

    def _send_input(self) -> None:
        try:
            self._source.send(self._stream, self._busy)
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

    def _busy(self, busy: bool) -> None:
        self._enter(sending=busy)

    def _enter(self, *, sending: bool = False, over: bool = False) -> None:
        with self._state:
            self._sending, self._over = sending, over
            self._state.notify()

    def _let_input_pause(self) -> None:
        """Wait while input that has been read is being sent, and for more of it while it keeps coming."""
        with self._state:
            while not self._over:
                self._state.wait_for(lambda: not self._sending or self._over)
                patience = self._source.patience
                if not self._over and not self._state.wait_for(lambda: self._sending or self._over, patience):
                    return


@contextlib.contextmanager
def _waking_at_signals(stream: SocketStream) -> Iterator[None]:
    """Inside, Ctrl-C ends a read even if it comes just before the read blocks.

    Python looks for signals, then calls the kernel; one that comes in between (Ctrl-C as an answer to a
    prompt, typed by a program) would only be noticed when the peer says something more. A thread that is told of
    signals by the interpreter's own handler ends the wait.
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)

    def watch() -> None:
        with receiver:
            while number := receiver.recv(1):
                if number[0] == signal.SIGINT:
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
