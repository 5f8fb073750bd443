"""TLS through Java in the place of ssl_ctx: a `JavaContext` makes plans (tls/plan.py) whose sessions are Java's.

Whoever carries a plan out does not notice.

* *Trust* is the JVM's: its configuration, or a key store. What it makes of a chain (which keys are too weak, whether
  revocation is asked for) is up to its security properties.
* *Names* are checked by Java in the handshake (endpoint identification "HTTPS"), so that the peer is told, and once
  more here before one byte of data passes: Java takes a certificate also for the name that was sent, takes a common
  name where there is no other, and takes "w*w.example.com". Whom we trust must not depend on who does the TLS.
* *The chain that was refused* is what a message has to describe, and Java forgets it. So our own contexts look on while
  its trust manager decides. Contexts of a caller's are used as they are; their refusals tell less.
* *Resumption* is Java's, too: kept under the name checked and the port, and not used where names were not checked
  before and are now.

Rejected: a trust manager of our own instead of looking on. It would not know of Java's constraints.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from ..address import parse_host
from ..errors import SocketCreateError, SslVerificationFailure
from ..tls.certificate import read_certificate
from ..tls.names import NOT_GIVEN, NotGiven, check_certificate, checked_name, name_matches, sni_name
from ..tls.plan import TlsPlan
from ..tls.refusal import WRONG_NAME, explain_refusal
from .bridge import Bridge, bridge
from .engine import JavaEngine
from .failures import UNKNOWN_CODE

if TYPE_CHECKING:
    import ssl

    from ..address import Host, SocketAddress

__all__ = ["JavaContext", "MadeContext", "NameCheck", "Spy"]

VERSIONS = {"TLSv1.2": ("TLSv1.2", "TLSv1.3"), "TLSv1.3": ("TLSv1.3",)}
"""What is offered, by the lowest version accepted."""


@dataclass(frozen=True, slots=True)
class NameCheck:
    """Whom a certificate must be for, and by whose rules.

    Attributes:
        rules: "https": those of tls/names.py, and Java's. "browser-compat": a wildcard stands for one label or several.
            "verifier": a javax.net.ssl.HostnameVerifier decides. "none": it may be for anybody.
        name: instead of the host asked for.
    """

    rules: Literal["https", "browser-compat", "verifier", "none"] = "https"
    name: str | None = None
    verifier: Any = None

    @classmethod
    def parse(cls, verify: Any) -> NameCheck:
        """From open_tcp_stream_using_java()'s ``verify``. Raises TypeError, ValueError."""
        if verify is True or verify == "strict":
            return cls()
        if verify is False:
            return cls("none")
        if verify == "browser-compat":
            return cls("browser-compat")
        if isinstance(verify, str):
            return cls(name=checked_name(parse_host(verify, "verify")))
        if callable(getattr(verify, "verify", None)):
            return cls("verifier", verifier=verify)
        raise TypeError(
            f"verify={verify!r} is not allowed: it must be True, False, 'strict', 'browser-compat', a host name or "
            "a javax.net.ssl.HostnameVerifier"
        )


class JavaContext:
    """TLS for clients in the JVM. Goes where ssl_ctx does. Safe for threads.

    Args:
        make: gives the Java SSLContext, and what looks on while that decides about chains: when a plan is made, so that
            the JVM is not started for nothing. What it raises client_plan() raises.
        check: whom the peer's certificate must be for.
        lowest: the lowest version accepted.
        alpn: application protocols, the preferred one first.
        configure: called with each SSLEngine before its handshake.
    """

    def __init__(
        self,
        make: Callable[[], MadeContext],
        *,
        check: NameCheck | None = None,
        lowest: str = "TLSv1.2",
        alpn: Sequence[str] = (),
        configure: Callable[[Any], object] | None = None,
    ) -> None:
        self.make = make
        self.check = check or NameCheck()
        self.versions = list(VERSIONS[lowest])
        self.alpn = list(alpn)
        self.configure = configure

    def client_plan(
        self,
        host: Host,
        *,
        tlsext_host_name: str | bool | NotGiven | None = NOT_GIVEN,
        ctx_configure_callback: object = None,
        ssl_configure_callback: object = None,
    ) -> JavaPlan:
        """As client_plan() of tls/plan.py, and raises the same."""
        for what, callback in (
            ("ctx_configure_callback", ctx_configure_callback),
            ("ssl_configure_callback", ssl_configure_callback),
        ):
            if callback is not None:
                raise ValueError(f"{what} is not allowed where TLS goes through Java: there is no OpenSSL to configure")
        sni = sni_name(host, tlsext_host_name)
        if sni is not None and "_" in sni:
            if isinstance(tlsext_host_name, str):
                raise ValueError(f"tlsext_host_name={sni!r} is not allowed: Java sends no name with an underscore")
            sni = None
        wanted = self.check.name or checked_name(host)
        return JavaPlan(
            cast("ssl.SSLContext", Engines(self, self.make(), wanted, sni)),
            sni=sni,
            checked_name=None if self.check.rules == "none" else wanted,
            check=self.check,
        )


class Engines:
    """What a plan has for an SSLContext: makes the engine of its one session.

    Attributes:
        refused: the chain that was verified last, and was found wanting; DER.
    """

    verify_mode = 2  # CERT_REQUIRED: that of the names is another question
    options = 0  # the peer may renegotiate

    def __init__(self, context: JavaContext, made: MadeContext, peer: str, sni: str | None) -> None:
        self._context = context
        self._made = made
        self._peer = peer
        self._sni = sni
        self.refused: tuple[bytes, ...] = ()
        self.java: Any = None

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, server_side: bool, name: str | None, peer: Any
    ) -> JavaEngine:
        """As ssl.SSLContext's; ``peer`` is what JavaPlan.session_for() gives."""
        way = bridge()
        try:
            engine = self._engine(way, incoming, outgoing, 0 if peer is None else peer.port)
        except way.error as error:
            raise SocketCreateError(f"Java makes no TLS engine of this: {error}", operation="handshake") from error
        if self._context.configure is not None:
            self._context.configure(engine.java)
        return engine

    def _engine(self, way: Bridge, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, port: int) -> JavaEngine:
        factory, context = self._made.java, self._context
        engine: JavaEngine
        if hasattr(factory, "createSSLEngine"):
            java = factory.createSSLEngine(self._peer, port)
            engine = JavaEngine(way, java, self, incoming, outgoing)
        else:
            from .socket_engine import SocketEngine

            engine = SocketEngine(way, factory, (self._peer, port), self, (incoming, outgoing))
        self.java = java = engine.java
        java.setUseClientMode(True)
        told = java.getSSLParameters()
        told.setProtocols(context.versions)
        if context.alpn:
            told.setApplicationProtocols(context.alpn)
        told.setServerNames(_server_names(way, self._sni))
        # Java checks no name with an underscore. It is checked here.
        told.setEndpointIdentificationAlgorithm(
            "HTTPS" if context.check.rules == "https" and "_" not in self._peer else None
        )
        java.setSSLParameters(told)
        return engine

    def watched(self, run: Callable[[], object]) -> None:
        """Call what may decide about a chain."""
        spy = self._made.spy
        if spy is None:
            run()
        else:
            with spy.on(self):
                run()


class MadeContext(NamedTuple):
    """A javax.net.ssl.SSLContext (or SSLSocketFactory), and what looks on while it decides about chains, or None."""

    java: Any
    spy: Spy | None


class Spy:
    """Looks on while a trust manager decides about the chains that servers show: itself one, in front of it."""

    def __init__(self, way: Bridge, implement: Callable[[str, Mapping[str, Any]], Any], real: Any) -> None:
        self._way = way
        self._real = real
        self._extended = isinstance(real, way.find("javax.net.ssl.X509ExtendedTrustManager"))
        self._here = threading.local()
        self.manager = implement(
            "javax.net.ssl.X509TrustManager",
            {
                "checkServerTrusted": self._check,
                "checkClientTrusted": real.checkClientTrusted,
                "getAcceptedIssuers": real.getAcceptedIssuers,
            },
        )

    def on(self, engines: Engines) -> _Watch:
        return _Watch(self._here, engines)

    def _check(self, chain: Any, kind: Any) -> None:
        engines: Engines = self._here.engines
        engines.refused = tuple(self._way.data(each.getEncoded()) for each in chain)
        if self._extended:
            self._real.checkServerTrusted(chain, kind, engines.java)
        else:
            self._real.checkServerTrusted(chain, kind)


class _Watch:
    """For a block, in this thread: whose chain it is."""

    def __init__(self, here: threading.local, engines: Engines) -> None:
        self._here = here
        self._engines = engines

    def __enter__(self) -> None:
        self._here.engines = self._engines

    def __exit__(self, *error: object) -> None:
        self._here.engines = None


@dataclass(frozen=True, slots=True, eq=False)
class JavaPlan(TlsPlan):
    """All that one handshake through Java needs.

    Attributes:
        check: whom the certificate must be for; ``checked_name`` is whom that comes to.
    """

    check: NameCheck = NameCheck()

    def session_for(self, peer: SocketAddress) -> Any:
        """Java keeps sessions itself; it wants to know for whom."""
        return peer

    def check_peer(self, ssl_object: Any, address: object = None) -> None:
        """After the handshake: check the name. No data may pass before.

        Raises:
            SslVerificationFailure: the certificate is for others.
        """
        name = self.checked_name
        if name is None:
            return
        if self.check.rules == "verifier":
            if not self.check.verifier.verify(name, ssl_object.java.getSession()):
                made = SslVerificationFailure(
                    f"the HostnameVerifier given as verify= refused the certificate shown for {name!r}",
                    ssl_code="verify",
                    operation="handshake",
                    address=address,
                )
                made.verify_code, made.verify_message = WRONG_NAME, "refused by the HostnameVerifier"
                raise made
            return
        leaf = ssl_object.getpeercert(binary_form=True)
        try:
            check_certificate(leaf, name, address=address)
        except SslVerificationFailure as refusal:
            lenient = self.check.rules == "browser-compat" and refusal.verify_code == WRONG_NAME
            if leaf is None or not lenient or not _matches_somewhere(leaf, name):
                raise

    def refusal(
        self, code: int, reason: str, chain: Sequence[bytes] = (), address: object = None
    ) -> SslVerificationFailure:
        """The condition for a handshake in which Java refused the peer's certificate; ``reason`` in its words."""
        told = explain_refusal(code, reason, wanted=self.checked_name, chain=chain)
        if code == UNKNOWN_CODE:
            told = told.partition(" was refused: ")[0] + " was refused"
        told = told.replace("openssl_trusted_file=", "trust_store=")
        made = SslVerificationFailure(
            f"{told} (Java says: {reason})",
            ssl_code=("verification", code),
            operation="handshake",
            address=self.checked_name if address is None else address,
        )
        made.verify_code, made.verify_message = code, reason
        return made


def _server_names(way: Bridge, sni: str | None) -> Any:
    names = way.find("java.util.ArrayList")()
    if sni is not None:
        # From bytes: a string would have to keep rules for names that servers' names do not always keep.
        names.add(way.find("javax.net.ssl.SNIHostName")(way.octets(sni.encode("ascii"))))
    return names


def _matches_somewhere(leaf: bytes, name: str) -> bool:
    """Whether a wildcard of the certificate's stands for the first labels of the name."""
    labels = name.split(".")
    parents = [".".join(labels[start:]) for start in range(1, len(labels))]
    wild = [pattern for pattern in read_certificate(leaf).names if pattern.startswith("*.")]
    return any(name_matches(pattern, each) for pattern in wild for each in parents)
