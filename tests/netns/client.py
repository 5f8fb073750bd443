"""Run in the client's namespace: open a stream as told, and print what came of it as JSON.

    client.py '[host, service, then, {"timeout": 2, ...}]'

`then` is what to do with the stream: "close" it, or "read" from it or "write" to it until that fails. Those two print a
line "connected" first. `dead_peer` among the keywords stands for keepalive=detect_dead_peer(seconds).
"""

from __future__ import annotations

import json
import sys
from time import monotonic
from typing import Any

from landline import SocketError, SocketStream, detect_dead_peer, open_tcp_stream
from landline.report import ConnectionReport


def run(host: str, service: int, then: str, how: dict[str, Any]) -> dict[str, Any]:
    if "dead_peer" in how:
        how["keepalive"] = detect_dead_peer(how.pop("dead_peer"))
    began = monotonic()
    stream, error = open_tcp_stream(host, service, errorp=False, **how)
    ended = monotonic()
    report = stream.report if stream is not None else error.report if error is not None else None
    result = {"elapsed": ended - began, "ended": ended, **told(error), **reported(report)}
    if stream is not None:
        with stream:
            result |= {"peer": str(stream.peer_address), "local": str(stream.local_address)}
            if then != "close":
                say("connected")
                result |= failure(stream, then)
                stream.abort()
    return result


def failure(stream: SocketStream, then: str) -> dict[str, Any]:
    try:
        while then == "write":
            stream.write(b"x" * 65536)
            stream.flush()
        stream.read(1)
    except SocketError as error:
        return {"failed": monotonic(), **told(error)}
    return {"failed": None}


def told(error: SocketError | None) -> dict[str, Any]:
    if error is None:
        return {"error": []}
    return {"error": [parent.__name__ for parent in type(error).__mro__], "message": str(error)}


def reported(report: ConnectionReport | None) -> dict[str, Any]:
    assert report is not None
    return {
        "report": str(report),
        "attempts": [[attempt.address.host, attempt.outcome] for attempt in report.attempts],
        "lookups": [[lookup.family, list(lookup.addresses)] for lookup in report.lookups],
    }


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    say(json.dumps(run(*json.loads(sys.argv[1]))))
