"""``landline serve --http DIR``: GET and HEAD of regular files below a directory, for a person who looks at them.

A path is walked component by component from an open descriptor of the directory, and no symbolic link is followed
(O_NOFOLLOW), so nothing outside can be reached, whatever changes in the directory meanwhile. Comparing names
("does the resolved path begin with DIR?") was rejected: between the look and the open it may be another file.

No ranges, no caching, no compression: what a page needs to be looked at, and ``curl`` to fetch a file.

Sources: RFC 9110 (semantics), RFC 9112 (messages), RFC 3986 (percent-encoding).
"""

from __future__ import annotations

import html
import mimetypes
import os
import stat
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from .. import IncompleteRead, LimitOverrun, ReadTimeout, SocketStream

__all__ = ["serve_files"]

LONGEST_LINE = 8192
"""Bytes of a request or header line; RFC 9112 3 recommends that servers take 8000."""

MOST_HEADERS = 100

BETWEEN_REQUESTS = 30.0
"""Seconds that a connection may be kept open for another request, and that one may take to come."""

HERE = {".well-known"}
"""Names with a dot that are meant for everybody (RFC 8615)."""

ENCODED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>{title}</title></head>
<body><h1>{title}</h1>
{body}
</body></html>
"""

Tell = Callable[[str], object]


class _Request(NamedTuple):
    method: str
    path: list[str]  # decoded; a last "" stands for a slash at the end
    keep: bool


class _Refused(Exception):
    def __init__(self, status: HTTPStatus, keep: bool = False, **headers: str) -> None:
        super().__init__(status.phrase)
        self.status = status
        self.keep = keep
        self.headers = headers


def serve_files(stream: SocketStream, directory: Path, tell: Tell = lambda line: None) -> None:
    """Answer requests until the client has no more of them; ``tell`` gets a line about each.

    Raises:
        SocketError: the connection failed.
    """
    keep = True
    while keep:
        line = ""
        method = "GET"
        try:
            with stream.deadline(BETWEEN_REQUESTS):
                head = _head(stream)
            if head is None:
                return
            line = head[0]
            request = _parsed(head)
            method, keep = request.method, request.keep
            status = _answer(stream, directory, request)
        except ReadTimeout:
            return
        except _Refused as refused:
            status, keep = refused.status, refused.keep
            _refuse(stream, method, refused)
        stream.flush()
        tell(f"{line!r} {status.value}")


# ---- the request -------------------------------------------------------------------------------------


def _head(stream: SocketStream) -> list[str] | None:
    """The lines of a request; None at the end of the connection."""
    lines: list[str] = []
    try:
        while True:
            line = stream.read_until(b"\n", LONGEST_LINE).rstrip(b"\r\n").decode("latin-1")
            if not line and lines:
                return lines
            if line or lines:  # a stray empty line before a request is let pass (RFC 9112 2.2)
                lines.append(line)
            if len(lines) > MOST_HEADERS:
                raise _Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    except LimitOverrun:
        too_long = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if lines else HTTPStatus.REQUEST_URI_TOO_LONG
        raise _Refused(too_long) from None
    except IncompleteRead as cut:
        if lines or cut.partial:
            raise _Refused(HTTPStatus.BAD_REQUEST) from None
        return None


def _parsed(head: list[str]) -> _Request:
    words = head[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/"):
        raise _Refused(HTTPStatus.BAD_REQUEST)
    method, target, version = words
    if version not in ("HTTP/1.0", "HTTP/1.1"):
        raise _Refused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
    headers: dict[str, list[str]] = {}
    for line in head[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise _Refused(HTTPStatus.BAD_REQUEST)  # also folded lines (RFC 9112 5.2)
        headers.setdefault(name.lower(), []).append(value.strip())
    if version == "HTTP/1.1" and len(headers.get("host", ())) != 1:
        raise _Refused(HTTPStatus.BAD_REQUEST)  # RFC 9112 3.2
    has_body = "transfer-encoding" in headers or any(one != "0" for one in headers.get("content-length", ()))
    wishes = {word.strip().lower() for one in headers.get("connection", ()) for word in one.split(",")}
    keep = version == "HTTP/1.1" and "close" not in wishes and not has_body  # a body would have to be read away
    if method not in ("GET", "HEAD"):
        known = method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT")
        raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED if known else HTTPStatus.NOT_IMPLEMENTED, Allow="GET, HEAD")
    return _Request(method, _components(target), keep)


def _components(target: str) -> list[str]:
    """The path's components. Whatever could mean another place is refused, not repaired."""
    if not target.startswith("/"):
        scheme, _, rest = target.partition("://")  # the absolute form (RFC 9112 3.2.2)
        if scheme.lower() not in ("http", "https") or not rest:
            raise _Refused(HTTPStatus.BAD_REQUEST)
        target = "/" + rest.partition("/")[2]
    path = target.partition("?")[0].partition("#")[0]
    parts = [os.fsdecode(unquote_to_bytes(part)) for part in path[1:].split("/")]
    for part in parts:
        if part in (".", "..") or "/" in part or "\0" in part:
            raise _Refused(HTTPStatus.BAD_REQUEST)
    if "" in parts[:-1]:
        raise _Refused(HTTPStatus.NOT_FOUND)
    return parts


# ---- the answer --------------------------------------------------------------------------------------


def _answer(stream: SocketStream, directory: Path, request: _Request) -> HTTPStatus:
    descriptor = _opened(directory, request)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            return _answer_directory(stream, descriptor, request)
        if request.path[-1] == "":
            raise _Refused(HTTPStatus.NOT_FOUND, request.keep)
        return _answer_file(stream, descriptor, request.path[-1], found, request)
    finally:
        os.close(descriptor)


def _opened(directory: Path, request: _Request) -> int:
    """A descriptor of what the path names: a directory or a regular file."""
    inside = [part for part in request.path if part]
    if any(part.startswith(".") and part not in HERE for part in inside):
        raise _Refused(HTTPStatus.NOT_FOUND, request.keep)
    try:
        at = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for part in inside:
            below = at
            try:
                at = _opened_below(below, part)
            finally:
                os.close(below)
    except OSError:  # whatever it is, the client is told no more than that it is not there
        raise _Refused(HTTPStatus.NOT_FOUND, request.keep) from None
    return at


def _opened_below(directory: int, name: str) -> int:
    # O_NONBLOCK: a FIFO would wait for its writer.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    descriptor = os.open(name, flags, dir_fd=directory)
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        os.close(descriptor)
        raise FileNotFoundError
    return descriptor


def _answer_directory(stream: SocketStream, descriptor: int, request: _Request) -> HTTPStatus:
    if request.path[-1] != "":
        # Made from the components, so that it can name no other host ("//host/").
        place = "/" + "/".join(quote(os.fsencode(part), safe="") for part in request.path) + "/"
        raise _Refused(HTTPStatus.MOVED_PERMANENTLY, request.keep, Location=place)
    try:
        index = _opened_below(descriptor, "index.html")
    except OSError:
        index = -1
    if index >= 0:
        try:
            found = os.fstat(index)
            if stat.S_ISREG(found.st_mode):
                return _answer_file(stream, index, "index.html", found, request)
        finally:
            os.close(index)
    body = _listing(descriptor, request.path).encode("utf-8")
    _write_head(stream, HTTPStatus.OK, "text/html; charset=utf-8", len(body), request.keep, {})
    if request.method != "HEAD":
        stream.write(body)
    return HTTPStatus.OK


def _answer_file(
    stream: SocketStream, descriptor: int, name: str, found: os.stat_result, request: _Request
) -> HTTPStatus:
    headers = {"Last-Modified": formatdate(found.st_mtime, usegmt=True)}
    _write_head(stream, HTTPStatus.OK, _type(name), found.st_size, request.keep, headers)
    if request.method == "HEAD":
        return HTTPStatus.OK
    with open(descriptor, "rb", buffering=0, closefd=False) as file:
        sent = stream.send_file(file, count=found.st_size)
    if sent != found.st_size:
        stream.abort()  # it has become shorter: nothing else tells the client that this was not all
    return HTTPStatus.OK


def _refuse(stream: SocketStream, method: str, refused: _Refused) -> None:
    title = f"{refused.status.value} {refused.status.phrase}"
    body = PAGE.format(title=html.escape(title), body="").encode("utf-8")
    _write_head(stream, refused.status, "text/html; charset=utf-8", len(body), refused.keep, refused.headers)
    if method != "HEAD":
        stream.write(body)


def _write_head(
    stream: SocketStream, status: HTTPStatus, kind: str, size: int, keep: bool, headers: dict[str, str]
) -> None:
    fields = {
        "Date": formatdate(usegmt=True),
        "Content-Type": kind,
        "Content-Length": str(size),
        "X-Content-Type-Options": "nosniff",
        **headers,
        "Connection": "keep-alive" if keep else "close",
    }
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in fields.items())]
    stream.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))


def _type(name: str) -> str:
    kind, encoding = mimetypes.guess_type(name)
    if encoding is not None:  # the file is what it is: an archive is not to be unpacked on the way
        return ENCODED.get(encoding, "application/octet-stream")
    if kind is None:
        return "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") or kind == "application/javascript" else kind


def _listing(descriptor: int, path: list[str]) -> str:
    rows = [] if len(path) == 1 else ['<li><a href="../">../</a></li>']
    with os.scandir(descriptor) as entries:
        names = sorted(
            entry.name + ("/" if entry.is_dir(follow_symlinks=False) else "")
            for entry in entries
            if (not entry.name.startswith(".") or entry.name in HERE)
            and (entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False))
        )
    for name in names:
        # "./" before it: a name with a colon in it would be taken for a URL.
        link = "./" + quote(os.fsencode(name), safe="/")
        rows.append(f'<li><a href="{link}">{html.escape(_readable(name))}</a></li>')
    title = html.escape(_readable("/" + "/".join(path)))
    return PAGE.format(title=title, body="<ul>\n" + "\n".join(rows) + "\n</ul>")


def _readable(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "replace")
