"""comm's conditions by either name, and their readers; and every name that has no meaning here.

Source: LispWorks manual, socket-error and its neighbours; chapter COMM.
"""

from __future__ import annotations

import gc
import pickle
import socket
import subprocess
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from lisp_pairs import (
    near_and_far,
    secure_near_and_far,
)
from pages import LOOPBACK, refusing

import landline
from landline import comm
from landline.comm import conditions
from landline.comm.no_meaning import NO_MEANING
from landline.errors import SslVerificationFailure
from landline.testing.contract.stage import BRIEF, stall, until

pytestmark = pytest.mark.usefixtures("quick_leak_checks", "no_leaks")

RESET = b"\1\0\0\0\0\0\0\0"
"""SO_LINGER that makes close() reset the connection."""

TREE: dict[str, tuple[str, str | None]] = {
    "socket_error": ("SocketError", None),
    "socket_create_error": ("SocketCreateError", "socket_error"),
    "socket_connect_error": ("SocketConnectError", "socket_error"),
    "socket_io_error": ("SocketIOError", "socket_error"),
    "ssl_condition": ("SslCondition", "socket_error"),
    "ssl_closed": ("SslClosed", "ssl_condition"),
    "ssl_error": ("SslError", "ssl_condition"),
    "ssl_failure": ("SslFailure", "ssl_condition"),
    "ssl_handshake_timeout": ("SslHandshakeTimeout", "ssl_condition"),
    "ssl_verification_failure": ("SslVerificationFailure", "ssl_condition"),
    "ssl_version_or_cipher_mismatch": ("SslVersionOrCipherMismatch", "ssl_condition"),
}
"""The manual's name: landline's, and the manual's of what is above it."""


# ---- the types -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TREE)
def test_a_condition_has_the_manuals_name_and_landlines(name: str) -> None:
    own, above = TREE[name]
    condition = getattr(comm, name)
    assert condition is getattr(comm, own) is getattr(landline.errors, own) is getattr(conditions, name)
    assert issubclass(condition, OSError if above is None else getattr(comm, above))
    assert {name, own} <= set(comm.__all__)
    with pytest.raises(condition):
        raise getattr(landline.errors, own)("caught by the manual's name")
    with pytest.raises(getattr(landline.errors, own)):
        raise condition("caught by landline's")


def test_x509_lookup_is_there_to_be_caught() -> None:
    assert issubclass(comm.ssl_x509_lookup, comm.ssl_condition)
    assert "nothing signals it" in str(comm.ssl_x509_lookup.__doc__)


def test_the_end_of_a_file_is_no_error_of_sockets() -> None:
    assert comm.end_of_file is comm.EndOfFile
    assert issubclass(comm.EndOfFile, EOFError)
    assert not issubclass(comm.EndOfFile, OSError)


@pytest.mark.parametrize("module", [comm, conditions], ids=["comm", "conditions"])
def test_every_public_name_is_there_and_no_other_is(module: Any) -> None:
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = module.no_such_name


def test_the_import_is_cheap() -> None:
    program = "import sys; from landline import comm; print({'ssl', 'asyncio', 'idna'} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "set()\n"
    )


# ---- the readers ---------------------------------------------------------------------------------------------


def test_socket_error_code_is_the_systems_number() -> None:
    with refusing() as address:
        condition = comm.open_tcp_stream(LOOPBACK, address.port).condition
    assert isinstance(condition, comm.socket_connect_error)
    assert comm.socket_error_code(condition) == ConnectionRefusedError(*condition.args).errno
    assert comm.socket_error_code(comm.socket_io_error("no number")) is None
    assert comm.socket_error_connection(condition) is None  # there was no stream yet
    for read in (comm.socket_error_code, comm.socket_error_connection):
        for wrong in (None, OSError(1, "x"), EOFError()):
            with pytest.raises(TypeError, match="condition="):
                read(wrong)  # type: ignore[arg-type]


USES: dict[str, Callable[[Any], object]] = {
    "read_char": comm.read_char,
    "read_char_no_hang": comm.read_char_no_hang,
    "read_line": comm.read_line,
    "read_byte": comm.read_byte,
    "read_sequence": lambda stream: comm.read_sequence([None], stream),
    "peek_char": lambda stream: comm.peek_char(None, stream),
    "listen": comm.listen,
    "clear_input": comm.clear_input,
    "unread_char": lambda stream: comm.unread_char("x", stream),
    "write_char": lambda stream: comm.write_char("x", stream),
    "write_string": lambda stream: comm.write_string("x", stream),
    "write_line": lambda stream: comm.write_line("x", stream),
    "terpri": comm.terpri,
    "write_byte": lambda stream: comm.write_byte(1, stream),
    "write_sequence": lambda stream: comm.write_sequence([1], stream),
    "write_sequence of bytes": lambda stream: comm.write_sequence(b"x", stream),
    "format": lambda stream: comm.format_(stream, "x"),
    "force_output": comm.force_output,
    "clear_output": comm.clear_output,
    "attach_ssl": lambda stream: comm.attach_ssl(stream, ssl_side="client"),
    "detach_ssl": comm.detach_ssl,
    "socket_stream_handshake": comm.socket_stream_handshake,
    "socket_stream_shutdown": lambda stream: comm.socket_stream_shutdown(stream, "io"),
}


@pytest.mark.parametrize("use", USES.values(), ids=list(USES))
def test_socket_error_connection_is_the_stream(use: Callable[[Any], object]) -> None:
    with near_and_far(element_type=bytes) as (stream, _far):
        comm.close(stream)
        with pytest.raises(comm.socket_io_error) as caught:
            use(stream)
        assert comm.socket_error_connection(caught.value) is stream


@pytest.mark.parametrize("end", [comm.close, lambda stream: comm.replace_socket_stream_socket(stream, None)])
def test_what_could_not_be_sent_at_the_end_is_the_streams_too(end: Callable[[Any], object]) -> None:
    with near_and_far() as (stream, _far):
        stall(stream)
        stream.write_timeout = BRIEF
        with pytest.raises(landline.WriteTimeout) as caught:
            end(stream)
        assert comm.socket_error_connection(caught.value) is stream


@pytest.mark.parametrize("use", ["read_char", "read_char_no_hang", "read_line", "read_byte", "read_sequence", "listen"])
def test_a_connection_that_broke_is_the_conditions(use: str) -> None:
    with near_and_far(element_type=bytes) as (stream, far):
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        far.close()
        until(stream.input_ready)
        with pytest.raises(comm.socket_io_error) as caught:
            USES[use](stream)
        assert isinstance(caught.value, ConnectionResetError)
        assert comm.socket_error_connection(caught.value) is stream
        assert comm.socket_error_code(caught.value) == ConnectionResetError(*caught.value.args).errno


def test_pythons_own_methods_tell_an_address_only() -> None:
    with near_and_far(read_timeout=BRIEF) as (stream, _far):
        with pytest.raises(landline.ReadTimeout) as caught:
            stream.read(1)
        assert comm.socket_error_connection(caught.value) is None
        assert caught.value.address == stream.peer_address


def test_ssl_condition_ssl_code_says_what_is_known() -> None:
    for condition, code in (
        (comm.ssl_closed("x"), "closed"),
        (comm.ssl_error("x"), None),
        (comm.ssl_failure("x", ssl_code="WRONG_VERSION_NUMBER"), "WRONG_VERSION_NUMBER"),
        (SslVerificationFailure("x", ssl_code="verify_callback"), "verify-callback"),
        (comm.ssl_failure("x", ssl_code="sni_callback"), "sni-callback"),
        (SslVerificationFailure("x", ssl_code=("verification", 10)), ("verification", 10)),
    ):
        assert comm.ssl_condition_ssl_code(condition) == code
    with pytest.raises(TypeError, match="condition="):
        comm.ssl_condition_ssl_code(comm.socket_io_error("x"))  # type: ignore[arg-type]


def test_a_peer_that_vanishes_under_tls_is_an_ssl_error() -> None:
    with secure_near_and_far() as (stream, secured):
        secured.sendall(b"half a line")
        with socket.socket(fileno=secured.detach()) as bare:
            bare.shutdown(socket.SHUT_RDWR)
        with pytest.raises(comm.ssl_error, match="what has come may not be all") as caught:
            comm.read_line(stream)
        assert comm.socket_error_connection(caught.value) is stream


# ---- conditions are values -----------------------------------------------------------------------------------


def caught_from(stream: comm.SocketStream) -> comm.SocketError:
    with pytest.raises(comm.socket_error) as caught:
        comm.read_char(stream)
    return caught.value


def test_a_condition_can_be_pickled_without_its_stream() -> None:
    with near_and_far() as (stream, far):
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        far.close()
        condition = caught_from(stream)
        assert comm.socket_error_connection(condition) is stream
        copy = pickle.loads(pickle.dumps(condition))
        assert isinstance(copy, comm.socket_io_error)
        assert isinstance(copy, ConnectionResetError)
        assert (str(copy), copy.errno, copy.address) == (str(condition), condition.errno, condition.address)
        assert comm.socket_error_connection(copy) is None


@pytest.mark.parametrize("make", [near_and_far, secure_near_and_far], ids=["TCP", "TLS"])
def test_neither_condition_nor_stream_keeps_the_other_for_ever(make: Any) -> None:
    """The condition knows its stream, and the stream knows why it failed: a circle that must be seen to be one."""
    with make() as (stream, far):
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        far.close()
        known = []
        for _ in range(3):
            condition = caught_from(stream)
            condition.__traceback__ = None
            known.append(weakref.ref(condition))
            del condition
        comm.close(stream, abort=True)
        known.append(weakref.ref(stream))
    del stream, far
    gc.collect()
    assert [each() for each in known] == [None] * 4
    assert not [each for each in conditions._STREAMS if any(each is one() for one in known)]


# ---- what has no meaning here --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NO_MEANING)
def test_what_has_no_meaning_says_so_when_it_is_called(name: str) -> None:
    python = name.replace("-", "_")
    function = getattr(comm, python)
    assert python in comm.__all__
    assert (function.__name__, function.__module__) == (python, "landline.comm")
    assert NO_MEANING[name] in function.__doc__
    for arguments, more in (((), {}), ((1, "two"), {"three": 3})):
        with pytest.raises(comm.HasNoMeaning) as caught:
            function(*arguments, **more)
        assert str(caught.value) == f"{python}() has no meaning here: {NO_MEANING[name]}"
        assert isinstance(caught.value, NotImplementedError)
        assert not isinstance(caught.value, OSError)
