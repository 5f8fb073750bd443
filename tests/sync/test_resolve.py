"""Lookups in threads that can be left alone: shared, capped, dropped when nobody waits, and no hindrance to exit."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from queue import SimpleQueue
from typing import Any

import pytest
from opening import UNKNOWN, WITHIN, Listener, Resolver, in_thread
from opening import resolver_fixture as _resolver  # noqa: F401 - a fixture

from landline import ConnectTimeout, HostLookupError, SocketAddress, open_tcp_stream
from landline.sync import resolve
from landline.sync.resolve import Answer, start_lookup

pytestmark = pytest.mark.usefixtures("no_leaks")

V4, V6 = socket.AF_INET, socket.AF_INET6
HERE = [SocketAddress("127.0.0.1", 0)]


class Asker:
    """Somebody who waits for an answer."""

    def __init__(self) -> None:
        self.answers: SimpleQueue[Answer] = SimpleQueue()
        self.done = self.answers.put

    def answer(self) -> Answer:
        return self.answers.get(timeout=WITHIN)

    @property
    def has_none(self) -> bool:
        return self.answers.empty()


# ---- answers -------------------------------------------------------------------------------------------


def test_an_answer_is_a_list_of_addresses_with_port_0(resolver: Resolver) -> None:
    resolver.say("server.example", ["192.0.2.2", "192.0.2.1", "192.0.2.2"])
    asker = Asker()
    start_lookup("server.example", V4, asker.done)
    assert asker.answer() == [SocketAddress("192.0.2.2", 0), SocketAddress("192.0.2.1", 0)]


def test_an_answer_of_the_other_family_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    mapped = (V4, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *question: [mapped])
    asker = Asker()
    start_lookup("server.example", V6, asker.done)
    assert asker.answer() == []


def test_the_scope_id_of_an_answer_survives(resolver: Resolver) -> None:
    index, interface = socket.if_nameindex()[0]
    resolver.say("link.example", ipv6=[f"fe80::1%{index}"])
    asker = Asker()
    start_lookup("link.example", V6, asker.done)
    assert asker.answer() == [SocketAddress(f"fe80::1%{interface}", 0)]


@pytest.mark.parametrize(
    "error", [UNKNOWN, OSError(24, "Too many open files"), UnicodeError("label too long"), MemoryError()]
)
def test_whatever_goes_wrong_is_the_answer(resolver: Resolver, error: Exception) -> None:
    resolver.say("odd.example", error, error)
    asker = Asker()
    start_lookup("odd.example", V4, asker.done)
    assert asker.answer() is error
    with pytest.raises(HostLookupError, match=r"could not find odd\.example") as caught:
        open_tcp_stream("odd.example", 80)
    assert caught.value.__cause__ is error


def test_the_system_s_own_resolver_is_asked() -> None:
    asker = Asker()
    lookup = start_lookup("localhost", V4, asker.done)
    assert asker.answer() == HERE
    lookup.abandon(asker.done)  # harmless after the answer


# ---- shared ----------------------------------------------------------------------------------------------


def test_a_question_under_way_is_joined_not_asked_again(resolver: Resolver) -> None:
    gate = resolver.say("server.example", ["127.0.0.1"], held=[V4])
    first, second = Asker(), Asker()
    lookup = start_lookup("server.example", V4, first.done)
    assert start_lookup("server.example", V4, second.done) is lookup
    gate.set()
    assert first.answer() == second.answer() == HERE
    assert resolver.calls == [("server.example", V4)]


def test_an_opening_joins_the_question_of_another_one(resolver: Resolver) -> None:
    gate = resolver.say("server.example", ["127.0.0.1"], [], held=[V4, V6])
    with Listener() as listener:
        with in_thread(lambda: open_tcp_stream("server.example", listener.port)) as first:
            resolver.wait_for_calls(2)
            with pytest.raises(ConnectTimeout):
                open_tcp_stream("server.example", listener.port, timeout=0.01)
            gate.set()
        first[0].close()
    assert len(resolver.calls) == 2


def test_a_retrying_client_does_not_pile_up_threads(resolver: Resolver) -> None:
    resolver.hang("dead.example")
    for _ in range(20):
        with pytest.raises(ConnectTimeout):
            open_tcp_stream("dead.example", 80, timeout=0.001)
    resolver.wait_for_calls(2)
    assert len(resolver.calls) == len(resolver.threads) == len(resolve._threads) == 2


def test_a_question_is_asked_again_once_it_has_been_answered(resolver: Resolver) -> None:
    for address in ("192.0.2.1", "192.0.2.2"):
        resolver.say("server.example", [address])
        asker = Asker()
        start_lookup("server.example", V4, asker.done)
        assert asker.answer() == [SocketAddress(address, 0)]
    assert len(resolver.calls) == 2


def test_families_and_names_are_different_questions(resolver: Resolver) -> None:
    gate = resolver.say("a.example", ["127.0.0.1"], [], held=[V4, V6])
    resolver.say("b.example", ["127.0.0.1"])
    askers = [Asker() for _ in range(3)]
    for asker, name, family in zip(askers, ("a.example", "a.example", "b.example"), (V4, V6, V4), strict=True):
        start_lookup(name, family, asker.done)
    assert askers[2].answer() == HERE
    gate.set()
    assert (askers[0].answer(), askers[1].answer()) == (HERE, [])


# ---- left alone --------------------------------------------------------------------------------------------


def test_an_abandoned_answer_is_dropped(resolver: Resolver) -> None:
    gate = resolver.say("server.example", ["127.0.0.1"], held=[V4])
    leaver, stayer = Asker(), Asker()
    lookup = start_lookup("server.example", V4, leaver.done)
    start_lookup("server.example", V4, stayer.done)
    lookup.abandon(leaver.done)
    lookup.abandon(leaver.done)  # more than once is once
    gate.set()
    assert stayer.answer() == HERE
    resolver.release()
    assert leaver.has_none


def test_after_an_opening_nobody_waits_for_its_questions(resolver: Resolver) -> None:
    resolver.say("half.example", ["127.0.0.1"], held=[V6])
    with Listener() as listener, open_tcp_stream("half.example", listener.port):
        assert resolve._in_flight["half.example", V6].waiting == []
    resolver.hang("dead.example")
    with pytest.raises(ConnectTimeout):
        open_tcp_stream("dead.example", 80, timeout=0.01)
    assert resolve._in_flight["dead.example", V6].waiting == []
    assert resolve._in_flight["dead.example", V4].waiting == []


def test_the_process_exits_while_a_lookup_hangs() -> None:
    program = """
import socket, threading
asked = []
def hang(*question):
    asked.append(question)
    threading.Event().wait()
socket.getaddrinfo = hang
from landline import ConnectTimeout, open_tcp_stream
try:
    open_tcp_stream("dead.example", 80, timeout=0.1)
except ConnectTimeout as error:
    print(error)
assert len(asked) == 2
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=WITHIN, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "within timeout=0.1 s: the IPv6 lookup of dead.example has not answered" in done.stdout


# ---- the cap -------------------------------------------------------------------------------------------------


def test_lookup_threads_are_capped_and_the_rest_waits_its_turn(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolve, "MOST_LOOKUP_THREADS", 2)
    names = [f"{number}.example" for number in range(5)]
    gates = [resolver.say(name, ["127.0.0.1"], held=[V4]) for name in names]
    askers = [Asker() for _ in names]
    for name, asker in zip(names, askers, strict=True):
        start_lookup(name, V4, asker.done)
    resolver.wait_for_calls(2)
    assert {name for name, _ in resolver.calls} == set(names[:2])
    gates[2].set()  # of no use while nobody has asked it
    gates[1].set()
    assert (askers[1].answer(), askers[2].answer()) == (HERE, HERE)
    resolver.wait_for_calls(4)
    assert [name for name, _ in resolver.calls[2:]] == names[2:4]
    assert len(resolver.threads) == 2
    for gate in gates:
        gate.set()
    assert [asker.answer() for asker in (askers[0], askers[3], askers[4])] == [HERE] * 3


def test_a_queued_question_that_nobody_waits_for_any_more_is_never_asked(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolve, "MOST_LOOKUP_THREADS", 1)
    gate = resolver.hang("dead.example")
    first, leaver, last = Asker(), Asker(), Asker()
    start_lookup("dead.example", V4, first.done)
    resolver.say("left.example", ["127.0.0.1"])
    resolver.say("last.example", ["127.0.0.1"])
    start_lookup("left.example", V4, leaver.done).abandon(leaver.done)
    start_lookup("last.example", V4, last.done)
    gate.set()
    assert last.answer() == HERE
    assert [name for name, _ in resolver.calls] == ["dead.example", "last.example"]
    again = Asker()
    start_lookup("left.example", V4, again.done)  # nor does it stand in the way of a new one
    assert again.answer() == HERE


def test_the_cap_leaves_openings_with_their_timeout(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "MOST_LOOKUP_THREADS", 1)
    resolver.hang("dead.example")
    start_lookup("dead.example", V4, Asker().done)
    resolver.say("server.example", ["127.0.0.1"], [])
    with pytest.raises(ConnectTimeout, match=r"lookup of server\.example has not answered"):
        open_tcp_stream("server.example", 80, timeout=0.05)


# ---- odd moments ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("can't start new thread")])
def test_a_thread_that_could_not_be_started_does_not_block_its_name(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def start_new_thread(*work: object) -> int:
        raise error

    resolver.say("server.example", ["127.0.0.1"])
    asker = Asker()
    with monkeypatch.context() as patch:
        patch.setattr(resolve, "start_new_thread", start_new_thread)
        with pytest.raises(type(error)):
            start_lookup("server.example", V4, asker.done)
    start_lookup("server.example", V4, asker.done)
    assert asker.answer() == HERE
    resolver.release()
    assert asker.has_none
    assert not resolve._threads


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")
def test_a_forked_child_asks_anew_what_its_parent_was_asking() -> None:
    program = """
import os, socket, sys, threading
asked = threading.Event()
def hang(*question):
    asked.set()
    threading.Event().wait()
socket.getaddrinfo = hang
from landline import ConnectTimeout, open_tcp_stream
from landline.sync import resolve
with socket.create_server(("127.0.0.1", 0)) as server:
    port = server.getsockname()[1]
    try:
        open_tcp_stream("server.example", port, ipv6=False, timeout=0.01)
    except ConnectTimeout:
        asked.wait()
    with resolve._lock:  # as another thread may hold it at that moment
        child = os.fork()
    if child == 0:
        socket.getaddrinfo = lambda name, port, family, kind: [(family, kind, 6, "", ("127.0.0.1", 0))]
        open_tcp_stream("server.example", port, ipv6=False, timeout=5).close()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=3 * WITHIN, check=False
    )
    assert done.returncode == 0, done.stderr


def test_many_openings_at_once_all_get_their_answers(resolver: Resolver) -> None:
    resolver.say("server.example", ["127.0.0.1"], [])
    outcomes: SimpleQueue[Any] = SimpleQueue()

    def open_some() -> None:
        for _ in range(20):
            outcomes.put(open_tcp_stream("server.example", listener.port, timeout=WITHIN, errorp=False))

    with Listener(backlog=512) as listener:
        threads = [threading.Thread(target=open_some) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for _ in range(8 * 20):
            stream, error = outcomes.get_nowait()
            assert error is None
            stream.close()
