"""Read and write the registers of a device by Modbus/TCP.

    python examples/modbus_master.py 192.0.2.30 read holding 100 8
    python examples/modbus_master.py 192.0.2.30 write 100 17 42
    python examples/modbus_master.py 192.0.2.30 read coils 0 16 --every 1

Shown: binary messages whose head says how much follows, read with read_exactly(); a stream that outlives a timeout (an
answer that comes too late is told from the next one by its number); a device whose power failed noticed by keepalive.
Source: MODBUS Application Protocol V1.1b3; MODBUS Messaging on TCP/IP V1.0b.
"""

from __future__ import annotations

import argparse
import struct
import sys
import time
from itertools import count

from landline import ReadTimeout, SocketStream, detect_dead_peer, open_tcp_stream

HEAD = struct.Struct("!HHHB")  # transaction, protocol (0), how many bytes follow with the unit's, unit
LONGEST = 254  # bytes that may follow

READ = {"coils": 1, "discrete": 2, "holding": 3, "input": 4}
WRITE_REGISTERS = 16

REFUSALS = {
    1: "it does not know the function",
    2: "it has no such address",
    3: "it does not accept the value",
    4: "it has failed",
    6: "it is busy",
    11: "the gateway has had no answer from it",
}


class Refused(Exception):
    """The device's own no; the connection is as good as before."""


class Master:
    def __init__(self, stream: SocketStream, unit: int) -> None:
        self.stream = stream
        self.unit = unit
        self.numbers = count(1)

    def ask(self, function: int, body: bytes) -> bytes:
        """Send a request; what the answer to it says."""
        number = next(self.numbers) & 0xFFFF
        self.stream.write(HEAD.pack(number, 0, len(body) + 2, self.unit) + bytes([function]) + body)
        while True:
            answered, unit, code, *rest = self.message()
            if answered != number:
                continue  # the answer to a question that nobody waits for any more
            if code == function | 0x80:
                raise Refused(f"unit {unit} refuses: {REFUSALS.get(rest[0], f'exception {rest[0]}')}")
            if code != function:
                raise ConnectionError(f"{self.stream.peer_address} answers function {function} with {code}")
            return bytes(rest)

    def message(self) -> tuple[int, ...]:
        """The next message, whole: its transaction, its unit, and its bytes."""
        head = self.stream.read_exactly(HEAD.size)
        transaction, protocol, size, unit = HEAD.unpack(head)
        if protocol or not 3 <= size <= LONGEST:
            raise ConnectionError(f"{self.stream.peer_address} does not speak Modbus")
        try:
            return transaction, unit, *self.stream.read_exactly(size - 1)
        except ReadTimeout:
            self.stream.unread(head)  # the body is still to come, and the next call must not take it for a head
            raise

    def read(self, kind: str, address: int, number: int) -> list[int]:
        """Registers (holding, input), or bits (coils, discrete)."""
        size, *data = self.ask(READ[kind], struct.pack("!HH", address, number))
        bits = kind in ("coils", "discrete")
        if not size == len(data) == ((number + 7) // 8 if bits else 2 * number):
            raise ConnectionError(f"{self.stream.peer_address} sends {len(data)} bytes for {number} {kind}")
        if bits:  # the lowest bit first
            return [data[place // 8] >> place % 8 & 1 for place in range(number)]
        return list(struct.unpack(f"!{number}H", bytes(data)))

    def write(self, address: int, values: list[int]) -> None:
        number = len(values)
        self.ask(WRITE_REGISTERS, struct.pack(f"!HHB{number}H", address, number, 2 * number, *values))


def word(text: str) -> int:
    """What 16 bits can say; everything in the protocol is that."""
    number = int(text)
    if not 0 <= number <= 0xFFFF:
        raise argparse.ArgumentTypeError(f"{number} is not from 0 to 65535")
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description="Read and write by Modbus/TCP.")
    parser.add_argument("host")
    parser.add_argument("--port", default="502")
    parser.add_argument("--unit", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=2, metavar="S", help="for an answer (default: 2 s)")
    actions = parser.add_subparsers(dest="action", required=True)
    reading = actions.add_parser("read")
    reading.add_argument("kind", choices=READ)
    reading.add_argument("address", type=word)
    reading.add_argument("number", type=word)
    reading.add_argument("--every", type=float, metavar="S", help="read again and again, until Ctrl-C")
    writing = actions.add_parser("write")
    writing.add_argument("address", type=word)
    writing.add_argument("values", type=word, nargs="+")
    options = parser.parse_args()
    limit, dead = options.timeout, detect_dead_peer(30)
    with open_tcp_stream(options.host, options.port, timeout=limit, read_timeout=limit, keepalive=dead) as stream:
        master = Master(stream, options.unit)
        if options.action == "write":
            master.write(options.address, options.values)
            return
        while True:
            try:
                print(*master.read(options.kind, options.address, options.number), flush=True)
            except ReadTimeout as error:
                if not options.every:
                    raise
                print(error, file=sys.stderr, flush=True)
            if not options.every:
                return
            time.sleep(options.every)


if __name__ == "__main__":
    try:
        main()
    except (OSError, EOFError, Refused) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
