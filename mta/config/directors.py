"""The section about directors: the users of a domain spread over several mail stores.

The class is a section of the file, each field a key; the text under a field is what the reference pages
print. Durations are seconds in the program. Nothing here opens a file.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from mta.config.notation import Duration, Name, NameOrEmpty, Path

Weight = Annotated[int, Meta(ge=0, le=1000)]


class Director(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Several back ends among which the users of a domain are spread; a domain names it as its `backend`
    (docs/director.md)."""

    backends: tuple[Name, ...]
    """Names of the [backends.NAME] that have the mailboxes."""
    weights: tuple[Weight, ...] = ()
    """Their shares of the users, in the same order; 0 for one that gets none. Default: 100 each."""
    table: Path = ""
    """File with a user (an address) and the name of a back end a line; it comes before everything else, and
    is read again when it has changed. Default: none."""
    users: NameOrEmpty = ""
    """Name of a [tables.NAME] that knows where users are, such as Dovecot's userdb: the value for an address
    is the name of a back end, or the host (or host:port) of one. It comes before `tamis director move` and
    the hash, which get the users that are not in it. While it does not answer, what it said last holds; mail
    of users of whom it never said anything waits. Default: none."""
    on_down: Literal["wait", "move"] = "wait"
    """When a back end does not answer: mail of its users `wait`s in the queue, or goes to others meanwhile
    (`move`), which is right only where all back ends have the same mailboxes."""
    refresh: Annotated[Duration, Meta(ge=0.1)] = 10.0
    """How often what `tamis director` has changed is looked for in the queue's store."""
    changes: str = ""
    """Where those changes are kept for all nodes, if not in the queue's store: "redis://host:6379/0"
    ("rediss:" with TLS), which must keep them over its own restarts (appendonly). Default: the queue's
    store."""
    changes_password_file: Path = ""
    """File whose first line is the password for `changes`. It must not be readable by everybody."""
