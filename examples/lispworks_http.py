"""The example of the manual's page on open-tcp-stream, line for line: fetch the root page of a host, and print it.

    python examples/lispworks_http.py [HOST [SERVICE]]

The Lisp of each line stands behind it in the manual; the names, and the order of the arguments, are the same.
"""

from __future__ import annotations

import sys
from time import sleep

from landline.comm import (
    force_output,
    format_,
    open_tcp_stream,
    read_char_no_hang,
    read_line,
    terpri,
    unread_char,
    with_open_stream,
    write_char,
    write_line,
    write_string,
)

EOF = "eof"


def fetch(host: str = "www.lispworks.com", service: str | int = 80) -> None:
    with with_open_stream(open_tcp_stream(host, service)) as http:
        format_(http, "GET / HTTP/1.0~C~C~C~C", chr(13), chr(10), chr(13), chr(10))
        force_output(http)
        write_string("Waiting to reply...")
        while not (ch := read_char_no_hang(http, None, EOF)):
            write_char(".")
            sleep(0.25)
        if ch != EOF:
            unread_char(ch, http)
        terpri()
        while (line := read_line(http, None, None).line) is not None:
            write_line(line)


if __name__ == "__main__":
    fetch(*sys.argv[1:3])
