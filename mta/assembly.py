"""From the configuration to the settings of each part: pure mapping, one function a part.

Each part has a small settings value of its own and knows nothing of the configuration; this module and
`mta.daemon` are the only ones that know both.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial

from mta import config
from mta.accounts.authenticator import AuthSettings
from mta.accounts.limiter import LimiterSettings
from mta.accounts.senderlogin import SenderLoginSettings
from mta.address import domain_key
from mta.assembly_offer import offered, parameter_limits
from mta.config.outbound import NextHopLimits
from mta.delivery.fixed import FixedSettings
from mta.net.certificates import CertificateFiles
from mta.net.connect import ClientTls, Endpoint
from mta.net.connection import Timeouts
from mta.net.limits import ClientLimits, LimitSettings
from mta.net.listener import ListenerSettings
from mta.net.outbound import Timeouts as OutboundTimeouts
from mta.net.overload import OverloadSettings
from mta.net.pool import PoolLimits
from mta.net.tls import Level, TlsSettings, client_context
from mta.smtp.auth import ClientExchange, Credentials, NoMechanismError
from mta.smtp.opening import ClientSettings
from mta.smtp.server_settings import ServerSettings
from mta.trace import HeaderLimits
from mta.transaction import TransactionSettings


def server_settings(settings: config.Config, listener: config.Listener, now: float) -> ServerSettings:
    """What the sessions of a listener offer and bear, from the time `now` on (seconds of the epoch)."""
    message = settings.message
    return ServerSettings(
        hostname=settings.identity.hostname,
        protocol=listener.protocol,
        greeting=listener.banner,
        max_size=message.max_size,
        max_recipients=message.max_recipients,
        max_transactions=listener.limits.transactions_per_session,
        max_errors=listener.limits.errors_per_session,
        max_idle_commands=listener.limits.idle_commands,
        normalise_line_ends=message.bare_line_ends == "normalise",
        strip_nul=message.nul == "strip",
        qualify_domain=listener.qualify_domain,
        offered=offered(settings, listener.protocol) - frozenset(listener.discard_ehlo_keywords),
        parameter_limits=parameter_limits(settings, now),
        starttls=listener.tls in ("starttls", "required"),
        require_tls=listener.tls == "required",
    )


def listener_settings(settings: config.Config, listener: config.Listener) -> ListenerSettings:
    """How the clients of a listener are let in."""
    usual, stressed = timeouts(settings)
    return ListenerSettings(
        name=listener.name,
        implicit_tls=listener.tls == "implicit",
        proxy_from=listener.proxy_protocol_from,
        proxy_tls=listener.proxy_protocol_tls,
        backlog=listener.backlog,
        handshake_timeout=usual.handshake,
        stressed_handshake_timeout=stressed.handshake,
        proxy_timeout=settings.timeouts.proxy_header,
        limits=client_limits(listener.limits),
    )


def client_limits(limits: config.SessionLimits) -> ClientLimits:
    """The limits of one client at connect."""
    return ClientLimits(
        sessions_per_client=limits.sessions_per_client,
        sessions_per_prefix=limits.sessions_per_prefix,
        session_rate_per_client=limits.session_rate_per_client,
        session_rate_per_prefix=limits.session_rate_per_prefix,
    )


def limit_settings(settings: config.Config) -> LimitSettings:
    """The limits of the node."""
    limits = settings.limits
    return LimitSettings(
        clients=client_limits(limits),
        ipv4_prefix=limits.ipv4_prefix,
        ipv6_prefix=limits.ipv6_prefix,
        exempt=limits.exempt_networks,
        auth_window=settings.auth.failure_window,
        messages=limits.messages_per_client,
        recipients=limits.recipients_per_client,
        message_window=limits.message_window,
    )


def overload_settings(settings: config.Config) -> OverloadSettings:
    """Where stress and overload begin."""
    limits = settings.limits
    return OverloadSettings(
        sessions=limits.sessions,
        stress_percent=limits.stress_percent,
        lag=limits.overload_lag,
        memory_stressed=limits.stress_memory_percent / 100,
        memory_overloaded=limits.overload_memory_percent / 100,
    )


def timeouts(settings: config.Config) -> tuple[Timeouts, Timeouts]:
    """The times of a session: usual, and under stress."""
    t = settings.timeouts
    usual = Timeouts(t.command, t.data, t.message, t.handshake, t.write)
    stressed = Timeouts(
        min(t.command, t.stressed_command),
        min(t.data, t.stressed_data),
        t.message,
        min(t.handshake, t.stressed_command),
        min(t.write, t.stressed_data),
    )
    return usual, stressed


def certificates(settings: config.Config, listener: config.Listener) -> list[CertificateFiles]:
    """The certificates of a listener, its default first."""
    return [
        CertificateFiles(name, c.chain, c.key, c.names)
        for name in listener.certificates
        for c in (settings.certificates[name],)
    ]


def tls_settings(settings: config.Config, listener: config.Listener) -> TlsSettings:
    """TLS of a listener."""
    return TlsSettings(
        minimum_version=settings.tls.minimum_version,
        ciphers=settings.tls.ciphers,
        client_ca_file=listener.client_ca,
        require_client_certificate=listener.require_client_certificate,
    )


def dovecot_address(auth: config.Auth) -> str | tuple[str, int]:
    """Where Dovecot's auth service is, as `DovecotClient` takes it."""
    where = auth.dovecot_socket
    return where.path if isinstance(where, config.Unix) else (where.host, where.port)


def auth_settings(settings: config.Config) -> tuple[AuthSettings, LimiterSettings]:
    """What is offered to whom, and how failures are answered."""
    auth = settings.auth
    return (
        AuthSettings(
            mechanisms=auth.mechanisms,
            require_tls=auth.require_tls,
            sender_login=sender_login(settings),
        ),
        LimiterSettings(
            delay=auth.failure_delay,
            max_delay=max(auth.failure_delay, LimiterSettings().max_delay),
            failures_per_session=auth.failures_per_session,
            failures_per_client=auth.failures_per_client,
        ),
    )


def sender_login(settings: config.Config) -> SenderLoginSettings:
    """Who may send as whom."""
    return SenderLoginSettings(
        masters=frozenset(settings.auth.master_users),
        delimiters_of={
            domain_key(name): domain.subaddress_delimiter for name, domain in settings.domains.items()
        },
        default_domain=settings.auth.default_domain,
    )


def transaction_settings(settings: config.Config) -> TransactionSettings:
    """What a message may be, and the time to deliver it."""
    header = HeaderLimits(octets=settings.message.max_header_size, hops=settings.message.max_hops)
    return TransactionSettings(
        hostname=settings.identity.hostname,
        deadline=settings.delivery.deadline,
        header=header,
        submission_header=replace(header, require_from=True),
        spill_directory=settings.process.spill_directory or None,
    )


def backend(name: str, backend: config.Backend, hostname: str, workers: int) -> FixedSettings:
    """A back end. Raises CertificateError for authorities that cannot be used."""
    return FixedSettings(
        name=name,
        endpoints=tuple(_endpoint(address) for address in backend.addresses),
        client=ClientSettings(
            lmtp=backend.protocol == "lmtp",
            helo_name=hostname,
            xclient=backend.xclient,
            xforward=backend.xforward,
        ),
        tls=_client_tls(backend.tls, backend.implicit_tls, backend.tls_name, backend.tls_ca),
        timeouts=_outbound_timeouts(backend),
        pool=_pool(backend, workers),
        failure_delay=backend.failure_delay,
    )


def relay(
    name: str, relay: config.Relay, hostname: str, workers: int, read_secret: Callable[[str], str]
) -> FixedSettings:
    """A relay. `read_secret` reads a password file; what it raises comes out, as does CertificateError."""
    authenticate = None
    if relay.user:
        password = read_secret(relay.password_file) if relay.password_file else ""
        credentials = Credentials(relay.user, password=password, mechanisms=relay.mechanisms)
        token = partial(config.read_secret, relay.token_file) if relay.token_file else None
        if token is not None:
            read_secret(relay.token_file)  # what is wrong with it now is to be known now
        authenticate = _Login(credentials, token)
    return FixedSettings(
        name=name,
        endpoints=(Endpoint(host=relay.host, port=relay.port),),
        client=ClientSettings(
            helo_name=hostname,
            authenticate=authenticate,
        ),
        tls=_client_tls(relay.tls, relay.implicit_tls, relay.tls_name, relay.tls_ca),
        timeouts=_outbound_timeouts(relay),
        pool=_pool(relay, workers),
        failure_delay=relay.failure_delay,
    )


class _Login:
    """Logs in at a relay; `token` reads the token of the moment."""

    def __init__(self, credentials: Credentials, token: Callable[[], str] | None) -> None:
        # Here, for only a relay with a password needs it, and each start would pay for it.
        from mta.smtp.authclient import client_mechanism

        self._choose = client_mechanism
        self._credentials = credentials
        self._token = token

    def __call__(
        self, offered: Collection[str], bindings: Mapping[str, bytes], encrypted: bool
    ) -> ClientExchange:
        credentials = self._credentials
        if self._token is not None:
            try:
                credentials = replace(credentials, token=self._token())
            except (OSError, ValueError) as error:
                raise NoMechanismError(f"the token cannot be read: {error}") from error
        return self._choose(offered, credentials, bindings, encrypted=encrypted)


def workers(settings: config.Config) -> int:
    """Worker processes."""
    return settings.process.workers or len(os.sched_getaffinity(0))


def _endpoint(address: config.Inet | config.Unix) -> Endpoint:
    if isinstance(address, config.Unix):
        return Endpoint(path=address.path)
    return Endpoint(host=address.host, port=address.port)


def _client_tls(level: str, implicit: bool, name: str, ca: str) -> ClientTls | None:
    levels: dict[str, Level] = {"may": "may", "encrypt": "encrypt", "verify": "verify"}
    if level not in levels:
        return None
    context = client_context(levels[level], ca_file=ca or None)
    return ClientTls(context, required=level != "may", implicit=implicit, name=name)


def _outbound_timeouts(limits: NextHopLimits) -> OutboundTimeouts:
    return OutboundTimeouts(
        connect=limits.connect_timeout,
        greeting=limits.connect_timeout,
        command=limits.command_timeout,
        block=limits.data_timeout,
        final=limits.data_timeout,
    )


def _pool(limits: NextHopLimits, workers: int) -> PoolLimits:
    return PoolLimits(
        max_connections=max(1, limits.max_connections // workers),
        idle_time=limits.idle_timeout,
        messages_per_connection=limits.messages_per_connection,
    )
