"""Servers that run in processes of their own (children.py): at a shared port, on inherited sockets, until a signal."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence

from children import heard, say

from landline import Datagram, SocketStream, inherited_sockets, start_up_server, start_up_udp_server

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def serve_beside(port: str) -> None:
    """Share a port with other processes; each connection is told which process has it. Lives while its parent does."""
    with start_up_server(tell_process, int(port), reuse_port=True) as server:
        say("port", server.port)
        heard()


def tell_process(stream: SocketStream) -> None:
    stream.write(b"%d\n" % os.getpid())


def serve_inherited(*asked: str) -> None:
    """Serve on the sockets that this process was started with."""
    sockets = inherited_sockets()
    say("sockets", len(sockets))
    say("again", len(inherited_sockets()))
    say("left", *(name for name in os.environ if name.startswith("LISTEN_")))
    say("inheritable", *(sock.fileno() for sock in sockets if sock.get_inheritable()))
    if sockets:
        with start_up_server(tell_process, sockets) as server:
            say("serving", *server.addresses)
            heard()


def start_with_sockets(descriptors: str, *words: str) -> None:
    """Become another program, with these descriptors handed over as systemd does it."""
    numbers = [int(number) for number in descriptors.split(",")]
    aside = [os.dup2(number, 200 + place) for place, number in enumerate(numbers)]
    for place, number in enumerate(aside):
        os.dup2(number, 3 + place)
        os.close(number)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(numbers)), LISTEN_FDNAMES="a:b")
    os.execv(words[0], words)


def serve_until_a_signal(drain: str) -> None:
    """serve_forever(); tells what happens. A line b"stay" keeps its handler until the stream ends."""
    begun = threading.Semaphore(0)

    def handler(stream: SocketStream) -> None:
        match stream.readline():
            case b"stay\n":
                say("staying")
                stream.read()
            case b"stop\n":
                server.terminate(60)
            case b"work\n":
                say("working")
                begun.acquire()
                stream.write(b"done\n" * 100_000)

    def obey() -> None:
        wait_for_handlers(before)
        say(server.port)  # from now on signals are heard
        while words := heard():
            if words == ["finish"]:
                begun.release()

    before = [signal.getsignal(number) for number in SIGNALS]
    server = start_up_server(handler)
    threading.Thread(target=obey, daemon=True).start()
    server.serve_forever(None if drain == "None" else float(drain))
    say("returned", before == [signal.getsignal(number) for number in SIGNALS], server.connections)
    sys.exit(7)


def serve_datagrams_until_a_signal(drain: str) -> None:
    """The same with datagrams. b"stay" keeps its handler until its parent says otherwise."""
    let_go = threading.Event()

    def handler(datagram: Datagram) -> None:
        if datagram.data == b"stay":
            say("staying")
            let_go.wait()
            say("finished")
        else:
            datagram.reply(datagram.data)

    def obey() -> None:
        wait_for_handlers(before)
        say(server.port)  # from now on signals are heard
        heard()
        let_go.set()

    before = [signal.getsignal(number) for number in SIGNALS]
    server = start_up_udp_server(handler)
    threading.Thread(target=obey, daemon=True).start()
    server.serve_forever(float(drain))
    say("returned", before == [signal.getsignal(number) for number in SIGNALS])


def wait_for_handlers(before: Sequence[object]) -> None:
    """Until the signals have others than ``before``."""
    while any(signal.getsignal(number) is former for number, former in zip(SIGNALS, before, strict=True)):
        time.sleep(0.001)
