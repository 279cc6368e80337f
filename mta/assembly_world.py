"""From the configuration to the settings of delivery to any domain: pure mapping, as `mta.assembly`."""

from __future__ import annotations

from collections.abc import Callable

from mta import config
from mta.delivery.lookup import Ourselves
from mta.delivery.remote import RemoteSettings
from mta.net.dial import Source
from mta.net.limits import Networks
from mta.net.outbound import Timeouts
from mta.net.pool import PoolLimits
from mta.net.socks5 import Proxy


def remote(settings: config.Config, workers: int, read_secret: Callable[[str], str]) -> RemoteSettings:
    """How the world is served. What `read_secret` raises comes out."""
    outbound = settings.outbound
    helo = outbound.helo or settings.identity.hostname
    return RemoteSettings(
        helo=helo,
        port=outbound.port,
        source=outbound.source,
        sources={name: _source(source, read_secret) for name, source in settings.sources.items()},
        helos={name: source.helo for name, source in settings.sources.items() if source.helo},
        timeouts=Timeouts(
            connect=outbound.connect_timeout,
            greeting=outbound.greeting_timeout,
            command=outbound.command_timeout,
            block=outbound.data_timeout,
            final=outbound.data_timeout,
        ),
        pool=PoolLimits(
            max_connections=max(1, outbound.max_connections // workers),
            idle_time=outbound.idle_timeout,
            messages_per_connection=outbound.messages_per_connection,
        ),
        recipient_limit=outbound.max_recipients,
        failure_delay=outbound.failure_delay,
    )


def _source(source: config.OutboundSource, read_secret: Callable[[str], str]) -> Source:
    proxy = None
    if source.socks5 is not None:
        password = read_secret(source.socks5_password_file) if source.socks5_password_file else ""
        proxy = Proxy(source.socks5.host, source.socks5.port, source.socks5_user, password)
    return Source(source.addresses, proxy)


def ourselves(settings: config.Config, interfaces: Callable[[], frozenset[str]]) -> Ourselves:
    """What is this server. `interfaces` gives all addresses of the machine."""
    outbound = settings.outbound
    names = {settings.identity.hostname, outbound.helo, *outbound.own_names}
    names |= {source.helo for source in settings.sources.values()}
    names.discard("")
    addresses: set[str] = set()
    for listener in settings.listener:
        hosts = {address.host for address in listener.addresses if isinstance(address, config.Inet)}
        if listener.protocol != "smtp":
            continue
        # Which address a socket of systemd has is not known here: it may be any.
        handed_over = any(isinstance(address, config.Inherited) for address in listener.addresses)
        addresses |= interfaces() if handed_over or hosts & {"0.0.0.0", "::", ""} else hosts
    own, refused = Networks(outbound.own_addresses), Networks(outbound.refused_networks)
    return Ourselves(
        is_name=frozenset(names).__contains__,
        is_address=lambda address: address in addresses or own.contain_text(address),
        is_refused=refused.contain_text,
    )
