"""The way of a recipient's copy into the world, as one line of text: what a route says and the queue keeps.

    mx                               the mail servers of the recipient's domain
    mx:example.net                   those of another domain
    smtp:[mx.example.net]:25         one host, whatever MX records say
    mx;tls=verify;source=bulk;helo=out.example.org;fallback=relay:smarthost

The text is stable: it is part of queued messages and of the names of sites. `parse_way` and `str` are each
other's inverse.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Literal

from mta.address import AddressError, domain_key
from mta.delivery.outcome import NextHop

SMTP_PORT = 25
TLS_LEVELS = ("none", "may", "encrypt", "verify", "dane")
"""Words for the least protection that a route may ask for."""
OPTIONS = ("tls", "source", "helo", "fallback")

Kind = Literal["mx", "smtp"]


class WayError(ValueError):
    """A text that is no way; says what is wrong with it."""


@dataclass(slots=True, frozen=True)
class Way:
    """Where to go and how; empty fields mean the usual."""

    kind: Kind = "mx"
    host: str = ""
    """The domain whose MX are asked ("" for the recipient's own), or the host; A-labels, lower case."""
    port: int = SMTP_PORT
    """Of the host; MX have port 25."""
    tls: str = ""
    """One of `TLS_LEVELS`: the least that is demanded."""
    source: str = ""
    """Name of the source addresses."""
    helo: str = ""
    """Our name for EHLO."""
    fallback: str = ""
    """What is tried when no host can be reached: "relay:NAME" or "smtp:[host]:port"."""

    def __str__(self) -> str:
        text: str = self.kind
        if self.kind == "smtp":
            text += f":[{self.host}]:{self.port}"
        elif self.host:
            text += f":{self.host}"
        return text + self.options

    @property
    def options(self) -> str:
        """The options as text, "" for none."""
        return "".join(f";{name}={value}" for name in OPTIONS if (value := getattr(self, name)))

    def next_hop(self, domain: str) -> NextHop:
        """The next hop of a recipient in `domain`."""
        host = f"[{self.host}]:{self.port}" if self.kind == "smtp" else self.host or domain
        return NextHop(self.kind, host + self.options)


USUAL = Way()
"""To the mail servers of the recipient's domain."""


def is_way(route: str) -> bool:
    """True for a route into the world, False for one to a configured transport."""
    return route == "mx" or route.startswith(("mx:", "mx;", "smtp:"))


def hop_of_route(route: str, domain: str) -> NextHop:
    """The next hop of a recipient in `domain` by a route that a policy has chosen."""
    if not is_way(route):
        return NextHop(route)
    try:
        return parse_way(route).next_hop(domain)
    except WayError:
        return NextHop(route)  # of another version: nobody has such a transport, so it waits


@lru_cache(1024)
def parse_way(text: str) -> Way:
    """Read a way. Raises WayError."""
    target, *options = text.split(";")
    found: dict[str, str] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if name not in OPTIONS or not equals or not value or name in found:
            raise WayError(f"'{option}' is no option of a route")
        found[name] = value
    if "tls" in found and found["tls"] not in TLS_LEVELS:
        raise WayError(f"'{found['tls']}' is no level of TLS; there are {', '.join(TLS_LEVELS)}")
    if "helo" in found:
        found["helo"] = _domain(found["helo"])
    if "fallback" in found:
        check_fallback(found["fallback"])
    kind, colon, where = target.partition(":")
    if kind == "mx":
        if colon and not where:
            raise WayError("'mx:' names no domain")
        return Way("mx", _domain(where) if where else "", SMTP_PORT, **found)
    if kind != "smtp":
        raise WayError(f"'{target}' is neither 'mx', 'mx:DOMAIN' nor 'smtp:[HOST]:PORT'")
    host, port = _host_and_port(where)
    return Way("smtp", host, port, **found)


def check_fallback(text: str) -> None:
    """Whether a text can be a fallback; which relays there are is not known here. Raises WayError."""
    kind, _, rest = text.partition(":")
    if kind == "smtp":
        _host_and_port(rest)
    elif kind != "relay" or not rest:
        raise WayError(f"'{text}' is no fallback: write 'relay:NAME' or 'smtp:[HOST]:PORT'")


def _host_and_port(text: str) -> tuple[str, int]:
    host, bracket, rest = text[1:].partition("]")
    if not text.startswith("[") or not bracket or not host:
        raise WayError(f"'smtp:{text}' needs a host in brackets: 'smtp:[mail.example.net]:25'")
    if not rest:
        return _host(host), SMTP_PORT
    port = rest[1:]
    if rest[0] != ":" or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise WayError(f"'{rest}' is no port")
    return _host(host), int(port)


def _host(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        return _domain(text)


def _domain(text: str) -> str:
    try:
        key = domain_key(text)
    except AddressError as error:
        raise WayError(f"'{text}' is no domain name: {error}") from error
    if key.startswith("["):
        raise WayError(f"'{text}' is no domain name")
    return key
