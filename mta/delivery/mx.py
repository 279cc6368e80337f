"""Which hosts take mail for a domain, and in which order (RFC 5321 section 5.1, RFC 7505): pure decisions.

`named_host` and `read_literal` are for hosts that a route or a recipient names, `read_mx` reads the answer to
the MX question, `read_addresses` those for A and AAAA. Each gives a value, or the `Reply` that stands for all
mail that was to go there. What holds:

* only a proof that there is nothing is permanent: "no such name", "no MX and no address", a null MX (556,
  RFC 7504);
* silence, SERVFAIL and answers that fail validation are temporary, and say why;
* the implicit MX is there only where the DNS says that no MX exists;
* a host that is ourselves takes with it all hosts that are not preferred to it (RFC 5321 section 5.1).

Domains and hosts are A-labels in lower case, without a final dot.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from ipaddress import ip_address
from itertools import groupby, zip_longest
from typing import cast

from dns.name import Name
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA

from mta.net.resolver.base import Answer, Status
from mta.reply import Reply

MAX_HOSTS = 20
"""Hosts of one domain that are looked at, the preferred ones first, of equals any. Large sites have five."""
MAX_ADDRESSES = 16
"""Addresses of one host that are looked at."""
LONGEST_SITE = 120
"""Characters of a site's name; a longer one is cut and told apart by a hash."""

NULL_MX = "The domain {} does not accept mail"
NO_DOMAIN = "The domain {} does not exist"
NO_HOST = "The domain {} has no mail server"
UNKNOWN = "The mail servers of {} cannot be looked up at the moment"
INVALID = "The DNS records of {} fail validation"
LOOP = "Mail for {} would come back to this server"
BAD_LITERAL = "The address literal cannot be used"


@dataclass(slots=True, frozen=True)
class MxHost:
    """One host that takes mail; of equal `rank`s any may be first."""

    rank: int
    """0 for the preferred ones, 1 for the next; the numbers of the DNS say no more."""
    name: str
    """A host name, or an IP address as text."""


@dataclass(slots=True, frozen=True)
class MxHosts:
    """The hosts of a domain, by rank."""

    domain: str
    hosts: tuple[MxHost, ...]
    status: Status = Status.INSECURE
    """Of the answer to the MX question."""
    ttl: float = 0.0
    """Seconds for which the answer holds."""
    canonical: str = ""
    """Where CNAMEs of the domain led."""
    routed: bool = False
    """The host was named by our own configuration: no MX was asked."""
    whole_site: str = ""
    """The name of the site where only some of its hosts are here."""

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts' names, by rank."""
        return tuple(host.name for host in self.hosts)

    @property
    def site(self) -> str:
        """The name of the site: the same for all domains that share hosts and their order."""
        return self.whole_site or site_name(self.hosts)


def site_name(hosts: Sequence[MxHost]) -> str:
    """A short name for a set of hosts: "mx1.example.net|mx2.example.net>backup.example.net"."""
    text = ">".join(
        "|".join(sorted(host.name for host in group)) for _, group in groupby(hosts, lambda host: host.rank)
    )
    if len(text) <= LONGEST_SITE:
        return text
    return f"{text[: LONGEST_SITE - 17]}~{blake2b(text.encode(), digest_size=8).hexdigest()}"


# What a destination is.


def read_literal(domain: str) -> MxHosts | Reply:
    """The host of an address literal as `mta.address` writes it: "[192.0.2.1]", "[IPv6:2001:db8::1]"."""
    text = domain[1:-1]
    if text[:5].lower() == "ipv6:":
        text = text[5:]
    try:
        address = str(ip_address(text))
    except ValueError:
        return Reply(550, "5.1.2", BAD_LITERAL, f"{domain} is no address that we know")
    return MxHosts(domain, (MxHost(0, address),))


def named_host(host: str) -> MxHosts:
    """The host that a route names; its MX records do not count."""
    return MxHosts(host, (MxHost(0, host),), routed=True)


def read_mx(domain: str, answer: Answer) -> MxHosts | Reply:
    """The hosts of a domain from the answer to its MX question."""
    if answer.status is Status.BOGUS:
        return invalid(domain, "MX", answer)
    if answer.status is Status.FAIL:
        return unknown(domain, "MX", answer)
    if not answer.exists:
        return Reply(550, "5.1.2", NO_DOMAIN.format(domain), f"MX {domain}: no such name")
    records = [cast(MX, record) for record in answer.records]
    named = [(int(record.preference), _text(record.exchange)) for record in records]
    if named and all(not host for _, host in named):
        return Reply(556, "5.1.10", NULL_MX.format(domain), "null MX")
    found: dict[str, int] = {}
    for preference, host in named:
        if host:  # a null MX beside others means nothing (RFC 7505 section 3)
            found[host] = min(preference, found.get(host, preference))
    if not named:
        # The implicit MX. That is asked by the domain's own name: a CNAME leads to the same addresses.
        found[domain] = 0
    ranks = {preference: rank for rank, preference in enumerate(sorted(set(found.values())))}
    hosts = sorted(((ranks[preference], host) for host, preference in found.items()))
    return MxHosts(
        domain,
        tuple(MxHost(rank, host) for rank, host in hosts),
        answer.status,
        answer.ttl,
        answer.canonical,
    )


def unknown(domain: str, rdtype: str, answer: Answer) -> Reply:
    """The DNS did not answer: always temporary."""
    return Reply(451, "4.4.3", UNKNOWN.format(domain), f"{rdtype} {domain}: {answer.reason or 'no answer'}")


def invalid(domain: str, rdtype: str, answer: Answer) -> Reply:
    """The answer fails DNSSEC validation: temporary, and whoever reads it can mend it."""
    text = INVALID.format(domain)
    return Reply(451, "4.7.5", f"{text}: {answer.reason}"[:300], f"{rdtype} {domain}: bogus: {answer.reason}")


def _text(name: Name) -> str:
    """A name as text; "" for the root."""
    labels = [label.decode("ascii", "backslashreplace").lower() for label in name.labels if label]
    return ".".join(labels)


# Ourselves among the hosts.


def without_us(mx: MxHosts, is_us: Callable[[str], bool]) -> MxHosts | Reply:
    """The hosts that are preferred to ourselves; a Reply when we are the most preferred one.

    `is_us` tells it of a host's name. Of a host that a route names nothing is taken away but itself.
    """
    ours = [host.rank for host in mx.hosts if is_us(host.name)]
    if not ours:
        return mx
    left = tuple(host for host in mx.hosts if host.rank < min(ours))
    if not left:
        return loop(mx.domain, next(host.name for host in mx.hosts if is_us(host.name)))
    return MxHosts(mx.domain, left, mx.status, mx.ttl, mx.canonical, mx.routed)


def at_most(mx: MxHosts, rng: random.Random) -> MxHosts:
    """The hosts that are looked at, others of too many equals each time: after it is known which of all are
    ourselves."""
    if len(mx.hosts) <= MAX_HOSTS:
        return mx
    some = sorted(mx.hosts, key=lambda host: (host.rank, rng.random()))[:MAX_HOSTS]
    return replace(mx, hosts=tuple(some), whole_site=mx.site)


def loop(domain: str, host: str) -> Reply:
    """The best host is ourselves, and the domain is none of ours."""
    return Reply(554, "5.4.6", LOOP.format(domain), f"{host} is this server")


def in_turn(hosts: Sequence[MxHost], rng: random.Random) -> list[list[str]]:
    """The names to try, rank by rank, equals in random order."""
    turns: list[list[str]] = []
    for _, group in groupby(hosts, lambda host: host.rank):
        names = [host.name for host in group]
        rng.shuffle(names)
        turns.append(names)
    return turns


# Addresses.


@dataclass(slots=True, frozen=True)
class Addresses:
    """Where a host is reached."""

    host: str
    addresses: tuple[str, ...]
    """In the order of trying: IPv6 and IPv4 in turn, IPv6 first (RFC 8305 section 4)."""
    status: Status = Status.INSECURE
    """SECURE when an answer that has addresses is."""
    canonical: str = ""
    ttl: float = 0.0


def literal_addresses(host: str) -> Addresses | None:
    """The address that a host's name is; None for a real name."""
    try:
        return Addresses(host, (str(ip_address(host)),))
    except ValueError:
        return None


def read_addresses(host: str, four: Answer | None, six: Answer | None) -> Addresses | Reply:
    """The addresses of a host from the answers for A and AAAA; None where a family is not used.

    An answer that fails validation makes the host unusable: the other family may be the attacker's choice. A
    family that is not answered leaves the other one.
    """
    answers = [answer for answer in (six, four) if answer is not None]
    for answer in answers:
        if answer.status is Status.BOGUS:
            return invalid(host, "A/AAAA", answer)
    found4 = _addresses(four)
    found6 = _addresses(six)
    if not found4 and not found6:
        failed = [answer for answer in answers if not answer.usable]
        if failed:
            return unknown(host, "A/AAAA", failed[0])
        kind = "IPv4 " if six is None else "IPv6 " if four is None else ""
        exists = any(answer.exists for answer in answers)
        cause = f"{host}: no {kind}address" if exists else f"{host}: no such name"
        return Reply(550, "5.4.4", "The mail server has no address", cause)
    mixed = [address for pair in zip_longest(found6, found4) for address in pair if address is not None]
    having = [answer for answer in answers if answer.records]
    best = next((answer for answer in having if answer.secure), having[0])
    secure = next((answer for answer in answers if answer.secure), best)
    ttl = min(answer.ttl for answer in having)
    return Addresses(host, tuple(mixed[:MAX_ADDRESSES]), secure.status, secure.canonical, ttl)


def _addresses(answer: Answer | None) -> list[str]:
    if answer is None or not answer.usable:
        return []
    return [record.address for record in answer.records if isinstance(record, A | AAAA)]


def nowhere(domain: str, replies: Collection[Reply]) -> Reply:
    """What no host has an address comes to: permanent only if that is proven of each of them."""
    for reply in replies:
        if not reply.is_permanent:
            return reply
    causes = "; ".join(reply.cause for reply in replies)
    return Reply(550, "5.4.4", NO_HOST.format(domain), causes or "no host")
