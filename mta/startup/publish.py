"""Every record that our domains need, as values: what `tamis dns` prints, compares and publishes. Pure.

Records of one name and type belong together (an RRset). `Record.keeps_others`: others of that name and type
are none of our business, as TXT records of a domain that are no SPF.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mta.authn.dkimkeys import SigningKey
from mta.authn.dkimrecord import record_name, record_text
from mta.delivery.security.capability import owner_name
from mta.startup.answers import TTL, quoted
from mta.startup.capability import our_capabilities
from mta.startup.claims import Site
from mta.startup.mtasts import policy_text
from mta.startup.srv import ABSENT, KINDS
from mta.startup.tlsa import tlsa_name, tlsa_value

TLSA_TTL = 3600
"""Seconds: a rollover waits twice this."""


@dataclass(slots=True, frozen=True)
class Record:
    """One record. Without `value` it is a hint: `note` says what only the administrator knows."""

    name: str
    """Absolute, without the final dot."""
    type: str
    value: str
    note: str = ""
    ttl: int = TTL
    keeps_others: bool = False

    @property
    def line(self) -> str:
        """As it stands in a zone file; a hint is a comment."""
        if not self.value:
            return f"; {self.name}. {self.ttl} IN {self.type} ...   ; {self.note}"
        return f"{self.name}. {self.ttl} IN {self.type} {self.value}" + (
            f"   ; {self.note}" if self.note else ""
        )


def records(
    site: Site, addresses: Sequence[str], keys: Iterable[SigningKey], ders: Mapping[str, Sequence[bytes]]
) -> list[Record]:
    """All of them, in the order of a zone file.

    `addresses` are those that the world sees, `keys` those of DKIM that are published, `ders` the
    certificates of each host: the one that is served, and in a rollover the next one.
    """
    host = site.hostname
    found = [Record(host, "AAAA" if ":" in each else "A", each) for each in addresses]
    if not found:
        found.append(Record(host, "A", "", "the address of this server"))
    for port in sorted({service.port for service in site.services if service.tls != "none"}):
        for name, chain in ders.items():
            values = dict.fromkeys(tlsa_value(der) for der in chain)
            found += [Record(tlsa_name(port, name), "TLSA", value, ttl=TLSA_TTL) for value in values]
    promises = our_capabilities(site)
    if promises.demands:
        found.append(Record(owner_name(host), "SVCB", promises.rdata()))
    found.append(Record(host, "CAA", "", 'who may issue certificates, such as 0 issue "ca.example.net"'))
    if host not in site.domains:
        found.append(Record(host, "TXT", quoted("v=spf1 a -all"), keeps_others=True))
    for domain in site.domains:
        found += _domain(site, domain, [key for key in keys if key.domain == domain])
    return found


def _domain(site: Site, domain: str, keys: Sequence[SigningKey]) -> list[Record]:
    host, postmaster = site.hostname, site.postmaster
    found = [Record(domain, "MX", f"10 {host}.")]
    found.append(Record(domain, "TXT", quoted("v=spf1 mx -all"), keeps_others=True))
    found += [Record(record_name(domain, key.selector), "TXT", quoted(record_text(key))) for key in keys]
    if not keys:
        found.append(Record(f"SELECTOR._domainkey.{domain}", "TXT", "", f"tamis dkim new {domain}"))
    dmarc = f"v=DMARC1; p=quarantine; rua=mailto:{postmaster}"
    found.append(Record(f"_dmarc.{domain}", "TXT", quoted(dmarc)))
    identity = hashlib.sha256(policy_text(host).encode()).hexdigest()[:16]
    found.append(Record(f"_mta-sts.{domain}", "TXT", quoted(f"v=STSv1; id={identity}")))
    found.append(Record(f"mta-sts.{domain}", "A", "", "the web server with the policy (docs/publishing.md)"))
    found.append(Record(f"_smtp._tls.{domain}", "TXT", quoted(f"v=TLSRPTv1; rua=mailto:{postmaster}")))
    for kind in KINDS:
        name = f"{kind.label}.{domain}"
        ports = site.ports.get(kind.role, ()) if kind.role is not None else ()
        if ports:
            found.append(Record(name, "SRV", f"0 1 {ports[0]} {host}."))
        elif kind.role is None and kind.port == 993:
            found.append(Record(name, "SRV", f"0 1 {kind.port} {host}.", f"or {ABSENT} without IMAP"))
        elif not kind.optional:
            found.append(Record(name, "SRV", ABSENT))
    return found


def zone_file(found: Sequence[Record]) -> str:
    """A fragment of a zone file."""
    return "".join(f"{record.line}\n" for record in found)


def sets(found: Sequence[Record]) -> dict[tuple[str, str], list[Record]]:
    """The records that have a value, by name and type."""
    grouped: dict[tuple[str, str], list[Record]] = {}
    for record in found:
        if record.value:
            grouped.setdefault((record.name, record.type), []).append(record)
    return grouped
