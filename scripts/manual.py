"""docs/manual.md: every symbol of the manual's chapter, and what has become of it in landline.comm.

    python scripts/manual.py           writes it
    python scripts/manual.py --check   says whether it is up to date, and exits with 1 if it is not

The list of symbols is docs/symbols.txt; all else comes from the code: signatures, first sentences, what differs
("Differs:" in a docstring), and why something has no meaning (landline.comm.no_meaning). So neither can drift from the
other, and a test runs this with --check.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from landline import comm
from landline.comm.no_meaning import NO_MEANING

__all__ = ["main", "page", "rows"]

DOCS = Path(__file__).parent.parent / "docs"

HEAD = """\
# The manual, symbol by symbol

`landline.comm` has the names, defaults and return values of the chapter COMM of the LispWorks manual (8.0 and 8.1),
so that the manual can serve as its documentation. This page says of every symbol of the chapter whether it is *here*,
whether it *differs* (how, and why), or has *no meaning* in Python (why, and what to do instead). It is made from the
code by `scripts/manual.py`.

## How Lisp is written in Python

| Lisp | Python |
| --- | --- |
| `open-tcp-stream` | `open_tcp_stream` |
| `:base-char` | `"base-char"`; with the colon, in capitals or with underscores it is the same keyword |
| `nil`, `t` | `None` or `False`, `True` |
| multiple values | a tuple, with names where that helps: `stream, condition = comm.open_tcp_stream(...)` |
| `(setf (reader object) value)` | `set_reader(object, value)`, or an attribute |
| a class, `(make-instance 'socket-stream :socket s)` | `comm.socket_stream(socket=s)`; also under landline's name, `comm.SocketStream` |
| `(with-open-stream (s (open-tcp-stream ...)) ...)` | `with comm.open_tcp_stream(...) as s:`, which raises the condition if there is no stream |
| a socket handle | a `socket.socket` |
| a foreign pointer to an `SSL_CTX`, an `SSL`, an `X509` | an `ssl.SSLContext`, an `ssl.SSLObject`, a certificate that has been read |
| a function designator | a function |

## Where safety beats the letter

* **Certificates are verified.** With `ssl_ctx=True` and with client contexts the server must show a certificate for the
  host, from an authority that the system trusts. To do without, say so in `ctx_configure_callback` or with
  `set_verification_mode(ctx, "client", "never")`.
* **Dead versions are refused.** `"v2"`, `"v3"`, `"tls-v1"` and `"tls-v1-1"` are errors that say why; `"default"`, `"v23"` and
  `True` are TLS 1.2 or later.
* **`timeout` holds for the TLS handshake too**, unless `handshake_timeout` is given: a silent server delays nobody for ever.
* **A read that times out ends the stream, but loses nothing.** The manual's stream is at its end then, and so it is for the
  functions here: they give `eof_value`, or raise `end_of_file` with the ReadTimeout as its cause. What had come is kept; the
  next call goes on, and a line is never handed out by halves. One switch makes it an error instead:
  `stream.read_timeout_action = "error"`, for one stream, a subclass, or `comm.SocketStream` itself. Python's own
  methods of a stream (`read`, `readline`, ...) always raise ReadTimeout.
* **A write that times out raises WriteTimeout**, with what was accepted and sent; `force_output` goes on.
* **Contradictions are errors of the program**, whatever `errorp` says: `"::1"` with `ipv6=None`, say.
* **A line has a limit**: `stream.line_limit`, 1 MiB at first.
* **`detach_ssl` leaves a stream sealed whose peer does not take part**: what still comes would be ciphertext.
* **`replace_socket_stream_socket` refuses to mix two peers**: received bytes must have been read, and TLS have ended.
* **`start_up_server` needs a function**: there is no Lisp listener for strangers to talk to.

## What has no meaning

These functions, and the arguments below, raise `comm.HasNoMeaning` (a NotImplementedError) with a sentence that says why
and what to do instead. Nothing is ignored in silence.

| Argument | Why |
| --- | --- |
| `apple_configure_callback`, `apple_use_system_trusted`, `apple_add_trusted_file`, `apple_trust_callback`, `keychain`, `keychain_password`, `keychain_reset` | Apple's Security Framework; here is OpenSSL on every system, and macOS' own roots are trusted by default |
| `cert_request_callback` | a client's certificate is the one of `cert_file` |
| `client_hello_callback` | `landline.create_ssl_server_context(sni_callback=...)` |
| `ssl_side="both"` | a session of Python's has its side from the beginning |
| `callback` of `set_verification_mode` | a foreign function; see `verify_callback` of the abstract contexts |
| `pass_phrase`, `callback` of `read_dhparams` | such files are not encrypted |
| `library_path` of `ensure_ssl` | Python is built with its OpenSSL |
| a session where a context is wanted | in Python its context has the setting |

## The symbols
"""


class Row(NamedTuple):
    """One symbol."""

    symbol: str
    here: str
    status: str
    text: str


def rows() -> Iterator[tuple[str, list[Row]]]:
    """(title of a group, its rows). Raises LookupError for a symbol that nothing is said of."""
    title, found = "", list[Row]()
    for line in (DOCS / "symbols.txt").read_text("utf-8").splitlines():
        if line.startswith("## "):
            if found:
                yield title, found
            title, found = line[3:], []
        elif line and not line.startswith("#"):
            found.append(_row(line, not_yet=title.startswith("Asynchronous")))
    yield title, found


def page() -> str:
    """The whole page."""
    made = [HEAD]
    for title, found in rows():
        made += [f"\n### {title}\n", "| Manual | Here | | |", "| --- | --- | --- | --- |"]
        made += [f"| `{row.symbol}` | {row.here} | {row.status} | {row.text} |" for row in found]
    return "\n".join(made) + "\n"


def main() -> int:
    target = DOCS / "manual.md"
    text = page()
    if "--check" in sys.argv[1:]:
        if target.exists() and target.read_text("utf-8") == text:
            return 0
        sys.stderr.write("docs/manual.md is not what the code says: run scripts/manual.py\n")
        return 1
    target.write_text(text, "utf-8")
    return 0


def _row(line: str, not_yet: bool) -> Row:
    symbol, _, reason = line.partition(" -- ")
    symbol, _, name = symbol.partition(" = ")
    name = name or symbol.replace("-", "_")
    value: Any = getattr(comm, name, None)
    if value is None:
        if not_yet:
            return Row(symbol, "", "not yet", "")
        status, _, why = reason.partition(": ")
        if not why:
            raise LookupError(f"{symbol}: landline.comm has no {name}, and docs/symbols.txt does not say why")
        return Row(symbol, "", status, f"{why}.")
    if reason or not_yet:
        raise LookupError(f"{symbol}: landline.comm has it, and docs/symbols.txt says otherwise")
    if symbol in NO_MEANING:
        return Row(symbol, f"`{name}`", "no meaning", f"{NO_MEANING[symbol]}.")
    first, differs = _told(value)
    if isinstance(value, type) and value.__module__.partition(".")[0] != "landline":
        first, differs = "", f"it is Python's `{value.__module__}.{value.__name__}`."
    if name == "x509_pointer":
        differs = "a certificate that has been read, as plain values; there is nothing to release."
    text = " ".join(filter(None, (first, f"**Differs:** {differs}" if differs else "")))
    return Row(symbol, f"`{_signature(name, value)}`", "differs" if differs else "here", _in_table(text))


def _told(value: Any) -> tuple[str, str]:
    """The first sentence of a docstring, and its paragraph about what differs."""
    text = inspect.getdoc(value) or ""
    first = " ".join(text.partition("\n\n")[0].split())
    first = first.partition(" Differs: ")[0]
    differs = re.search(r"\bDiffers: (.+?)(?:\n\n|$)", text, re.DOTALL)
    return first, " ".join(differs[1].split()) if differs else ""


def _signature(name: str, value: Any) -> str:
    if isinstance(value, type) and issubclass(value, BaseException):
        return name
    if isinstance(value, type) and value.__module__.partition(".")[0] != "landline":
        return name
    try:
        signature = inspect.signature(value)
    except ValueError:
        return name
    if isinstance(value, type) and name != "socket_stream":
        return name
    parameters = [
        each.replace(annotation=inspect.Parameter.empty, default=_plain(each.default))
        for each in signature.parameters.values()
    ]
    plain = signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)
    return f"{name}{plain}"


def _plain(default: Any) -> Any:
    """A default that prints as one would write it."""
    if isinstance(default, Enum):
        return _Written("<not given>")
    return _Written("socket_stream") if default is comm.SocketStream else default


class _Written(NamedTuple):
    text: str

    def __repr__(self) -> str:
        return self.text


def _in_table(text: str) -> str:
    return re.sub(r"``(.+?)``", r"`\1`", text).replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
