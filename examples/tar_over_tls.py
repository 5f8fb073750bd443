"""Copy folders from one machine to another: a tar archive over TLS, in which both sides prove who they are.

    python examples/tar_over_tls.py serve FOLDER        --cert box.pem --key box.key --ca ca.pem
    python examples/tar_over_tls.py put   FOLDER --host box.example --cert me.pem --key me.key --ca ca.pem
    python examples/tar_over_tls.py get   FOLDER --host box.example --cert me.pem --key me.key --ca ca.pem

Shown: mutual TLS on both sides; streams as files, which tarfile writes to and reads from as the bytes come; an end of
one direction that TLS vouches for, so that an archive which was cut off is never taken for a whole one.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tarfile

from landline import (
    SocketStream,
    create_ssl_client_context,
    create_ssl_server_context,
    open_tcp_stream,
    start_up_server,
)

PORT = 7411


def send(folder: str, stream: SocketStream) -> None:
    """All of ``folder``, and then the end of this direction."""
    try:
        with tarfile.open(fileobj=stream, mode="w|") as archive:
            for name in sorted(os.listdir(folder)):
                archive.add(os.path.join(folder, name), arcname=name)
        stream.shutdown("output")
    except BaseException:
        stream.abort()  # closed properly, half a folder would look like a whole one
        raise


def receive(stream: SocketStream, folder: str) -> int:
    """What send() sends, into ``folder``; how many files and folders that was."""
    number = 0
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            archive.extract(member, folder, filter="data")  # nothing outside of the folder, no devices
            number += 1
    while stream.read1():  # behind the archive; its end must be a proper one
        pass
    return number


def serve(options: argparse.Namespace) -> None:
    def handler(stream: SocketStream) -> None:
        wish = stream.readline(4)
        if wish == b"get\n":
            send(options.folder, stream)
        elif wish == b"put\n":
            stream.write(b"%d\n" % receive(stream, options.folder))
        if stream.tls and stream.tls.certificate:
            names = ", ".join(stream.tls.certificate.names)
            logging.info("%s by %s at %s", wish[:-1].decode(), names, stream.peer_address)

    logging.basicConfig(format="%(message)s", level=logging.INFO)
    context = create_ssl_server_context(
        cert_file=options.cert, key_file=options.key, openssl_trusted_file=options.ca, verify_callback=True
    )
    server = start_up_server(
        handler, options.port, local_address=options.host, ssl_ctx=context, read_timeout=60, write_timeout=60
    )
    logging.info("serving %s at %s", options.folder, ", ".join(map(str, server.addresses)))
    server.serve_forever()


def ask(options: argparse.Namespace) -> None:
    context = create_ssl_client_context(cert_file=options.cert, key_file=options.key, openssl_trusted_file=options.ca)
    with open_tcp_stream(
        options.host, options.port, ssl_ctx=context, timeout=30, read_timeout=60, write_timeout=60
    ) as stream:
        if options.action == "get":
            stream.write(b"get\n")
            number = receive(stream, options.folder)
        else:
            stream.write(b"put\n")
            send(options.folder, stream)
            number = int(stream.readline() or b"0")
    print(f"{number} files and folders")


def main() -> None:
    parser = argparse.ArgumentParser(description="Copy folders over mutual TLS.")
    parser.add_argument("action", choices=["serve", "put", "get"])
    parser.add_argument("folder")
    parser.add_argument("--host", default="localhost", help="the server; of the server itself, where it listens")
    parser.add_argument("--port", default=PORT)
    parser.add_argument("--cert", required=True, help="PEM: who this side is")
    parser.add_argument("--key", help="PEM, where it is not in the same file")
    parser.add_argument("--ca", required=True, help="PEM: the authority that signs for the other side")
    options = parser.parse_args()
    if not os.path.isdir(options.folder):
        parser.error(f"{options.folder} is not a folder")
    serve(options) if options.action == "serve" else ask(options)


if __name__ == "__main__":
    try:
        main()
    except (OSError, EOFError, tarfile.TarError) as error:
        sys.exit(str(error))
