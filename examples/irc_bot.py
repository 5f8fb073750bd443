"""An IRC bot: it joins a channel, answers "!time" and "!roll", and comes back when its connection breaks.

    python examples/irc_bot.py irc.example.org my-bot '#my-channel' --tls

Shown: a text stream for a protocol of lines; a timeout as a question instead of an end (a server that has been silent
is asked whether it is still there, and the same stream reads on); reconnecting, later after each failure.
Ctrl-C says goodbye. Source: RFC 2812.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator

from landline import ReadTimeout, TextSocketStream, open_tcp_stream

LONGEST_PAUSE = 300.0  # seconds between two attempts to connect, at most


class Bot:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.nick: str = options.nick
        self.pause: float | None = None  # before the next attempt; None: no server has let it in yet

    def visit(self) -> None:
        """One connection, from its beginning to its end."""
        options = self.options
        with open_tcp_stream(
            options.host,
            options.port or (6697 if options.tls else 6667),
            element_type=str,
            errors="replace",  # whoever speaks may use any encoding
            timeout=30,
            read_timeout=options.silence,
            write_timeout=30,
            ssl_ctx=options.tls,
        ) as irc:
            say(irc, f"NICK {self.nick}")
            say(irc, f"USER {options.nick} 0 * :a bot on landline")
            try:
                for line in lines(irc):
                    self.hear(irc, line)
            except KeyboardInterrupt:
                say(irc, "QUIT :goodbye")
                raise
            raise ConnectionError(f"{irc.peer_address} has ended the connection")

    def hear(self, irc: TextSocketStream, line: str) -> None:
        sender, command, words = parsed(line)
        match command, words:
            case "PING", [*_, token]:
                say(irc, f"PONG :{token}")
            case "001", [nick, *_]:  # the welcome; the server may have cut the name
                self.nick, self.pause = nick, self.options.pause
                say(irc, f"JOIN {self.options.channel}")
                print(f"{nick} is on {irc.peer_address}", flush=True)
            case "433", _:  # somebody else has that name
                self.nick += "_"
                say(irc, f"NICK {self.nick}")
            case "ERROR", _:
                raise ConnectionError(f"{irc.peer_address} says: {' '.join(words)}")
            case "PRIVMSG", [target, text] if text in ANSWERS:
                asker = sender.partition("!")[0]
                say(irc, f"PRIVMSG {asker if target == self.nick else target} :{asker}: {ANSWERS[text]()}")


ANSWERS = {
    "!time": lambda: time.strftime("it is %H:%M:%S"),
    "!roll": lambda: f"you rolled a {random.randint(1, 6)}",
}


def lines(irc: TextSocketStream) -> Iterator[str]:
    """What the server says. When it is silent it is asked for a sign of life, once."""
    asked = False
    while True:
        try:
            line = irc.readline()
        except ReadTimeout:
            if asked:
                raise ConnectionError(f"{irc.peer_address} gives no sign of life") from None
            say(irc, "PING :are you there?")
            asked = True
            continue
        if not line:
            return
        asked = False
        yield line.rstrip("\n")


def say(irc: TextSocketStream, line: str) -> None:
    irc.write(line + "\r\n")  # the next read sends it


def parsed(line: str) -> tuple[str, str, list[str]]:
    """The sender, the command and its words, the last of which may hold spaces (section 2.3.1)."""
    sender = ""
    if line.startswith(":"):
        sender, _, line = line[1:].partition(" ")
    front, colon, text = line.partition(" :")
    command, *words = front.split() or [""]
    return sender, command.upper(), [*words, text] if colon else words


def main() -> None:
    parser = argparse.ArgumentParser(description="An IRC bot.")
    parser.add_argument("host")
    parser.add_argument("nick")
    parser.add_argument("channel")
    parser.add_argument("--port", help="6667 if not given, 6697 with --tls")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--silence", type=float, default=120, metavar="S", help="ask a silent server after S seconds")
    parser.add_argument("--pause", type=float, default=2, metavar="S", help="the first pause before it connects again")
    bot = Bot(parser.parse_args())
    while True:
        try:
            bot.visit()
        except OSError as error:
            if bot.pause is None:
                raise  # a wrong host or port does not get better
            wait = bot.pause * random.uniform(0.5, 1.5)  # or all clients of a server that fell would come at once
            bot.pause = min(2 * bot.pause, LONGEST_PAUSE)
            print(f"{error}; once more in {wait:.1f} s", flush=True)
            time.sleep(wait)


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
