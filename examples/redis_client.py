"""A client for redis: commands from the command line or from standard input, all sent ahead, answers shown in order.

    python examples/redis_client.py SET greeting hello
    python examples/redis_client.py < commands.txt                (a command on each line)

Shown: a protocol of lines and counted bytes, to any depth, with readline() and read_exactly(); pipelining with one
thread that writes while another reads the same stream, so that neither side waits for ever for the other to read.
Source: https://redis.io/docs/latest/develop/reference/protocol-spec/ (RESP, versions 2 and 3).
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

from landline import SocketStream, open_tcp_stream

DEEPEST = 100  # arrays within arrays

Reply: TypeAlias = "bytes | str | int | float | bool | list[Reply] | dict[str, Reply] | Failed | None"


class Failed(Exception):
    """The server's error: an answer like others, behind which those to later commands follow."""


class Redis:
    def __init__(self, stream: SocketStream) -> None:
        self.stream = stream

    def pipeline(self, commands: Sequence[Sequence[str]]) -> Iterator[Reply]:
        """Send all of them; their answers, in order, as they come."""
        with ThreadPoolExecutor(1) as other_thread:
            sending = other_thread.submit(self.send, commands)
            for _ in commands:
                yield self.reply()
            sending.result()

    def send(self, commands: Sequence[Sequence[str]]) -> None:
        for command in commands:
            words = [word.encode("utf-8", "surrogateescape") for word in command]
            self.stream.write(b"*%d\r\n" % len(words))
            self.stream.writelines(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
        self.stream.flush()

    def reply(self) -> Reply:
        """The answer to the next command. What the server says unasked (">") is passed over."""
        while self.stream.peek()[:1] == b">":
            self.value()
        return self.value()

    def value(self, depth: int = 0) -> Reply:
        line = self.stream.readline()
        if not line:
            raise EOFError(f"{self.stream.peer_address} has ended the connection before its answer")
        kind, rest = line[:1], line[1:].decode("utf-8", "replace").rstrip("\r\n")
        match kind:
            case b"+":
                return rest
            case b"-":
                return Failed(rest)
            case b":" | b"(":
                return int(rest)
            case b",":
                return float(rest)
            case b"#":
                return rest == "t"
            case b"_":
                return None
        if kind not in b"$=!*~>%|" or not rest.lstrip("-").isdigit() or depth > DEEPEST:
            raise ValueError(f"{self.stream.peer_address} does not speak the protocol of redis: {line[:80]!r}")
        size = int(rest)
        if size < 0:  # how version 2 says that there is nothing
            return None
        if kind in b"$=!":
            data = self.stream.read_exactly(size + 2)[:-2]
            return data if kind == b"$" else data[4:] if kind == b"=" else Failed(data.decode("utf-8", "replace"))
        if kind in b"*~>":
            return [self.value(depth + 1) for _ in range(size)]
        pairs = {str(shown(self.value(depth + 1))): self.value(depth + 1) for _ in range(size)}
        return pairs if kind == b"%" else self.value(depth)  # "|": remarks about the value behind them


def shown(reply: Reply) -> Reply:
    """Bytes as text, wherever they are."""
    match reply:
        case bytes():
            return reply.decode("utf-8", "backslashreplace")
        case list():
            return [shown(each) for each in reply]
        case dict():
            return {name: shown(each) for name, each in reply.items()}
    return f"(error) {reply}" if isinstance(reply, Failed) else reply


def main() -> None:
    parser = argparse.ArgumentParser(description="Send commands to redis and show the answers.")
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", default=6379)
    parser.add_argument("--resp3", action="store_true", help="speak version 3 of the protocol")
    parser.add_argument("--timeout", type=float, default=10, metavar="S", help="for a sign of life (default: 10 s)")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    commands = [options.command] if options.command else [shlex.split(line) for line in sys.stdin if line.strip()]
    limit = options.timeout
    with open_tcp_stream(options.host, options.port, timeout=limit, read_timeout=limit, write_timeout=limit) as stream:
        redis = Redis(stream)
        if options.resp3:
            for answer in redis.pipeline([["HELLO", "3"]]):
                if isinstance(answer, Failed):
                    raise answer
        failed = 0
        for answer in redis.pipeline(commands):
            print(shown(answer))
            failed += isinstance(answer, Failed)
    if failed:
        sys.exit(f"{failed} of {len(commands)} commands failed")


if __name__ == "__main__":
    try:
        main()
    except (OSError, EOFError, ValueError, Failed) as error:
        sys.exit(str(error))
