"""Reads reports back: the MIME structure by the standard library, the rest line by line.

For tests. `read` fails (AssertionError) for a report that no strict reader would accept: line ends other than
CRLF, over-long lines, a field that is none, an 8-bit octet where none was announced.
"""

from __future__ import annotations

import email
import email.policy
import re
from dataclasses import dataclass
from email.message import EmailMessage, Message

from mta.dsn.render import Report

Group = dict[str, str]


@dataclass
class Read:
    """What a program understands of a report."""

    message: EmailMessage
    header: Group
    """The header fields, unfolded, by name in lower case."""
    parts: list[Message]
    text: str
    """The part for people."""
    status_type: str
    fields: Group
    """Fields about the message."""
    recipients: list[Group]
    third: str
    """The type of the third part, "" for none."""
    returned: bytes
    """The octets of the third part, decoded."""


def octets(report: Report) -> bytes:
    """The report as it is sent; its size is checked."""
    body = b"".join(report.body.chunks())
    assert len(body) == report.body.size
    assert body == b"".join(report.body.chunks())
    return report.header + body


def groups(block: bytes, *, utf8: bool) -> list[Group]:
    """Groups of fields between empty lines, each unfolded."""
    found: list[Group] = []
    for part in block.removesuffix(b"\r\n").split(b"\r\n\r\n"):
        group: Group = {}
        unfolded = part.replace(b"\r\n ", b" ").decode("utf-8" if utf8 else "ascii")
        for line in unfolded.split("\r\n"):
            assert line.isprintable(), line
            name, colon, value = line.partition(": ")
            assert colon, line
            assert re.fullmatch(r"[A-Za-z-]+", name), line
            assert name.lower() not in group, f"{name} twice"
            group[name.lower()] = value
        found.append(group)
    return found


def read(report: Report, *, longest: int = 998) -> Read:
    """Read a report back; `longest` is the octets that a line may have."""
    whole = octets(report)
    lines = whole.split(b"\r\n")
    assert lines[-1] == b""
    for line in lines:
        assert len(line) <= longest
        assert b"\n" not in line
        assert b"\r" not in line
    head, body = whole.split(b"\r\n\r\n", 1)
    assert head + b"\r\n\r\n" == report.header
    utf8 = report.envelope.smtputf8
    (header,) = groups(head, utf8=utf8)
    message = email.message_from_bytes(whole, policy=email.policy.SMTPUTF8)
    assert not message.defects
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    boundary = message.get_boundary()
    assert boundary is not None
    assert message["content-transfer-encoding"] in ("7bit", "8bit")
    assert message["content-transfer-encoding"] == "8bit" or whole.isascii() or utf8
    delimiter = f"\r\n--{boundary}".encode()
    pieces = (b"\r\n" + body).split(delimiter)
    assert pieces[0] == b""
    assert pieces[-1] == b"--\r\n"
    raw = [piece.removeprefix(b"\r\n").split(b"\r\n\r\n", 1) for piece in pieces[1:-1]]
    parts = list(message.iter_parts())
    assert len(parts) == len(raw) in (2, 3)
    for part, (_, content) in zip(parts, raw, strict=True):
        assert content.isascii() or part["content-transfer-encoding"] == "8bit"
    status_type = parts[1].get_content_type()
    assert (
        status_type
        == f"message/{'global-' if status_type.startswith('message/global') else ''}delivery-status"
    )
    fields, *recipients = groups(raw[1][1], utf8=status_type.startswith("message/global"))
    text = parts[0].get_payload(decode=True)
    assert isinstance(text, bytes)
    third, returned = "", b""
    if len(parts) == 3:
        third, returned = parts[2].get_content_type(), raw[2][1]
        if parts[2]["content-transfer-encoding"] == "quoted-printable":
            decoded = parts[2].get_payload(decode=True)
            assert isinstance(decoded, bytes)
            returned = decoded
    return Read(
        message, header, list(parts), text.decode("utf-8"), status_type, fields, recipients, third, returned
    )
