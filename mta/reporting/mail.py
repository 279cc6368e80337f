"""A daily report as a message, and its way into our own queue: signed, and never answered by a DSN.

`report_message` is pure. `MailSubmitter` puts a message into the worker's queue, from where it goes as all
mail does; it is durable when `submit` returns.
"""

from __future__ import annotations

import os
from base64 import encodebytes
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mailqueue.model import NewMessage, QueuedRecipient, QueueError, Status
from mailqueue.queue import MailQueue
from mta.address import Address
from mta.dsn.decide import Kind, Vouching
from mta.dsn.fields import field
from mta.dsn.render import Body
from mta.dsn.returned import quoted_printable
from mta.envelope import Envelope, Recipient
from mta.reply import Reply
from mta.reporting.daily import NotNow
from mta.spool.hops import site_of
from mta.spool.record import encode_recipient, encode_record, make_record
from mta.spool.reports import Route, Sign
from mta.trace import date_time, message_id

ENTROPY = 24
"""Random octets of a message: boundary and Message-ID."""
LIFETIME = 2 * 86400.0
"""Seconds that a report is tried."""


@dataclass(slots=True, frozen=True)
class Attachment:
    """What the report is, for programs."""

    content_type: str
    filename: str
    content: bytes


@dataclass(slots=True, frozen=True)
class ReportMail:
    """A report before it is a message."""

    sender: Address
    to: tuple[Address, ...]
    subject: str
    text: Sequence[str]
    """Lines for people."""
    attachment: Attachment
    content_type: str = "multipart/mixed"
    fields: tuple[tuple[str, str], ...] = ()
    """More header fields."""
    kind: Kind = Kind.REPORT
    """NOTICE for our own postmaster: it is queued though no way is known to him, for an alias may lead
    somewhere, and the log has an error when it cannot be delivered."""


def report_message(mail: ReportMail, hostname: str, now: float, entropy: bytes) -> tuple[bytes, bytes, str]:
    """Header block with its empty line, body, and Message-ID. `entropy` has `ENTROPY` random octets."""
    boundary = f"=_{entropy[:12].hex()}"
    made = message_id(now, hostname, entropy[12:ENTROPY])
    header = b"".join(
        [
            field("From", f"Mail reports <{mail.sender.text}>"),
            field("To", ", ".join(f"<{address.text}>" for address in mail.to)),
            field("Subject", mail.subject),
            field("Date", date_time(now, 0)),
            field("Message-ID", made),
            *(field(name, value) for name, value in mail.fields),
            field("Auto-Submitted", "auto-generated"),
            field("MIME-Version", "1.0"),
            f'Content-Type: {mail.content_type};\r\n boundary="{boundary}"\r\n\r\n'.encode("ascii"),
        ]
    )
    what = mail.attachment
    text = "".join(f"{line}\r\n" for line in mail.text).encode("utf-8")
    form = "us-ascii"
    if not text.isascii():
        text, form = quoted_printable(text), "utf-8\r\nContent-Transfer-Encoding: quoted-printable"
    encoded = encodebytes(what.content).replace(b"\n", b"\r\n")
    begin = f"--{boundary}\r\nContent-Type: text/plain; charset={form}\r\n\r\n"
    middle = (
        f"\r\n--{boundary}\r\n"
        f"Content-Type: {what.content_type}\r\nContent-Transfer-Encoding: base64\r\n"
        f'Content-Disposition: attachment;\r\n filename="{what.filename}"\r\n\r\n'
    )
    end = f"\r\n--{boundary}--\r\n"
    parts = begin.encode("ascii"), text, middle.encode("ascii"), encoded, end.encode("ascii")
    return header, b"".join(parts), made


def reporting_host(hostname: str, node: str) -> str:
    """The name of one server among those that report for a domain; `node` is its name in the queue."""
    return hostname if node == hostname else f"{node}.{hostname}"


class NoWay(Exception):
    """There is no way to any of those who are to get it; the text says why."""


class MailSubmitter:
    """Puts reports into the queue of a worker."""

    def __init__(
        self,
        hostname: str,
        queue: Callable[[], MailQueue | None],
        route: Route,
        added: Callable[[str], None],
        sign: Sign | None,
        *,
        now: Callable[[], float],
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """`queue` gives the queue, None while there is none; `added` is told of each new message."""
        self._hostname = hostname
        self._queue = queue
        self._route = route
        self._added = added
        self._sign = sign
        self._now = now
        self._entropy = entropy

    async def submit(self, mail: ReportMail) -> str:
        """Queue the report; returns its name in the queue. Raises NotNow when it cannot be kept, and NoWay.

        A server that only takes mail in has no way to other domains: each report would come back to the
        postmaster.
        """
        queue = self._queue()
        if queue is None or queue.fenced:
            raise NotNow("the queue is not ready")
        now = self._now()
        header, body, made = report_message(mail, self._hostname, now, self._entropy(ENTROPY))
        content = Body([body])
        if self._sign is not None:
            header = self._sign(header, content) + header
        recipients = [Recipient(address, notify=frozenset({"NEVER"})) for address in mail.to]
        envelope = Envelope(mail.sender, recipients)
        record = make_record(envelope, None, now, vouching=Vouching.NETWORK, kind=mail.kind, message_id=made)
        session = record.origin.session()
        queued: list[QueuedRecipient] = []
        hops = [(recipient, self._route(session, envelope, recipient)) for recipient in recipients]
        refusals = [hop for _, hop in hops if isinstance(hop, Reply) and hop.is_permanent]
        if refusals and mail.kind is not Kind.NOTICE:
            hops = [(recipient, hop) for recipient, hop in hops if hop not in refusals]
            if not hops:
                raise NoWay(str(refusals[0]))
        for recipient, hop in hops:
            site = "" if isinstance(hop, Reply) else site_of(hop)
            data = encode_recipient(recipient)
            queued.append(QueuedRecipient(recipient.address.text, site, Status.QUEUED, now, data=data))
        message = NewMessage(
            mail.sender.text, queued, header, content, encode_record(record), now, now + LIFETIME
        )
        try:
            name = await queue.enqueue(message)
        except QueueError as error:
            raise NotNow(f"the queue cannot keep it: {error}") from error
        self._added(name)
        return name
