"""A chat room: what one says, all hear. Any client for lines will do, such as `landline connect localhost 5000`.

    python examples/chat_server.py 5000                 (only this machine can come in)
    python examples/chat_server.py 5000 --everywhere

Shown: start_up_server() with text streams, a thread for each guest; a second thread that writes what the guest is to
hear, so that one who does not read holds up nobody; bounds on what a guest may cost; an end that is told to all.
"""

from __future__ import annotations

import argparse
import logging
import sys
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock, Thread

from landline import SocketError, StreamClosed, TextSocketStream, start_up_server

LONGEST_LINE = 1000  # characters of one utterance
MOST_UNHEARD = 500  # lines that wait for a guest who does not read, until he has to leave


class Guest:
    """Somebody in the room; his thread reads, and another one writes."""

    def __init__(self, name: str, stream: TextSocketStream) -> None:
        self.stream = stream
        self.unheard: SimpleQueue[str | None] = SimpleQueue()
        self.writer = Thread(target=self.write, name=f"to {name}", daemon=True)
        self.writer.start()

    def tell(self, line: str) -> None:
        """Never waits. A guest who is too slow is thrown out, which wakes both of his threads."""
        if self.unheard.qsize() > MOST_UNHEARD:
            self.stream.abort()
        else:
            self.unheard.put(line)

    def leave(self) -> None:
        self.unheard.put(None)

    def write(self) -> None:
        with suppress(SocketError):  # his reading thread hears of it too
            while (line := self.unheard.get()) is not None:
                self.stream.write(line + "\n")
                if self.unheard.empty():
                    self.stream.flush()
            self.stream.close()


class Room:
    def __init__(self) -> None:
        self.lock = Lock()
        self.guests: dict[str, Guest] = {}

    def tell_all(self, line: str) -> None:
        with self.lock:
            for guest in self.guests.values():
                guest.tell(line)

    def welcome(self, stream: TextSocketStream) -> None:
        """The server's handler: one guest, from his coming to his going."""
        stream.line_limit = LONGEST_LINE
        stream.write("What is your name?\n")
        name = stream.readline().strip()
        with self.lock:
            if not name or name in self.guests:
                stream.write("There is somebody of that name here already.\n" if name else "Goodbye, then.\n")
                return
            guest = self.guests[name] = Guest(name, stream)
        self.tell_all(f"* {name} has come")
        try:
            with suppress(StreamClosed):  # thrown out, or the end of the server
                for line in stream:
                    self.tell_all(f"{name}: {line.rstrip()}")
        finally:
            with self.lock:
                del self.guests[name]
            self.tell_all(f"* {name} has gone")
            guest.leave()
            guest.writer.join()

    def end(self) -> None:
        self.tell_all("* the room is closed")
        with self.lock:
            for guest in self.guests.values():
                guest.leave()


def main() -> None:
    parser = argparse.ArgumentParser(description="A chat room for clients that speak in lines.")
    parser.add_argument("port")
    parser.add_argument("--everywhere", action="store_true", help="at all addresses of this machine")
    options = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    room = Room()
    server = start_up_server(
        room.welcome,
        options.port,
        local_address=None if options.everywhere else "localhost",
        element_type=str,
        errors="replace",
        write_timeout=60,
        max_connections=200,
        on_end=room.end,
    )
    print(f"open at {', '.join(map(str, server.addresses))}", flush=True)
    server.serve_forever(drain=2)


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(str(error))
