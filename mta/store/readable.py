"""A message as text for a terminal: decoded, and harmless (`mta.terminal`) whatever its sender put in."""

from __future__ import annotations

from dataclasses import dataclass
from html.parser import HTMLParser

from mta.terminal import harmless
from sieve_ext.message import Message
from sieve_ext.message.mime import Part

HEADERS = ("from", "to", "cc", "date", "subject", "reply-to", "message-id")
"""Fields that are shown, in this order."""
LONGEST_TEXT = 256 * 1024
"""Octets of a text part that are shown."""
_BLOCKS = frozenset({"p", "div", "br", "tr", "li", "h1", "h2", "h3", "h4", "h5", "h6", "table", "blockquote"})
_SILENT = frozenset({"script", "style", "head", "title"})


@dataclass(slots=True, frozen=True)
class Attachment:
    """A part that is not shown as text."""

    name: str
    content_type: str
    octets: int
    """Size as transferred, before decoding."""


def headers(message: Message) -> list[tuple[str, str]]:
    """The fields of `HEADERS` that the message has: name and decoded value, harmless."""
    shown = []
    for key in HEADERS:
        for field in message.all(key):
            shown.append((harmless(field.name), harmless(field.text)))
    return shown


def header_text(message: Message, key: str) -> str:
    """One decoded field, harmless; "" when it is absent."""
    return harmless(message.text(key) or "")


def body(message: Message) -> tuple[str, list[Attachment]]:
    """The text of a message, harmless, and its other parts.

    Of `multipart/alternative` the plain text is taken if there is one; HTML is reduced to its text.
    """
    texts: list[str] = []
    attachments: list[Attachment] = []
    _collect(message.structure.root, texts, attachments)
    return "\n".join(text.rstrip("\n") + "\n" for text in texts), attachments


def _collect(part: Part, texts: list[str], attachments: list[Attachment]) -> None:
    # Depth is bounded by the index (`sieve_ext.message.limits.MIME_DEPTH`).
    if part.parts and part.content_type == "multipart/alternative":
        _collect(_best(part.parts), texts, attachments)
    elif part.parts and part.is_multipart:
        for inner in part.parts:
            _collect(inner, texts, attachments)
    elif part.content_type.startswith("text/") and part.disposition.value != "attachment":
        text = part.text(LONGEST_TEXT)
        if part.content_type == "text/html":
            text = text_of_html(text)
        texts.append(harmless(text, lines=True))
    else:
        name = part.filename or part.description
        attachments.append(Attachment(harmless(name), harmless(part.content_type), part.size))


def _best(parts: list[Part]) -> Part:
    # RFC 2046 section 5.1.4: the last one is the richest; here the plainest is the best.
    for part in parts:
        if part.content_type == "text/plain":
            return part
    return parts[-1]


def text_of_html(html: str) -> str:
    """The text of an HTML document, one line a block; scripts and styles are left out."""
    reader = _HtmlText()
    reader.feed(html)
    reader.close()
    lines = (" ".join(line.split()) for line in "".join(reader.pieces).split("\n"))
    return "\n".join(line for line in lines if line) + "\n"


class _HtmlText(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in _SILENT
        if tag in _BLOCKS:
            self.pieces.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self._silent = max(0, self._silent - (tag in _SILENT))
        if tag in _BLOCKS:
            self.pieces.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            # Line ends in the source are blanks.
            self.pieces.append(data.replace("\r", " ").replace("\n", " "))
