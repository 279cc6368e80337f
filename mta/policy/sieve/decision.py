"""From what the scripts of a stage asked for to one decision: pure.

Precedence: disconnect, permanent refusal, temporary refusal, discard, accept. Of several refusals of one kind
the first counts. A script that failed is a temporary refusal. Of several routes, senders, priorities and
periods the last counts; recipients and tags add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mta.address import Address
from mta.policy.sieve.dsn import DsnOptions
from mta.policy.sieve.envelope import (
    ADDED_MOST,
    AddCopies,
    AddRecipients,
    Journal,
    RemoveRecipients,
    RewriteRecipient,
    SetSender,
)
from mta.policy.sieve.expand import Expansion
from mta.policy.sieve.outcome import NOTHING, Outcome
from mta.policy.sieve.queue import TAGS_MOST, Delay, Expire, Hold, Priority, RetryAfter, SetTags
from mta.policy.sieve.reply import NOT_NOW, TARPIT_MOST, Answer, Disconnect, SignAction, Tarpit
from mta.policy.sieve.route import Route
from mta.policy.sieve.srs import RewriteSender
from mta.reply import Reply
from sieve_ext import Action, Discard, Message

FAULT = Reply(451, "4.3.5", "policy error, try again later")
"""What the client reads when a script failed."""
GOODBYE = Reply(421, "4.7.0", "closing the connection")
"""What the client reads of a disconnect without a reply."""


@dataclass(slots=True)
class Decision:
    """What a stage comes to; places are as "policy.sieve:12"."""

    reply: Reply | None = None
    """The refusal, its cause the place of the command and why it was given; None goes on."""
    delay: float = 0.0
    """Seconds before the answer."""
    discarded: str = ""
    """Place of the discard, "" when there is none."""
    held: str = ""
    """Place and reason of the hold."""
    message: Message | None = None
    """The edited message, None when nobody has edited it."""
    rewritten: Address | None = None
    expansion: Expansion | None = None
    """What aliases have been looked for and found."""
    sender: Address | None = None
    told: Address | None = None
    """The sender that the recipient's next hop is told, in stage "route"."""
    route: str = ""
    added: list[tuple[str, Address]] = field(default_factory=list)
    """With the places of the commands."""
    journal: list[Address] = field(default_factory=list)
    """Archives that get a report of the message."""
    copies: list[tuple[str, Address]] = field(default_factory=list)
    removed: list[tuple[str, Address]] = field(default_factory=list)
    priority: int | None = None
    lifetime: float = 0.0
    retry_after: float = 0.0
    """Seconds to the next try, in stage "retry"."""
    tags: tuple[str, ...] = ()
    postponed: float = 0.0
    """Seconds until the first try."""
    notify: frozenset[str] | None = None
    ret: str | None = None
    envid: str | None = None
    signing: list[Action] = field(default_factory=list)
    """What stage "sign" asks for."""


def decide(outcome: Outcome) -> Decision:
    """What `outcome` of a stage comes to."""
    if outcome is NOTHING:
        return PASSED
    decision = Decision(message=outcome.message)
    if outcome.fault:
        decision.reply = replace(FAULT, cause=outcome.fault)
    if not outcome.actions:
        return decision
    refusals: list[tuple[str, Reply]] = []
    disconnected = ""
    for place, action in outcome.actions:
        match action:
            case Answer(reply=reply):
                refusals.append((place, reply))
            case Disconnect():
                disconnected = disconnected or place
            case Tarpit(seconds=seconds):
                decision.delay = min(decision.delay + seconds, TARPIT_MOST)
            case Discard():
                decision.discarded = decision.discarded or place
            case SignAction():
                decision.signing.append(action)
            case _:
                _order(decision, place, action)
    strongest = _strongest(refusals, decision.reply)
    if disconnected:
        if strongest is None:
            strongest = replace(GOODBYE, cause=disconnected)
        decision.reply = replace(strongest, close=True)
    else:
        decision.reply = strongest
    return decision


PASSED = Decision()
"""Of a stage where scripts have nothing to say; never changed."""


def _strongest(refusals: Sequence[tuple[str, Reply]], fault: Reply | None) -> Reply | None:
    """The first permanent refusal, else the first temporary one, else that of a fault."""
    for is_wanted in (lambda reply: reply.is_permanent, lambda reply: True):
        for place, reply in refusals:
            if is_wanted(reply):
                cause = f"{place}: {reply.cause}" if reply.cause else place
                return replace(reply, cause=cause, close=reply.code == NOT_NOW)
    return fault


def _order(decision: Decision, place: str, action: Action) -> None:
    match action:
        case RewriteRecipient(address=address):
            decision.rewritten = address
        case Expansion():
            before = decision.expansion
            decision.expansion = action if before is None else before.merged(action)
        case RewriteSender(address=address):
            decision.told = address
        case SetSender(address=address):
            decision.sender = address
        case Route(transport=transport):
            decision.route = transport
        case AddRecipients(addresses=addresses):
            decision.added += [(place, address) for address in addresses]
            del decision.added[ADDED_MOST:]
        case AddCopies(addresses=addresses):
            decision.copies += [(place, address) for address in addresses]
            del decision.copies[ADDED_MOST:]
        case Journal(addresses=addresses):
            decision.journal += addresses
            del decision.journal[ADDED_MOST:]
        case RemoveRecipients(addresses=addresses):
            decision.removed += [(place, address) for address in addresses]
        case Hold(reason=reason):
            decision.held = decision.held or f"{place}: {reason}"
        case Priority(value=value):
            decision.priority = value
        case Expire(seconds=seconds):
            decision.lifetime = seconds
        case Delay(seconds=seconds):
            decision.postponed = seconds
        case DsnOptions(notify=notify, ret=ret, envid=envid):
            decision.notify = decision.notify if notify is None else notify
            decision.ret = decision.ret if ret is None else ret
            decision.envid = decision.envid if envid is None else envid
        case RetryAfter(seconds=seconds):
            decision.retry_after = seconds
        case SetTags(tags=tags):
            decision.tags = tuple(dict.fromkeys((*decision.tags, *tags)))[:TAGS_MOST]
