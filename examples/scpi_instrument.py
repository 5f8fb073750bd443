"""Talk to a measuring instrument in SCPI: a line for each command, a line or a block of bytes for each answer.

    python examples/scpi_instrument.py 192.0.2.17 '*IDN?'
    python examples/scpi_instrument.py 192.0.2.17 ':WAV:SOUR CHAN1' ':WAV:DATA?' --save wave.bin

Shown: lines and counted bytes read from one stream; peek() to see what kind of answer comes; an idle limit that a
large block may exceed as long as it keeps coming; a deadline over a whole answer.
Source: IEEE 488.2 section 8.7.9 (blocks), SCPI-99 volume 1 chapter 7 and volume 2 section 21.8 (errors).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from landline import SocketStream, open_tcp_stream

PORT = 5025  # what most instruments listen at for raw SCPI

LARGEST_BLOCK = 1 << 28  # bytes; a length beyond that is a misunderstanding


class Instrument:
    def __init__(self, stream: SocketStream) -> None:
        self.stream = stream

    def send(self, command: str) -> None:
        self.stream.write(command.encode("ascii") + b"\n")
        self.stream.flush()

    def ask(self, query: str) -> str | bytes:
        """The answer: text, or the content of a block."""
        self.send(query)
        if self.stream.peek()[:1] != b"#":
            return self.line()
        head = self.stream.read_exactly(2)
        if head == b"#0":
            raise ValueError(f"{query} is answered with a block of unknown length, which has no end on a socket")
        if not head[1:].isdigit():
            return head.decode("ascii", "replace") + self.line()  # a number, such as #HFF
        return self.block(int(head[1:]))

    def line(self) -> str:
        line = self.stream.readline()
        if not line.endswith(b"\n"):
            raise EOFError(f"{self.stream.peer_address} has ended the connection in the middle of an answer")
        return line.decode("ascii", "replace").rstrip("\r\n")

    def block(self, digits: int) -> bytes:
        """What follows "#" and the number of digits: the length in so many digits, the bytes, and a line end."""
        size = self.stream.read_exactly(digits)
        if not size.isdigit() or int(size) > LARGEST_BLOCK:
            raise ValueError(f"{self.stream.peer_address} announces a block of {size!r} bytes")
        data = self.stream.read_exactly(int(size))
        self.line()
        return data

    def errors(self) -> list[str]:
        """What the instrument has complained about since it was asked last."""
        found = []
        while not (error := str(self.ask("SYST:ERR?"))).lstrip("+").startswith("0,"):
            found.append(error)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Send SCPI commands to an instrument and show its answers.")
    parser.add_argument("host")
    parser.add_argument("command", nargs="+", help="those that end in a question mark are answered")
    parser.add_argument("--port", default=PORT)
    parser.add_argument("--timeout", type=float, default=5, metavar="S", help="for a sign of life (default: 5 s)")
    parser.add_argument("--deadline", type=float, metavar="S", help="for each command and its whole answer")
    parser.add_argument("--save", type=Path, metavar="FILE", help="where the content of blocks goes")
    options = parser.parse_args()
    with open_tcp_stream(
        options.host, options.port, timeout=options.timeout, read_timeout=options.timeout, write_timeout=options.timeout
    ) as stream:
        instrument = Instrument(stream)
        for command in options.command:
            with stream.deadline(options.deadline):
                if "?" not in command:
                    instrument.send(command)
                elif isinstance(answer := instrument.ask(command), str):
                    print(answer)
                else:
                    print(f"a block of {len(answer)} bytes")
                    if options.save:
                        options.save.write_bytes(answer)
        if complaints := instrument.errors():
            sys.exit(f"{stream.peer_address} complains: {'; '.join(complaints)}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, EOFError, ValueError) as error:
        sys.exit(str(error))
