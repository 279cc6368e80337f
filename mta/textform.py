"""Binary content (BODY=BINARYMIME, RFC 3030) in lines, for all who take nothing else.

Hardly a mail store or server takes binary content, and the message is ours to deliver: RFC 3030 section 3
has us encode it then. What came as binary is looked at once. Without NUL and with CRLF alone it is text
already and stays as it is. Else each part that is no text is encoded in base64 (RFC 2045 section 6.8), parts
that call themselves `binary` become `8bit`, and nothing else changes; a signature over such a part does not
survive. What no encoding helps - line ends other than CRLF in a header, between parts, or in a part that is
encoded already or may not be (messages within messages) - is refused.
"""

from __future__ import annotations

import asyncio
import binascii
import re
from collections.abc import Iterable, Iterator

from mta.content import MEMORY_LIMIT, MessageBuffer
from mta.reply import Reply
from mta.smtp.wire import TextCheck
from sieve_ext.message import Message
from sieve_ext.message.mime import Part

NOT_TEXT = Reply(554, "5.6.3", "the message has binary content where nothing may be encoded")
LINE_OCTETS = 57
"""Octets in a line of base64: 76 characters (RFC 2045 section 6.8)."""
BLOCK = LINE_OCTETS * 1024
"""Octets that are encoded at a time."""
_IDENTITY = frozenset({"", "7bit", "8bit", "binary"})
_ENCODING = re.compile(rb"(?im)^content-transfer-encoding[ \t]*:.*\r\n(?:[ \t].*\r\n)*")
_MIME_VERSION = re.compile(rb"(?im)^mime-version[ \t]*:")


async def in_lines(content: MessageBuffer, spill: str | None) -> tuple[MessageBuffer, Reply | None]:
    """The content as text, the same object if it is; or why it cannot be. Raises SpillError."""
    if content.size <= MEMORY_LIMIT:
        return _in_lines(content, spill)
    return await asyncio.to_thread(_in_lines, content, spill)


def _in_lines(content: MessageBuffer, spill: str | None) -> tuple[MessageBuffer, Reply | None]:
    if _is_text(content.chunks()):
        return content, None
    message = Message(content.head, content.size, content.chunks, read=content.read)
    made = MessageBuffer(spill)
    check = TextCheck()
    for chunk in _encoded(message, content.head[: message.body_offset]):
        made.append(check.feed(chunk))
    made.append(check.finish())
    if check.defect is not None:
        made.close()
        return content, NOT_TEXT
    return made, None


def _encoded(message: Message, header: bytes) -> Iterator[bytes]:
    root = message.structure.root
    yield _relabelled(root, header, is_message=True)
    if not root.parts:
        yield from _body(root)
        return
    at = 0
    for part in root.walk():
        if part is root:
            continue
        yield root.octets(at, part.header_start)
        yield _relabelled(part, root.octets(part.header_start, part.start))
        at = part.start
        if not part.parts:
            yield from _body(part)
            at = part.end
    yield root.octets(at, root.end)


def _body(part: Part) -> Iterator[bytes]:
    return _base64(part.raw_chunks()) if _must_be_encoded(part) else part.raw_chunks()


def _relabelled(part: Part, header: bytes, *, is_message: bool = False) -> bytes:
    """The header of a part with the encoding that its body has now."""
    if not part.parts and _must_be_encoded(part):
        encoding = b"base64"
    elif part.transfer_encoding == "binary":
        encoding = b"8bit"
    else:
        return header
    kept = _ENCODING.sub(b"", header)
    fields = kept[:-2] if kept.endswith(b"\r\n\r\n") or kept == b"\r\n" else kept
    new = b"Content-Transfer-Encoding: " + encoding + b"\r\n"
    if is_message and not _MIME_VERSION.search(fields):
        new = b"MIME-Version: 1.0\r\n" + new
    return fields + new + b"\r\n"


def _must_be_encoded(part: Part) -> bool:
    """Composite types may not be encoded (RFC 2045 section 6.4): one without parts is broken."""
    if part.transfer_encoding not in _IDENTITY or part.content_type.startswith(("multipart/", "message/")):
        return False
    return not _is_text(part.raw_chunks())


def _is_text(chunks: Iterable[bytes]) -> bool:
    check = TextCheck()
    for chunk in chunks:
        check.feed(chunk)
        if check.defect is not None:
            return False
    check.finish()
    return check.defect is None


def _base64(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines of base64 with CRLF, the last one's too."""
    held = b""
    for chunk in chunks:
        held += chunk
        whole = len(held) - len(held) % BLOCK
        for start in range(0, whole, BLOCK):
            yield _lines(held[start : start + BLOCK])
        held = held[whole:]
    yield _lines(held)


def _lines(octets: bytes) -> bytes:
    return b"".join(
        binascii.b2a_base64(octets[start : start + LINE_OCTETS], newline=False) + b"\r\n"
        for start in range(0, len(octets), LINE_OCTETS)
    )
