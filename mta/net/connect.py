"""Opens a client session: names to addresses, TCP or Unix socket, TLS, and the opening of SMTP or LMTP.

`Endpoint` is where to go, `ClientTls` how securely. `connect` returns a connection that is ready for mail,
or raises `ConnectFailure` with a temporary reply: refused, no route, no such name, too late (4.4.1), TLS that
failed or is missing (4.7.x), a server that does not want us (4.3.2). The addresses of a host name are tried
in the resolver's order (`mta.net.dial`), until one of them serves us (RFC 5321 section 5.1), within the one
time limit of the caller.

With TLS level `may` a failed handshake is followed by one connection without TLS: at that level an
eavesdropper could have had it in the clear anyway (RFC 7435), and broken TLS should not stop mail. A
`fallback` is tried before that. What failed is kept in `OutboundConnection.tls_failure` for TLS reports.

`ClientTls.check` looks at the certificates that the server sent, after the handshake and before anything
else is said (DANE). Python can tell the chain of a full handshake only; one that was resumed is refused.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_address

from mta.hostport import host_port
from mta.net.dial import BadAddresses, Dialer, Source
from mta.net.outbound import OutboundConnection, Timeouts
from mta.net.tls import channel_bindings, failure_text
from mta.net.tlschain import peer_chain
from mta.net.tlsfailure import FailureType, PeerRefused, failure_of
from mta.reply import Reply
from mta.smtp.client import ClientSession, Phase
from mta.smtp.opening import ClientSettings, LoginRefused, NoStartTls, StartTls

UNREACHABLE = "The next server cannot be reached at the moment"
INSECURE = "The next server cannot be reached securely at the moment"


@dataclass(slots=True, frozen=True)
class Endpoint:
    """One server: `path` of a Unix socket, or `host` (name or IP address) and `port`."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return self.path
        return host_port(self.host, self.port)


@dataclass(slots=True, frozen=True)
class ClientTls:
    """TLS towards a server; `mta.net.tls.client_context` builds the context."""

    context: ssl.SSLContext
    required: bool = True
    """False: level `may`."""
    implicit: bool = False
    """TLS from the first octet in place of STARTTLS."""
    name: str = ""
    """Name for SNI and verification, "" for the endpoint's host."""
    check: Callable[[Sequence[bytes]], None] | None = None
    """Looks at the certificates (DER, the server's own first) after the handshake; raises PeerRefused."""
    authenticates: bool = False
    """`check` proves who the server is, as a verified certificate does."""
    promised: frozenset[str] = frozenset()
    """EHLO keywords without which the session over TLS is refused: the server is known to have them."""
    fallback: ClientTls | None = None
    """What is tried when this fails for TLS; after it `required` decides."""

    @property
    def insists(self) -> bool:
        """True when no clear text may follow, here or in a fallback."""
        return self.required or (self.fallback is not None and self.fallback.insists)

    @property
    def verifies(self) -> bool:
        """True when a connection stands only with a verified certificate."""
        return self.authenticates or self.context.verify_mode is ssl.CERT_REQUIRED


Opener = Callable[[float], Awaitable[socket.socket]]
"""Makes a connected socket by a deadline (loop time); raises OSError."""


class ConnectFailure(Exception):
    """No session came to stand; `reply` is temporary. `tls` says that the TLS handshake was the reason.

    `tls_failure` says what was wrong with TLS, missing STARTTLS included; None when TLS was not the reason.
    `login_refused`: our login was.
    """

    def __init__(
        self,
        reply: Reply,
        *,
        tls: bool = False,
        tls_failure: FailureType | None = None,
        login_refused: bool = False,
    ) -> None:
        super().__init__(str(reply))
        self.login_refused = login_refused
        self.reply = reply
        self.tls = tls
        self.tls_failure = tls_failure


async def connect(
    endpoint: Endpoint,
    settings: ClientSettings,
    tls: ClientTls | None,
    timeouts: Timeouts,
    deadline: float,
    opener: Opener | None = None,
    bad: BadAddresses | None = None,
) -> OutboundConnection:
    """Open a session that is ready for mail, by `deadline` (loop time). Raises ConnectFailure.

    `opener` makes the connection in place of a look-up of the endpoint's host. `bad` remembers which of its
    addresses do not serve.
    """
    if opener is not None or endpoint.path:
        return await _reach(endpoint, settings, tls, timeouts, deadline, opener)
    addresses = await _addresses(endpoint, deadline)
    if len(addresses) == 1:
        return await _reach(endpoint, settings, tls, timeouts, deadline, None, addresses[0])
    known = BadAddresses() if bad is None else bad
    dialer = Dialer(addresses, endpoint.port, Source(), known, timeouts.connect)

    def failed(failure: ConnectFailure) -> bool:
        if dialer.address:
            known.add(dialer.address, asyncio.get_running_loop().time())
        # A password that one address refuses is not tried at the others: that would look like guessing.
        return not failure.login_refused

    reach = partial(_reach, endpoint, settings, tls, timeouts, deadline, dialer)
    return await first_that_serves(dialer, reach, failed, deadline)


async def first_that_serves(
    dialer: Dialer,
    reach: Callable[[], Awaitable[OutboundConnection]],
    failed: Callable[[ConnectFailure], bool],
    deadline: float,
) -> OutboundConnection:
    """A session with the first address of a host that serves us (RFC 5321 section 5.1), by `deadline`.

    `reach` makes one by way of the dialer; `failed` hears why one came to nothing and says whether others
    may be tried. Raises the first ConnectFailure.
    """
    told: ConnectFailure | None = None
    while True:
        try:
            return await reach()
        except ConnectFailure as failure:
            goes_on = failed(failure)
            if not dialer.address:
                raise told or failure from None  # no address answers that has not answered before
            told = told or failure
            dialer.drop()
            if not goes_on or not dialer.more or asyncio.get_running_loop().time() >= deadline:
                raise told from None


async def _reach(
    endpoint: Endpoint,
    settings: ClientSettings,
    tls: ClientTls | None,
    timeouts: Timeouts,
    deadline: float,
    opener: Opener | None,
    host: str = "",
) -> OutboundConnection:
    """A session as securely as `tls` says, by the opener or with the address `host`."""
    try:
        return await _open(endpoint, settings, tls, timeouts, deadline, opener, host)
    except ConnectFailure as failure:
        if tls is None or tls.required or not failure.tls:
            raise
        connection = await _reach(endpoint, settings, tls.fallback, timeouts, deadline, opener, host)
        connection.tls_failure = failure.tls_failure
        connection.tls_detail = failure.reply.cause
        return connection


async def _open(
    endpoint: Endpoint,
    settings: ClientSettings,
    tls: ClientTls | None,
    timeouts: Timeouts,
    deadline: float,
    opener: Opener | None,
    host: str,
) -> OutboundConnection:
    loop = asyncio.get_running_loop()
    implicit = tls is not None and tls.implicit
    if tls is None or implicit:
        settings = replace(settings, starttls=StartTls.NEVER)
    else:
        settings = replace(settings, starttls=StartTls.REQUIRE if tls.insists else StartTls.MAY)

    def factory() -> OutboundConnection:
        verified = implicit and tls is not None and tls.verifies
        session = ClientSession(settings, encrypted=implicit, verified=verified)
        return OutboundConnection(session, str(endpoint), timeouts, loop)

    connection = await _dial(endpoint, factory, tls if implicit else None, timeouts, deadline, opener, host)
    try:
        if implicit:
            _check(connection, endpoint, tls, connection.transport)
            connection.session.peer.channel_bindings = _bindings(connection.transport)
        await connection.wait_open(deadline)
        if tls is not None and connection.session.phase is Phase.STARTTLS:
            await _start_tls(connection, endpoint, tls, timeouts, deadline)
            await connection.wait_open(deadline)
    except BaseException:
        connection.abort(Reply(451, "4.4.1", UNREACHABLE, "given up while connecting"))
        raise
    session = connection.session
    if session.failure is not None:
        stripped = session.failed_as is NoStartTls
        raise ConnectFailure(
            session.failure,
            tls_failure=FailureType.STARTTLS_NOT_SUPPORTED if stripped else None,
            login_refused=session.failed_as is LoginRefused,
        )
    if tls is not None:
        if not session.peer.encrypted:
            connection.tls_failure = FailureType.STARTTLS_NOT_SUPPORTED
        elif not tls.promised <= session.peer.offered.keys():
            missing = ", ".join(sorted(tls.promised - session.peer.offered.keys()))
            cause = f"{endpoint}: {missing} not offered, though its capability record promises it"
            reply = Reply(451, "4.7.5", INSECURE, cause)
            connection.abort(reply)
            raise ConnectFailure(reply, tls_failure=FailureType.VALIDATION_FAILURE)
    return connection


async def _dial(
    endpoint: Endpoint,
    factory: Callable[[], OutboundConnection],
    tls: ClientTls | None,
    timeouts: Timeouts,
    deadline: float,
    opener: Opener | None,
    host: str,
) -> OutboundConnection:
    loop = asyncio.get_running_loop()
    name = _server_name(endpoint, tls)
    context = tls.context if tls else None
    handshake = timeouts.connect if tls else None
    # An opener may try several addresses, each in its own time.
    limit = deadline if opener is not None else min(deadline, loop.time() + timeouts.connect)
    try:
        async with asyncio.timeout_at(limit):
            if opener is not None:
                sock = await opener(deadline)
                # From here on the transport owns the socket.
                _, connection = await loop.create_connection(
                    factory,
                    sock=sock,
                    ssl=context,
                    server_hostname=name,
                    ssl_handshake_timeout=handshake,
                )
            elif endpoint.path:
                _, connection = await loop.create_unix_connection(
                    factory,
                    endpoint.path,
                    ssl=context,
                    server_hostname=name,
                    ssl_handshake_timeout=handshake,
                )
            else:
                _, connection = await loop.create_connection(
                    factory,
                    host,
                    endpoint.port,
                    ssl=context,
                    server_hostname=name,
                    ssl_handshake_timeout=handshake,
                )
    except TimeoutError:
        cause = f"{endpoint}: timeout in connect"
        raise ConnectFailure(Reply(451, "4.4.1", UNREACHABLE, cause)) from None
    except ssl.SSLError as error:
        cause = f"{endpoint}: TLS: {failure_text(error)}"
        raise ConnectFailure(
            Reply(451, "4.7.5", INSECURE, cause), tls=True, tls_failure=failure_of(error)
        ) from None
    except OSError as error:
        cause = f"{endpoint}: {error.strerror or error}"
        raise ConnectFailure(Reply(451, "4.4.1", UNREACHABLE, cause)) from None
    return connection


async def _addresses(endpoint: Endpoint, deadline: float) -> list[str]:
    """The addresses of the endpoint's host, at least one. Raises ConnectFailure."""
    try:
        ip_address(endpoint.host)
    except ValueError:
        pass  # a name
    else:
        return [endpoint.host]
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(deadline):
            found = await loop.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except TimeoutError as error:
        cause = f"{endpoint}: timeout in the name lookup"
        raise ConnectFailure(Reply(451, "4.4.3", UNREACHABLE, cause)) from error
    except OSError as error:
        cause = f"{endpoint}: {error.strerror or error}"
        raise ConnectFailure(Reply(451, "4.4.3", UNREACHABLE, cause)) from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def _start_tls(
    connection: OutboundConnection,
    endpoint: Endpoint,
    tls: ClientTls,
    timeouts: Timeouts,
    deadline: float,
) -> None:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(min(deadline, loop.time() + timeouts.connect)):
            transport = await loop.start_tls(
                connection.transport,
                connection,
                tls.context,
                server_hostname=_server_name(endpoint, tls),
                ssl_handshake_timeout=timeouts.connect,
            )
    except (OSError, TimeoutError) as error:
        cause = f"{endpoint}: STARTTLS: {failure_text(error)}"
        reply = Reply(451, "4.7.5", INSECURE, cause)
        connection.abort(reply)
        raise ConnectFailure(reply, tls=True, tls_failure=failure_of(error)) from error
    if transport is None:
        raise ConnectFailure(
            Reply(451, "4.4.2", UNREACHABLE, f"{endpoint}: closed in STARTTLS"),
            tls=True,
            tls_failure=FailureType.VALIDATION_FAILURE,
        )
    _check(connection, endpoint, tls, transport)
    if connection.session.phase is Phase.STARTTLS:
        connection.tls_started(transport, verified=tls.verifies, bindings=_bindings(transport))


def _check(
    connection: OutboundConnection, endpoint: Endpoint, tls: ClientTls | None, transport: asyncio.Transport
) -> None:
    """Let `tls.check` see the server's certificates. Raises ConnectFailure."""
    if tls is None or tls.check is None:
        return
    try:
        tls.check(peer_chain(transport.get_extra_info("ssl_object")))
    except PeerRefused as error:
        reply = Reply(451, "4.7.5", INSECURE, f"{endpoint}: TLS: {error}")
        connection.abort(reply)
        transport.abort()
        raise ConnectFailure(reply, tls=True, tls_failure=error.failure) from error


def _server_name(endpoint: Endpoint, tls: ClientTls | None) -> str | None:
    if tls is None:
        return None
    # asyncio wants a name even where none is sent; a Unix socket's peer is this host.
    return tls.name or endpoint.host or "localhost"


def _bindings(transport: asyncio.Transport) -> dict[str, bytes]:
    ssl_object = transport.get_extra_info("ssl_object")
    certificate = ssl_object.getpeercert(binary_form=True) if ssl_object else None
    return channel_bindings(ssl_object, certificate) if certificate else {}
