"""Which report is owed to whom: RFC 3461 as decisions, without I/O.

`decide` looks at one recipient, `sort_out` at all that happened to a message at one time; the recipients
that it puts together share one report (RFC 3461 section 5.2.8).

Who is never written to:

- The null sender. Reports go out from it, so there is no report about a report.
- A sender whom nobody vouches for: neither a login, nor a trusted network, nor SPF. Its address may be
  somebody else's. This holds for wanted reports of success too, for a forger can want them. What is not said
  is counted (`Why.UNVOUCHED`).
- A recipient's sender that asked for silence (NOTIFY=NEVER) or for other events.

A message is one of three kinds (`Kind`), and each can only bring forth the next: an ordinary MESSAGE a
REPORT, a report that cannot be delivered a NOTICE to our postmaster, a notice nothing. A daily report, which
has a sender, brings forth nothing: strangers name the addresses, as many as they like. So a loop cannot be
built, whatever the envelope says. Header fields play no part: auto-replies and lists need no special case,
since they all choose their sender address.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from mta.dsn.status import DELIVER_BY_FAILED, DELIVER_BY_LATE, EXPIRED, status
from mta.dsn.values import Action, Event, RecipientReport, Result
from mta.envelope import Envelope


class Vouching(StrEnum):
    """Who says that the sender address is the sender's own."""

    NOBODY = "nobody"
    LOGIN = "login"
    """The client logged in as somebody who may use the address."""
    NETWORK = "network"
    """The client is in a trusted network, or the message was made on this machine."""
    SPF = "spf"
    """SPF gave "pass" for the sender's domain."""


class Kind(StrEnum):
    """What a message of the queue is; kept with it."""

    MESSAGE = "message"
    REPORT = "report"
    """A report to a sender that we made."""
    NOTICE = "notice"
    """A report that could not be delivered, to our postmaster."""


class Why(StrEnum):
    """Why there is a report, or why there is none: for the log and a counter."""

    OWED = "owed"
    DOUBLE_BOUNCE = "double_bounce"
    """A report could not be delivered; the postmaster hears of it."""
    NEVER = "never"
    """NOTIFY=NEVER."""
    NOT_ASKED = "not_asked"
    """NOTIFY, or its absence, does not ask for this event."""
    NEXT_HOP = "next_hop"
    """The next hop took the parameters over, and with them the duty."""
    NULL_SENDER = "null_sender"
    UNVOUCHED = "unvouched"
    """Nobody vouches for the sender: a report would be backscatter."""
    DROPPED = "dropped"
    """A report, or a notice about one, could not be delivered and nobody wants to know."""


@dataclass(slots=True, frozen=True)
class Options:
    """What the administrator chose."""

    warn_of_delay: bool = True
    """Tell senders of delays who did not use NOTIFY: both readings of its absence are allowed (RFC 3461
    section 4.1)."""
    double_bounce_to_postmaster: bool = True


DEFAULT = Options()


@dataclass(slots=True, frozen=True)
class Decision:
    """What is owed for one event: `action` is None when nothing is."""

    why: Why
    action: Action | None = None
    status: str = ""
    to_postmaster: bool = False


@dataclass(slots=True)
class Owed:
    """What is owed for all that happened to a message at one time."""

    to_sender: list[RecipientReport] = field(default_factory=list)
    to_postmaster: list[RecipientReport] = field(default_factory=list)
    reasons: list[Why] = field(default_factory=list)
    """One for each event, in order."""


def decide(
    envelope: Envelope,
    event: Event,
    vouching: Vouching,
    kind: Kind = Kind.MESSAGE,
    options: Options = DEFAULT,
) -> Decision:
    """Which report `event` calls for."""
    action, code = _action(envelope, event)
    if kind is not Kind.MESSAGE:
        if action is not Action.FAILED:
            return Decision(Why.NULL_SENDER)
        # Of strangers, who may send from wherever SPF says, as many dead addresses come as they like.
        concerns_us = kind is Kind.REPORT and envelope.sender.is_null and vouching is not Vouching.SPF
        if concerns_us and options.double_bounce_to_postmaster:
            return Decision(Why.DOUBLE_BOUNCE, action, code, to_postmaster=True)
        return Decision(Why.DROPPED)
    if envelope.sender.is_null:
        return Decision(Why.NULL_SENDER)
    refusal = _not_wanted(envelope, event, action, options)
    if refusal is not None:
        return Decision(refusal)
    if vouching is Vouching.NOBODY:
        return Decision(Why.UNVOUCHED)
    return Decision(Why.OWED, action, code)


def sort_out(
    envelope: Envelope,
    events: Iterable[Event],
    vouching: Vouching,
    kind: Kind = Kind.MESSAGE,
    options: Options = DEFAULT,
) -> Owed:
    """What is owed for `events`, all about one message: at most one report to each side."""
    owed = Owed()
    for event in events:
        decision = decide(envelope, event, vouching, kind, options)
        owed.reasons.append(decision.why)
        if decision.action is not None:
            report = RecipientReport(
                event.recipient,
                decision.action,
                decision.status,
                event.reply,
                event.peer,
                event.last_attempt,
                event.retry_until if decision.action is Action.DELAYED else None,
            )
            (owed.to_postmaster if decision.to_postmaster else owed.to_sender).append(report)
    return owed


def _action(envelope: Envelope, event: Event) -> tuple[Action, str]:
    """The action and status of what happened."""
    match event.result:
        case Result.EXPIRED:
            return Action.FAILED, EXPIRED
        case Result.LATE:
            by = envelope.deliver_by
            if by is not None and by.mode == "R":
                return Action.FAILED, DELIVER_BY_FAILED
            return Action.DELAYED, DELIVER_BY_LATE
        case _:
            action = Action(event.result.value)
            return action, status(action, event.reply)


def _not_wanted(envelope: Envelope, event: Event, action: Action, options: Options) -> Why | None:
    """Why the sender does not want to hear of `event`, None if it does (RFC 3461 section 4.1)."""
    notify = event.recipient.notify
    if notify is not None and "NEVER" in notify:
        return Why.NEVER
    if action is Action.FAILED:
        return None if notify is None or "FAILURE" in notify else Why.NOT_ASKED
    if action is Action.DELAYED:
        # Who sets a time by DELIVERBY has asked to hear of it (RFC 2852 section 4).
        unasked = options.warn_of_delay or event.result is Result.LATE
        return None if (unasked if notify is None else "DELAY" in notify) else Why.NOT_ASKED
    if action is Action.RELAYED:
        if _deliver_by_ends_here(envelope, event):
            return None
        if event.next_hop_dsn:
            return Why.NEXT_HOP
    return None if notify is not None and "SUCCESS" in notify else Why.NOT_ASKED


def _deliver_by_ends_here(envelope: Envelope, event: Event) -> bool:
    """True when DELIVERBY asks for a "relayed" report (RFC 2852 section 4).

    Either tracing was asked for, or the next hop does not know of the time in mode N.
    """
    by = envelope.deliver_by
    return by is not None and (by.trace or (by.mode == "N" and not event.next_hop_deliver_by))
