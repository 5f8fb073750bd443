"""The report: a time line that can be read at a glance."""

from __future__ import annotations

import errno
import pickle
import socket

import pytest

from landline.address import SocketAddress
from landline.report import AttemptRecord, ConnectionReport, LookupRecord, milliseconds


def told() -> ConnectionReport:
    """A name with a dead IPv6 address and a slow one, won by IPv4."""
    report = ConnectionReport("example.com", 443)
    report.lookups += [
        LookupRecord("example.com", "IPv6", 0.0001, 0.012, ("2001:db8::1", "2001:db8::2")),
        LookupRecord("example.com", "IPv4", 0.0002, 0.013, ("192.0.2.1",)),
    ]
    refused = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
    report.attempts += [
        AttemptRecord(SocketAddress("2001:db8::1", 443), 0.012, 0.02, "failed", refused, True),
        AttemptRecord(SocketAddress("2001:db8::2", 443), 0.02, 0.3, "cancelled", None, True),
        AttemptRecord(SocketAddress("192.0.2.1", 443), 0.27, 0.3, "connected", None, True),
    ]
    report.elapsed = 0.3
    return report


def test_a_report_prints_as_a_time_line() -> None:
    assert str(told()).splitlines() == [
        "example.com port 443: connected after 300 ms",
        "    0.1 ms .. 12 ms     lookup IPv6 example.com: 2001:db8::1, 2001:db8::2",
        "    0.2 ms .. 13 ms     lookup IPv4 example.com: 192.0.2.1",
        "     12 ms .. 20 ms     connect [2001:db8::1]:443: failed: Connection refused",
        "     20 ms .. 300 ms    connect [2001:db8::2]:443: cancelled",
        "    270 ms .. 300 ms    connect 192.0.2.1:443: connected",
    ]


def test_a_failed_opening_says_so_and_what_is_missing() -> None:
    unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    report = ConnectionReport("no.example", 80, elapsed=2.0, ignored=7)
    report.lookups += [
        LookupRecord("no.example", "IPv6", 0.0, 0.5, error=unknown),
        LookupRecord("no.example", "IPv4", 0.0),
        LookupRecord("no.example", "IPv4", 0.0, 0.5),
    ]
    assert str(report).splitlines() == [
        "no.example port 80: not connected after 2.0 s",
        "    0.0 ms .. 500 ms    lookup IPv6 no.example: failed: Name or service not known",
        "    0.0 ms ..           lookup IPv4 no.example: no answer",
        "    0.0 ms .. 500 ms    lookup IPv4 no.example: no addresses",
        "  7 more addresses were ignored",
    ]


def test_a_report_under_way_has_no_verdict() -> None:
    report = ConnectionReport("127.0.0.1", 80)
    report.attempts.append(AttemptRecord(SocketAddress("127.0.0.1", 80), 0.0))
    assert str(report).splitlines() == [
        "127.0.0.1 port 80",
        "    0.0 ms ..           connect 127.0.0.1:80: under way",
    ]
    assert report.winner is None


def test_the_winner_is_the_attempt_that_connected() -> None:
    winner = told().winner
    assert winner is not None
    assert winner.address == SocketAddress("192.0.2.1", 443)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 ms"),
        (0.00034, "0.3 ms"),
        (0.01, "10 ms"),
        (0.25, "250 ms"),
        (1, "1.0 s"),
        (2.04, "2.0 s"),
        (75, "75.0 s"),
    ],
)
def test_times_are_short(seconds: float, text: str) -> None:
    assert milliseconds(seconds) == text


def test_a_report_survives_pickle() -> None:
    report = told()
    twin = pickle.loads(pickle.dumps(report))
    assert str(twin) == str(report)
    assert twin.attempts[1:] == report.attempts[1:]
    assert isinstance(twin.attempts[0].error, ConnectionRefusedError)
