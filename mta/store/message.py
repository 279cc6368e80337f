"""A message as it is stored: header fields of the final delivery in front, lines that end with LF.

Final delivery adds `Return-Path` with the envelope sender (RFC 5321 section 4.4) and `Delivered-To` with the
recipient. A Return-Path that came with the message is removed, whoever wrote it: there must be one, and it
must be ours. A Delivered-To is kept, since it tells of earlier deliveries.
"""

from __future__ import annotations

from collections.abc import Iterator

from mta.address import Address
from mta.content import Content
from mta.trace import return_path_field


class StoredMessage:
    """What is written into one mailbox; several of them share one content."""

    __slots__ = ("_content", "_prefix", "_skip", "size")

    def __init__(self, content: Content, prefix: bytes, skip: int) -> None:
        """`prefix` stands for the first `skip` octets of `content`."""
        self._content = content
        self._prefix = prefix
        self._skip = skip
        self.size = len(prefix) + content.size - skip

    def parts(self) -> Iterator[bytes]:
        """The octets in order. Raises SpillError."""
        content, skip = self._content, self._skip
        if content.size == len(content.head):
            yield self._prefix + (content.head[skip:] if skip else content.head)
            return
        yield self._prefix
        for chunk in content.chunks():
            if skip >= len(chunk):
                skip -= len(chunk)
            elif skip:
                yield chunk[skip:]
                skip = 0
            else:
                yield chunk


def for_delivery(content: Content, sender: Address, recipient: str) -> StoredMessage:
    """The message for one mailbox.

    `content` has LF line ends. `recipient` is the address that was delivered to, "" for no Delivered-To.
    """
    prefix = return_path_field(sender).replace(b"\r\n", b"\n")
    if recipient:
        prefix += f"Delivered-To: {recipient}\n".encode()
    header = _header(content)
    if b"return-path" not in header.lower():
        return StoredMessage(content, prefix, 0)
    return StoredMessage(content, prefix + without_return_path(header), len(header))


def without_return_path(header: bytes) -> bytes:
    """A header (lines that end with LF) without its Return-Path fields and their folded lines."""
    kept: list[bytes] = []
    dropping = False
    for line in header.split(b"\n"):
        if not (dropping and line[:1] in (b" ", b"\t")):
            name, colon, _ = line.partition(b":")
            dropping = bool(colon) and name.rstrip(b" \t").lower() == b"return-path"
        if not dropping:
            kept.append(line)
    return b"\n".join(kept)


def _header(content: Content) -> bytes:
    """The header fields, without the empty line after them; b"" when they are longer than the head."""
    head = content.head
    if head.startswith(b"\n"):
        return b""
    end = head.find(b"\n\n")
    if end >= 0:
        return head[: end + 1]
    return head if content.size == len(head) else b""
