"""The sections about the protection of mail to other domains, and about our reports to them.

Each class is a section of the file, each field a key; the text under a field is what the reference pages
print. Durations are seconds in the program. Nothing here opens a file.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from mta.config.notation import Duration, MailAddress, Notation, Path, parse_hostname


def parse_zone(text: str, folder: str) -> str:
    """A name of the DNS, "." for its root. Raises ValueError."""
    return text if text == "." else parse_hostname(text, folder)


Zone = Annotated[str, Notation("zone", 'a name such as "org", or "."', parse_zone)]
"""A name of the DNS."""


class Security(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How securely mail goes to other domains (docs/outbound-security.md). Proofs by DNSSEC need a validating
    resolver in [dns]."""

    level: Literal["may", "encrypt", "verify"] = "may"
    """The least for every domain: `may` TLS where it works; `encrypt` TLS or no mail; `verify` with a
    certificate of a known authority. More than `may` is more than much of the world can do."""
    dane: bool = True
    """Use TLSA records (RFC 7672): a host that has them is authenticated by them, or gets no mail."""
    mta_sts: bool = True
    """Use MTA-STS policies (RFC 8461)."""
    capability_records: bool = True
    """Believe what hosts promise in their capability records (docs/capability-record.md): they can only make
    TLS mandatory, never optional."""
    pin_hold: Annotated[Duration, Meta(ge=0)] = 48 * 3600.0
    """How long mail waits for a domain that was proven (by DNSSEC, by MTA-STS) and is not any more, and the
    administrator has time to look. 0s: do not remember what was proven."""
    pin_end: Literal["release", "hold"] = "release"
    """After that time: `release` the domain, with an error in the log; `hold` its mail until somebody says
    `tamis pins forget`."""
    signed_names: tuple[Zone, ...] = (".", "org")
    """Names that are known to be signed: a resolver that does not find them *secure* does not validate."""
    broken_names: tuple[Zone, ...] = ("dnssec-failed.org",)
    """Names that are known to fail validation: a resolver that answers them does not validate either, and
    nothing it says is believed. Empty: this is not tried."""
    ca_file: Path = ""
    """File with certificates of authorities (PEM) for `verify` and MTA-STS. Default: the system's."""


class Reports(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Daily reports to domains that ask for them."""

    tls: bool = True
    """TLS reports (RFC 8460): how connections to the domain's hosts went. Needs delivery to the world."""
    dmarc: bool = True
    """DMARC aggregate reports (RFC 9990): who sent mail in the domain's name. Needs dns.resolvers, the check
    "dmarc", the queue, and a way to other domains (outbound.enabled or policy.relay). Reports about single
    messages (ruf) are never sent: they tell of people."""
    organization: str = ""
    """Who reports. Default: identity.hostname."""
    contact: MailAddress = ""
    """Address for questions, and the sender of reports, in ASCII. Default: identity.postmaster."""
