"""A server in a process of its own: `python -m benchmarks.serve MODULE PEER [once]`.

Prints "port" and the port, then an empty line, and ends when its standard input does, as `server.c` has it.
"""

from __future__ import annotations

import importlib
import os
import sys
from threading import Thread


def main() -> None:
    module, name, *once = sys.argv[1:]
    peer = next(peer for peer in importlib.import_module(module).PEERS if peer.name == name)
    Thread(target=end_with_input, daemon=True).start()
    peer.serve(listening, bool(once))


def listening(port: int) -> None:
    print(f"port {port}\n", flush=True)


def end_with_input() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main()
