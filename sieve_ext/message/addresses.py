"""Address lists of header fields (RFC 5322 section 3.4 with the obsolete forms of section 4.4).

`parse_addresses` reads From, To, Sender and their like as senders really write them: display names without
quotation marks, comments nested to any depth, groups, source routes, blanks and comments around dots and
"@", empty places between commas, raw UTF-8 (RFC 6532), encoded words in names. What makes no address is
left out, what is unfinished is completed, and `Mailboxes.is_broken` tells of both, so that a check of who
the author is can refuse what it can't read for sure while a filter goes on with the rest.

One pass over the tokens, without recursion: linear in the length of the field; nothing raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from sieve_ext.message.limits import MAILBOXES
from sieve_ext.message.words import decode_words

# The forms that nearly all fields have: local@domain, Name <local@domain>, "Name" <local@domain>.
_simple = re.compile(
    rb'(?:"([^"\\]*+)"\s*+<|([^()<>\[\]:;@\\,"]*+)<)?'
    rb'([^()<>\[\]:;@\\,"\s\x00-\x1f\x7f]++)@([A-Za-z0-9-]++(?:\.[A-Za-z0-9-]++)*+)(>?)'
).fullmatch

# Every octet begins one of these, and none can fail after it has begun: what is not closed goes to the end.
_token = re.compile(
    rb"(?P<blank>\s++)"
    rb'|(?P<atom>[^()<>\[\]:;@\\,".\s]++)'
    rb'|(?P<quoted>"[^"\\]*+(?:\\.[^"\\]*+)*+(?P<close>"?))'
    rb"|(?P<literal>\[[^\[\]\\]*+(?:\\.[^\[\]\\]*+)*+\]?)"
    rb"|(?P<special>.)",
    re.DOTALL,
).match
_comment_token = re.compile(rb"[()]|\\.", re.DOTALL)
_quoted_pair = re.compile(rb"\\(.)", re.DOTALL)
_control = re.compile(r"[\x00-\x1f\x7f]").search
_dot_atom = re.compile(r"[^()<>\[\]:;@\\,\".\s]+(?:\.[^()<>\[\]:;@\\,\".\s]+)*").fullmatch


@dataclass(slots=True, frozen=True)
class Mailbox:
    """One address of a list."""

    name: str
    """The display name decoded, or the comment behind a bare address, "" if there is neither."""
    local: str
    """The local part without quoting; "" in `<>`."""
    domain: str
    """The domain as written; "" for a bare local part and in `<>`."""
    group: str = ""
    """Display name of the group that it is in, "" outside of groups."""

    @property
    def address(self) -> str:
        """The addr-spec (RFC 5322 section 3.4.1), local part quoted where it must be; "" for `<>`."""
        if not self.local:
            return ""
        local = self.local
        if not _dot_atom(local):
            local = '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return f"{local}@{self.domain}" if self.domain else local


class Mailboxes(NamedTuple):
    """The addresses of a header field."""

    mailboxes: tuple[Mailbox, ...]
    is_broken: bool
    """True when something was left out or guessed: the field is not RFC 5322."""


class _Token(NamedTuple):
    kind: str
    """ "atom", "quoted", "unclosed" (a quoted string), "literal" or a special character."""
    text: bytes
    spaced: bool
    """A blank or a comment stands before it."""


def parse_addresses(value: bytes) -> Mailboxes:
    """The mailboxes in an unfolded field value, groups opened, at most `limits.MAILBOXES` of them."""
    simple = _simple(value)
    if simple is not None:
        quoted, plain, local, domain, close = simple.groups()
        if (quoted is None and plain is None) is not bool(close):
            name = b" ".join(plain.split()) if plain is not None else quoted or b""
            mailbox = Mailbox(decode_words(name), local.decode("utf-8", "replace"), domain.decode("ascii"))
            return Mailboxes((mailbox,), False)
    return _ListReader().read(value)


class _ListReader:
    """The state between two tokens of an address list."""

    __slots__ = ("angle", "broken", "comment", "found", "group", "in_group", "name", "spec", "words")

    def __init__(self) -> None:
        self.found: list[Mailbox] = []
        self.broken = False
        self.in_group = False
        self.group = ""
        self._reset()

    def _reset(self) -> None:
        self.words: list[_Token] = []  # outside of angle brackets
        self.angle: list[_Token] | None = None  # what stands behind an open "<"
        self.spec: tuple[str, str] | None = None  # what the closed angle brackets said
        self.name: str | None = None  # the phrase before them; None: there were none
        self.comment = b""

    def read(self, value: bytes) -> Mailboxes:
        for token in self._lex(value):
            if self.angle is not None:
                self._in_angle(self.angle, token)
            else:
                self._outside(token)
        self._end_address()
        self.broken |= self.in_group
        return Mailboxes(tuple(self.found), self.broken)

    def _lex(self, value: bytes) -> Iterator[_Token]:
        spaced = False
        position = 0
        while (match := _token(value, position)) is not None:
            position = match.end()
            kind = match.lastgroup or ""
            text = match.group()
            if kind == "blank":
                spaced = True
                continue
            if text == b"(":
                position = self._skip_comment(value, position)
                spaced = True
                continue
            if kind == "special":
                kind = text.decode("latin-1")
            elif kind == "quoted" and not match["close"]:
                kind = "unclosed"
                self.broken = True
            yield _Token(kind, text, spaced)
            spaced = False

    def _skip_comment(self, value: bytes, start: int) -> int:
        depth = 1
        for match in _comment_token.finditer(value, start):
            if match.group() == b"(":
                depth += 1
            elif match.group() == b")":
                depth -= 1
                if not depth:
                    self.comment = value[start : match.start()]
                    return match.end()
        self.broken = True
        return len(value)

    def _outside(self, token: _Token) -> None:
        match token.kind:
            case "<":
                if self.name is not None:  # <a@b> <c@d>
                    self.broken = True
                    self._end_address()
                if any(word.kind == "@" for word in self.words):
                    self.broken = True  # a@b <c@d>: readers differ over which of them it is
                self.angle = []
            case ",":
                self._end_address()
            case ";":
                self._end_address()
                self.broken |= not self.in_group
                self.in_group = False
                self.group = ""
            case ":":
                self.broken |= self.in_group or self.name is not None
                self.group = _phrase(self.words)
                self.in_group = True
                self._reset()
            case ">" | ")":
                self.broken = True
            case _:
                self.words.append(token)

    def _in_angle(self, angle: list[_Token], token: _Token) -> None:
        match token.kind:
            case ">":
                self._close_angle(angle)
            case "<":
                self.broken = True
                angle.clear()
            case ":":
                if angle and angle[0].kind == "@":  # obs-route
                    angle.clear()
                else:
                    angle.append(token)
            case "," | ";" if not (angle and angle[0].kind == "@"):
                self.broken = True
                self._close_angle(angle)
                self._outside(token)
            case _:
                angle.append(token)

    def _close_angle(self, angle: list[_Token]) -> None:
        self.name = _phrase(self.words)
        self.spec = _addr_spec(angle) if angle else ("", "")
        self.words = []
        self.angle = None

    def _end_address(self) -> None:
        if self.angle is not None:
            self.broken = True
            self._close_angle(self.angle)
        if self.name is not None:
            self.broken |= bool(self.words)  # text behind ">"
            self._found(self.spec)
        elif self.words:
            self._found(_addr_spec(self.words))
        self._reset()

    def _found(self, spec: tuple[str, str] | None) -> None:
        if spec is None or len(self.found) >= MAILBOXES:
            self.broken = True
            return
        name = self.name or decode_words(_unquote(self.comment).strip())
        self.found.append(Mailbox(name, *spec, self.group))


def _phrase(words: list[_Token]) -> str:
    if not words:
        return ""
    parts: list[bytes] = []
    for word in words:
        if word.spaced and parts:
            parts.append(b" ")
        parts.append(_content(word))
    return decode_words(b"".join(parts))


def _addr_spec(tokens: list[_Token]) -> tuple[str, str] | None:
    """Local part and domain, None when the tokens are no address."""
    at = [place for place, token in enumerate(tokens) if token.kind == "@"]
    if len(at) > 1:
        return None
    local = _joined(tokens[: at[0]] if at else tokens, ("atom", "quoted"))
    if local is None:
        return None
    if not at:
        return local, ""
    behind = tokens[at[0] + 1 :]
    if len(behind) == 1 and behind[0].kind == "literal" and behind[0].text.endswith(b"]"):
        return local, behind[0].text.decode("utf-8", "replace")
    domain = _joined(behind, ("atom",))
    domain = domain.rstrip(".") if domain else domain
    return (local, domain) if domain else None


def _joined(tokens: list[_Token], kinds: tuple[str, ...]) -> str | None:
    """Words separated by dots, put together; None when they are not, or when nothing is left."""
    was_word = False
    has_word = False
    parts: list[bytes] = []
    for token in tokens:
        if token.kind == ".":
            was_word = False
        elif token.kind in kinds and not was_word:
            was_word = has_word = True
        else:
            return None
        parts.append(_content(token))
    text = b"".join(parts).decode("utf-8", "replace")
    if not has_word or not text or _control(text):
        return None
    return text


def _content(token: _Token) -> bytes:
    match token.kind:
        case "quoted":
            return _unquote(token.text[1:-1])
        case "unclosed":
            return _unquote(token.text[1:])
        case _:
            return token.text


def _unquote(content: bytes) -> bytes:
    return _quoted_pair.sub(rb"\1", content) if b"\\" in content else content
