"""The tree of conditions: DESIGN section 3 as a table, kin, messages, and the way through pickle."""

from __future__ import annotations

import copy
import errno
import pickle
import socket
import ssl
import subprocess
import sys
from typing import Any

import pytest

import landline
from landline import errors
from landline.errors import (
    ConnectTimeout,
    HostLookupError,
    IncompleteRead,
    LimitOverrun,
    ReadTimeout,
    SocketConnectError,
    SocketCreateError,
    SocketError,
    SocketIOError,
    SslClosed,
    SslCondition,
    SslError,
    SslFailure,
    SslHandshakeTimeout,
    SslVerificationFailure,
    SslVersionOrCipherMismatch,
    StreamClosed,
    WriteTimeout,
    with_kin,
)
from landline.report import ConnectionReport

# Each condition, and the classes it is made of directly.
TREE: dict[type[BaseException], tuple[type[BaseException], ...]] = {
    SocketError: (OSError,),
    SocketCreateError: (SocketError,),
    SocketConnectError: (SocketError,),
    HostLookupError: (SocketConnectError, socket.gaierror),
    ConnectTimeout: (SocketConnectError, TimeoutError),
    SocketIOError: (SocketError,),
    ReadTimeout: (SocketIOError, TimeoutError),
    WriteTimeout: (SocketIOError, TimeoutError),
    StreamClosed: (SocketIOError, ValueError),
    LimitOverrun: (SocketIOError,),
    SslCondition: (SocketError,),
    SslClosed: (SslCondition,),
    SslError: (SslCondition,),
    SslFailure: (SslCondition,),
    SslVersionOrCipherMismatch: (SslFailure,),
    SslVerificationFailure: (SslCondition, ssl.SSLCertVerificationError),
    SslHandshakeTimeout: (SslCondition, TimeoutError),
    IncompleteRead: (EOFError,),
}

# What a constructor wants beside the message.
WANTED: dict[type[BaseException], dict[str, Any]] = {
    WriteTimeout: {"accepted": 10, "sent": 4},
    LimitOverrun: {"limit": 1 << 20},
}
CONDITIONS: list[Any] = [made for made in TREE if made is not IncompleteRead]


def make(condition: Any, message: str = "it did not work", **facts: Any) -> Any:
    return condition(message, **WANTED.get(condition, {}), **facts)


# ---- the tree ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("condition", "bases"), TREE.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_the_tree_is_the_designs(condition: type[BaseException], bases: tuple[type[BaseException], ...]) -> None:
    assert condition.__bases__ == bases


def test_the_tree_is_whole_and_public() -> None:
    assert sorted(made.__name__ for made in TREE) == sorted(errors.__all__)
    for name in errors.__all__:
        assert getattr(landline, name) is getattr(errors, name)


def test_create_connect_and_io_errors_exclude_one_another() -> None:
    kinds = (SocketCreateError, SocketConnectError, SocketIOError, SslCondition)
    for condition in CONDITIONS:
        assert sum(issubclass(condition, kind) for kind in kinds) == (condition is not SocketError)


def test_asking_for_a_condition_does_not_import_ssl_unless_it_is_the_one_that_needs_it() -> None:
    program = """
import sys
from landline import SocketError, SslError, SslFailure
assert "ssl" not in sys.modules
from landline import SslVerificationFailure
assert "ssl" in sys.modules
import landline.errors
assert landline.errors.SslVerificationFailure is SslVerificationFailure
assert SslVerificationFailure.__doc__
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="NoSuchError"):
        errors.NoSuchError  # noqa: B018


# ---- what a condition carries -------------------------------------------------------------------------


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_condition_reads_as_its_sentence(condition: Any) -> None:
    for number in (None, errno.ECONNRESET):
        error = make(condition, "the peer went away", errno=number)
        assert str(error) == "the peer went away"
        assert error.errno == number
        assert "[Errno" not in f"{error}"


def test_a_condition_carries_operation_address_and_report() -> None:
    report = ConnectionReport("example.com", 80)
    error = SocketConnectError("no", operation="connect", address="example.com", report=report)
    assert (error.operation, error.address, error.report) == ("connect", "example.com", report)
    bare = SocketConnectError("no")
    assert (bare.operation, bare.address, bare.report) == (None, None, None)


def test_a_write_timeout_counts_and_a_limit_overrun_tells_its_limit() -> None:
    error = WriteTimeout("slow", accepted=10, sent=4, operation="send")
    assert (error.accepted, error.sent, error.operation) == (10, 4, "send")
    assert LimitOverrun("long", limit=100).limit == 100
    assert (StreamClosed("closed").accepted, StreamClosed("closed").sent) == (None, None)
    assert SslFailure("no", ssl_code="NO_SHARED_CIPHER").ssl_code == "NO_SHARED_CIPHER"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (IncompleteRead(b"abc", 10), "the peer ended after 3 bytes, before 10 bytes came"),
        (IncompleteRead("abc", 10), "the peer ended after 3 characters, before 10 characters came"),
        (IncompleteRead(b"", None), "the peer ended after 0 bytes, before the separator came"),
    ],
)
def test_an_incomplete_read_says_what_there_was(error: IncompleteRead, sentence: str) -> None:
    assert str(error) == sentence


# ---- the way through pickle ----------------------------------------------------------------------------


def twins(error: Any) -> list[Any]:
    # Protocols under 3 are for Python 2, which knows no ConnectionRefusedError: pickle writes OSError instead.
    return [pickle.loads(pickle.dumps(error, protocol)) for protocol in range(3, pickle.HIGHEST_PROTOCOL + 1)] + [
        copy.copy(error),
        copy.deepcopy(error),
    ]


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("number", [None, errno.ECONNREFUSED])
def test_a_condition_survives_pickle_and_copy(condition: Any, number: int | None) -> None:
    error = make(condition, operation="connect", address="::1", report=ConnectionReport("::1", 80), errno=number)
    for twin in twins(error):
        assert type(twin) is condition
        assert (str(twin), twin.args, twin.errno) == (str(error), error.args, number)
        assert vars(twin) == vars(error)


def test_an_incomplete_read_survives_pickle_and_copy() -> None:
    for twin in twins(IncompleteRead(b"abc", 10)):
        assert (type(twin), twin.partial, twin.expected) == (IncompleteRead, b"abc", 10)


def test_a_condition_with_kin_survives_pickle_and_copy() -> None:
    made = with_kin(SocketConnectError, ConnectionRefusedError)
    error = made("refused", operation="connect", errno=errno.ECONNREFUSED)
    for twin in twins(error):
        assert type(twin) is made
        assert isinstance(twin, ConnectionRefusedError)
        assert (str(twin), twin.errno, twin.operation) == ("refused", errno.ECONNREFUSED, "connect")


# ---- kin -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kin",
    [
        ConnectionRefusedError,
        ConnectionResetError,
        ConnectionAbortedError,
        BrokenPipeError,
        PermissionError,
        TimeoutError,
        ValueError,
    ],
)
def test_a_specific_error_becomes_kin(kin: type[Exception]) -> None:
    for condition in (SocketCreateError, SocketConnectError, SocketIOError):
        made = with_kin(condition, kin)
        assert issubclass(made, condition)
        assert issubclass(made, kin)
        assert with_kin(condition, kin("of an instance")) is made
        assert made.__name__ == condition.__name__
        assert made.__module__ == condition.__module__
        assert str(made("it did not work")) == "it did not work"


@pytest.mark.parametrize(
    "kin",
    [
        None,
        OSError,
        OSError(errno.ENETUNREACH, "Network is unreachable"),
        BlockingIOError,
        socket.gaierror,
        KeyError,
        KeyboardInterrupt,
    ],
)
def test_what_says_nothing_more_does_not_become_kin(kin: Any) -> None:
    assert with_kin(SocketConnectError, kin) is SocketConnectError


def test_kin_that_a_condition_has_already_is_not_added_again() -> None:
    assert with_kin(ConnectTimeout, TimeoutError) is ConnectTimeout
    assert with_kin(StreamClosed, ValueError) is StreamClosed
    assert with_kin(SocketConnectError, SocketConnectError("of its own")) is SocketConnectError
