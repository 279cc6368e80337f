"""A queued message as plain data, for whoever lists, shows or exports it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import msgspec

from mailqueue.live import Live
from mailqueue.model import QueuedMessage, Status
from mta.mailq.rows import QueueRecipient, QueueRow
from mta.spool.record import RecordError, decode_recipient, decode_record
from mta.spool.replies import said, said_by


def message_row(message: QueuedMessage, *, active: bool, node: str) -> QueueRow:
    """What a list shows of a message."""
    recipients = tuple(
        QueueRecipient(
            recipient.address,
            recipient.status.name.lower(),
            said(recipient.reply),
            recipient.due if recipient.status in (Status.QUEUED, Status.DEFERRED) else None,
        )
        for recipient in message.recipients
    )
    live = [recipient for recipient in recipients if recipient.is_live]
    held = bool(live) and all(recipient.status == "held" for recipient in live)
    return QueueRow(
        message.id, message.size, message.created, message.sender, recipients, active, held, node=node
    )


def unreadable_row(live: Live, handle: int, problem: str, node: str) -> QueueRow:
    """The same for one whose octets are damaged: what memory knows. Raises UnknownMessage."""
    row = live.row(handle)
    recipients = tuple(
        QueueRecipient("?", state.status.name.lower(), problem) for state in live.recipients(handle)
    )
    return QueueRow(row.id, row.size, row.created, "?", recipients, held=row.status is Status.HELD, node=node)


def message_facts(message: QueuedMessage, *, active: bool, node: str) -> dict[str, Any]:
    """Everything about a message but its body.

    "envelope" is its record (`mta.spool.record.Record`), unless "problem" says why that cannot be read.
    """
    facts: dict[str, Any] = {"row": asdict(message_row(message, active=active, node=node))}
    facts["recipients"] = recipients = [
        {
            "site": recipient.site,
            "attempts": recipient.attempts,
            "last": recipient.last,
            "by": said_by(recipient.reply),
        }
        for recipient in message.recipients
    ]
    facts["expires"] = message.expires
    facts["priority"] = message.priority
    facts["tags"] = list(message.tags)
    facts["header_size"] = len(message.header)
    facts["header"] = message.header.decode("utf-8", "backslashreplace")
    try:
        record = decode_record(message.envelope)
        wishes = [decode_recipient(recipient.address, recipient.data) for recipient in message.recipients]
    except RecordError as error:
        facts["problem"] = str(error)
        return facts
    for shown, wish in zip(recipients, wishes, strict=True):
        shown["notify"] = None if wish.notify is None else sorted(wish.notify)
        original = wish.original
        shown["original"] = None if original is None else [original.address_type, original.address]
        shown["route"] = wish.route
        shown["sender"] = None if wish.sender is None else wish.sender.text
        shown["owners"] = [owner.text for owner in wish.owners]
    facts["envelope"] = msgspec.to_builtins(record)
    origin = record.origin
    facts["origin"] = {
        "transaction": origin.transaction,
        "listener": origin.listener,
        "client": origin.client_address,
        "helo": origin.helo,
        "user": origin.user,
    }
    return facts
