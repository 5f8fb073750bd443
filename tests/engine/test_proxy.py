"""PROXY headers: what version 1 and 2 may say, and that nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landline import SocketAddress
from landline.engine.proxy import (
    LONGEST_LINE,
    SHORTEST,
    SIGNATURE,
    ProxyHeader,
    build_proxy_header,
    head_size,
    parse_proxy_header,
)

CLIENT, SITE = SocketAddress("192.0.2.7", 4711), SocketAddress("198.51.100.1", 443)
CLIENT_6, SITE_6 = SocketAddress("2001:db8::7", 4711), SocketAddress("2001:db8:1::1", 443)


# ---- version 1 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "source", "destination"),
    [
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n", CLIENT, SITE),
        (b"PROXY TCP6 2001:db8::7 2001:db8:1::1 4711 443\r\n", CLIENT_6, SITE_6),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 4711 443\r\n", CLIENT, SITE),
        (b"PROXY UNKNOWN\r\n", None, None),
        (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None, None),
        (b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", ("0.0.0.0", 0), ("255.255.255.255", 65535)),
    ],
)
def test_2_1_a_line_tells_both_ends(line: bytes, source: object, destination: object) -> None:
    header = parse_proxy_header(line)
    assert (header.source, header.destination, header.version, header.tlvs) == (source, destination, 1, ())


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443 1\r\n",
        b"PROXY TCP4  192.0.2.7 198.51.100.1 4711 443\r\n",
        b"PROXY TCP4 2001:db8::7 198.51.100.1 4711 443\r\n",
        b"PROXY TCP4 192.0.2.07 198.51.100.1 4711 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 04711 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 -1 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 65536\r\n",
        b"PROXY UDP4 192.0.2.7 198.51.100.1 4711 443\r\n",
        b"PROXY \xff\xff 1 2 3 4\r\n",
        b"PROXY UNKNOWN" + b"x" * LONGEST_LINE + b"\r\n",
        b"PROXY \r\n",
    ],
)
def test_2_1_a_line_that_breaks_the_rules_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match="PROXY line"):
        parse_proxy_header(line)


def test_2_1_the_longest_line_fits() -> None:
    far = SocketAddress("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535)
    line = build_proxy_header(ProxyHeader(far, far, 1))
    assert len(line) <= LONGEST_LINE
    assert parse_proxy_header(line).source == far


# ---- version 2 -----------------------------------------------------------------------------------------

OF_V4 = SIGNATURE + bytes.fromhex("2111000cc0000207c6336401126701bb")


def test_2_2_an_address_of_four_bytes() -> None:
    assert parse_proxy_header(OF_V4) == ProxyHeader(CLIENT, SITE)
    assert build_proxy_header(ProxyHeader(CLIENT, SITE)) == OF_V4


def test_2_2_local_and_unspecified_tell_nothing() -> None:
    for command, family in ((0x20, 0x00), (0x20, 0x11), (0x21, 0x00)):
        body = OF_V4[16:] if family else b""
        header = parse_proxy_header(SIGNATURE + bytes((command, family, 0, len(body))) + body)
        assert (header.source, header.destination) == (None, None)


def test_2_2_unix_sockets_have_paths() -> None:
    data = build_proxy_header(ProxyHeader("/run/a", "/run/b"))
    assert len(data) == 16 + 216
    assert parse_proxy_header(data) == ProxyHeader("/run/a", "/run/b")


@pytest.mark.parametrize(
    "data",
    [
        OF_V4[:-1],
        OF_V4 + b"\0",
        SIGNATURE + b"\x31\x11\0\0",
        SIGNATURE + b"\x22\x11\0\0",
        SIGNATURE + b"\x21\x11\0\x04\0\0\0\0",
        SIGNATURE + b"\x21\x00\0\x02\x05\0",
        SIGNATURE + b"\x21\x00\0\x04\x05\0\x02x",
        b"\r\n\r\n\0\r\nQUIt\n" + OF_V4[12:],
    ],
)
def test_2_2_what_breaks_the_rules_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="PROXY header"):
        parse_proxy_header(data)


def test_2_2_a_checksum_that_is_there_must_be_right() -> None:
    # Its value was computed with an independent implementation of CRC-32C.
    empty = SIGNATURE + b"\x20\x00\0\x07" + b"\x03\0\x04"
    crc = _slow_crc32c(empty + bytes(4)).to_bytes(4, "big")
    assert parse_proxy_header(empty + crc).tlvs == ((3, crc),)
    with pytest.raises(ValueError, match="checksum"):
        parse_proxy_header(empty + bytes(4))


def _slow_crc32c(data: bytes) -> int:
    """By long division of polynomials, bit by bit, over numbers: nothing of it is like the code that is tested."""
    bits = [int(f"{byte:08b}"[::-1], 2) for byte in data]
    number = int.from_bytes(bytes(bits), "big") << 32
    length = 8 * len(data) + 32
    number ^= 0xFFFFFFFF << (length - 32)
    for at in range(length - 1, 31, -1):
        if number >> at & 1:
            number ^= 0x11EDC6F41 << (at - 32)
    return int(f"{number:032b}"[::-1], 2) ^ 0xFFFFFFFF


def test_the_checksum_of_rfc_3720_b_4() -> None:
    assert _slow_crc32c(bytes(32)) == 0x8A9136AA


# ---- both ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"GET / HTTP/1.0\r\n", b"PROXYTCP4 xxxxxx", b"\x16\x03\x01" + bytes(12), bytes(15)])
def test_what_begins_otherwise_is_no_header(data: bytes) -> None:
    with pytest.raises(ValueError, match="no PROXY header"):
        head_size(data)


def test_the_size_is_known_from_the_beginning() -> None:
    assert head_size(b"PROXY UNKNOWN\r\n") is None
    assert head_size(OF_V4[:SHORTEST]) == 16
    assert head_size(OF_V4[:16]) == len(OF_V4)


def test_what_a_version_cannot_say_is_refused() -> None:
    for header in (
        ProxyHeader("/a", "/b", 1),
        ProxyHeader(CLIENT, SITE, 1, ((2, b"x"),)),
        ProxyHeader(CLIENT, "/b"),
        ProxyHeader("/" + "x" * 108, "/b"),
        ProxyHeader(CLIENT, SITE, 2, ((256, b""),)),
    ):
        with pytest.raises(ValueError, match="not allowed"):
            build_proxy_header(header)


def test_ends_of_two_families_go_as_ipv6() -> None:
    for version in (1, 2):
        header = parse_proxy_header(build_proxy_header(ProxyHeader(CLIENT, SITE_6, version)))
        assert (header.source, header.destination) == (CLIENT, SITE_6)


addresses = st.builds(
    SocketAddress, st.ip_addresses().filter(lambda one: getattr(one, "ipv4_mapped", None) is None).map(str),
    st.integers(0, 65535),
)  # fmt: skip


@given(addresses, addresses, st.lists(st.tuples(st.integers(4, 255), st.binary(max_size=40)), max_size=4))
def test_what_was_built_is_read_again(
    source: SocketAddress, destination: SocketAddress, tlvs: list[tuple[int, bytes]]
) -> None:
    header = ProxyHeader(source, destination, 2, tuple(tlvs))
    data = build_proxy_header(header)
    assert head_size(data[:16]) == len(data)
    assert parse_proxy_header(data) == header
    line = build_proxy_header(ProxyHeader(source, destination, 1))
    assert parse_proxy_header(line) == ProxyHeader(source, destination, 1)


@given(st.binary(max_size=300))
def test_anything_else_is_a_value_error(data: bytes) -> None:
    for head in (b"", b"PROXY ", SIGNATURE + b"\x21", OF_V4[:14]):
        whole = head + data
        if len(whole) < 16:
            continue
        try:
            head_size(whole[:SHORTEST])
            parse_proxy_header(whole)
        except ValueError:
            pass
