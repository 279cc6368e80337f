"""The sections about clients: listeners, certificates, TLS, authentication, messages, limits, timeouts.

Each class is a section of the file, each field a key; the text under a field is what the reference pages
print. Durations are seconds and sizes octets in the program. Nothing here opens a file.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from mta.config.notation import (
    Banner,
    Connect,
    Duration,
    Fqdn,
    Hostname,
    Inet,
    Listen,
    Login,
    Mode,
    Name,
    NameOrEmpty,
    Network,
    Path,
    Size,
    Unix,
)
from mta.config.places import FilePath

Percent = Annotated[int, Meta(ge=1, le=100)]
Count = Annotated[int, Meta(ge=1)]
CountOrNone = Annotated[int, Meta(ge=0)]
"""0 means: no limit."""
Timeout = Annotated[Duration, Meta(ge=0.1)]

Extension = Literal[
    "PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "CHUNKING", "BINARYMIME", "DSN",
    "STARTTLS", "AUTH", "PRDR", "REQUIRETLS", "DELIVERBY", "FUTURERELEASE", "MT-PRIORITY", "LIMITS",
    "HELP", "VRFY", "ETRN",
]  # fmt: skip
Mechanism = Literal[
    "PLAIN", "LOGIN", "SCRAM-SHA-1", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS",
    "OAUTHBEARER", "XOAUTH2", "EXTERNAL",
]  # fmt: skip


class SessionLimits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Limits of one client and of one session; a listener may have its own."""

    sessions_per_client: CountOrNone = 50
    """Sessions that one address may have open at once, over all workers; more are answered 421 4.7.0.
    Real servers open a few dozen at most. 0: no limit."""
    sessions_per_prefix: CountOrNone = 200
    """Sessions that one network (see ipv4_prefix and ipv6_prefix) may have open at once. Stops a client
    that owns a whole network. 0: no limit."""
    session_rate_per_client: CountOrNone = 120
    """New sessions that one address may open per minute. 0: no limit."""
    session_rate_per_prefix: CountOrNone = 600
    """New sessions that one network may open per minute. 0: no limit."""
    errors_per_session: Count = 20
    """Refused commands after which a session ends with 421 4.7.0: broken software and guessers of
    addresses do not get better by going on."""
    errors_before_delay: CountOrNone = 10
    """Refused commands after which each further refusal is delayed by error_delay. 0: from the first."""
    error_delay: Duration = 1.0
    """Delay of a refusal once there have been errors_before_delay: slows guessing, costs us nothing."""
    idle_commands: Count = 100
    """Commands that bring no message forward (NOOP, RSET, VRFY, HELP, repeated EHLO) in a row, after which
    the session ends with 421 4.7.0."""
    transactions_per_session: CountOrNone = 1000
    """Messages in one session, after which the next MAIL is answered 421 4.7.0 and the client connects
    again: spreads long-lived clients over the workers. 0: no limit."""


class Limits(SessionLimits, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one client, one session and all of them together may use. The limits of clients and sessions
    may be overridden in a listener, as in `limits = { sessions_per_client = 200 }`."""

    sessions: Count = 10000
    """Sessions open at once on this machine; more are answered 421 4.3.2. An idle one costs about 3 kB, with
    TLS about 40 kB, and one file descriptor."""
    ipv4_prefix: Annotated[int, Meta(ge=8, le=32)] = 24
    """Length in bits of the IPv4 networks that are counted together."""
    ipv6_prefix: Annotated[int, Meta(ge=16, le=128)] = 64
    """Length in bits of the IPv6 networks that are counted together: a /64 is usually one machine."""
    messages_per_client: CountOrNone = 0
    """Messages that one address may send within message_window (450 4.7.1). 0: no limit."""
    recipients_per_client: CountOrNone = 0
    """Recipients that one address may name within message_window (450 4.7.1). 0: no limit."""
    message_window: Annotated[Duration, Meta(ge=1)] = 3600.0
    """See messages_per_client and recipients_per_client."""
    exempt_networks: tuple[Network, ...] = ("127.0.0.0/8", "::1/128")
    """Clients to which the limits per client and per network do not apply: this machine, load balancers
    without PROXY protocol, your own mailing list server."""
    stress_percent: Percent = 80
    """Percentage of `sessions` from which the server is under stress: the stressed timeouts apply and
    idle clients make room for others."""
    overload_lag: Annotated[Duration, Meta(ge=0.01)] = 2.0
    """How late the event loop of a worker may run before that worker answers new sessions 421 4.3.2. A
    late loop serves everybody badly; clients come back."""
    stress_memory_percent: Percent = 92
    """Percentage of the memory in use (of the machine, or of the control group if it has a limit) from
    which the server is under stress."""
    overload_memory_percent: Percent = 97
    """Percentage of the memory in use from which new sessions are answered 421 4.3.2. 100: memory is not
    looked at."""


class Timeouts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How long the server waits for a client in each state (RFC 5321 4.5.3.2). Under stress (see
    limits.stress_percent) the stressed values apply. A client that is too late is answered 421 4.4.2."""

    command: Timeout = 300.0
    """For the next command: RFC 5321 4.5.3.2.7 asks for five minutes."""
    data: Timeout = 180.0
    """For the next octets of a message (RFC 5321 4.5.3.2.5)."""
    message: Timeout = 3600.0
    """For a whole message from 354 (or the first BDAT) to its end, so that a client that sends one octet
    a minute does not hold its place for ever. 100 MiB in an hour are 233 kbit/s."""
    handshake: Timeout = 30.0
    """For a TLS handshake."""
    proxy_header: Timeout = 5.0
    """For the PROXY header of a load balancer, which sends it at once."""
    write: Timeout = 60.0
    """For a client that does not read our replies."""
    stressed_command: Timeout = 10.0
    """Under stress, in place of `command`."""
    stressed_data: Timeout = 30.0
    """Under stress, in place of `data`."""


class Listener(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where clients connect, and what is said to them there. Without any listener there is one for SMTP
    on port 25, and, if there are certificates and auth.backend is set, two for submission on ports 587
    and 465."""

    name: NameOrEmpty = ""
    """Name in logs and metrics. Default: the protocol ("submissions" for submission with implicit TLS)."""
    protocol: Literal["smtp", "submission", "lmtp", "managesieve"] = "smtp"
    """`smtp` receives mail for our domains (and relays for trusted networks), `submission` takes mail of
    our users (RFC 6409), `lmtp` takes mail of a local server (RFC 2033). `managesieve` lets users edit their
    scripts and administrators the policy (RFC 5804, docs/managesieve.md)."""
    addresses: tuple[Listen, ...] = ()
    """Addresses and ports, paths of Unix sockets ("unix:/run/tamis/lmtp"), or sockets handed over by
    systemd ("fd:smtp"). Default: the protocol's port (25, 587, 465 with implicit TLS, 4190) on all addresses
    of IPv4 and, where the machine has it, IPv6; for `lmtp` the socket `lmtp` in process.runtime_directory."""
    socket_mode: Mode = 0o660
    """Permissions of its Unix sockets: for programs of process.user and its group. "0666" lets every
    local program connect that the folder lets through."""
    tls: Literal["auto", "none", "starttls", "required", "implicit"] = "auto"
    """`none`: no TLS; `starttls`: offered (RFC 3207); `required`: nothing but STARTTLS before TLS;
    `implicit`: TLS from the first octet (RFC 8314, port 465). `auto` is `required` for submission and
    managesieve, `starttls` for smtp when there are certificates, otherwise `none`."""
    certificates: tuple[Name, ...] = ()
    """Names of [certificates.NAME]; the client's server name (SNI) selects, the first is used when it
    selects none. Default: all."""
    client_ca: Path = ""
    """File with certificates of authorities (PEM). If set, clients are asked for a certificate, which
    serves AUTH EXTERNAL and the log."""
    require_client_certificate: bool = False
    """Refuse the handshake of a client without a certificate by client_ca."""
    auth: Literal["auto", "none", "optional", "required"] = "auto"
    """`required`: no MAIL without AUTH (530 5.7.0). `auto` is `required` for submission and managesieve,
    otherwise `none`: on port 25 passwords are only guessed."""
    proxy_protocol_from: tuple[Network, ...] = ()
    """Load balancers that send a PROXY header (version 1 or 2) before everything else. Where it is set,
    nobody else may connect to this listener, and who does by a Unix socket must send the header, too."""
    proxy_protocol_tls: bool = False
    """TLS that ends at the load balancer counts as the client's, where the header tells of it (version 2,
    PP2_TYPE_SSL): for AUTH, the policy, Received and the log. From there it goes in clear, passwords too."""
    xclient_from: tuple[Network, ...] = ()
    """Clients that may override the session's facts by XCLIENT: filters and test tools that you trust."""
    xforward_from: tuple[Network, ...] = ()
    """Clients that may tell by XFORWARD where a message came from, for the log."""
    greet_delay: Annotated[Duration, Meta(ge=0, le=60)] = 0.0
    """Wait before the greeting. A client that talks in this time is refused (554 5.5.0): many senders of
    spam do. 0s costs nothing and still finds those that talk at once; a few seconds find more."""
    backlog: Annotated[int, Meta(ge=1, le=65535)] = 1024
    """Connections that the kernel holds until a worker takes them. The kernel's own limit
    (net.core.somaxconn) applies too."""
    banner: Banner = "Tamis"
    """Text of the greeting after host name and protocol."""
    discard_ehlo_keywords: tuple[Extension, ...] = ()
    """Extensions that are not offered here, for clients that stumble over one. 8BITMIME takes BINARYMIME and
    SMTPUTF8 with it."""
    qualify_domain: Fqdn = ""
    """Domain that senders and recipients without one get, for printers and programs that say `<scanner>`
    (the header is left as it is). Default: they are refused (501 5.1.7, 5.1.3), but for `<postmaster>`."""
    signing_domain: Fqdn = ""
    """Domain whose keys sign mail of this listener when neither its author nor its sender has any. Default:
    signing.domain."""
    limits: SessionLimits = SessionLimits()
    """Overrides of [limits] for this listener; what is not set here is taken from there."""


class Certificate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A certificate and its private key. Changed files are noticed (tls.poll_interval) and taken after a
    check; a bad pair is logged and the old one is kept."""

    chain: FilePath
    """File with the certificate and those of its intermediate authorities, in this order (PEM)."""
    key: FilePath
    """File with the private key (PEM, no pass phrase). It must not be readable by everybody."""
    names: tuple[Hostname, ...] = ()
    """Server names (SNI) for which it is used; "*.example.org" is no name here. Default: the names in
    the certificate."""


class Tls(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """TLS as a server, for all listeners."""

    minimum_version: Literal["TLSv1.2", "TLSv1.3"] = "TLSv1.2"
    """Older versions are broken (RFC 8996). A sender that cannot speak it sends in clear or not at all, so
    think twice before requiring TLSv1.3 on port 25."""
    ciphers: str = ""
    """Cipher list of OpenSSL for TLS 1.2. Default: the library's, which is sound."""
    poll_interval: Annotated[Duration, Meta(ge=0)] = 60.0
    """How often the files of certificates are looked at for changes, so that a renewal needs no reload.
    0s: only at a reload."""


class Auth(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How users log in (RFC 4954)."""

    backend: Literal["none", "users", "dovecot"] = "none"
    """`users`: the file of `tamis user`; `dovecot`: the auth service of Dovecot; `none`: nobody logs in."""
    users_file: FilePath = "users"
    """The file that `tamis user add` writes. Domains with recipients = "users" read it too."""
    dovecot_socket: Connect = Unix("/run/dovecot/auth-client")
    """Dovecot's auth client socket, a path or host and port."""
    mechanisms: tuple[Mechanism, ...] = ()
    """Mechanisms that are offered, best first. Default: all that the back end can do."""
    require_tls: bool = True
    """Offer AUTH over TLS only (RFC 4954 4). Set it to false on a loopback test machine only."""
    failure_delay: Annotated[Duration, Meta(ge=0, le=60)] = 2.0
    """Delay of the answer to a wrong password, which slows guessing."""
    failures_per_session: Count = 3
    """Wrong passwords after which the session ends (421 4.7.0)."""
    failures_per_client: CountOrNone = 20
    """Wrong passwords from one address within failure_window, after which AUTH is refused to it
    (454 4.7.0) until the window has passed. 0: no limit."""
    failure_window: Annotated[Duration, Meta(ge=1)] = 600.0
    """See failures_per_client."""
    sender_login: bool = True
    """A user may send only as addresses of its own: its login name and what the back end lists
    (553 5.7.1)."""
    default_domain: Fqdn = ""
    """Domain of login names without one, as users of the system have them: `ann` sends as ann@ this domain,
    and its scripts are that address's. Default: such a name is no address."""
    master_users: tuple[Login, ...] = ()
    """Users that may send as anybody in spite of sender_login: the web mail server, a scanner, mailing
    lists. The password of such a user forges any sender, so none by default. On a managesieve listener they
    are the administrators who edit the site's policy."""


class Message(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a message may be."""

    max_size: Annotated[Size, Meta(ge=1024)] = 50 * 1024 * 1024
    """Largest message, as announced by SIZE (552 5.3.4). Over 1 MiB it lies in a temporary file, so
    memory is not the limit, but many receivers take no more than 25 to 50 MiB."""
    max_recipients: Annotated[int, Meta(ge=100)] = 1000
    """Recipients of one message (452 4.5.3; the client sends the rest in another transaction). RFC 5321
    4.5.3.1.8 asks for at least 100."""
    max_header_size: Annotated[Size, Meta(ge=4096, le=1024 * 1024)] = 256 * 1024
    """Largest header, all fields together (552 5.3.4). Real ones stay under 64 KiB."""
    max_hops: Annotated[int, Meta(ge=10)] = 100
    """Received fields from which a message is taken to loop (554 5.4.6). RFC 5321 6.3 asks for 100."""
    bare_line_ends: Literal["refuse", "normalise"] = "refuse"
    """CR or LF alone in a message: refuse it (550 5.6.0), or make it CRLF. Only CRLF.CRLF ever ends a
    message, so neither lets a second message be smuggled in; refusing is safer for the next server."""
    nul: Literal["refuse", "strip"] = "refuse"
    """NUL octets in a message (RFC 5322 4: not allowed): refuse it (550 5.6.0), or remove them."""


STANDARD_PORTS = {"smtp": 25, "submission": 587, "submissions": 465, "managesieve": 4190}
"""Ports of the default addresses, by protocol (IANA)."""


def standard_addresses(port: int) -> tuple[Inet | Unix, ...]:
    """All addresses of both families; two sockets, for one dual-stack socket would log IPv4 as IPv6."""
    return (Inet("0.0.0.0", port), Inet("::", port))
