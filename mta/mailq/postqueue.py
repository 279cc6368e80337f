"""The queue in the two forms of Postfix's `postqueue`: text (`-p`, `mailq`) and JSON lines (`-j`).

Scripts read both, so columns, words and names are Postfix's own; the long form of the text where an id does
not fit the short one. Ours are longer still: their column is wider and nothing else moves. Both list only the
recipients that may still get the message. Postfix has one queue a message is in; for us it is the first of
these that fits: "hold", "active", "deferred" and "incoming".
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from typing import Any

from mta.mailq.rows import QueueRow

NULL_SENDER = "MAILER-DAEMON"
"""How Postfix writes the null sender."""
EMPTY = "Mail queue is empty"
SHORT_ID = 11
"""Characters of the longest id in the short form; in the long form it has 17 columns."""

_REASON_END = 76
"""Reasons are flush right at this column."""


def postqueue_text(rows: Iterable[QueueRow], zone: int | None = None) -> Iterator[str]:
    """The lines of `postqueue -p`, without line ends.

    `zone` is seconds east of UTC in which times are shown, None for this machine's zone.
    """
    rows = list(rows)
    if not rows:
        yield EMPTY
        return
    if max(len(row.id) for row in rows) <= SHORT_ID:
        ids, sizes, times = SHORT_ID, 7, 20
        yield "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------"
    else:
        ids = max(17, *(len(row.id) + len(_flag(row)) for row in rows))
        sizes, times = 8, 19
        yield f"{'----Queue ID':-<{ids}} --Size-- ---Arrival Time---- --Sender/Recipient------"
    for row in rows:
        date = _time(row.arrived, zone)
        yield f"{row.id + _flag(row):<{ids}} {row.size:>{sizes}} {date:<{times}} {_sender(row)}"
        last = ""
        for recipient in row.live:
            if recipient.reply and recipient.reply != last:
                last = recipient.reply
                yield f"({_line(last)})".rjust(_REASON_END + 2)
            yield f"{'':{ids}} {'':{sizes}} {'':{times}} {_line(recipient.address)}"
        yield ""
    size = sum(row.size for row in rows) // 1024
    yield f"-- {size} Kbytes in {len(rows)} Request{'s' if len(rows) != 1 else ''}."


def postqueue_json(rows: Iterable[QueueRow], *, extended: bool = False) -> Iterator[str]:
    """The lines of `postqueue -j`, one object a message, without line ends.

    `extended` adds "node", and for each recipient "status" and "next_try" (seconds since 1970 or null).
    Postfix says of its own format that readers must bear members they do not know.
    """
    for row in rows:
        recipients = []
        for recipient in row.live:
            shown: dict[str, Any] = {"address": recipient.address}
            if recipient.reply:
                shown["delay_reason"] = recipient.reply
            if extended:
                shown["status"] = recipient.status
                shown["next_try"] = None if recipient.next_try is None else int(recipient.next_try)
            recipients.append(shown)
        message: dict[str, Any] = {
            "queue_name": queue_name(row),
            "queue_id": row.id,
            "arrival_time": int(row.arrived),
            "message_size": row.size,
            "forced_expire": row.expiring,
            "sender": _sender(row),
            "recipients": recipients,
        }
        if extended:
            message["node"] = row.node
        yield json.dumps(message, ensure_ascii=False)


def queue_name(row: QueueRow) -> str:
    """The queue of Postfix that comes nearest: "hold", "active", "deferred" or "incoming"."""
    if row.held:
        return "hold"
    if row.active:
        return "active"
    return "deferred" if row.deferred else "incoming"


def _flag(row: QueueRow) -> str:
    """The character behind the id."""
    return "!" if row.held else "*" if row.active else "#" if row.expiring else ""


def _sender(row: QueueRow) -> str:
    return _line(row.sender) or NULL_SENDER


def _time(moment: float, zone: int | None) -> str:
    """ "Fri Nov  7 22:34:00", in English whatever the locale."""
    second = int(moment)
    t = time.localtime(second) if zone is None else time.gmtime(second + zone)
    return time.asctime(t)[:19]


def _line(text: str) -> str:
    """`text` on one line: a reply's second line would pass for another recipient."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
