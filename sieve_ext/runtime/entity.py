"""MIME entities that scripts make (RFC 2045 section 2.4), and messages that get one as their body."""

from __future__ import annotations

import binascii

from sieve_ext.message import Message


def text_entity(text: str) -> bytes:
    """A MIME entity of plain text: header, empty line, content."""
    text = text.replace("\r\n", "\n").replace("\n", "\r\n")
    octets = text.encode("utf-8", "replace")
    encoding = "7bit"
    if not octets.isascii() or any(len(line) > 998 for line in octets.split(b"\r\n")):
        encoding = "quoted-printable"
        octets = binascii.b2a_qp(octets, istext=True).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    head = f"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode("ascii") + octets


def replace_message(message: Message, entity: bytes) -> None:
    """Give a message another body, and the fields that describe it."""
    new = Message(entity)
    message.remove(
        [one for one in message.fields if one.key.startswith("content-") or one.key == "mime-version"]
    )
    message.add_raw("MIME-Version", b"1.0")
    for field in new.fields:
        if field.key.startswith("content-"):
            message.add_raw(field.name, field.unfolded)
    message.replace_body(b"".join(new.body_chunks()))
