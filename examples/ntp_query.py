"""Ask a time server how wrong this machine's clock is.

    python examples/ntp_query.py pool.ntp.org
    python examples/ntp_query.py 192.0.2.1 --count 8

Shown: a connected UDP socket, which takes datagrams of that server only, and hears when it refuses; a deadline, which
answers that are not ours cannot prolong; asking again when a datagram was lost.
Source: RFC 5905 (sections 7.3 and 8), RFC 4330 section 5 (what a simple client has to check).
"""

from __future__ import annotations

import argparse
import secrets
import struct
import sys
import time
from typing import NamedTuple

from landline import ReadTimeout, UdpSocket, open_udp_socket

PACKET = struct.Struct("!BBbbII4sQQQQ")  # figure 8, up to the four timestamps
CLIENT = 4 << 3 | 3  # version 4, mode 3
SERVER = 4  # the mode of an answer
UNSYNCHRONIZED = 3  # the leap indicator of a server that does not know the time itself
ERA = 1 << 32  # seconds until the numbers begin again, in 2036
UNIX = 2_208_988_800  # 1970, in seconds from 1900


class Sample(NamedTuple):
    """One answer.

    Attributes:
        offset: seconds that this clock is behind the server's.
        delay: seconds on the way, there and back; the offset is wrong by half of it at most.
        stratum: how far the server is from a reference clock.
    """

    offset: float
    delay: float
    stratum: int


def ask(udp: UdpSocket) -> Sample:
    """One request, and the answer to it."""
    cookie = secrets.randbits(64)  # stands in the answer again; the time of day is nobody's business
    sent, started = time.time(), time.monotonic()
    udp.send(PACKET.pack(CLIENT, 0, 0, 0, 0, 0, b"", 0, 0, 0, cookie))
    while True:
        data = udp.receive()
        elapsed = time.monotonic() - started  # by a clock that nobody sets meanwhile
        if len(data) < PACKET.size:
            continue
        first, stratum, _, _, _, _, reference, _, origin, received, replied = PACKET.unpack_from(data)
        if origin != cookie or first & 7 != SERVER:
            continue  # late, or not by the server
        if stratum == 0:
            raise ValueError(
                f"{udp.peer_address} does not want to tell the time: {reference.decode('ascii', 'replace')}"
            )
        if first >> 6 == UNSYNCHRONIZED or not replied or stratum > 15:
            raise ValueError(f"{udp.peer_address} does not know the time itself")
        there, back = since(received, sent), since(replied, sent + elapsed)
        return Sample((there + back) / 2, max(0.0, there - back), stratum)


def since(timestamp: int, now: float) -> float:
    """Seconds from ``now`` to an NTP timestamp (section 6), which is in the era that makes them few."""
    difference = (timestamp - int((now + UNIX) * ERA)) % (ERA * ERA)
    return (difference if difference < ERA * ERA // 2 else difference - ERA * ERA) / ERA


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare this machine's clock with a time server's.")
    parser.add_argument("server")
    parser.add_argument("--port", default="123")
    parser.add_argument("--count", type=int, default=4, help="answers wanted; the quickest counts (default: 4)")
    parser.add_argument("--timeout", type=float, default=2, metavar="S", help="for each answer (default: 2 s)")
    parser.add_argument("--pause", type=float, default=0.5, metavar="S", help="between questions (default: 0.5 s)")
    options = parser.parse_args()
    samples: list[Sample] = []
    lost = 0
    with open_udp_socket(options.server, options.port, timeout=10) as udp:
        for number in range(options.count):
            time.sleep(options.pause if number else 0)
            try:
                with udp.deadline(options.timeout):
                    samples.append(ask(udp))
            except ReadTimeout:
                lost += 1
        if not samples:
            sys.exit(f"{udp.peer_address} has not answered any of {lost} questions")
        best = min(samples, key=lambda sample: sample.delay)
        print(
            f"{udp.peer_address} (stratum {best.stratum}): this clock is {abs(best.offset):.6f} s "
            f"{'behind' if best.offset > 0 else 'ahead'}, +/- {best.delay / 2:.6f} s; {lost} of {options.count} lost"
        )


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(str(error))
