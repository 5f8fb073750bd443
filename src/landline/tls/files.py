"""Loading keys, certificates and lists into a context, with errors that name the file and what is wrong with it.

OpenSSL answers nearly every mistake with "PEM lib". So after a failure, and only then, the file is looked at:
is it there, is it PEM, does it hold what it should? Looking first was rejected: a file may be a pipe, which
can be read once. An encrypted key without a password is an error, never a prompt on some terminal.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import SocketCreateError, SocketError, with_kin
from .contexts import is_truststore, load_system_trust

if TYPE_CHECKING:
    import ssl

__all__ = ["Password", "load_dh", "load_own_certificate", "load_revoked", "load_trusted"]

Password = str | bytes | None

MOST_LOOKED_AT = 1 << 20  # bytes of a file, when looking for what is wrong with it


def load_own_certificate(
    context: ssl.SSLContext,
    cert_file: str | None,
    key_file: str | None,
    password: Password = None,
    password_callback: Callable[[str], str | bytes] | None = None,
) -> None:
    """Load the certificate (its chain behind it) and its key; one file may hold both.

    Raises:
        SocketCreateError: a file cannot be read (also FileNotFoundError, PermissionError, ...), or is not what it
            should be, the password is missing or wrong, key and certificate are of different pairs (also ValueError).
        Exception: whatever `password_callback` raises.
    """
    import ssl

    cert, key = cert_file or key_file, key_file or cert_file
    if cert is None or key is None:
        return
    names = {"cert_file": cert, "key_file": key} if cert != key else {_only(cert_file): cert}
    key_name = list(names)[-1]
    asked = False

    def give() -> str | bytes:
        nonlocal asked
        asked = True
        if password_callback is not None:
            return password_callback(key)
        if password is None:
            raise _problem(key_name, key, "its key is encrypted: give password= or password_callback=")
        return password

    try:
        context.load_cert_chain(cert, key, password=give)
    except SocketError:
        raise
    except ssl.SSLError as error:
        if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "X509_KEY_VALUES_MISMATCH"):
            raise _problem(key_name, key, f"its key does not belong to the certificate in {cert!r}", error) from error
        for name, path, kind in (("cert_file", cert, "certificate"), ("key_file", key, "key")):
            wrong = _what_is_wrong(path, kind)
            if wrong:
                raise _problem(name if name in names else key_name, path, wrong, error) from error
        if asked:
            raise _problem(key_name, key, "the password does not open its key", error) from error
        raise _problem(", ".join(names), cert if cert == key else f"{cert}, {key}", _said(error), error) from error
    except OSError as error:
        raise _first_unreadable(names, error) from error


def load_trusted(context: ssl.SSLContext, trusted_file: str | None, trusted_directory: str | None) -> None:
    """Trust the authorities in a file, a directory, or both; "default" stands for the system's.

    Raises:
        SocketCreateError: as `load_own_certificate`; a directory without hashed names is an error too.
    """
    if "default" in (trusted_file, trusted_directory):
        _load_default(context, trusted_file == "default", trusted_directory == "default")
    if trusted_file not in (None, "default"):
        assert trusted_file is not None
        _load_locations(context, "openssl_trusted_file", trusted_file, "certificate", "x509")
    if trusted_directory not in (None, "default"):
        assert trusted_directory is not None
        _check_directory(trusted_directory)
        context.load_verify_locations(capath=trusted_directory)


def load_revoked(context: ssl.SSLContext, crl_file: str) -> None:
    """Load revocation lists, and check the peer's own certificate against them from now on.

    Raises:
        SocketCreateError: as `load_own_certificate`.
    """
    import ssl

    _load_locations(context, "crl_file", crl_file, "revocation list", "crl")
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def load_dh(context: ssl.SSLContext, dh_file: str) -> None:
    """Load Diffie-Hellman parameters (TLS 1.2 only; TLS 1.3 has its own groups).

    Raises:
        SocketCreateError: as `load_own_certificate`.
    """
    import ssl

    try:
        context.load_dh_params(dh_file)
    except ssl.SSLError as error:
        wrong = _what_is_wrong(dh_file, "DH parameters") or _said(error)
        raise _problem("dh_file", dh_file, wrong, error) from error
    except OSError as error:
        raise _first_unreadable({"dh_file": dh_file}, error) from error


_MARKS = {
    "certificate": re.compile(rb"-----BEGIN (?:[A-Z0-9]+ )*CERTIFICATE-----"),
    "key": re.compile(rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----"),
    "revocation list": re.compile(rb"-----BEGIN X509 CRL-----"),
    "DH parameters": re.compile(rb"-----BEGIN (?:[A-Z0-9.]+ )*DH PARAMETERS-----"),
}
_TO_PEM = {
    "certificate": "openssl x509 -inform der",
    "key": "openssl pkey -inform der",
    "revocation list": "openssl crl -inform der",
    "DH parameters": "openssl dhparam -inform der",
}
_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")  # what `openssl rehash` makes


def _load_default(context: ssl.SSLContext, file: bool, directory: bool) -> None:
    import ssl

    if (file and directory) or is_truststore(context):
        load_system_trust(context)
        return
    paths = ssl.get_default_verify_paths()
    found, what = (paths.cafile, "file") if file else (paths.capath, "directory")
    if not found:
        missing = paths.openssl_cafile if file else paths.openssl_capath
        raise _problem(f"openssl_trusted_{what}", missing, f"this system has no default {what} of trusted roots")
    if file:
        context.load_verify_locations(cafile=found)
    else:
        context.load_verify_locations(capath=found)


def _load_locations(context: ssl.SSLContext, name: str, path: str, kind: str, counted: str) -> None:
    import ssl

    def count() -> int:
        return 0 if is_truststore(context) else context.cert_store_stats()[counted]

    before = count()
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        raise _problem(name, path, _what_is_wrong(path, kind) or _said(error), error) from error
    except OSError as error:
        raise _first_unreadable({name: path}, error) from error
    if count() == before and (wrong := _what_is_wrong(path, kind)):
        raise _problem(name, path, wrong)


def _check_directory(path: str) -> None:
    try:
        entries = os.listdir(path)
    except OSError as error:
        raise _first_unreadable({"openssl_trusted_directory": path}, error) from error
    if not any(map(_HASHED.fullmatch, entries)):
        wrong = f"no certificate in it has a hashed name: run `openssl rehash {path}`"
        raise _problem("openssl_trusted_directory", path, wrong)


def _what_is_wrong(path: str, kind: str) -> str | None:
    """What is wrong with a file, as far as one can see; None when it is a pipe, or holds what it should."""
    if not os.path.isfile(path):
        return None
    try:
        with open(path, "rb") as file:
            content = file.read(MOST_LOOKED_AT)
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    if not content.strip():
        return "it is empty"
    if _MARKS[kind].search(content):
        return None
    if content[0] == 0x30:  # a DER sequence
        return f"it is DER, not PEM; convert it: {_TO_PEM[kind]} -in {path}"
    return f"there is no {kind} in it (PEM, beginning with {_beginning(kind)!r})"


def _beginning(kind: str) -> str:
    return {
        "certificate": "-----BEGIN CERTIFICATE-----",
        "key": "-----BEGIN PRIVATE KEY-----",
        "revocation list": "-----BEGIN X509 CRL-----",
    }.get(kind, "-----BEGIN DH PARAMETERS-----")


def _first_unreadable(names: dict[str, str], error: OSError) -> SocketError:
    """OpenSSL's error has no file name: find the file that cannot be opened."""
    for name, path in names.items():
        if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
            continue  # a pipe: opening it could block
        try:
            with open(path, "rb"):
                continue
        except IsADirectoryError as found:
            if name.endswith("directory"):
                continue
            return _problem(name, path, f"it cannot be read: {found.strerror}", found)
        except OSError as found:
            return _problem(name, path, f"it cannot be read: {found.strerror or found}", found)
    return _problem(", ".join(names), ", ".join(names.values()), f"it cannot be read: {error.strerror or error}", error)


def _problem(name: str, path: str, wrong: str, cause: OSError | None = None) -> SocketError:
    import ssl

    system = cause is not None and not isinstance(cause, ssl.SSLError)
    kind = with_kin(SocketCreateError, cause if system else ValueError)
    number = cause.errno if system and cause is not None else None
    return kind(f"{name}={path!r}: {wrong}", operation="tls", address=path, errno=number)


def _said(error: ssl.SSLError) -> str:
    words = (error.reason or str(error)).replace("_", " ").lower()
    return f"OpenSSL cannot use it ({words})"


def _only(cert_file: str | None) -> str:
    return "key_file" if cert_file is None else "cert_file"
