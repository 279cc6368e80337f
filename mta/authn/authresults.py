"""The field Authentication-Results: written by us, and removed where others wrote it in our name (RFC 8601).

`render` makes the value of our own field from `MethodResult`s. What strangers wrote (domains, reasons) goes
into it as a quoted string or inside a comment with everything escaped, so that it cannot end the field, the
comment or the result.

`forged` finds the fields of an arriving message that claim to be ours: they must be removed before anything
reads them (section 5). It errs on the side of removing: an authserv-id is looked for behind comments, folding
and quotation marks, in any case, in U-labels and A-labels, and a field in which none can be found for certain
is ours too. Fields of others stay, ARC counts on them. Everything is linear in the length of the header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from mta.address import AddressError, domain_key
from mta.authn.results import MethodResult
from sieve_ext.message.field import FOLD_COLUMNS, Field
from sieve_ext.message.header import Header

FIELD = "Authentication-Results"
MAX_REASON = 200
"""Characters of a reason that are written."""
MAX_VALUE = 320
"""Characters of a property that are written: the longest address."""
MAX_RESULTS = 50
"""Results that are written; a message has about five."""
NAMES = frozenset({"authentication-results", "x-authentication-results"})
"""Names of fields in which programs look for results."""
NAME_MOST = 100
"""Characters of a field name from which on no reader takes it for one of them."""
HARMLESS_MOST = 1024
"""Field names that are known to be harmless."""
_HARMLESS: set[str] = set()
"""Lower-case names of fields that were found to be none of `NAMES`: most mail has the same ones."""

_token = re.compile(r"[!#$%&'*+.^_`{|}~0-9A-Za-z-]+").fullmatch
_plain_value = re.compile(r"[!#$%&'*+.^_`{|}~0-9A-Za-z-]*(?:@[0-9A-Za-z._-]+)?").fullmatch
_unfit_in_comment = re.compile(r"[^ -~]|[()\\]")
_not_visible = re.compile(r"[^!-9;-~]").sub
_comment_mark = re.compile(rb"[()]|\\.", re.DOTALL)
_quoted = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL).match
_quoted_pair = re.compile(rb"\\(.)", re.DOTALL).sub
_text_mark = re.compile(r'[()]|"(?:[^"\\]|\\.)*"|\\.', re.DOTALL).finditer
_is_result = re.compile(r"[a-z0-9-]+=[a-z]+").fullmatch
_id_token = re.compile(rb'[^\s;()"]+').match
_id_end = re.compile(rb"[\s;(]|\Z").match


def render(authserv_id: str, results: Sequence[MethodResult], *, utf8: bool = False) -> str:
    """The value of a field with one result a line, folded; `Field`s and trace fields add name and CRLF.

    Lines are separated by CRLF and a tab. `authserv_id` is ours from the configuration, a host name as a
    rule. `utf8` lets values beyond ASCII stand as they are (RFC 6532, for SMTPUTF8); else they become "?".
    """
    identity = authserv_id if _token(authserv_id) else _quoted_text(authserv_id, utf8)
    if not results:
        return f"{identity}; none"
    lines = [identity]
    for one in results[:MAX_RESULTS]:
        lines[-1] += ";"
        words = [f"{one.method}={one.result}"]
        reason = _comment(one.reason)
        if reason:
            words.append(f"({reason})")
        words += (
            f"{name}={_value(text, utf8)}"
            for name, text in one.properties.items()
            if text and _property(name)
        )
        lines += _fold(words)
    return "\r\n\t".join(lines)


def forged(header: Header, authserv_ids: Iterable[str]) -> list[Field]:
    """The fields that claim one of our ids, in order; give them to `Message.remove`.

    `authserv_ids` are ours: the host name, and names that it had before.
    """
    names = header.keys()
    if _HARMLESS.issuperset(names):  # as nearly always
        return []
    keys = [key for key in names if _is_named(key)]
    ours = {_id_key(name) for name in authserv_ids}
    fields = [field for key in keys for field in header.all(key)]
    return [field for field in fields if claims(field.unfolded, ours)]


def _is_named(key: str) -> bool:
    """Whether a reader could take a field of that name for one with results."""
    if len(key) >= NAME_MOST:
        return False
    if _not_visible("", key) in NAMES:
        return True
    if len(_HARMLESS) >= HARMLESS_MOST:
        _HARMLESS.clear()
    _HARMLESS.add(key)
    return False


def claims(value: bytes, ours: Iterable[str]) -> bool:
    """Whether an unfolded value claims one of the ids, as `forged` sees it."""
    found = claimed_id(value)
    return found is None or _id_key(found) in {_id_key(name) for name in ours}


def claimed_id(value: bytes) -> str | None:
    """The authserv-id of an unfolded value, as written; None when there is none for certain."""
    position = _skip_blanks(value, 0)
    if position is None:
        return None
    if value[position : position + 1] == b'"':
        quoted = _quoted(value, position)
        if quoted is None or not _id_end(value, quoted.end()):
            return None
        octets = _quoted_pair(rb"\1", quoted[1])
    else:
        token = _id_token(value, position)
        if token is None or not _id_end(value, token.end()):
            return None
        octets = token.group()
    # "spf=pass" is a result where the id should stand; encoded words and control characters are read by some
    # programs and not by others.
    if b"=" in octets or any(octet < 0x20 or octet == 0x7F for octet in octets):
        return None
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return None


def results_in(value: str) -> frozenset[str]:
    """The results of an unfolded value as "method=result" in lower case, without comments and properties.

    What is written in an unusual way (a version, blanks around the sign) is not found.
    """
    kept: list[str] = []
    depth = position = 0
    for mark in _text_mark(value):
        text = mark.group()
        if not depth:
            kept.append(value[position : mark.start()])
        if text == "(":
            depth += 1
        elif text == ")":
            depth = max(depth - 1, 0)
        position = mark.end()
    if not depth:
        kept.append(value[position:])
    parts = " ".join(kept).split(";")[1 : MAX_RESULTS + 1]
    words = (part.split(None, 1)[0].lower() for part in parts if part.strip())
    return frozenset(word for word in words if _is_result(word))


def _skip_blanks(value: bytes, position: int) -> int | None:
    """The place behind blanks and comments, None when a comment does not end."""
    while True:
        while value[position : position + 1].isspace():
            position += 1
        if value[position : position + 1] != b"(":
            return position
        depth = 0
        for mark in _comment_mark.finditer(value, position):
            if mark.group() == b"(":
                depth += 1
            elif mark.group() == b")":
                depth -= 1
                if not depth:
                    position = mark.end()
                    break
        else:
            return None


def _id_key(name: str) -> str:
    """An authserv-id in the form in which it is compared."""
    name = name.strip().rstrip(".")
    try:
        return domain_key(name)
    except AddressError:
        return name.lower()


def _property(name: str) -> bool:
    """Whether a property has the form ptype.name."""
    ptype, dot, rest = name.partition(".")
    return bool(dot and _token(ptype) and _token(rest))


def _value(text: str, utf8: bool) -> str:
    text = text[:MAX_VALUE]
    return text if _plain_value(text) else _quoted_text(text, utf8)


def _quoted_text(text: str, utf8: bool) -> str:
    kept = "".join(c if c.isprintable() and (utf8 or c.isascii()) else "?" for c in text)
    return '"' + kept.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _comment(text: str) -> str:
    """A reason as the inside of a comment: nothing in it can end the comment or begin another one."""
    text = _unfit_in_comment.sub(lambda found: "?" if found.group() > "~" else " ", text[:MAX_REASON])
    return " ".join(text.split())


def _fold(words: Sequence[str]) -> list[str]:
    """Words on lines that keep to the columns where they can."""
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + 1 + len(word) + 8 <= FOLD_COLUMNS:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
