"""The command line of the benchmarks; see the package for what a run consists of.

Everything is pinned to one core: server, clients and C programs take turns on it, so nothing is
hidden on a second core and the numbers mean the work of both sides. Linux only.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from .cases import CASES
from .harness import measure
from .peers import available
from .report import LEGEND, table, verdict_line, verdicts, write_json
from .server import NoServer, running_server, running_tls_server
from .wire import Server, TlsServer


def main() -> int:
    options = arguments().parse_args()
    rounds = options.rounds or (3 if options.quick else 9)
    seconds = options.seconds or (0.04 if options.quick else 0.1)
    chosen = [case for case in CASES if not options.only or case.name in options.only]
    peers, missing = available()
    began = time.monotonic()
    with ExitStack() as stack:
        server_core = options.core if options.server_core is None else options.server_core
        servers: list[Server | TlsServer] = []
        running: dict[str, Callable[[int], AbstractContextManager[Server | TlsServer]]]
        running = {"TCP and UDP": running_server, "TLS": running_tls_server}
        for what, started in running.items():
            if any(case.tls == (what == "TLS") for case in chosen):
                try:
                    servers.append(stack.enter_context(started(server_core)))
                except NoServer as error:
                    missing[what] = str(error)
        os.sched_setaffinity(0, {options.core})
        results = measure(servers, chosen, peers, rounds, seconds)
    took = time.monotonic() - began

    print(LEGEND)
    for result in results:
        print(table(result), end="\n\n")
    for module, reason in missing.items():
        print(f"not measured: {module}: {reason}")
    print(f"Targets (core {options.core}, {rounds} rounds, {took:.0f} s):")
    found = verdicts(results)
    print(*map(verdict_line, found), sep="\n")
    settings = {
        "core": options.core,
        "server_core": options.server_core,
        "rounds": rounds,
        "sample_seconds": seconds,
        "took": took,
    }
    for server in servers:
        if isinstance(server, TlsServer):
            settings["c_openssl"] = server.openssl
    write_json(options.json, results, settings, missing)
    print(f"Every sample is in {options.json}")
    return 1 if any(result.failures for result in results) else 0


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="landline, its peers and a C client, in one run on one core.",
        epilog="CASE: " + ", ".join(case.name for case in CASES),
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: three minutes")
    parser.add_argument(
        "--only",
        action="append",
        metavar="CASE",
        choices=[case.name for case in CASES],
        help="measure this case; may be repeated",
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        default=Path(__file__).with_name("results.json"),
        help="where to write every sample (default: results.json beside this program)",
    )
    parser.add_argument("--rounds", type=int, help="samples of each peer (default 9)")
    parser.add_argument("--seconds", type=float, help="length of a sample (default 0.1)")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="default: the last core")
    parser.add_argument("--server-core", type=int, help="default: the same core, so that both sides' work counts")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
