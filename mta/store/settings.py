"""What the embedded mail store can be told: one frozen value, made by whoever starts it.

Plain strings, numbers and tuples only, so that the value travels as JSON to the store's process
(`python -m mta.store`). Every limit has its default and reason here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

OverQuota = Literal["reject", "defer"]
"""What a full mailbox answers: "reject" is 552 5.2.2 (the sender learns it now), "defer" is 452 4.2.2."""


@dataclass(slots=True, frozen=True, kw_only=True)
class StoreSettings:
    """Settings of one mail store."""

    root: str
    """Folder of all mailboxes; a mailbox is `root/DOMAIN/LOCAL`. Created with mode 0700 when missing."""
    users_file: str
    """The users file (`tamis user`): who has a mailbox, who is disabled, whose quota differs."""
    hostname: str
    """Name in the greeting and in the file names of messages."""
    listen: tuple[str, ...] = ()
    """Addresses to bind when no listening sockets are handed over: "127.0.0.1:2424", "[::1]:2424" or
    "unix:/run/tamis/lmtp". """
    allow: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Networks that may connect over TCP. LMTP has no login here: whoever connects may deliver."""
    size_limit: int = 110 * 1024 * 1024
    """Largest message in octets on the wire; above the server's own limit, so that the server decides."""
    recipient_limit: int = 1000
    """Recipients of one message; RFC 5321 section 4.5.3.1.8 asks for at least 100."""
    quota_octets: int = 0
    """Octets in a mailbox unless the users file says otherwise; 0 is no limit."""
    quota_messages: int = 0
    """Messages in a mailbox unless the users file says otherwise; 0 is no limit."""
    over_quota: OverQuota = "reject"
    recipient_delimiters: str = "+"
    """Characters that separate user and detail in `user+detail@example.org`; "" turns it off."""
    detail_folders: bool = True
    """Deliver `user+detail` to the Maildir folder `.detail` when the mailbox has one."""
    share_copies: bool = False
    """Write a message for several recipients once and link it into each mailbox. The copies then carry no
    Delivered-To, for it would tell each recipient about another one."""
    state_directory: str = ""
    """Where ManageSieve keeps the scripts of users, which are run when their mail is stored; "" runs none."""
    submit: str = ""
    """The server that takes mail which scripts send: "127.0.0.1:25"; "": none, and such mail is kept."""
    trusted: tuple[str, ...] = ()
    """Networks whose clients that server trusts with their senders. Redirects of mail from others, for whose
    sender nobody vouches, are reported to nobody when they fail."""
    submit_deadline: float = 0.0
    """Seconds within which that server delivers or queues what it is given, before it answers."""
    writers: int = 16
    """Threads that write: each mostly waits for the disk, and their flushes share one disk commit."""
    max_sessions: int = 200
    """Sessions at once; each may hold 1 MiB of message in memory."""
    timeout: float = 300.0
    """Seconds without a command or data before a session is ended (RFC 5321 section 4.5.3.2: 5 minutes)."""
    drain_timeout: float = 20.0
    """Seconds that current deliveries get to end when the store stops."""
