"""Who the author claims to be: the one domain in From, or why there is none (RFC 9989 section 5.3.1).

DMARC protects the domain that a reader of the mail is shown. So From is only read where every program that
shows it reads the same: one field, well-formed, no control characters (encoded ones neither), the domain
literally behind its "@". What RFC 5322 allows as obsolete (comments and blanks inside an address, routes) and
what RFC 2047 forbids (encoded words inside an address) is refused here: nobody writes it but to be read in
two ways. Sender, Reply-To and display names have no say; domains that a display name puts before the reader's
eyes are told apart in `Author.shown`, for a policy to judge.

What is refused is shown to somebody all the same. `suspected_domains` finds every domain that a reader could
take for the author's, so that no protected domain is forged by writing From in an odd way.

Linear in the length of the header; nothing raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mta.address import AddressError, domain_key
from sieve_ext.message import Field, Mailbox
from sieve_ext.message.header import Header

MAX_DOMAINS = 8
"""Different domains of one From that are told."""

_bare_cr_from = re.compile(r"\r[ \t]*from[ \t]*:", re.IGNORECASE).search
_control = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search
_control_text = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]").search
_route = re.compile(rb"<[ \t]*@").search
_mark = re.compile(rb'"(?:[^"\\]|\\.)*"|[()\\"]', re.DOTALL).search
_comment_mark = re.compile(rb"[()]|\\.", re.DOTALL).finditer
_not_visible = re.compile(r"[^!-9;-~]").sub
_name_domain = re.compile(r"@((?:[a-z0-9_-]{1,63}\.)+[a-z0-9-]{2,63})", re.IGNORECASE).findall

# Pieces of address lists (RFC 5322 section 3.4) without comments. From the obsolete forms only what people
# really write: dots in display names, more than one dot or a last one in local parts. Nothing follows the
# repetitions, so none is taken back; possessive groups are left alone, Python had them wrong until 3.11.5.
_ATOM = rb'[^\x00-\x20()<>\[\]:;@\\,".\x7f]++'
_QUOTED = rb'"(?:[^"\\]|\\.)*"'
_any_domain = re.compile(r"@([^\x00-\x20\x7f()<>\[\]:;@\\,\"]+)").findall
_filling = re.compile(rb"[\s\"\\\x00-\x1f\x7f]+").sub
_blanks = re.compile(rb"[ \t]*").match
_phrase = re.compile(
    rb"(?:%(atom)s|%(quoted)s)(?:[ \t]*+(?:%(atom)s|%(quoted)s|\.))*" % {b"atom": _ATOM, b"quoted": _QUOTED},
    re.DOTALL,
).match
_address = re.compile(
    rb"(?:%(atom)s(?:\.++%(atom)s)*\.*|%(quoted)s)@%(atom)s(?:\.%(atom)s)*"
    % {b"atom": _ATOM, b"quoted": _QUOTED},
    re.DOTALL,
).match


@dataclass(slots=True, frozen=True)
class Author:
    """What From says."""

    domain: str = ""
    """The author domain in A-labels and lower case, "" when there is not exactly one."""
    reason: str = ""
    """Why there is none, without a word of the message."""
    domains: tuple[str, ...] = ()
    """All domains of a From that could be read."""
    shown: tuple[str, ...] = ()
    """Domains of addresses in display names that are none of `domains`."""


def find_author(header: Header) -> Author:
    """Read From of a message."""
    fields = header.all("from")
    if not fields:
        lines = sum(1 for key in header.keys() if _not_visible("", key) == "from")  # noqa: SIM118
        return Author(reason="something like From" if lines else "no From")
    if len(fields) > 1:
        return Author(reason="several From")
    for key in header.keys():  # noqa: SIM118
        if key != "from" and len(key) < 64 and _not_visible("", key) == "from":
            return Author(reason="something like a second From")
    if any("\r" in field.line and _bare_cr_from(field.line) for field in header.fields):
        return Author(reason="a second From behind a bare CR")
    return read_author(fields[0])


def suspected_domains(header: Header) -> tuple[str, ...]:
    """Domains behind an "@" in From and in what looks like it, in A-labels, `MAX_DOMAINS` of them.

    Encoded words, comments, blanks and quotation marks inside an address are read in all ways. In front is
    what programs show: of several fields the first one or the last, of a field its first address or its last.
    """
    claims = [found for text in _claims(header) if (found := _domains(text))]
    claims[1:] = claims[:0:-1]
    ends = [domain for found in claims for domain in (found[0], found[-1])]
    others = [domain for found in claims for domain in found]
    return tuple(dict.fromkeys(ends + others))[:MAX_DOMAINS]


def _claims(header: Header) -> Iterator[str]:
    """What readers could take for the value of From."""
    for field in header.fields:
        key = field.key
        if len(key) < 64 and _not_visible("", key) == "from":
            value = field.unfolded
            yield value.decode("utf-8", "replace")
            yield field.text
            yield _filling(b"", _without_comments(value) or value).decode("utf-8", "replace")
        elif "\r" in field.line and (hidden := _bare_cr_from(field.line)):
            yield field.line[hidden.end() :].encode("latin-1").decode("utf-8", "replace")


def _domains(text: str) -> list[str]:
    """The first domains behind an "@" in a text, and the last ones."""
    written = _any_domain(text)
    some = MAX_DOMAINS // 2
    found: list[str] = []
    for name in (*written[:some], *written[some:][-some:]):
        try:
            key = domain_key(name.rstrip("."))
        except AddressError:
            continue
        if "." in key:
            found.append(key)
    return found


def read_author(field: Field) -> Author:
    """Read one From field."""
    value = field.unfolded
    if _control(value):
        return Author(reason="control characters in From")
    if _route(value):
        return Author(reason="a source route in From")
    mailboxes, is_broken = field.addresses
    if is_broken:
        return Author(reason="From cannot be read for certain")
    if not mailboxes:
        return Author(reason="no address in From")
    domains: list[str] = []
    shown: list[str] = []
    for mailbox in mailboxes:
        domain, reason = _domain(mailbox, value)
        if reason:
            return Author(reason=reason)
        if domain not in domains:
            domains.append(domain)
        for name in _name_domain(mailbox.name.lower()):
            if len(shown) < MAX_DOMAINS and name not in shown:
                shown.append(name)
    if not _is_address_list(value):
        return Author(reason="From is not written as the standard says")
    found = tuple(domains[:MAX_DOMAINS])
    apart = tuple(name for name in shown if name not in domains)
    if len(domains) > 1:
        return Author(reason="several domains in From", domains=found, shown=apart)
    return Author(domains[0], domains=found, shown=apart)


def _is_address_list(value: bytes) -> bool:
    """Whether every part of an unfolded value is a mailbox or a group, with commas between them."""
    bare = _without_comments(value)
    if bare is None:
        return False
    position = 0
    in_group = False
    while True:
        position = _skip(bare, position)
        address = _address(bare, position)
        if address is not None:
            position = address.end()
        else:
            name = _phrase(bare, position)
            position = _skip(bare, name.end()) if name is not None else position
            if bare.startswith(b":", position) and name is not None and not in_group:
                in_group = True
                position = _skip(bare, position + 1)
                if not bare.startswith(b";", position):
                    continue
            elif bare.startswith(b"<", position):
                address = _address(bare, _skip(bare, position + 1))
                position = _skip(bare, address.end()) if address is not None else position
                if not bare.startswith(b">", position):
                    return False
                position += 1
            else:
                return False
        position = _skip(bare, position)
        if in_group and bare.startswith(b";", position):
            in_group = False
            position = _skip(bare, position + 1)
        if position == len(bare):
            return not in_group
        if not bare.startswith(b",", position):
            return False
        position += 1


def _skip(value: bytes, position: int) -> int:
    """The place behind blanks."""
    blanks = _blanks(value, position)
    return blanks.end() if blanks is not None else position


def _without_comments(value: bytes) -> bytes | None:
    """The value with a blank for each comment; None when one does not end, or for a stray backslash."""
    parts: list[bytes] = []
    position = 0
    while (mark := _mark(value, position)) is not None:
        token = mark.group()
        if token.startswith(b'"') and len(token) > 1:
            parts.append(value[position : mark.end()])
            position = mark.end()
            continue
        if token != b"(":
            return None
        parts.append(value[position : mark.start()] + b" ")
        depth = 0
        for inner in _comment_mark(value, mark.start()):
            depth += {b"(": 1, b")": -1}.get(inner.group(), 0)
            if not depth:
                position = inner.end()
                break
        else:
            return None
    parts.append(value[position:])
    return b"".join(parts)


def _domain(mailbox: Mailbox, value: bytes) -> tuple[str, str]:
    """The domain of one mailbox, or why it has none."""
    if not mailbox.domain:
        return "", "an address without a domain in From"
    if mailbox.domain.startswith("["):
        return "", "an address literal in From"
    if _control_text(mailbox.name) or _control_text(mailbox.group):
        return "", "control characters in From"
    if "=?" in mailbox.local or "=?" in mailbox.domain:
        return "", "an encoded word inside an address in From"
    if _control_text(mailbox.local):
        return "", "control characters in From"
    if f"@{mailbox.domain}".encode() not in value:
        return "", "a domain in From that is not written in one piece"
    if '"' in mailbox.local or "@" in mailbox.local or "<" in mailbox.local:
        return "", "an address inside a local part in From"
    try:
        key = domain_key(mailbox.domain)
    except AddressError:
        return "", "not a domain in From"
    if "." not in key:
        return "", "a domain of one label in From"
    return key, ""
