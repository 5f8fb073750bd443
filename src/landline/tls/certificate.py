"""Certificates as plain values, read from their DER.

Why a reader of our own: the standard library gives a certificate's contents only after its chain was trusted
(getpeercert), but the certificate that was *refused* is the one a message has to describe; its other decoder
is a private function that wants a file. The `cryptography` package reads everything, and refuses whole
certificates for oddities (a negative serial number) that OpenSSL lets pass; 4 MB of it for six fields was too
much. So: the few fields that people need, from definite-length DER, every length checked, nothing recursive.

Whom to trust is never decided from these values but for one question: which names a certificate, whose chain
OpenSSL has verified, is for (names.py).

Sources: RFC 5280 4.1 and 4.2.1.6, X.690 8 and 10.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

__all__ = ["Certificate", "read_certificate"]


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate says. The text is the peer's own: bound and clean it before showing it.

    Attributes:
        der: the certificate itself.
        subject: the subject's common name; None where it has none.
        issuer: the issuer's common name, else its organization; None where it has neither.
        names: the DNS names it is for, as written ("*.example.com"); bytes beyond ASCII as "\\\\xff".
        addresses: the IP addresses it is for.
        serial_number: an integer.
        not_before, not_after: its validity, in UTC.
        key_kind: "RSA", "EC P-256", "Ed25519", ..., or the algorithm's object identifier.
        key_bits: the key's size; None where the kind is not known.
        signature: what its issuer signed it with ("ECDSA SHA-256"), or the algorithm's object identifier.
        self_issued: subject and issuer are one and the same.
    """

    der: bytes = field(repr=False)
    subject: str | None
    issuer: str | None
    names: tuple[str, ...]
    addresses: tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, ...]
    serial_number: int
    not_before: datetime
    not_after: datetime
    key_kind: str
    key_bits: int | None
    signature: str
    self_issued: bool

    @property
    def sha256(self) -> str:
        """The fingerprint: SHA-256 of the DER in hexadecimal."""
        from hashlib import sha256

        return sha256(self.der).hexdigest()


def read_certificate(der: bytes) -> Certificate:
    """Read a certificate.

    Raises:
        ValueError: not a certificate, or one that breaks DER in a field that is read here.
    """
    try:
        return _read(der)
    except (IndexError, OverflowError) as error:  # cut short; a year or number out of range
        raise ValueError("not a certificate: it ends too early") from error


# ---- DER -----------------------------------------------------------------------------------------

_INTEGER, _BIT_STRING, _OCTET_STRING, _OID, _SEQUENCE, _SET = 0x02, 0x03, 0x04, 0x06, 0x30, 0x31
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_VERSION, _EXTENSIONS, _DNS_NAME, _IP_ADDRESS = 0xA0, 0xA3, 0x82, 0x87

_ENCODINGS = {0x0C: "utf-8", 0x13: "ascii", 0x16: "ascii", 0x14: "latin-1", 0x1E: "utf-16-be", 0x1C: "utf-32-be"}
_COMMON_NAME, _ORGANIZATION, _SUBJECT_ALT_NAME = b"\x55\x04\x03", b"\x55\x04\x0a", b"\x55\x1d\x11"

_RSA = {b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01": "RSA", b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a": "RSA-PSS"}
_EC = b"\x2a\x86\x48\xce\x3d\x02\x01"
_CURVES = {
    b"\x2a\x86\x48\xce\x3d\x03\x01\x07": ("EC P-256", 256),
    b"\x2b\x81\x04\x00\x22": ("EC P-384", 384),
    b"\x2b\x81\x04\x00\x23": ("EC P-521", 521),
    b"\x2b\x81\x04\x00\x0a": ("EC secp256k1", 256),
}
_EDWARDS = {b"\x2b\x65\x70": ("Ed25519", 256), b"\x2b\x65\x71": ("Ed448", 456)}
_SIGNATURES = {
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04": "RSA MD5",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05": "RSA SHA-1",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a": "RSA-PSS",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b": "RSA SHA-256",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c": "RSA SHA-384",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d": "RSA SHA-512",
    b"\x2a\x86\x48\xce\x3d\x04\x01": "ECDSA SHA-1",
    b"\x2a\x86\x48\xce\x3d\x04\x03\x02": "ECDSA SHA-256",
    b"\x2a\x86\x48\xce\x3d\x04\x03\x03": "ECDSA SHA-384",
    b"\x2a\x86\x48\xce\x3d\x04\x03\x04": "ECDSA SHA-512",
    **{identifier: kind for identifier, (kind, _) in _EDWARDS.items()},
}


def _read(der: bytes) -> Certificate:
    outer, stop = _element(der, 0, len(der), _SEQUENCE)
    if stop != len(der):
        raise ValueError("not a certificate: something follows it")
    start, stop = _element(der, outer, stop, _SEQUENCE)
    fields = list(_elements(der, start, stop))
    if fields and fields[0][0] == _VERSION:
        del fields[0]
    tags = [tag for tag, _, _ in fields[:6]]
    if tags != [_INTEGER, _SEQUENCE, _SEQUENCE, _SEQUENCE, _SEQUENCE, _SEQUENCE]:
        raise ValueError("not a certificate: its fields are others")
    serial, signature, issuer, validity, subject, key = ((start, stop) for _, start, stop in fields[:6])
    times = [_time(tag, der[start:stop]) for tag, start, stop in _elements(der, *validity)]
    if len(times) != 2:
        raise ValueError("not a certificate: a validity has two times")
    names, addresses = _alternative_names(der, [(a, b) for tag, a, b in fields[6:] if tag == _EXTENSIONS])
    issued_by = _attributes(der, *issuer)
    kind, bits = _key(der, *key)
    return Certificate(
        der=der,
        subject=_attributes(der, *subject).get(_COMMON_NAME),
        issuer=issued_by.get(_COMMON_NAME, issued_by.get(_ORGANIZATION)),
        names=names,
        addresses=addresses,
        serial_number=int.from_bytes(der[slice(*serial)], "big", signed=True),
        not_before=times[0],
        not_after=times[1],
        key_kind=kind,
        key_bits=bits,
        signature=_signature(der, *signature),
        self_issued=der[slice(*subject)] == der[slice(*issuer)],
    )


def _elements(der: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield (tag, start, stop) of each element between two offsets."""
    while at < end:
        tag = der[at]
        if tag & 0x1F == 0x1F:
            raise ValueError("not a certificate: a tag of more than one byte")
        length, at = der[at + 1], at + 2
        if length > 0x80:
            count = length & 0x7F
            if count > 4:
                raise ValueError("not a certificate: a length of more than four bytes")
            length, at = int.from_bytes(der[at : at + count], "big"), at + count
        elif length == 0x80:
            raise ValueError("not a certificate: BER, not DER")
        if at + length > end:
            raise ValueError("not a certificate: it ends too early")
        yield tag, at, at + length
        at += length


def _element(der: bytes, at: int, end: int, wanted: int) -> tuple[int, int]:
    """The (start, stop) of the first element between two offsets, which has to be of the tag `wanted`."""
    for tag, start, stop in _elements(der, at, end):
        if tag == wanted:
            return start, stop
        break
    raise ValueError("not a certificate: an element is missing")


def _attributes(der: bytes, at: int, end: int) -> dict[bytes, str]:
    """A distinguished name as {object identifier: text}; of several the last, which is the most specific."""
    found = {}
    for _, start, stop in _elements(der, at, end):  # SET
        for _, inner, inner_stop in _elements(der, start, stop):  # SEQUENCE
            parts = list(_elements(der, inner, inner_stop))
            if len(parts) == 2 and parts[0][0] == _OID:
                (_, a, b), (tag, c, d) = parts
                found[der[a:b]] = der[c:d].decode(_ENCODINGS.get(tag, "ascii"), "backslashreplace")
    return found


def _time(tag: int, text: bytes) -> datetime:
    digits = text.decode("ascii", "replace")
    if tag == _UTC_TIME and len(digits) == 13:  # RFC 5280 4.1.2.5.1: 50 to 99 are of the last century
        digits = ("19" if digits[:2] >= "50" else "20") + digits
    elif tag != _GENERALIZED_TIME:
        raise ValueError("not a certificate: a validity without times")
    if len(digits) != 15 or digits[14] != "Z" or not (digits[:14].isascii() and digits[:14].isdecimal()):
        raise ValueError("not a certificate: a time that is none")
    return datetime.strptime(digits[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC)


def _alternative_names(
    der: bytes, extensions: list[tuple[int, int]]
) -> tuple[tuple[str, ...], tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, ...]]:
    found: tuple[int, int] | None = None
    for start, stop in extensions[:1]:
        for tag, inner, inner_stop in _elements(der, *_element(der, start, stop, _SEQUENCE)):
            parts = list(_elements(der, inner, inner_stop))
            if tag != _SEQUENCE or len(parts) < 2 or parts[0][0] != _OID or parts[-1][0] != _OCTET_STRING:
                raise ValueError("not a certificate: an extension that is none")
            if der[parts[0][1] : parts[0][2]] == _SUBJECT_ALT_NAME:
                if found is not None:  # RFC 5280 4.2: no extension twice; which one would count?
                    raise ValueError("not a certificate: its alternative names are there twice")
                found = parts[-1][1], parts[-1][2]
    if found is None:
        return (), ()
    names, addresses = [], []
    for tag, start, stop in _elements(der, *_element(der, *found, _SEQUENCE)):
        value = der[start:stop]
        if tag == _DNS_NAME:
            names.append(value.decode("ascii", "backslashreplace"))
        elif tag == _IP_ADDRESS and len(value) in (4, 16):
            addresses.append(ipaddress.ip_address(value))
    return tuple(names), tuple(addresses)


def _key(der: bytes, at: int, end: int) -> tuple[str, int | None]:
    parts = list(_elements(der, at, end))
    if [tag for tag, _, _ in parts] != [_SEQUENCE, _BIT_STRING]:
        raise ValueError("not a certificate: a key that is none")
    (_, start, stop), (_, key, key_stop) = parts
    algorithm = [der[a:b] for _, a, b in _elements(der, start, stop)]
    if not algorithm:
        raise ValueError("not a certificate: a key of no kind")
    identifier, parameters = algorithm[0], algorithm[1:]
    if identifier in _RSA:
        modulus = _element(der, _element(der, key + 1, key_stop, _SEQUENCE)[0], key_stop, _INTEGER)
        return _RSA[identifier], int.from_bytes(der[slice(*modulus)], "big").bit_length()
    if identifier == _EC and parameters:
        return _CURVES.get(parameters[0], (f"EC {_dotted(parameters[0])}", None))
    return _EDWARDS.get(identifier, (_dotted(identifier), None))


def _signature(der: bytes, at: int, end: int) -> str:
    """Of an algorithm identifier; the parameters, which tell RSA-PSS's digest, are left alone."""
    start, stop = _element(der, at, end, _OID)
    return _SIGNATURES.get(der[start:stop], _dotted(der[start:stop]))


def _dotted(identifier: bytes) -> str:
    """An object identifier in dotted form; at most 32 bytes of it, which is more than any real one."""
    numbers, number = [], 0
    for byte in identifier[:32]:
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            numbers.append(number)
            number = 0
    if not numbers:
        return "unknown"
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, [first, numbers[0] - 40 * first, *numbers[1:]]))
