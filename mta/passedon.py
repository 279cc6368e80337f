"""Where mail came from that users' scripts redirect: by the fields that the server itself has written.

The server gets a redirect from the store, which is in a trusted network, but that says nothing of the sender
or of the author. Received says who the client was and whether it had logged in; Authentication-Results above
it, as long as it is there, whether SPF has passed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from sieve_ext.message import Message

LOOPS = "x-sieve-redirected-from"
"""The field of a message that a script has redirected."""

_ours = re.compile(
    r"from \S+ \((?P<info>[^()]*)\)(?: \(using [^()]*\([^()]*\)\))? by \S+ \(Tamis\) with (?P<type>\S+) id "
).match
_literal = re.compile(r"(?:.* )?\[(?:IPv6:)?([^\[\] ]+)\]").fullmatch
_quoted = re.compile(r'\((?:[^()\\]|\\.)*\)|"(?:[^"\\]|\\.)*"').sub
_spf_passed = re.compile(r";\s*spf=pass(?![\w-])").search


@dataclass(slots=True, frozen=True)
class Came:
    """How a message came to the server at first."""

    from_outside: bool = False
    """From a client that had not logged in and is in no trusted network. False where nothing tells."""
    spf_passed: bool = False
    """SPF has passed for the sender."""


def is_redirected(message: Message) -> bool:
    """True for a message that a script of our store sends on now."""
    if LOOPS not in message:
        return False
    above = next((one.key for one in message.fields if one.key in (LOOPS, "received")), "")
    return above == LOOPS


def came(message: Message, is_trusted: Callable[[str], bool]) -> Came:
    """Where the message came from, before scripts redirected it."""
    redirected, passed = True, False
    for field in message.fields:
        match field.key:
            case "authentication-results":
                passed = passed or _spf_passed(_quoted("", field.text)) is not None
            case key if key == LOOPS:
                redirected = True
            case "received":
                found = _ours(field.text)
                if not redirected or found is None or found["type"].endswith("A"):
                    break
                client = _literal(found["info"])
                if client is None:  # a local socket
                    break
                if not is_trusted(client[1]):
                    return Came(True, passed)
                redirected = False
    return Came()
