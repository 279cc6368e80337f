"""What we claim to be: the part of the configuration that the checks hold against the world. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from mta import config
from mta.config.inbound import STANDARD_PORTS

SPECIAL_USE = (
    "test", "example", "invalid", "localhost", "local", "localdomain", "internal", "home.arpa", "onion",
    "example.com", "example.net", "example.org",
)  # fmt: skip
"""Names that nobody can publish records for (RFC 6761 and IANA's registry of special-use names; .internal is
ICANN's), and `localdomain`, which machines without a name give themselves."""

Role = Literal["smtp", "submission", "submissions", "sieve"]
Address: TypeAlias = config.Inet | config.Unix | config.Inherited


@dataclass(slots=True, frozen=True)
class Service:
    """One port on which the world speaks to us."""

    listener: str
    """Name of the listener; `[[listener]]` of the configuration."""
    role: Role
    address: Address
    """Where it listens."""
    port: int
    """The one that the world connects to."""
    tls: str
    """ "none", "starttls", "required" or "implicit"."""
    direct: bool = True
    """Anybody may connect to `address`, which has the port."""

    @property
    def title(self) -> str:
        """For people: listener and address."""
        return f"{self.listener} {self.address}"


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


def public_ports(listener: config.Listener) -> dict[Address, int]:
    """The ports on which the world reaches a listener, by its addresses; not those that are for this machine.

    Of a load balancer, and of systemd, which has opened the socket, only the name is configured here: they
    have the port of the protocol, which is what mail programs and other servers look for.
    """
    service = listener.protocol
    if service == "lmtp":
        return {}
    standard = STANDARD_PORTS["submissions" if _is_submissions(listener) else service]
    found: dict[Address, int] = {}
    for address in listener.addresses:
        if isinstance(address, config.Inherited) or listener.proxy_protocol_from:
            found[address] = standard
        elif isinstance(address, config.Inet):
            found[address] = address.port
    return found


def _is_submissions(listener: config.Listener) -> bool:
    return listener.protocol == "submission" and listener.tls == "implicit"


def site_of(settings: config.Config) -> Site:
    """What a configuration claims."""
    services: list[Service] = []
    sieve: list[int] = []
    for listener in settings.listener:
        reached = public_ports(listener)
        if listener.protocol == "managesieve":
            sieve += reached.values()
            continue
        role: Role = "submission" if listener.protocol == "submission" else "smtp"
        if _is_submissions(listener):
            role = "submissions"
        direct = not listener.proxy_protocol_from
        services += [
            Service(
                listener.name, role, address, port, listener.tls, direct and isinstance(address, config.Inet)
            )
            for address, port in reached.items()
        ]
    ports: dict[Role, tuple[int, ...]] = {}
    for service in services:
        ports[service.role] = tuple(dict.fromkeys((*ports.get(service.role, ()), service.port)))
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
