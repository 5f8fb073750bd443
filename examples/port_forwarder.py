"""Forward a port: whoever connects here is connected to another server, byte for byte.

    python examples/port_forwarder.py 8080 www.example.org 80
    python examples/port_forwarder.py 8443 backend.example 443 --proxy-protocol v2

Shown: two streams copied both ways at once, each direction with an end of its own (half close), because many protocols
say "that is all" by it; a failure on one side that is a failure on the other; the PROXY header, by which the server
learns who the client is; the streams' own counts. Ctrl-C lets connections finish for a few seconds.
"""

from __future__ import annotations

import argparse
import logging
import sys
from functools import partial
from threading import Thread
from time import monotonic

from landline import ProxyHeader, SocketError, SocketStream, open_tcp_stream, start_up_server

log = logging.getLogger("forwarder")


def forward(options: argparse.Namespace, client: SocketStream) -> None:
    """The server's handler: one connection, from its beginning to its end."""
    begun, who = monotonic(), client.peer_address
    header = None
    if options.proxy_protocol:
        header = ProxyHeader(client.peer_address, client.local_address, 1 if options.proxy_protocol == "v1" else 2)
    try:
        server = open_tcp_stream(options.host, options.service, timeout=options.timeout, proxy_protocol=header)
    except SocketError as error:
        log.warning("%s could not be forwarded: %s", who, error)
        client.abort()  # a proper end would look like an empty answer
        return
    with server:
        answers = Thread(target=copy, args=(server, client), name=f"answers to {who}")
        answers.start()
        copy(client, server)
        while answers.is_alive():
            answers.join(0.5)
            if client.closed:  # the end of this program aborts the client's stream, and knows nothing of the server's
                server.abort()
    seconds = monotonic() - begun
    log.info("%s sent %d bytes and was sent %d, in %.1f s", who, client.bytes_received, client.bytes_sent, seconds)


def copy(source: SocketStream, sink: SocketStream) -> None:
    """One direction, as it comes, up to its end. Where it breaks both streams are reset, and so the other copy ends."""
    try:
        while data := source.read1():
            sink.write(data)
            sink.flush()
        sink.shutdown("output")
    except SocketError as error:
        if not source.closed and not sink.closed:
            log.warning("%s -> %s broke: %s", source.peer_address, sink.peer_address, error)
        source.abort()
        sink.abort()


def main() -> None:
    parser = argparse.ArgumentParser(description="Forward a port to another server.")
    parser.add_argument("port", help="where to listen; 0 lets the system choose")
    parser.add_argument("host")
    parser.add_argument("service")
    parser.add_argument("--local-address", default="localhost", help='where to listen (default: "localhost")')
    parser.add_argument("--proxy-protocol", choices=["v1", "v2"], help="begin with a PROXY header")
    parser.add_argument("--timeout", type=float, default=10, metavar="S", help="for connecting (default: 10 s)")
    parser.add_argument("--drain", type=float, default=5, metavar="S", help="for the end, after Ctrl-C (default: 5 s)")
    options = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    server = start_up_server(partial(forward, options), options.port, local_address=options.local_address)
    log.info("forwarding %s to %s port %s", ", ".join(map(str, server.addresses)), options.host, options.service)
    server.serve_forever(drain=options.drain)


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(str(error))
