"""The books of users with wishes: who must have which message, what it must look like, and who must hear.

Every recipient of a message that was answered 250 has it once, or its sender was told as it asked to be, or
the milter or an administrator has seen to it that it is gone. More copies than one need a reason each: a next
hop whose answer was lost, a process that was killed, an administrator who brought the message back.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tests.peers.chaosusers import ALIASES, ARCHIVE, AUDIT, COPY, LISTS, LONGEST, Answered, Order
from tests.peers.fickle import Copy, Ledger, refusal
from tests.peers.fickledns import FAR, GONE
from tests.peers.load import name_in
from tests.peers.meddlers import DENIED, EXTRA, NEW_BODY

_REPORT = re.compile(rb"^Content-Type: multipart/report;", re.MULTILINE)
_ABOUT = re.compile(rb"^Final-Recipient: rfc822; *(\S+)\r\nAction: (\S+)\r$", re.MULTILINE)
UNANSWERED = LONGEST + 2.0
"""Seconds in which a next hop has answered what it has."""
FEW = 3
"""Recipients for whom something may come twice without a reason that the books know, of hundreds: that a
client has not read its answer is known but for what happens in the same moment."""
TWICE = "again"
Told = tuple[str, str, str, str]
"""Message, who was told, about whom, and the action."""


@dataclass
class WishLedger(Ledger):
    """What next hops have, reports by what they say."""

    told: Counter[Told] = field(default_factory=Counter)
    orders: dict[str, Order] = field(default_factory=dict)
    doubtful: Counter[str] = field(default_factory=Counter)
    """Messages that were under way from a user when a process was killed, by name: how often."""
    gone: set[Copy] = field(default_factory=set)
    """What an administrator has taken out of the queue."""
    instead: set[Copy] = field(default_factory=set)
    """What an administrator has sent to another address."""
    may_be_instead: set[Copy] = field(default_factory=set)
    """Those of which the order was given."""
    touched: set[str] = field(default_factory=set)
    """Names of messages of which an administrator's work may have brought about other reports."""
    ordered: float = 0.0
    """When an administrator last had something tried, by a steady clock."""
    full: bool = False
    """The queue took nothing more at times, so that copies of which nobody hears may be lost."""
    scarce: bool = False
    """The queue had no room for reports at times: users are answered in place of them."""
    wrong: list[str] = field(default_factory=list)
    """Copies that do not look as they should."""

    def keep(self, sender: str, recipient: str, octets: bytes) -> None:
        """A copy is stored."""
        name = name_in(octets)
        now = self.latest[name, recipient] = time.monotonic()
        if now - self.ordered < UNANSWERED:
            self.unsure[name, recipient] += 1
        head, _, body = octets.partition(b"\r\n\r\n")
        if _REPORT.search(head):
            if sender:
                self.wrong.append(f"{name}: a report from {sender}")
            found = {(name, recipient, who.decode(), what.decode()) for who, what in _ABOUT.findall(octets)}
            self.told.update(found)
            if f"Original-Envelope-Id: {name}\r\n".encode() not in octets and recipient not in LISTS.values():
                self.wrong.append(f"{name}: a report without ENVID")
            return
        self.has[name, recipient] += 1
        if recipient == ARCHIVE:
            return
        self.wrong += [f"{name} for {recipient}: {what}" for what in self._looks(name, head, body)]

    def _looks(self, name: str, head: bytes, body: bytes) -> Iterator[str]:
        order = self.orders[name]
        wanted = NEW_BODY if order.wish == "body" else order.octets.partition(b"\r\n\r\n")[2]
        if body != wanted:
            yield f"a body of {len(body)} octets, not {len(wanted)}: {body[:100]!r}"
        if head.count(b"\r\nX-Meddler: " + name.encode()) + head.startswith(b"X-Meddler") != 1:
            yield "not seen once by the milter"
        edited = head.count(b"X-Top: yes") == 1 and b"Subject: another one" in head and b"X-Wish" not in head
        if edited is not (order.wish == "headers"):
            yield "edits of the header"

    def killed(self, seconds: float, under_way: Iterable[str]) -> None:
        """A process was killed: what it had not noted comes again, and what users had no answer to."""
        self.forget(seconds)
        self.doubtful.update(under_way)

    def order(self) -> None:
        """An administrator has something tried: also what a next hop has and has not answered yet."""
        self.ordered = time.monotonic()
        self.forget(UNANSWERED)

    def spare(self, name: str, recipient: str) -> int:
        """How many copies beside the first one have a reason."""
        return self.unsure[name, recipient] + self.doubtful[name]


def faults(ledger: WishLedger, answers: Mapping[str, Answered]) -> list[str]:
    """All that is wrong."""
    found = [*ledger.wrong, *(f"betrayed: {one}" for one in ledger.betrayed)]
    for answered in answers.values():
        found += [f"{fault}; {answered}"[:900] for fault in _Judge(ledger, answered).faults()]
    for name, address in ledger.instead - ledger.gone:
        if not ledger.has[name, address]:
            found.append(f"missing: {name} for {address}, who should get it instead")
    return found if len(found) > FEW or not all(one.startswith(TWICE) for one in found) else []


class _Judge:
    """Of one message."""

    def __init__(self, ledger: WishLedger, answered: Answered) -> None:
        self.ledger = ledger
        self.answered = answered
        self.order = answered.order
        self.is_accepted = answered.reply.startswith("2")
        """Who is not refused for good has it: also if a stranger has read who is, for nobody may be told."""
        if not self.order.vouched or ledger.scarce:
            self.is_accepted |= self.order.wish != "reject" and len(answered.refused) < len(self.order.named)

    def faults(self) -> Iterator[str]:
        """What is wrong."""
        order = self.order
        nobody = order.wish in ("reject", "discard")
        if order.wish == "reject" and self.answered.reply.startswith("2"):
            yield "accepted against the milter"
        removed = self._removed()
        for named, notify in order.named.items():
            yield from self._named(named, notify, nobody or named == removed)
        if self.is_accepted and not nobody and not self._is_refused_by_all():
            for one in self._added():
                yield from self._has(one)
        if not order.vouched:
            for of, to, about, action in self.ledger.told:
                if of == order.name and to not in LISTS.values():
                    yield f"{to} was told that {about} is {action}"
        expected = {one for named in order.named for one in order.behind(named)} | set(self._added())
        expected |= {ARCHIVE} if order.wish == "journal" else set()
        for name, one in [copy for copy in self.ledger.has if copy[0] == order.name]:
            if one not in expected and (name, one) not in self.ledger.may_be_instead:
                yield f"a copy for {one}"

    def _is_refused_by_all(self) -> bool:
        """Then nobody has to care for those who were added; nor for copies when the queue takes nothing."""
        named = [one for one in self.order.named if one not in self.answered.refused]
        others = not all(never(one) for named_one in named for one in self.order.behind(named_one))
        return not others or (self.order.wish == "bcc" and self.ledger.full)

    def _takes(self, named: str) -> bool:
        """True when a recipient that was named was not refused, or is an alias and only one member was."""
        if not self.answered.each or self.order.wish == "reject":
            return self.is_accepted
        return self.answered.each[named].startswith("2") or len(self.order.behind(named)) > 1

    def _is_heard(self, named: str) -> bool:
        """True when the client has read a refusal for one of several, so that no report needs to tell."""
        return self.answered.each.get(named, "").startswith("5")

    def _removed(self) -> str:
        """Whom the milter has taken out."""
        left = [one for one in self.order.named if one not in self.answered.refused]
        return left[0] if self.order.wish == "without" and left else ""

    def _added(self) -> tuple[str, ...]:
        match self.order.wish:
            case "extra":
                return (EXTRA,)
            case "bcc":
                return (AUDIT,)
            case "add" if self.order.vouched:
                return (COPY,)
            case "journal" if not self.ledger.scarce:
                return (ARCHIVE,)
            case "addteam":
                return ALIASES["team"]
        return ()

    def _named(self, named: str, notify: str, nobody: bool) -> Iterator[str]:
        order, ledger = self.order, self.ledger
        members = order.behind(named)
        refused = named in self.answered.refused
        if refused and not named.startswith(DENIED):
            yield f"{named} refused at RCPT"
        for one in members:
            if nobody or refused or never(one):
                if ledger.has[order.name, one] and one not in self._added():
                    yield f"{one} has a copy that nobody should have"
            elif self._takes(named):
                yield from self._has(one)
            elif not self._may_fail():
                yield f"{one} was refused"
        if (
            order.name not in ledger.touched
            and not self._is_heard(named)
            and " BY=" not in order.parameters
            and not refused
        ):
            yield from self._told(named, members, notify, silent=nobody)

    def _has(self, one: str) -> Iterator[str]:
        name = self.order.name
        copies = self.ledger.has[name, one]
        if not copies and not self._may_fail() and (name, one) not in self.ledger.gone:
            yield f"missing for {one}"
        # What is not certain to be in the archive is put there again.
        again = len(self.answered.tries) - 1 if one == ARCHIVE else 0
        if copies > 1 + self.ledger.spare(name, one) + again:
            spare = self.ledger.spare(name, one)
            yield f"{TWICE}: {copies} copies for {one}, {spare} beside the first have a reason"

    def _may_fail(self) -> bool:
        """True for what is not wanted later, and not without a next hop that knows of that."""
        return " BY=3;R" in self.order.parameters

    def _told(self, named: str, members: tuple[str, ...], notify: str, *, silent: bool) -> Iterator[str]:
        """What was said about a recipient that was named, and those behind it."""
        alias = named.partition("@")[0]
        owner = LISTS.get(alias, "")
        asked = set(notify.split(",")) if notify else {"FAILURE", "DELAY"}
        if not self.order.vouched:
            asked = set()
        if not self.is_accepted:
            if len(self.answered.tries) > 1:
                return  # what was answered in vain may have been accepted
            asked = set()
        for one in members:
            failure = owner or "FAILURE" in asked
            wanted = bool(failure) and never(one) and not silent and self.is_accepted
            wanted &= not self.ledger.scarce or self.answered.reply.startswith("2")
            yield from self._count(owner or self.order.sender, one, "failed", wanted, may=bool(failure))
            delayed = (owner or "DELAY" in asked) and not silent
            yield from self._count(owner or self.order.sender, one, "delayed", False, may=bool(delayed))
        if self.ledger.scarce:
            return
        success = "SUCCESS" in asked and not silent
        if len(members) > 1:
            some = any(not never(one) for one in members)
            what = "delivered" if owner else "expanded"
            yield from self._count(self.order.sender, named, what, success and some, may=success)
        elif not never(named):
            domain = named.partition("@")[2]
            what = "delivered" if domain in ("example.test", "other.test") else "relayed"
            takes = domain == FAR
            yield from self._count(self.order.sender, named, what, success and not takes, may=success)

    def _count(self, to: str, about: str, action: str, wanted: bool, *, may: bool) -> Iterator[str]:
        """One report where one is wanted, none where none may be."""
        name = self.order.name
        number = self.ledger.told[name, to, about, action]
        if wanted and not number and not self.ledger.gone & {(name, about)}:
            yield f"{to} was not told that {about} is {action}"
        if number and not may:
            yield f"{to} was told that {about} is {action}"
        again = sum(not one[:1].isdigit() or one[0] == "4" for one in self.answered.tries)
        most = 1 + self.ledger.spare(name, to) + again
        if number > most:
            yield f"{TWICE}: {to} was told {number} times that {about} is {action}, {most} at most"


def never(address: str) -> bool:
    """True for who is refused wherever the mail goes."""
    return bool(refusal(address)) or address.endswith(f"@{GONE}") or address.startswith(DENIED)
