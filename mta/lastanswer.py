"""The answer about a message of which it is not certain yet that the client has read it.

A client that has not read it sends the message again; who has it by then is remembered, so that this brings
no second copy (`mta.unacknowledged`).
"""

from __future__ import annotations

from msgspec import Struct

from mta.content import MessageBuffer
from mta.delivery.fold import Answer
from mta.envelope import Envelope, Recipient

UNSURE = 2.0
"""Seconds after an answer within which a broken connection means that the client may not have read it."""


class LastAnswer(Struct):
    """The last message of a session, and what was said of it."""

    envelope: Envelope
    content: MessageBuffer
    transaction: str
    answer: Answer
    when: float
    """Time of the answer, of a clock of seconds."""
    ahead: bool
    """The client had sent more already: its next command does not say that it has read this."""

    def may_be_unread(self, now: float) -> bool:
        """Whether the client, if its connection breaks now, may not know the answer."""
        return now - self.when <= UNSURE

    def delivered(self) -> list[Recipient]:
        """The recipients that have the message and are not remembered yet: those of whom the client was told
        to try again are, and whether a report of them is owed."""
        if self.answer.final.is_temporary:
            return []
        pairs = zip(self.envelope.recipients, self.answer.each, strict=True)
        named = [one for to, reply in pairs if reply.is_positive for one in to.behind]
        return [*named, *self.answer.also]
