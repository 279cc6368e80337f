"""From the configuration to the settings of milters, policy servers, scanners and content filters: pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec.structs import fields

from mailmilter.connection import Milter, Timeouts
from mailmilter.constants import Stage
from mailmilter.endpoint import Endpoint
from mailmilter.macros import DEFAULT
from mailmilter.policy import PolicyService, parse_action
from mailmilter.values import DefaultAction
from mta import assembly, config
from mta.config.outbound import NextHopLimits
from mta.config.programs import EVERYWHERE
from mta.delivery.fixed import FixedSettings
from mta.delivery.outcome import BACKEND, FILTER, RELAY
from mta.policy.external.scanners import ScannerSettings
from mta.policy.milter.milters import MilterSettings

_MACROS = {
    Stage.CONNECT: "connect_macros",
    Stage.HELO: "helo_macros",
    Stage.MAIL: "mail_macros",
    Stage.RCPT: "rcpt_macros",
    Stage.DATA: "data_macros",
    Stage.END_OF_HEADERS: "end_of_headers_macros",
    Stage.END_OF_MESSAGE: "end_of_message_macros",
}


def endpoint(address: config.Inet | config.Unix) -> Endpoint:
    """Where a filter listens."""
    if isinstance(address, config.Unix):
        return Endpoint(path=address.path)
    return Endpoint(host=address.host, port=address.port)


def milter(name: str, settings: config.Milter) -> Milter:
    """A milter."""
    return Milter(
        name,
        endpoint(settings.address),
        DefaultAction(settings.default_action),
        Timeouts(
            settings.connect_timeout,
            settings.command_timeout,
            settings.content_timeout,
            settings.total_timeout,
        ),
        version=settings.version,
        reuse=settings.reuse,
        macros={stage: getattr(settings, key) or DEFAULT[stage] for stage, key in _MACROS.items()},
        values={"daemon_name": settings.daemon_name} if settings.daemon_name else {},
    )


def milter_settings(settings: config.Config) -> MilterSettings:
    """All milters, and where they always take part."""
    return MilterSettings(
        settings.identity.hostname,
        {name: milter(name, one) for name, one in settings.milters.items()},
        {
            listener.name: names
            for listener in settings.listener
            if (names := tuple(serving(settings.milters, listener.name)))
        },
        settings.process.spill_directory or None,
        frozenset(name for name, one in settings.milters.items() if one.authentication_results),
    )


def serving(
    sections: dict[str, config.Milter] | dict[str, config.ContentFilter], listener: str
) -> Iterable[str]:
    """The names of those that take part at a listener in any case, in the order of the file."""
    return (name for name, one in sections.items() if {listener, EVERYWHERE} & set(one.listeners))


def policy_services(settings: config.Config) -> dict[str, PolicyService]:
    """All policy servers."""
    return {
        name: PolicyService(
            name,
            endpoint(one.address),
            one.timeout,
            one.tries,
            connections=one.connections,
            down_for=one.down_time,
            default=parse_action(one.default_action),
        )
        for name, one in settings.policy_servers.items()
    }


def scanner_settings(
    settings: config.Config, read_secret: Callable[[str], str]
) -> dict[str, ScannerSettings]:
    """All scanners. `read_secret` reads a password file; what it raises comes out."""
    return {
        name: ScannerSettings(
            name,
            one.kind,
            endpoint(one.address),
            one.timeout,
            one.size_limit,
            one.connections,
            one.user,
            read_secret(one.password_file) if one.password_file else "",
        )
        for name, one in settings.scanners.items()
    }


def content_filter(name: str, content: config.ContentFilter, hostname: str, workers: int) -> FixedSettings:
    """A content filter as a next hop."""
    as_backend = config.Backend(
        addresses=content.addresses,
        protocol=content.protocol,
        xforward=content.xforward,
        **{one.name: getattr(content, one.name) for one in fields(NextHopLimits)},
    )
    return assembly.backend(name, as_backend, hostname, workers)


def filtered(settings: config.Config) -> dict[str, str]:
    """The transport of the content filter that all mail of a listener goes through, by listener."""
    found: dict[str, str] = {}
    for listener in settings.listener:
        for name in serving(settings.filters, listener.name):
            if settings.filters[name].returns_to != listener.name:
                found.setdefault(listener.name, f"{FILTER}{name}")
    return found


def destination(settings: config.Config) -> Callable[[str], str]:
    """Our name for what a policy server calls a destination: "filter:NAME", or an address of a filter."""
    names = {f"{FILTER}{name}" for name in settings.filters}
    names |= {f"{RELAY}{name}" for name in settings.relays}
    names |= {f"{BACKEND}{name}" for name in settings.backends}
    places = {
        str(place): f"{FILTER}{name}" for name, one in settings.filters.items() for place in one.addresses
    }

    def find(text: str) -> str:
        if text in names:
            return text
        place = text.partition(":")[2]
        if place.startswith("[") and "]:" in place:
            host, _, port = place[1:].partition("]:")
            place = place if ":" in host else f"{host}:{port}"
        return places.get(place, "")

    return find
