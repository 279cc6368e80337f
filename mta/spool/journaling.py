"""A journal report: what was accepted, from whom and for whom, with the message itself attached.

    Sender: eve@example.net
    Subject: hello
    Message-Id: <1@example.net>
    Recipient: ann@example.org
    Recipient: bob@example.org (for sales@example.org)
    Client: 192.0.2.1

The lines stand in a text/plain part, for programs and people, as archives know it from other servers; the
message is a message/rfc822 part, octet for octet as it was delivered, with our trace fields.
"""

from __future__ import annotations

from mta.address import Address
from mta.dsn.fields import clean, field, mailbox
from mta.dsn.render import Body, Report, report_envelope
from mta.handover import Parcel
from mta.spool.stored import Tail
from mta.trace import date_time

BOUNDARY = 16
"""Random octets of the boundary, and of the Message-ID."""


def journal_report(
    parcel: Parcel, header: bytes, *, to: Address, hostname: str, now: float, entropy: bytes
) -> Report:
    """The report for one archive. `header` is that of the message as delivered, `entropy` has 32 octets."""
    envelope, content, offset = parcel.envelope, parcel.content, parcel.message.body_offset
    utf8 = envelope.smtputf8
    lines = [
        f"Sender: {envelope.sender}",
        f"Subject: {parcel.message.text('subject') or ''}",
        f"Message-Id: {parcel.message_id}",
    ]
    for recipient in envelope.recipients:
        if recipient.is_copy:
            continue
        original = "" if recipient.original is None else f" (for {recipient.original.address})"
        lines.append(f"Recipient: {recipient.address}{original}")
    lines.append(f"Client: {parcel.session.client_address}")
    if parcel.session.user:
        lines.append(f"User: {parcel.session.user}")
    text = "".join(f"{clean(line, utf8=True)}\r\n" for line in lines).encode()
    boundary = f"=_{entropy[:BOUNDARY].hex()}"
    eight_bit = content.has_8bit or not header.isascii() or not text.isascii()
    encoding = "8bit" if eight_bit else "7bit"
    made = f"<{entropy[BOUNDARY:].hex()}@{hostname}>"
    head = b"".join(
        [
            field("From", f"Journal <MAILER-DAEMON@{hostname}>"),
            field("To", mailbox(to, utf8=utf8), utf8=utf8),
            field("Subject", f"Journal: {parcel.transaction}"),
            field("Date", date_time(now, 0)),
            field("Message-ID", made),
            field("Auto-Submitted", "auto-generated"),
            field("MIME-Version", "1.0"),
            f'Content-Type: multipart/mixed; boundary="{boundary}"\r\n'.encode(),
            f"Content-Transfer-Encoding: {encoding}\r\n\r\n".encode(),
        ]
    )
    kind = "message/global" if utf8 else "message/rfc822"
    part, ending = f"--{boundary}\r\nContent-Type: ", f"\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    begin = f"{part}text/plain; charset=utf-8{ending}".encode()
    middle = f"\r\n{part}{kind}{ending}".encode()
    end = f"\r\n--{boundary}--\r\n".encode()
    body = Body([begin, text, middle, header, Tail(content, offset), end])
    return Report(report_envelope(envelope, to=to, utf8=utf8, eight_bit=eight_bit), head, body, made)
