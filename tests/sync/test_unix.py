"""Unix domain sockets: streams as over TCP, and servers that leave no file behind and take nobody else's."""

from __future__ import annotations

import os
import socket
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from tls_support import HOST, client_context, server_context

from landline import (
    ConnectTimeout,
    ReadTimeout,
    SocketConnectError,
    SocketCreateError,
    SocketStream,
    TextSocketStream,
    open_unix_stream,
    start_up_unix_server,
)
from landline.testing.contract.stage import PATIENCE, until

pytestmark = [
    pytest.mark.usefixtures("quick_leak_checks", "no_leaks"),
    pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix domain sockets"),
]
linux = pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")


def echo(stream: SocketStream) -> None:
    for line in stream:
        stream.write(line)
        stream.flush()


def stale(path: Path) -> None:
    """A socket whose server was killed."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def test_a_stream_is_one_like_others(tmp_path: Path) -> None:
    with (
        start_up_unix_server(echo, tmp_path / "s") as server,
        open_unix_stream(tmp_path / "s", read_timeout=0.01) as stream,
    ):
        assert type(stream) is SocketStream
        stream.write(b"hel")
        with pytest.raises(ReadTimeout):
            stream.readline()
        stream.read_timeout = PATIENCE
        stream.write(b"lo\n")
        assert stream.readline() == b"hello\n"
        assert (stream.peer_address, server.addresses) == (None, ())
        stream.shutdown("output")
        assert stream.read() == b""


@pytest.mark.parametrize("kind", [str, os.fsencode, Path])
def test_a_path_may_be_str_bytes_or_a_path(tmp_path: Path, kind: Any) -> None:
    path = kind(str(tmp_path / "s"))
    with start_up_unix_server(echo, path), open_unix_stream(path, element_type=str) as stream:
        assert type(stream) is TextSocketStream
        stream.write("grüß\n")
        assert stream.readline() == "grüß\n"


@linux
def test_an_abstract_name_has_no_file() -> None:
    name = f"\0landline-test-{os.getpid()}"
    with start_up_unix_server(echo, name) as server:
        with open_unix_stream(name) as stream:
            stream.write(b"x\n")
            assert stream.readline() == b"x\n"
        with pytest.raises(SocketCreateError, match="@landline-test"):
            start_up_unix_server(echo, name)
        assert "@landline-test" in repr(server)
    with pytest.raises(SocketConnectError, match="@landline-test"):
        open_unix_stream(name)


def test_tls_works_over_a_path(tmp_path: Path) -> None:
    with (
        start_up_unix_server(echo, tmp_path / "s", ssl_ctx=server_context()),
        open_unix_stream(tmp_path / "s") as stream,
    ):
        stream.start_tls(client_context(), host=HOST)
        stream.write(b"x\n")
        assert stream.readline() == b"x\n"
    with (
        start_up_unix_server(echo, tmp_path / "s"),
        open_unix_stream(tmp_path / "s") as stream,
        pytest.raises(ValueError, match="host=None"),
    ):
        stream.start_tls(client_context())


# ---- connecting ----------------------------------------------------------------------------------------


def test_nobody_there_is_told_by_kind(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        open_unix_stream(tmp_path / "s")
    assert isinstance(missing.value, SocketConnectError)
    assert str(tmp_path / "s") in str(missing.value)
    stale(tmp_path / "s")
    with pytest.raises(ConnectionRefusedError) as refused:
        open_unix_stream(tmp_path / "s")
    assert isinstance(refused.value, SocketConnectError)


def test_errorp_false_gives_the_condition(tmp_path: Path) -> None:
    outcome: Any = open_unix_stream(tmp_path / "s", errorp=False)
    stream, condition = outcome
    assert stream is None
    assert isinstance(condition, FileNotFoundError)
    with start_up_unix_server(echo, tmp_path / "s"):
        outcome = open_unix_stream(tmp_path / "s", errorp=False)
        stream, condition = outcome
        assert condition is None
        assert stream is not None
        stream.close()


def test_a_full_queue_has_its_time_limit(tmp_path: Path) -> None:
    waiting: list[SocketStream] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(0)
        with pytest.raises(ConnectTimeout, match=r"timeout=0.02"):
            waiting.extend(open_unix_stream(tmp_path / "s", timeout=0.02) for _ in range(1000))
    for stream in waiting:
        stream.abort()


@pytest.mark.parametrize("wrong", ["", b"\0", "x" * 200, "a\0b", 3, None])
def test_a_wrong_path_is_refused(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="path="):
        open_unix_stream(wrong)
    with pytest.raises((TypeError, ValueError), match="path="):
        start_up_unix_server(echo, wrong)


@pytest.mark.parametrize("wrong", [{"direction": "up"}, {"element_type": int}, {"timeout": -1}, {"read_timeout": "1"}])
def test_wrong_arguments_are_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
        open_unix_stream(tmp_path / "s", **wrong)


# ---- serving -------------------------------------------------------------------------------------------


def test_the_file_goes_with_its_server(tmp_path: Path) -> None:
    with start_up_unix_server(echo, tmp_path / "s"):
        assert os.listdir(tmp_path) == ["s"]
    assert os.listdir(tmp_path) == []


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    stale(tmp_path / "s")
    with start_up_unix_server(echo, tmp_path / "s"), open_unix_stream(tmp_path / "s") as stream:
        stream.write(b"x\n")
        assert stream.readline() == b"x\n"


def test_a_living_server_is_not_replaced(tmp_path: Path) -> None:
    with start_up_unix_server(echo, tmp_path / "s"):
        with pytest.raises(SocketCreateError, match="a server listens there"):
            start_up_unix_server(echo, tmp_path / "s")
        with open_unix_stream(tmp_path / "s") as stream:
            stream.write(b"x\n")
            assert stream.readline() == b"x\n"
    assert os.listdir(tmp_path) == []


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    with pytest.raises(SocketCreateError, match="no socket"):
        start_up_unix_server(echo, tmp_path / "s")
    assert (tmp_path / "s").read_text() == "precious"
    assert os.listdir(tmp_path) == ["s"]


def test_the_file_of_a_successor_is_left_alone(tmp_path: Path) -> None:
    with start_up_unix_server(echo, tmp_path / "s"):
        os.unlink(tmp_path / "s")
        stale(tmp_path / "s")
    assert os.listdir(tmp_path) == ["s"]


def test_the_rights_are_set_before_anybody_can_connect(tmp_path: Path) -> None:
    with start_up_unix_server(echo, tmp_path / "s", mode=0o600):
        assert stat.S_IMODE(os.stat(tmp_path / "s").st_mode) == 0o600
    for wrong in (0o1600, -1, True, "600"):
        with pytest.raises(ValueError, match="mode="):
            start_up_unix_server(echo, tmp_path / "s", mode=wrong)  # type: ignore[arg-type]


def test_a_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        start_up_unix_server(echo, tmp_path / "missing" / "s")
    assert isinstance(caught.value, SocketCreateError)


def test_a_wrong_argument_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max_connections"):
        start_up_unix_server(echo, tmp_path / "s", max_connections=0)
    assert os.listdir(tmp_path) == []


def test_a_long_path_leaves_room_for_its_other_name(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    path = os.path.join(folder, "s" * (107 - len(str(folder)) - 1))
    with start_up_unix_server(echo, path), open_unix_stream(path) as stream:
        stream.write(b"x\n")
        assert stream.readline() == b"x\n"


def test_a_failing_handler_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail(stream: SocketStream) -> None:
        raise KeyError("what went wrong")

    with start_up_unix_server(fail, tmp_path / "s"), open_unix_stream(tmp_path / "s") as stream:
        assert stream.read() == b""
        until(lambda: caplog.records)
    assert "a client failed" in caplog.records[0].getMessage()
