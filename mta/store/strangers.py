"""Whether anybody vouches for the sender of a message that the store was given.

A report about a redirect that fails later goes to a sender that somebody vouches for, to no other, as about
all mail (`mta.dsn.decide.Vouching`). The server cannot tell: it gets the redirect from the store, which is in
a trusted network. What the server wrote above the message tells: Received says who the client was and whether
it had logged in, Authentication-Results above it whether SPF has passed.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from sieve_ext import Message

LOOPS = "x-sieve-redirected-from"
"""The field of a message that a script has redirected."""

_ours = re.compile(
    r"from \S+ \((?P<info>[^()]*)\)(?: \(using [^()]*\([^()]*\)\))? by \S+ \(Tamis\) with (?P<type>\S+) id "
).match
_literal = re.compile(r"(?:.* )?\[(?:IPv6:)?([^\[\] ]+)\]").fullmatch
_quoted = re.compile(r'\((?:[^()\\]|\\.)*\)|"(?:[^"\\]|\\.)*"').sub
_spf_passed = re.compile(r";\s*spf=pass(?![\w-])").search


def is_stranger(message: Message, is_trusted: Callable[[str], bool]) -> bool:
    """True where the server's own fields say that nobody vouches for the sender.

    A message that has been redirected before comes from the store: it is the field below that counts.
    """
    redirected, passed = True, False
    for field in message.fields:
        match field.key:
            case "authentication-results":
                passed = passed or _spf_passed(_quoted("", field.text)) is not None
            case key if key == LOOPS:
                redirected = True
            case "received":
                found = _ours(field.text)
                if passed or not redirected or found is None or found["type"].endswith("A"):
                    return False
                client = _literal(found["info"])
                if client is None:  # a local socket
                    return False
                if not is_trusted(client[1]):
                    return True
                redirected = False
    return False
