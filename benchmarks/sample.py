"""One sample in a process of its own: `python -m benchmarks.sample REQUEST`.

The request is JSON: the peer's module and name, the case, the server, and the count of operations,
or null for a trial: then the process looks for the count that takes about `seconds`. Prints,
as JSON, the count and what it took (`sampling.Taken`).
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable

from .sampling import Taken
from .wire import FILE, SERVER_PID, Server, TlsServer

FIRST_COUNT, FASTEST_GROWTH = 16, 16
ENOUGH_TO_EXTRAPOLATE = 0.2
"""Of a sample's time: a trial this long tells how many operations a whole sample needs."""


def main() -> None:
    request = json.loads(sys.argv[1])
    server = (TlsServer if request["tls"] else Server)(**request["server"])
    os.environ.update({SERVER_PID: str(server.pid), FILE: server.file})
    peers = importlib.import_module(request["module"]).PEERS
    peer = next(peer for peer in peers if peer.name == request["peer"])
    method = getattr(peer, request["case"])

    def work(count: int) -> Taken:
        taken: Taken = peer.run(method, server, count)
        return taken

    count = request["count"] or fitting_count(work, request["seconds"])
    print(json.dumps([count, *work(count)]))


def fitting_count(work: Callable[[int], Taken], seconds: float) -> int:
    """The count of operations that takes about `seconds`."""
    count = FIRST_COUNT
    while (elapsed := work(count).amount) < seconds * ENOUGH_TO_EXTRAPOLATE:
        count *= min(FASTEST_GROWTH, max(2, int(seconds / max(elapsed, 1e-9))))
    return max(1, int(count * seconds / elapsed))


if __name__ == "__main__":
    main()
