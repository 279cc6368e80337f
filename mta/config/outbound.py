"""The sections about where mail goes: domains, back ends, relays, policy, delivery.

Each class is a section of the file, each field a key; the text under a field is what the reference pages
print. Durations are seconds in the program. Nothing here opens a file.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from mta.config.inbound import Count, CountOrNone, Mechanism, Timeout
from mta.config.notation import (
    Connect,
    Duration,
    Fqdn,
    Host,
    LocalPart,
    MailAddress,
    NameOrEmpty,
    Network,
    Path,
    Recipients,
    RecipientSource,
)
from mta.config.places import FilePath

TlsLevel = Literal["none", "may", "encrypt", "verify"]


class NextHopLimits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What back ends and relays have in common."""

    connect_timeout: Timeout = 3.0
    """For a connection and its greeting, TLS handshake included. After it the next address is tried, so it
    must be well under delivery.deadline."""
    command_timeout: Timeout = 10.0
    """For the reply to a command."""
    data_timeout: Timeout = 300.0
    """For the reply to the end of a message, and for the next hop to take more of it (RFC 5321 4.5.3.2.6:
    ten minutes). delivery.deadline comes first if it is shorter."""
    max_connections: Count = 50
    """Connections to one address at once, for this machine as a whole: each worker gets its share. Must
    be under what the next hop can take (Dovecot's process_limit of lmtp: 100)."""
    idle_timeout: Annotated[Duration, Meta(ge=0)] = 60.0
    """How long an unused connection is kept for the next message. 0s: not at all."""
    messages_per_connection: CountOrNone = 1000
    """Messages over one connection before a new one is opened: limits what a leak in the next hop can
    do. 0: no limit."""
    failure_delay: Duration = 10.0
    """How long an address that failed is passed over while others work."""


class Domain(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A domain whose mail we accept, by its name. Mail for other domains is accepted only from trusted
    networks and users."""

    backend: NameOrEmpty = ""
    """Name of the [backends.NAME] that gets its mail, or "store" for the embedded store. Default: the only
    one there is."""
    recipients: Recipients = RecipientSource("ask")
    """Who knows the valid recipients, so that others are refused at RCPT (550 5.1.1): `users` the users
    file; `table:NAME` a [tables.NAME] that has the address; `table:FILE` a file with one address or local
    part a line; `ask` the back end itself, at RCPT, with a cache (see [policy]); `all` everybody exists -
    then the back end's refusals come after the data."""
    subaddress_delimiter: str = "+"
    """Characters that separate the user from a detail, as in user+detail@example.org (RFC 5233); each of
    them does. Empty: none."""
    script: Path = ""
    """Policy file in Sieve that speaks of this domain's recipients alone, after policy.scripts: it refuses
    and discards (docs/policy/recipients.md). Default: none."""
    catch_all: MailAddress = ""
    """Address that gets the mail for recipients that do not exist. Attracts spam. Default: none."""


class Backend(NextHopLimits, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A mail store (or an internal server) that gets the mail of our domains."""

    protocol: Literal["lmtp", "smtp"] = "lmtp"
    """LMTP answers for each recipient (RFC 2033); use `smtp` for servers without it."""
    addresses: tuple[Connect, ...]
    """Servers that are equal, tried in this order: the next one gets the mail when one fails."""
    tls: TlsLevel = "none"
    """`none`; `may`: if offered, unverified; `encrypt`: required, unverified; `verify`: required, and the
    certificate must be valid for the host. A Unix socket needs none."""
    implicit_tls: bool = False
    """TLS from the first octet in place of STARTTLS; needs tls = "encrypt" or "verify"."""
    tls_name: Fqdn = ""
    """Name that the certificate must have. Default: the host of the address."""
    tls_ca: Path = ""
    """File with certificates of authorities (PEM) to verify with. Default: the system's."""
    xclient: bool = False
    """Tell the back end who our client is by XCLIENT, if it offers that to us (Dovecot: over TCP alone, with
    our address in login_trusted_networks; Postfix: once in a connection, which then serves this client
    alone)."""
    xforward: bool = False
    """Tell the back end where a message came from by XFORWARD, if it offers that to us (content filters)."""


class Relay(NextHopLimits, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An SMTP server that takes our mail for other domains (smarthost)."""

    host: Host
    """Host name or IP address."""
    connect_timeout: Timeout = 10.0
    """For a connection and its greeting, TLS handshake included. Longer than for a back end: public servers
    greet late on purpose."""
    port: Annotated[int, Meta(ge=1, le=65535)] = 587
    """587 is submission (RFC 6409), 465 submission with implicit TLS, 25 plain relaying."""
    tls: TlsLevel = "verify"
    """As in [backends.NAME]. The default is strict because a password and all mail go over it."""
    implicit_tls: bool = False
    """TLS from the first octet in place of STARTTLS: port 465."""
    tls_name: Fqdn = ""
    """Name that the certificate must have. Default: `host`."""
    tls_ca: Path = ""
    """File with certificates of authorities (PEM) to verify with. Default: the system's."""
    user: str = ""
    """Log in as this user. Default: no AUTH."""
    password_file: Path = ""
    """File whose first line is the password. It must not be readable by everybody."""
    token_file: Path = ""
    """In place of it: file whose first line is an OAuth token, for OAUTHBEARER and XOAUTH2. It is read at
    each login, so that a program may renew it. It must not be readable by everybody."""
    mechanisms: tuple[Mechanism, ...] = ()
    """Mechanisms that may be used. Default: the best that the relay offers; PLAIN and LOGIN over TLS
    only."""


class Policy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Who may send what to whom."""

    trusted_networks: tuple[Network, ...] = ("127.0.0.0/8", "::1/128")
    """Clients that may send to any domain without logging in. A network that strangers can reach us from
    makes an open relay."""
    relay: NameOrEmpty = ""
    """Name of the [relays.NAME] that gets mail for other domains. Default: none; such mail goes to the
    domains' own servers with outbound.enabled, else it is refused (550 5.7.1 to strangers, 550 5.4.4 to our
    users)."""
    always_accept: tuple[LocalPart, ...] = ("postmaster", "abuse")
    """Local parts that are accepted in each of our domains whether or not the recipient exists (RFC 5321
    4.5.1, RFC 2142); if the back end refuses it, the mail goes to identity.postmaster."""
    scripts: tuple[FilePath, ...] = ()
    """Policy files in Sieve, asked in this order before the base policy: they refuse, change and route, and
    never let pass what it refuses (docs/policy). Default: none."""
    user_scripts: Path = ""
    """Path of each user's own policy file, with %u for the local part and %d for the domain, in lower case
    and without subaddress: "/etc/tamis/users/%d/%u.sieve". It speaks of this recipient alone, after the
    domain's script. Default: none."""
    after: tuple[FilePath, ...] = ()
    """As `scripts`, asked after the scripts of domains and users. Default: none."""
    base: Path = ""
    """The base policy, which has the last word: who may send what to whom. Default: policy.sieve as it comes
    with Tamis; take a copy of it if you want another."""
    trace: tuple[str, ...] = ()
    """Sessions whose way through the scripts is logged, test by test: networks of clients, and users. For a
    while, to see what happens; docs/explain.md. Default: none."""
    counters: str = ""
    """Where rates and greylists of policy files are kept: "redis://host:6379/0" ("rediss:" with TLS) for
    all nodes together. Default: in `policy.sqlite3` in process.state_directory, for all workers of this
    machine."""
    counters_password_file: Path = ""
    """File whose first line is the password for `counters`. It must not be readable by everybody."""
    recipient_cache_positive: Duration = 600.0
    """How long an existing recipient is remembered, for recipients = "ask"."""
    recipient_cache_negative: Duration = 60.0
    """How long a refused recipient is remembered, for recipients = "ask"; short, for new users."""
    recipient_cache_entries: Count = 50000
    """Recipients that a worker remembers (about 200 octets each); the oldest make room."""


class Delivery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Handing the message on while the client waits for the answer."""

    deadline: Annotated[Duration, Meta(ge=1, le=300)] = 20.0
    """Time for the whole answer to a message. What is not delivered by then is queued, or answered 4xx where
    it cannot be. RFC 5321 gives clients ten minutes, real ones give up after 60 seconds: stay well under
    that."""
    unacknowledged_ttl: Annotated[Duration, Meta(ge=0)] = 4 * 3600.0
    """How long a message is remembered that was delivered while the client went away before it could be
    told: its retry is answered 250 without a second copy. 0s: not at all."""
    unacknowledged_entries: Count = 10000
    """How many of them are remembered (about 200 octets each); the oldest make room."""
