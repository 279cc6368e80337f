"""The part for people: what happened, to whom, what the other server said, what can be done. In English.

Plain text of UTF-8 with CRLF line ends. What others wrote (replies, the subject) is reduced to printable
characters, indented and wrapped, so it cannot pass for our own words.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from mta.dsn.decide import Kind
from mta.dsn.fields import clean, peer_name, reply_text
from mta.dsn.returned import Original
from mta.dsn.status import EXPIRED
from mta.dsn.values import Action, RecipientReport
from mta.trace import date_time
from sieve_ext.message import Message

NAMED = 25
"""Recipients that are described; the part for programs lists all."""
MAX_SUBJECT = 200
"""Characters of the message's subject that are repeated."""
_WIDTH = 72

_ADVICE = {
    "1.0": "Check the spelling of the address.",
    "1.1": "There is no such mailbox. Check the spelling of the address, or ask for the new one.",
    "1.2": "There is no such domain. Check what stands after the @ of the address.",
    "1.3": "The address cannot be right. Check its spelling.",
    "1.6": "The mailbox has moved. Ask for the new address.",
    "1.8": "The other server does not trust your own address. Ask your administrator.",
    "1.10": "That domain takes no mail. Check what stands after the @ of the address.",
    "2.1": "The mailbox has been disabled. Reach the recipient in another way.",
    "2.2": "The mailbox is full. Tell the recipient in another way, and send again later.",
    "2.3": "The message is too large for this recipient. Send a smaller one.",
    "3.4": "The message is too large for the other server. Send a smaller one.",
    "4.7": "The other side could not be reached, or put us off, for as long as we try. Send again later.",
    "6.3": "The other server cannot take this kind of content. Send it in another format.",
    "6.7": "The other server cannot take addresses with letters like these.",
    "7.1": "The other side does not want the message. What it says above may tell why.",
    "7.25": "The other side does not trust our server. Show this report to your administrator.",
    "7.26": "The other side could not make sure that you sent it. Show this report to your administrator.",
    "7.30": "You asked for encryption on the whole way, and the other server does not offer it.",
}
"""What to do, by subject and detail of the status (RFC 3463)."""


@dataclass(slots=True, frozen=True)
class Wording:
    """The texts of a report."""

    subject: str
    lines: tuple[str, ...]
    """Lines of the part, without line ends."""


def wording(
    original: Original, reports: Sequence[RecipientReport], kind: Kind, hostname: str, zone: int
) -> Wording:
    """Subject and text of a report; `kind` is NOTICE for one to the postmaster. `zone` as in `render`."""
    message = Message(original.header)
    subject, opening = _opening({report.action for report in reports}, kind)
    lines = [f"This is the mail server at {hostname}.", ""]
    lines += _wrap(opening)
    lines.append("")
    if text := clean((message.text("subject") or "")[:MAX_SUBJECT], utf8=True):
        lines += _wrap(f"Subject: {text}", "  ", "    ")
    lines.append(f"  Received here: {date_time(original.arrived, zone)}")
    if original.queue_id:
        lines.append(f"  Our number for it: {clean(original.queue_id, utf8=False)}")
    for report in reports[:NAMED]:
        lines.append("")
        lines += _recipient(report, zone)
    if len(reports) > NAMED:
        lines += [
            "",
            f"... and {len(reports) - NAMED} more; all are listed in the second part of this report.",
        ]
    return Wording(subject, tuple(lines))


def _opening(actions: set[Action], kind: Kind) -> tuple[str, str]:
    """Subject and first sentences."""
    if kind is Kind.NOTICE:
        return (
            "A message of this server could not be delivered",
            "This server has written a message itself, a report to a sender or a journal, and could not "
            "deliver it to the recipients below. It is given up now; nobody else hears of it. It follows.",
        )
    if actions == {Action.FAILED}:
        return (
            "Your message could not be delivered",
            "Your message could not be delivered to the recipients below. It will not be tried again.",
        )
    if actions == {Action.DELAYED}:
        return (
            "Your message is delayed",
            "Your message could not be delivered yet to the recipients below. You need not do anything: it "
            "will be tried again, and you will hear from us if that does not help.",
        )
    if actions == {Action.DELIVERED}:
        return (
            "Your message was delivered",
            "You asked to be told: your message was delivered to the recipients below.",
        )
    if Action.FAILED not in actions and Action.DELAYED not in actions:
        return (
            "Your message was passed on",
            "Here is what became of your message. A server that does not send such reports has the further "
            "say about recipients for whom it was passed on: you may hear nothing more.",
        )
    return "Report about your message", "Here is what became of your message."


def _recipient(report: RecipientReport, zone: int) -> list[str]:
    address = "".join(c if c.isprintable() else "?" for c in report.recipient.address.text)
    lines = [f"<{address}>"]
    lines += _wrap(_what(report), "  ", "  ")
    if report.reply is not None:
        lines += _wrap(clean(reply_text(report.reply), utf8=True), "    ", "    ")
    if report.action is Action.FAILED:
        advice = _ADVICE.get(report.status.partition(".")[2], "")
        if advice:
            lines += _wrap(advice, "  ", "  ")
    elif report.action is Action.DELAYED and report.retry_until is not None:
        lines += _wrap(f"It will be tried until {date_time(report.retry_until, zone)}.", "  ", "  ")
    return lines


def _what(report: RecipientReport) -> str:
    server = peer_name(report.peer) or ("the other server" if report.peer else "")
    said = "" if report.reply is None else f"; {server} said:" if server else "; the reason:"
    match report.action:
        case Action.FAILED:
            if report.status == EXPIRED:
                return f"Not delivered in the time allowed{said.replace('said', 'said last')}"
            return f"Not delivered{said}"
        case Action.DELAYED:
            return f"Not delivered yet{said}"
        case Action.DELIVERED:
            return f"Delivered{said}"
        case Action.RELAYED:
            return f"Passed on to a server that sends no such reports{said}"
        case Action.EXPANDED:
            return f"Passed on to several recipients that this address stands for{said}"


def _wrap(text: str, first: str = "", rest: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
