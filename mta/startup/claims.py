"""What we claim to be: the part of the configuration that the checks hold against the world. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mta import config

SPECIAL_USE = (
    "test", "example", "invalid", "localhost", "local", "localdomain", "internal", "home.arpa", "onion",
    "example.com", "example.net", "example.org",
)  # fmt: skip
"""Names that nobody can publish records for (RFC 6761 and IANA's registry of special-use names; .internal is
ICANN's), and `localdomain`, which machines without a name give themselves."""

Role = Literal["smtp", "submission", "submissions", "sieve"]


@dataclass(slots=True, frozen=True)
class Service:
    """One port on which the world speaks to us."""

    listener: str
    """Name of the listener; `[[listener]]` of the configuration."""
    role: Role
    host: str
    """Address it listens on; "0.0.0.0" and "::" are all."""
    port: int
    tls: str
    """ "none", "starttls", "required" or "implicit"."""

    @property
    def title(self) -> str:
        """For people: listener, address and port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.listener} {host}:{self.port}"


@dataclass(slots=True, frozen=True)
class Site:
    """Who we are, in normal form."""

    settings: config.Config
    hostname: str
    domains: tuple[str, ...]
    services: tuple[Service, ...]
    addresses: tuple[str, ...] = ()
    """Addresses that the world sees us from, as the administrator says; empty: those of `hostname`."""
    ports: dict[Role, tuple[int, ...]] = field(default_factory=dict)
    """Ports of each kind of service, in order."""

    @property
    def postmaster(self) -> str:
        """Who gets reports."""
        return self.settings.identity.postmaster


def site_of(settings: config.Config) -> Site:
    """What a configuration claims."""
    services: list[Service] = []
    for listener in settings.listener:
        if listener.protocol in ("lmtp", "managesieve"):
            continue
        role: Role = "smtp"
        if listener.protocol == "submission":
            role = "submissions" if listener.tls == "implicit" else "submission"
        services += [
            Service(listener.name, role, address.host, address.port, listener.tls)
            for address in listener.addresses
            if isinstance(address, config.Inet)
        ]
    ports: dict[Role, tuple[int, ...]] = {}
    for service in services:
        ports[service.role] = tuple(dict.fromkeys((*ports.get(service.role, ()), service.port)))
    sieve = [
        address.port
        for listener in settings.listener
        if listener.protocol == "managesieve"
        for address in listener.addresses
        if isinstance(address, config.Inet)
    ]
    if sieve:
        ports["sieve"] = tuple(dict.fromkeys(sieve))
    return Site(
        settings,
        settings.identity.hostname.lower(),
        tuple(settings.domains),
        tuple(services),
        settings.checks.addresses,
        ports,
    )


def is_special_use(name: str) -> bool:
    """Whether a name can have no public records, so that a server of that name is a local one."""
    labels = name.lower().rstrip(".")
    return "." not in labels or any(labels == top or labels.endswith(f".{top}") for top in SPECIAL_USE)


def is_local(settings: config.Config) -> bool:
    """Whether this is no server of the world: said so, or of a name that nobody can publish records for."""
    mode = settings.checks.mode
    return mode == "local" or (mode == "auto" and is_special_use(settings.identity.hostname))
