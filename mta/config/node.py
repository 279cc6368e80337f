"""The sections about this machine: identity, processes, log, metrics, control, embedded store.

Each class is a section of the file, each field a key; the text under a field is what the reference pages
print. Nothing here opens a file.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from mta.config.notation import Duration, Fqdn, Listen, MailAddress, Path, Size
from mta.config.places import FilePath, LogTarget


class Identity(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Who we are."""

    hostname: Fqdn = ""
    """Our name in the greeting, in EHLO, in Received and in Message-ID. It should have an address record,
    and the address should point back to it. Default: the name of the machine."""
    postmaster: MailAddress = ""
    """Address that gets what is sent to `postmaster` without a domain, which everyone may send (RFC 5321
    4.5.1). Default: postmaster@ our first domain, or else our host name."""


class Process(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Processes, privileges, folders."""

    workers: Annotated[int, Meta(ge=0, le=128)] = 0
    """Worker processes. 0: one a core. At most 128, so that two generations share their counters at a
    reload."""
    user: str = ""
    """User that supervisor and workers run as once the ports are bound. Default: who started us; set it
    when that is root and not systemd with User=."""
    group: str = ""
    """Group to run as. Default: the user's."""
    state_directory: FilePath = "/var/lib/tamis"
    """What must survive a restart of the machine: the queue, and the embedded store. One server
    at a time has it."""
    runtime_directory: FilePath = "/run/tamis"
    """Sockets; made when it is missing."""
    spill_directory: Path = ""
    """Where messages over 1 MiB lie while they are received. Default: TMPDIR or /var/tmp. /tmp is memory
    on many systems."""
    drain_timeout: Annotated[Duration, Meta(ge=0)] = 60.0
    """How long sessions may finish their transaction at a stop or a reload."""
    restart_delay_max: Annotated[Duration, Meta(ge=0.1)] = 30.0
    """A worker that dies is started again at once; if it keeps dying, the delay doubles up to this."""


class Log(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line a message, one line a session that ended oddly, and what the administrator must know."""

    format: Literal["text", "json"] = "text"
    """`text` for people, `json` for machines (one object a line)."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level that is written. `info` has the line of each message; `debug` has every command."""
    target: LogTarget = "stderr"
    """`stderr` (systemd's journal), or the path of a file, which is opened anew when it was renamed so that
    logrotate works."""


class Metrics(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Prometheus metrics of all workers together, at /metrics."""

    listen: Listen | None = None
    """Address of the HTTP server for metrics, such as "127.0.0.1:9025". There is no password: do not
    let strangers reach it. Default: none."""


class Control(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What `tamis status`, `reload` and `stop` talk to."""

    socket: Path = ""
    """Path of a Unix socket, for root and process.user only. Default: `control` in
    process.runtime_directory."""


class Store(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The embedded mail store: an LMTP server that writes Maildir, for small machines and tests. It is the
    back end "store"."""

    enabled: bool = False
    """Run it."""
    path: Path = ""
    """Folder of the mailboxes, one Maildir a user. Default: `mail` in process.state_directory."""
    listen: Listen | None = None
    """Address of its LMTP server. Default: the Unix socket `store` in process.runtime_directory."""
    default_quota: Annotated[Size, Meta(ge=0)] = 0
    """Octets that a user may store if the users file says nothing. 0B: no limit."""
    default_quota_messages: Annotated[int, Meta(ge=0)] = 0
    """Messages that a user may store if the users file says nothing. 0: no limit."""
    scripts: bool = True
    """Run the users' scripts that ManageSieve keeps when their mail is stored (docs/store.md)."""
    over_quota: Literal["reject", "defer"] = "reject"
    """A full mailbox answers 552 5.2.2, so that the sender knows at once (`reject`), or 452 4.2.2, so that
    it is tried again for days (`defer`)."""
