"""The section about start-up checks: which are made, and what becomes of a start that fails one.

The class is a section of the file, each field a key; the text under a field is what the reference pages
print. Durations are seconds in the program. Nothing here opens a file or a socket.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from msgspec import Meta, Struct

from mta.config.notation import Duration, Notation, Path

Action = Literal["refuse", "warn", "off"]


def parse_address(text: str, folder: str) -> str:
    """An IP address in canonical form. Raises ValueError."""
    return str(ipaddress.ip_address(text))


IpAddress = Annotated[str, Notation("IP address", '"192.0.2.1" or "2001:db8::1"', parse_address)]
"""An IP address."""


class Checks(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is checked before mail is taken, at a reload and each day (docs/checks.md). A check that finds
    something *wrong* makes the server `refuse` to start, `warn`, or is `off`. `tamis check` shows all."""

    mode: Literal["auto", "production", "local"] = "auto"
    """`production`: the checks are made; `local`: none is made at the start, for tests and demonstrations.
    `auto` is `local` if identity.hostname is a name that cannot be published (.test, .example, .invalid,
    .localhost, .local, .localdomain, .internal, example.org and the like), otherwise `production`."""
    addresses: tuple[IpAddress, ...] = ()
    """Addresses that the world sees us from, where they are not those of this machine (behind NAT). Default:
    those of identity.hostname in the DNS."""
    unknown: Literal["warn", "refuse"] = "warn"
    """What becomes of the start when something could not be found out in time (no answer, SERVFAIL): `warn`
    starts with an alarm, `refuse` ends with exit status 1, so that systemd tries again."""
    patience: Annotated[Duration, Meta(ge=0, le=300)] = 30.0
    """How long the start asks again for what could not be found out."""
    interval: Annotated[Duration, Meta(ge=0)] = 86400.0
    """Time between two runs of all checks in a running server, which is never stopped by them: what changes
    is logged, counted, and mailed to identity.postmaster. 0s: none."""
    mail_changes: bool = True
    """Mail identity.postmaster when a check ends otherwise than the last time."""
    tls_ca: Path = ""
    """File with certificates of authorities (PEM) that users trust. Default: the system's."""
    resolver: Action = "refuse"
    """The resolver is on this machine and validates: security.signed_names, security.broken_names."""
    clock: Action = "refuse"
    """The clock is right, as far as the kernel and the times of files and certificates tell."""
    identity: Action = "refuse"
    """identity.hostname is a name that others can look up."""
    forward: Action = "refuse"
    """identity.hostname has an address record, and it is ours."""
    reverse: Action = "refuse"
    """The addresses point back to identity.hostname."""
    mx: Action = "refuse"
    """The MX records of our domains name us."""
    spf: Action = "refuse"
    """The SPF records of our domains let us send."""
    dkim: Action = "refuse"
    """Mail of each of our domains is signed (DKIM), and the keys are published."""
    dmarc: Action = "refuse"
    """Our domains have a DMARC record."""
    srv: Action = "refuse"
    """SRV records tell mail programs where submission and IMAP are, or that they are not (RFC 6186, 8314)."""
    dnssec: Action = "refuse"
    """The zones of our domains and of identity.hostname are signed."""
    certificates: Action = "refuse"
    """Certificates can be used, are in time, and cover identity.hostname."""
    chain: Action = "refuse"
    """The certificate that mail programs see is issued by an authority that they trust."""
    starttls: Action = "refuse"
    """Each listener offers TLS with the certificate of the configuration."""
    tlsa: Action = "refuse"
    """TLSA records (DANE) are there and match the certificates, for each port."""
    mta_sts: Action = "refuse"
    """Our domains have an MTA-STS policy that names us (RFC 8461)."""
    tls_rpt: Action = "refuse"
    """Our domains say where reports about TLS go (RFC 8460)."""
    capability: Action = "refuse"
    """The capability record of our host is there and promises nothing that is not so
    (docs/capability-record.md)."""
    queue_store: Action = "refuse"
    """The stores of the queue keep what they promise."""
    backends: Action = "refuse"
    """Back ends and relays answer as they are configured."""
    postmaster: Action = "warn"
    """Somebody gets the mail for identity.postmaster."""
    milters: Action = "refuse"
    """Milters and policy servers answer."""
    tables: Action = "refuse"
    """Databases and other servers answer for tables."""
    policy: Action = "refuse"
    """The policy loads."""
    open_relay: Action = "refuse"
    """The policy refuses strangers who send to other domains."""
