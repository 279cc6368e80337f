"""What policy files may say: a part of the standard language, and the words of `vnd.tamis.*`.

What belongs to users' scripts, as fileinto and vacation, is not there, nor what changes the body; `HINTS`
says what to write instead.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from mta.policy.sieve import (
    auth,
    envelope,
    greylist,
    local,
    log,
    milter,
    net,
    policyserver,
    queue,
    rate,
    reply,
    route,
    scan,
    sign,
    srs,
    stages,
    subaddress,
    tables,
)
from sieve_ext import Capability, Dialect, all_capabilities

STANDARD = frozenset(
    (
        "", "body", "date", "editheader", "encoded-character", "envelope", "environment", "foreverypart",
        "ihave", "index", "mime", "regex", "relational", "subaddress", "variables",
    )
)  # fmt: skip
"""Capabilities of the standard that a policy may require, beside comparators; "" is the language itself."""

OWN = (
    stages,
    local,
    net,
    auth,
    reply,
    envelope,
    route,
    queue,
    sign,
    srs,
    tables,
    rate,
    greylist,
    log,
    milter,
    policyserver,
    scan,
)

_REFUSE = "that is for users' scripts in the mail store"
_PROGRAM = "programs are milters, policy servers and content filters here"
HINTS = {
    "copy": "use add_recipient of vnd.tamis.envelope",
    "duplicate": _REFUSE,
    "enclose": "a policy does not change the body",
    "enotify": _REFUSE,
    "fileinto": f"{_REFUSE}; route of vnd.tamis.route sends mail to another back end",
    "imap4flags": f"{_REFUSE}; addheader marks a message for it",
    "include": "list the files in policy.scripts",
    "replace": "a policy does not change the body",
    "vacation": _REFUSE,
    "vnd.dovecot.execute": _PROGRAM,
    "vnd.dovecot.filter": _PROGRAM,
    "vnd.dovecot.pipe": _PROGRAM,
}
"""What to say of capabilities of the standard that a policy does not have, by name."""


def hint_of(capability: str) -> str:
    """What to say of a capability that a policy does not have; "" of one that nobody has."""
    return HINTS.get(capability) or (_REFUSE if capability in _foreign().values() else "")


def hint_of_word(word: str) -> str:
    """What to say of a command or test that a policy does not have; "" of one that nobody has."""
    capability = _foreign().get(word)
    return "" if capability is None else hint_of(capability)


@cache
def _foreign() -> dict[str, str]:
    """Capabilities of the standard that a policy does not have, by the words that they bring."""
    known = policy_dialect().capabilities
    return {word.word: one.name for one in all_capabilities() if one.name not in known for word in one.words}


@cache
def policy_dialect() -> Dialect:
    """The language of policy files."""
    own = {one.name: one for module in OWN for one in module.CAPABILITIES}
    found = []
    for one in all_capabilities():
        if one.name in own or not (one.name in STANDARD or one.name.startswith("comparator-")):
            continue
        if one.name == "envelope":
            one = replace(one, envelope_parts=envelope.PARTS)
        elif one.name == "subaddress":
            one = replace(one, address_parts=subaddress.PARTS)
        found.append(one)
    return Dialect(map(_staged, [*found, *own.values()]))


def _staged(capability: Capability) -> Capability:
    return replace(capability, words=tuple(stages.staged(word) for word in capability.words))
