"""The front door with Java behind it: one call that uses it, and a switch that has open_tcp_stream() use it.

Connecting, clocks and the stream are open_tcp_stream()'s own; the JVM does TLS and nothing else.

Where the manual's function ignores keywords (write-timeout, ipv6, tlsext-host-name) these mean here what they always
mean, for nothing stands in their way; a keyword that could only be ignored is an error.

Source: LispWorks manual, open-tcp-stream-using-java and switch-open-tcp-stream-with-ssl-to-java.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, TypedDict, overload
from weakref import ref

from ..address import HostSpec, ServiceSpec
from ..sync import open as front_door
from ..sync.open import open_tcp_stream

if TYPE_CHECKING:
    import socket
    from types import TracebackType
    from typing import Unpack

    from ..errors import SocketError
    from ..options import KeepAlive
    from ..sync.cancel import Cancel
    from ..sync.flow import Direction
    from ..sync.proxied import ProxySpec
    from ..sync.stream import SocketStream
    from ..sync.text_stream import TextSocketStream
    from ..tls.names import NotGiven

__all__ = ["JavaSwitch", "open_tcp_stream_using_java", "switch_open_tcp_stream_with_ssl_to_java"]


class JavaKeywords(TypedDict, total=False):
    """What decides about TLS."""

    factory: Any
    verify: Any
    key_store: str | PathLike[str] | Any | None
    key_store_password: str | None
    trust_store: str | PathLike[str] | Any | None
    trust_store_password: str | None
    alpn: Sequence[str]
    ssl_ctx: Literal[True, "default", "v23", "tls-v1-2", "tls-v1-3"]
    ssl_configure_callback: Callable[[Any], object] | None


class Keywords(JavaKeywords, total=False):
    """And those that mean what they mean for open_tcp_stream()."""

    direction: Direction
    timeout: float | None
    read_timeout: float | None
    write_timeout: float | None
    handshake_timeout: float | None
    tlsext_host_name: str | bool | NotGiven | None
    local_address: HostSpec | None
    local_port: ServiceSpec | None
    ipv6: bool | Literal["any"] | None
    nodelay: object
    keepalive: bool | KeepAlive | None
    socket_configure_callback: Callable[[socket.socket], object] | None
    proxy_protocol: ProxySpec
    attempt_delay: float
    cancel: Cancel | None


class TextKeywords(Keywords, total=False):
    """For characters."""

    encoding: str
    errors: str
    newline: str | None


@overload
def open_tcp_stream_using_java(
    host: HostSpec,
    service: ServiceSpec,
    *,
    element_type: type[bytes] = ...,
    errorp: Literal[True] = ...,
    **more: Unpack[TextKeywords],
) -> SocketStream: ...


@overload
def open_tcp_stream_using_java(
    host: HostSpec,
    service: ServiceSpec,
    *,
    element_type: type[str],
    errorp: Literal[True] = ...,
    **more: Unpack[TextKeywords],
) -> TextSocketStream: ...


@overload
def open_tcp_stream_using_java(
    host: HostSpec,
    service: ServiceSpec,
    *,
    element_type: type[bytes] = ...,
    errorp: Literal[False] | None,
    **more: Unpack[TextKeywords],
) -> tuple[SocketStream, None] | tuple[None, SocketError]: ...


@overload
def open_tcp_stream_using_java(
    host: HostSpec,
    service: ServiceSpec,
    *,
    element_type: type[str],
    errorp: Literal[False] | None,
    **more: Unpack[TextKeywords],
) -> tuple[TextSocketStream, None] | tuple[None, SocketError]: ...


def open_tcp_stream_using_java(
    host: HostSpec,
    service: ServiceSpec,
    *,
    factory: Any = None,
    verify: Any = True,
    key_store: str | PathLike[str] | Any | None = None,
    key_store_password: str | None = None,
    trust_store: str | PathLike[str] | Any | None = None,
    trust_store_password: str | None = None,
    alpn: Sequence[str] = (),
    ssl_ctx: Any = True,
    ssl_configure_callback: Callable[[Any], object] | None = None,
    ctx_configure_callback: None = None,
    errorp: bool | None = True,
    **more: Any,
) -> Any:
    """Connect to a server as open_tcp_stream() does, with TLS by a Java virtual machine instead of OpenSSL.

    The JVM is found (JAVA_HOME, PATH) and started when it is first needed, and is then shared by the process; one that
    runs already is used. Needs ``pip install 'landline[java]'`` and a Java runtime, 11 or newer.

    Args:
        host, service: as for open_tcp_stream(). The certificate must be for this host.
        factory: a javax.net.ssl.SSLContext, or an SSLSocketFactory (see below). None: as the JVM is configured, but
            for the stores given.
        verify: whom the peer's certificate must be for. Its chain is verified in any case, by what the factory or the
            JVM trusts.

            * True, "strict": the host asked for; a wildcard stands for one label, a common name does not count.
            * "browser-compat": the same, but a wildcard stands for one label or more, as once in browsers.
            * another string: this name, or address, instead of the host.
            * a javax.net.ssl.HostnameVerifier: is asked after the handshake, and before data passes.
            * False: anybody. Whoever has a certificate of a trusted authority, for whatever name, can take the
              server's place; so this warns (UserWarning). For a certificate that no authority has signed it is of no
              use: put that one into a trust_store.
        key_store: the client's own key and certificate: a file (PKCS12, JKS), or a java.security.KeyStore.
        key_store_password: of the store and the key in it.
        trust_store: what to trust instead of the JVM's authorities, given in the same way.
        trust_store_password: without it the store's integrity is not checked; some cannot be read then.
        alpn: application protocols, the preferred one first.
        ssl_ctx: the lowest version accepted: True, "default", "v23" or "tls-v1-2", or "tls-v1-3". Nothing else: no
            OpenSSL is here for a context.
        ssl_configure_callback: called with the javax.net.ssl.SSLEngine (or SSLSocket) before its handshake.
        tlsext_host_name: as for open_tcp_stream(); but Java sends no name with an underscore.
        ctx_configure_callback: not allowed; give a factory.
        errorp, and all other keywords: as for open_tcp_stream(), and so are what is returned and what is raised.

    Raises:
        SocketCreateError: also when there is no jpype1 or no JVM (the message says what to install), and when a
            store cannot be read.
        SslVerificationFailure: ``verify_code`` is OpenSSL's number for what Java says, 1 where it has none.

    ``stream.tls`` says what was agreed upon; cipher suites have the names that Java gives them (the IANA's). Java's
    exception is the last ``__cause__`` of a condition. TLS 1.2: when the peer has closed its direction Java closes
    ours, and writing raises BrokenPipeError (RFC 5246 7.2.1 has it so; OpenSSL goes on). start_tls(), stop_tls() and
    all that a stream can do are the same.

    An SSLSocketFactory has no engine that works in memory. Its SSLSocket gets a connection of its own on the loopback
    interface to talk through: two descriptors more for each stream, and some three times the time for a record.

    Source: LispWorks manual, open-tcp-stream-using-java.
    """
    from .context import JavaContext, MadeContext, NameCheck
    from .stores import context_of

    if ctx_configure_callback is not None:
        raise ValueError("ctx_configure_callback is not allowed where TLS goes through Java: give a factory")
    if ssl_configure_callback is not None and not callable(ssl_configure_callback):
        raise TypeError(
            f"ssl_configure_callback={ssl_configure_callback!r} is not allowed: it must be a function or None"
        )
    check = NameCheck.parse(verify)
    stores = (key_store, key_store_password, trust_store, trust_store_password)
    if factory is None:
        make = partial(context_of, *stores)
    elif any(given is not None for given in stores):
        raise ValueError("key_store and trust_store are not allowed with a factory, which has its own")
    elif any(callable(getattr(factory, way, None)) for way in ("createSSLEngine", "createSocket")):
        make = partial(MadeContext, factory, None)
    else:
        raise TypeError(
            f"factory={factory!r} is not allowed: it must be an SSLContext or SSLSocketFactory of javax.net.ssl"
        )
    if check.rules == "none":
        warnings.warn(
            f"verify=False: whoever has a certificate for any name at all can take the place of {host!r}",
            stacklevel=2,
        )
    context = JavaContext(
        make, check=check, lowest=_lowest(ssl_ctx), alpn=_checked_alpn(alpn), configure=ssl_configure_callback
    )
    return open_tcp_stream(host, service, ssl_ctx=context, errorp=errorp, **more)  # type: ignore[call-overload]


def switch_open_tcp_stream_with_ssl_to_java(on: bool = True) -> JavaSwitch:
    """From now on open_tcp_stream() with ssl_ctx has the JVM do its TLS, in all threads; ``on=False``: OpenSSL again.

    Trust is what the JVM is configured for. ``ssl_ctx`` may be True, "default" or a version, as without Java. An
    SSLContext, what create_ssl_client_context() makes, and callbacks that configure OpenSSL are errors then: whom they
    trust must not be forgotten in silence. (open_tcp_stream_using_java() has more to choose from.) start_tls() and
    servers stay OpenSSL's.

    Returns:
        A context manager, for those who want the change for a block only: ``with
        switch_open_tcp_stream_with_ssl_to_java():``. At its end what was in force before it holds again, whatever other
        blocks begin or end meanwhile: the latest that has not ended counts.

    Source: LispWorks manual, switch-open-tcp-stream-with-ssl-to-java.
    """
    return JavaSwitch(bool(on))


class JavaSwitch:
    """What switch_open_tcp_stream_with_ssl_to_java() gives: leave its block to switch back."""

    def __init__(self, on: bool) -> None:
        self.on = on
        with _lock:
            # Of those that nobody has in hand any more, and so cannot be taken back, the last is all that counts.
            for each in [each for each in _changes if each.lasting][:-1]:
                _changes.remove(each)
            self._change = _Change(self)
            _changes.append(self._change)
            _apply()

    def __enter__(self) -> JavaSwitch:
        if self._change.scoped:
            raise RuntimeError("this switch was used for a block already: make a new one")
        self._change.scoped = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with _lock:
            _changes.remove(self._change)
            _apply()


class _Change:
    """A switch, without keeping it alive."""

    def __init__(self, switch: JavaSwitch) -> None:
        self.on = switch.on
        self.scoped = False
        self._switch = ref(switch)

    @property
    def lasting(self) -> bool:
        return not self.scoped and self._switch() is None


_changes: list[_Change] = []
_lock = threading.Lock()


def _apply() -> None:
    front_door.tls_elsewhere = _in_java if _changes and _changes[-1].on else None


def _in_java(ssl_ctx: Any) -> Any:
    """What stands for ssl_ctx while the switch is on."""
    if ssl_ctx is None or ssl_ctx is False or hasattr(ssl_ctx, "client_plan"):
        return ssl_ctx
    from .context import JavaContext
    from .stores import context_of

    return JavaContext(context_of, lowest=_lowest(ssl_ctx))


def _lowest(ssl_ctx: Any) -> str:
    from ..tls.contexts import lowest_version

    if ssl_ctx is not True and not isinstance(ssl_ctx, str):
        raise TypeError(
            f"ssl_ctx={ssl_ctx!r} is not allowed where TLS goes through Java: it must be True, 'default' or the lowest "
            "version ('tls-v1-2', 'tls-v1-3'); whom to trust is said by open_tcp_stream_using_java(trust_store=...)"
        )
    return lowest_version(ssl_ctx).name.replace("_", ".")


def _checked_alpn(alpn: Any) -> list[str]:
    from ..tls.abstract import LONGEST_ALPN

    if isinstance(alpn, (str, bytes)) or not all(isinstance(each, str) for each in alpn):
        raise TypeError(f"alpn={alpn!r} is not allowed: it must be a list of protocol names")
    if not all(0 < len(each.encode()) <= LONGEST_ALPN for each in alpn):
        raise ValueError(f"alpn={alpn!r} is not allowed: a protocol's name has 1 to {LONGEST_ALPN} bytes")
    return list(alpn)
