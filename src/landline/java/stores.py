"""Java's key stores, read from files or taken as they are, and the SSLContexts that are made of them.

A file is read here and not by Java: what is wrong with it is then told as for any other file of TLS (tls/files.py), by
its name. Contexts are kept for the next call with the same files, because opening a key store takes a hundred
times as long as opening a connection (its password is stretched on purpose), and because sessions resume in one
context only.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from hashlib import blake2b
from threading import Lock
from typing import Any, NamedTuple

from ..errors import SocketCreateError, with_kin
from .bridge import Bridge, bridge
from .context import MadeContext, Spy

__all__ = ["context_of"]

MOST_KEPT = 8
"""Contexts kept."""

MOST_SESSIONS = 512
"""Sessions that one of them keeps for resumption. Java's own limit is 20 480, some 50 MB."""

JKS, JCEKS = b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce"
"""How these formats begin; PKCS12 begins as any DER does."""


def context_of(
    key_store: Any = None,
    key_store_password: str | None = None,
    trust_store: Any = None,
    trust_store_password: str | None = None,
) -> MadeContext:
    """The context for these stores: files (JKS, JCEKS, PKCS12), java.security.KeyStores, or None.

    Raises:
        TypeError: an argument is not allowed.
        SocketCreateError: a file cannot be read (also FileNotFoundError, ...), is no key store, or the password is
            wrong (also ValueError); there is no Java.
    """
    way = bridge()
    words = (
        _Source.of(key_store, key_store_password, "key_store"),
        _Source.of(trust_store, trust_store_password, "trust_store"),
    )
    try:
        if any(each is not None and each.file is None for each in words):
            return _make(way, *words)
        key = tuple(each and each.fingerprint() for each in words)
        with _lock:
            made = _kept.pop(key, None) or _make(way, *words)
            _kept[key] = made
            while len(_kept) > MOST_KEPT:
                _kept.popitem(last=False)
        return made
    except way.error as error:
        raise SocketCreateError(f"Java makes no SSLContext of this: {error}", operation="handshake") from error


_kept: OrderedDict[Any, MadeContext] = OrderedDict()
_lock = Lock()
_salt = os.urandom(16)


class _Source(NamedTuple):
    """A store to be: a file and its password, or a java.security.KeyStore."""

    name: str
    file: str | None
    store: Any
    password: str | None

    @classmethod
    def of(cls, given: Any, password: Any, name: str) -> _Source | None:
        if password is not None and not isinstance(password, str):
            raise TypeError(f"{name}_password is not allowed: it must be a string or None")
        if given is None:
            if password is not None:
                raise ValueError(f"{name}_password is not allowed without {name}")
            return None
        if isinstance(given, (str, os.PathLike)):
            return cls(name, os.fspath(given), None, password)
        if not callable(getattr(given, "aliases", None)):
            raise TypeError(f"{name}={given!r} is not allowed: it must be a path or a java.security.KeyStore")
        return cls(name, None, given, password)

    def fingerprint(self) -> tuple[object, ...]:
        """The same for as long as the file is; its password is not kept."""
        assert self.file is not None
        try:
            found = os.stat(self.file)
        except OSError as error:
            raise self.problem(error.strerror or str(error), error) from error
        secret = blake2b((self.password or "").encode(), key=_salt).digest()
        return self.file, found.st_ino, found.st_size, found.st_mtime_ns, self.password is None, secret

    def load(self, way: Bridge) -> Any:
        """The java.security.KeyStore."""
        if self.file is None:
            return self.store
        try:
            with open(self.file, "rb") as file:
                content = file.read()
        except OSError as error:
            raise self.problem(error.strerror or str(error), error) from error
        kind = {JKS: "JKS", JCEKS: "JCEKS"}.get(content[:4], "PKCS12")
        try:
            store = way.find("java.security.KeyStore").getInstance(kind)
            stream = way.find("java.io.ByteArrayInputStream")(way.octets(content))
            store.load(stream, self.password)
        except way.error as error:
            kinds = {kind.rpartition(".")[2] for kind, _ in way.causes(error)}
            if "UnrecoverableKeyException" in kinds or "BadPaddingException" in kinds:
                wrong = f"the password does not open it (give {self.name}_password)"
            else:
                wrong = f"it is no key store that Java can read (JKS or PKCS12): {way.causes(error)[0][1]}"
            raise self.problem(wrong, error) from error
        return store

    def problem(self, what: str, error: Exception) -> SocketCreateError:
        kin = error if isinstance(error, OSError) else ValueError
        return with_kin(SocketCreateError, kin)(
            f"{self.name}={self.file!r}: {what}", operation="read", errno=getattr(error, "errno", None)
        )


def _make(way: Bridge, own: _Source | None, trusted: _Source | None) -> MadeContext:
    kind = way.find("javax.net.ssl.SSLContext")
    if own is None and trusted is None and way.find("java.lang.System").getProperty("javax.net.ssl.keyStore"):
        return MadeContext(kind.getDefault(), None)  # which shows the key that is in there
    keys = None if own is None else _key_managers(way, own)
    if way.implement is not None:
        manager = _trust_managers(way, way.no_store() if trusted is None else trusted.load(way))[0]
        context, spy = kind.getInstance("TLS"), Spy(way, way.implement, manager)
        try:
            context.init(keys, [spy.manager], None)
            return _bounded(MadeContext(context, spy))
        except way.error:
            pass  # a provider that takes its own trust managers only (FIPS)
    context = kind.getInstance("TLS")
    context.init(keys, None if trusted is None else _trust_managers(way, trusted.load(way)), None)
    return _bounded(MadeContext(context, None))


def _bounded(made: MadeContext) -> MadeContext:
    made.java.getClientSessionContext().setSessionCacheSize(MOST_SESSIONS)
    return made


def _trust_managers(way: Bridge, store: Any) -> Any:
    factory = way.find("javax.net.ssl.TrustManagerFactory")
    maker = factory.getInstance(factory.getDefaultAlgorithm())
    maker.init(store)
    return maker.getTrustManagers()


def _key_managers(way: Bridge, own: _Source) -> Any:
    factory = way.find("javax.net.ssl.KeyManagerFactory")
    maker = factory.getInstance(factory.getDefaultAlgorithm())
    store = own.load(way)
    try:
        maker.init(store, own.password)
    except way.error as error:
        raise own.problem("its password does not open the key in it (both must have the same)", error) from error
    return maker.getKeyManagers()
