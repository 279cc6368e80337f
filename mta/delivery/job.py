"""One message on its way to servers that are tried in turn: who has an answer, who is still pending.

The line that is never crossed: once the octets that end a message may have reached a server and its reply
is missing, it is not sent anywhere else; such an outcome has `sent` set. Before that line, the next server
is tried within the same deadline, recipient by recipient: who had an answer keeps it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace

from mta.content import Content, SpillError
from mta.delivery.outcome import Late, Outcome, Passage, Told
from mta.envelope import Envelope, Recipient
from mta.net.outbound import UNREADABLE
from mta.reply import Reply
from mta.smtp.mailing import Mailing
from mta.smtp.opening import Peer
from mta.smtp.relaying import ContentFacts

SLOW = 1.0
"""Seconds for which replies of one transaction may come before those that are there are told. A server that
is quicker than that costs no second note."""
INLINE_LIMIT = 256 * 1024
"""Octets up to which a message is handed to the session whole: one wake-up, one write, some 0.1 ms of work;
larger is streamed."""

TOO_LATE = Reply(451, "4.4.7", "The message could not be delivered in time", "deadline before any try")
NO_SERVER = Reply(451, "4.4.1", "The next server cannot be reached at the moment", "no server to try")


class Job:
    """One call of `deliver`: what is decided and what is pending."""

    __slots__ = (
        "_heard",
        "_hearing",
        "_outcomes",
        "client",
        "content",
        "deadline",
        "envelope",
        "facts",
        "failure",
        "inline",
        "loop",
        "passage",
        "peer",
        "pending",
        "recipients",
        "told",
    )

    def __init__(
        self,
        envelope: Envelope,
        recipients: Sequence[Recipient],
        content: Content,
        deadline: float,
        client: Mapping[str, str] | None,
        loop: asyncio.AbstractEventLoop,
        told: Told | None = None,
    ) -> None:
        self.envelope = envelope
        self.recipients = recipients
        self.content = content
        self.deadline = deadline
        self.client = client
        self.loop = loop
        self.told = told
        self.facts = facts_of(envelope, content)
        self.inline: bytes | None = None
        self.pending = list(range(len(recipients)))
        self.failure: Reply | None = None
        """Why pending recipients have no answer."""
        self.peer = ""
        self.passage: Passage | None = None
        self._hearing: asyncio.TimerHandle | None = None
        """When replies are told that came before the others of their transaction."""
        self._heard: set[int] = set()
        """Who has been told of."""
        self._outcomes: list[Outcome | None] = [None] * len(recipients)

    def read(self) -> bool:
        """Read a small message into memory; False when it cannot be read, which `failure` says then."""
        try:
            self.inline = b"".join(self.content.chunks()) if self.facts.size <= INLINE_LIMIT else None
        except SpillError as error:
            self.failure = Reply(451, "4.3.0", UNREADABLE, str(error))
            return False
        return True

    @property
    def is_late(self) -> bool:
        """True when the deadline has come."""
        return self.loop.time() >= self.deadline

    def settle(
        self,
        batch: list[int],
        mailing: Mailing,
        failure: Reply | None,
        offered: Container[str],
        late: dict[int, Late] | None = None,
    ) -> bool:
        """Take the answers; False when the session failed before all of the batch had one.

        `offered` are the keywords of the server's EHLO; `late` is filled, by place in the mailing, where the
        answers may still come.
        """
        self._end_hearing()
        again: list[int] = []
        accepted = frozenset(mailing.accepted)
        undecided = open_ends = False
        for place, (index, reply) in enumerate(zip(batch, mailing.replies, strict=True)):
            recipient = self.recipients[index]
            if reply is None:
                if not mailing.sent:
                    again.append(index)
                    undecided = True
                    continue
                lost = failure or NO_SERVER
                waited = None
                if late is not None:
                    waited = late[place] = Late()
                self._outcomes[index] = Outcome(
                    recipient, lost, self.peer, True, *_taken(offered), passage=self.passage, late=waited
                )
                open_ends = True
            elif reply.code == 452 and reply.enhanced == "4.5.3" and accepted and place not in accepted:
                # RFC 5321 section 4.5.3.1.10: too many at once, so in another go. Said of those that RCPT had
                # accepted it is the answer, or the whole message would go round and round.
                again.append(index)
            else:
                self._outcomes[index] = self._answered(index, reply, offered)
        if len(batch) < len(self.pending):
            done = set(batch)
            again += [index for index in self.pending if index not in done]
        self.pending = again
        if again and self.told is not None:
            self._tell(batch)
        if failure is None:
            return True
        self.fail(failure)
        return not (open_ends or undecided)

    def hear(self, batch: list[int], mailing: Mailing, peer: Peer) -> None:
        """Some replies of a transaction are there: tell of them if the others are slow."""
        if self._hearing is None:
            self._hearing = self.loop.call_later(SLOW, self._hear, batch, mailing, peer)

    def _hear(self, batch: list[int], mailing: Mailing, peer: Peer) -> None:
        self._hearing = None
        new = [
            (index, reply)
            for index, reply in zip(batch, mailing.replies, strict=True)
            if reply is not None and reply.is_positive and self._outcomes[index] is None
        ]
        self._settle_early(new, peer)
        self._tell([index for index, _ in new])

    def _end_hearing(self) -> None:
        if self._hearing is not None:
            self._hearing.cancel()
            self._hearing = None

    def cut(self, batch: list[int], mailing: Mailing, peer: Peer) -> None:
        """The delivery ends here in the middle of a transaction: tell what was answered."""
        self._end_hearing()
        if self.told is None:
            return
        replies = zip(batch, mailing.replies, strict=True)
        self._settle_early([(index, reply) for index, reply in replies if reply is not None], peer)
        self._tell(batch)

    def _settle_early(self, replies: list[tuple[int, Reply]], peer: Peer) -> None:
        for index, reply in replies:
            self._outcomes[index] = self._answered(index, reply, peer.offered)

    def _answered(self, index: int, reply: Reply, offered: Container[str]) -> Outcome:
        """What a server has said of a recipient."""
        recipient = self.recipients[index]
        said = passed_on(reply)
        return Outcome(recipient, said, self.peer, False, *_taken(offered), passage=self.passage)

    def _tell(self, batch: list[int]) -> None:
        known = [
            (index, outcome)
            for index in batch
            if (outcome := self._outcomes[index]) is not None and index not in self._heard
        ]
        if known and self.told is not None:
            self._heard.update(index for index, _ in known)
            self.told(known)

    def fail(self, reply: Reply) -> None:
        """A server has not served. One that is only away may come back, whatever others say after it."""
        if self.failure is None or self.failure.is_permanent or reply.is_temporary:
            self.failure = reply

    def result(self) -> list[Outcome]:
        """All outcomes, in the order of the recipients."""
        found = [outcome for outcome in self._outcomes if outcome is not None]
        if len(found) == len(self._outcomes):
            return found
        late = self.failure or (TOO_LATE if self.is_late else NO_SERVER)
        return [
            Outcome(recipient, late, self.peer, passage=self.passage) if outcome is None else outcome
            for recipient, outcome in zip(self.recipients, self._outcomes, strict=True)
        ]


def _taken(offered: Container[str]) -> tuple[bool, bool]:
    """`Outcome.took_dsn` and `took_deliver_by` of a server that offers this."""
    return "DSN" in offered, "DELIVERBY" in offered


def passed_on(reply: Reply) -> Reply:
    """The reply as our client gets it: every reply of ours has an enhanced code (RFC 2034)."""
    if reply.enhanced:
        return reply
    return replace(reply, enhanced=f"{reply.code // 100}.0.0")


def facts_of(envelope: Envelope, content: Content) -> ContentFacts:
    """What a next hop has to know of the message before it comes."""
    utf8_header = False
    if envelope.smtputf8:
        utf8_header = not content.head.partition(b"\r\n\r\n")[0].isascii()
    return ContentFacts(content.size, content.has_8bit, utf8_header, content.plain)
