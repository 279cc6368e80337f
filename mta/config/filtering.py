"""The sections about programs that look at mail: milters, policy servers, content filters, scanners.

Each class is a section of the file, each field a key; the text under a field is what the reference pages
print. Durations are seconds and sizes octets in the program. Nothing here opens a file.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from mta.config.authentication import Check
from mta.config.inbound import Count, Timeout
from mta.config.notation import Connect, Name, Path, Size
from mta.config.outbound import NextHopLimits
from mta.config.programs import Access, FilterAddress, ListenerName, MacroName


class Milter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A milter (mail filter of Sendmail and Postfix), by its name. It takes part in sessions of its
    `listeners` from the beginning, and in others from where a policy file names it."""

    address: FilterAddress
    """Where it listens: "unix:/run/rspamd/milter.sock" or "inet:127.0.0.1:11332"."""
    listeners: tuple[ListenerName, ...] = ()
    """Names of the listeners in whose sessions it takes part in any case; "*" is all of them. Mail of
    `tamis sendmail` comes in by a listener too. Several milters are asked in the order of this file.
    Default: none, it takes part where a policy file says `milter "NAME";`."""
    default_action: Literal["tempfail", "accept", "reject", "quarantine"] = "tempfail"
    """What holds when it cannot be asked, is late or breaks the protocol, until the end of the session:
    `tempfail` (451), `accept` (as if it were not there), `reject` (550), or `quarantine` (the queue holds the
    message)."""
    version: Annotated[int, Meta(ge=2, le=6)] = 6
    """Highest version of the protocol that is offered. Filters of today know 6."""
    connect_timeout: Timeout = 5.0
    """For a connection."""
    command_timeout: Timeout = 10.0
    """For the answer to what is said before the message. Progress that the filter reports begins it anew."""
    content_timeout: Timeout = 30.0
    """For the answer to a part of the message or its end. Progress begins it anew."""
    total_timeout: Timeout = 60.0
    """For one stage in all, whatever progress is reported: the client waits for our reply meanwhile."""
    reuse: bool = False
    """Keep the connection for later sessions. Filters on libmilter of Sendmail 8.14 and later can."""
    daemon_name: str = ""
    """Value of the macro {daemon_name}, such as "ORIGINATING" for opendkim. Default: identity.hostname."""
    connect_macros: tuple[MacroName, ...] = ()
    """Macros sent with the connection, unless the filter asks for others. Default: those of Postfix; so
    for the other stages."""
    helo_macros: tuple[MacroName, ...] = ()
    """Macros sent with HELO and EHLO."""
    mail_macros: tuple[MacroName, ...] = ()
    """Macros sent with MAIL."""
    rcpt_macros: tuple[MacroName, ...] = ()
    """Macros sent with RCPT."""
    data_macros: tuple[MacroName, ...] = ()
    """Macros sent with DATA."""
    end_of_headers_macros: tuple[MacroName, ...] = ()
    """Macros sent with the header and its end."""
    end_of_message_macros: tuple[MacroName, ...] = ()
    """Macros sent with the body and the end of the message."""
    authentication_results: bool = False
    """Show it our Authentication-Results as the first field of the header, with all results of
    `[authentication]`: opendmarc and others read them there. It is shown only, we write it in any case."""


class PolicyServer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A server of Postfix's policy delegation protocol (postgrey, policyd-spf...), by its name, which policy
    files ask by `policy_server "NAME";`."""

    address: FilterAddress
    """Where it listens: "unix:/run/postgrey.sock" or "inet:127.0.0.1:10023"."""
    timeout: Timeout = 10.0
    """For one try: connection and answer."""
    tries: Annotated[int, Meta(ge=1, le=10)] = 2
    """Tries for one question, each but the first over a new connection."""
    default_action: Access = "451 4.3.5 Server configuration problem"
    """What holds when it cannot be asked: an action as in Postfix's access(5), such as "DUNNO" or
    "451 4.3.5 try again later". `:on_error` in the policy file comes before it."""
    connections: Count = 50
    """Questions that one worker asks at a time; others wait."""
    down_time: Annotated[Timeout, Meta(le=3600)] = 5.0
    """How long, after a question has failed, others fail at once while one tries again."""
    authentication: tuple[Check, ...] = ("iprev",)
    """Results of sender authentication that it is told, found out for it when they are not known: the name
    of the client, `spf_result` from MAIL on, the others at the end of the message. What is switched off
    in `[authentication]` is not known."""


class ContentFilter(NextHopLimits, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A content filter that takes mail by SMTP or LMTP and sends it back to a listener of ours before it
    answers (amavis), by its name. The client waits meanwhile."""

    addresses: tuple[Connect, ...]
    """Servers that are equal, tried in this order, such as ["127.0.0.1:10024"]."""
    returns_to: Name
    """Name of the listener that takes the filtered mail: of the policy it asks policy.base only."""
    protocol: Literal["smtp", "lmtp"] = "smtp"
    """LMTP answers for each recipient (RFC 2033)."""
    listeners: tuple[ListenerName, ...] = ()
    """Names of the listeners whose mail goes through it in any case; "*" is all but `returns_to`. Default:
    none, mail goes through it where a policy file says `route :to "filter:NAME";`."""
    xforward: bool = True
    """Tell it by XFORWARD where the message came from, if it offers that to us."""


class Scanner(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A scanner for spam or viruses, by its name, which policy files ask by `scan "NAME";` for `spamtest` and
    `virustest`. It changes nothing."""

    kind: Literal["rspamd", "spamassassin", "clamav"]
    """Which protocol it speaks: rspamd's HTTP (/checkv2), spamd's, or clamd's INSTREAM."""
    address: FilterAddress
    """Where it listens: "inet:127.0.0.1:11333", "unix:/run/clamav/clamd.ctl"."""
    timeout: Timeout = 10.0
    """For the whole question, connection and answer."""
    size_limit: Annotated[Size, Meta(ge=1024)] = 25 * 1024 * 1024
    """Larger messages are not scanned, as the scanners would refuse them: `spamtest` and `virustest` are
    "0" then."""
    connections: Count = 20
    """Messages that one worker has scanned at a time; others wait, within `timeout`."""
    user: str = ""
    """User whose settings the scanner is to use. Default: the scanner's own."""
    password_file: Path = ""
    """rspamd: file whose first line is the password of its controller worker. It must not be readable by
    everybody. Default: none, as for the normal worker."""
