"""What a milter decides and asks for, as values.

Octets are octets: addresses, header names and values are `bytes` as they are in the message. The value of a
header is everything between the colon and the final line end, with its leading space and with CRLF inside
when it is folded.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Ruling(Enum):
    """The kinds of verdict."""

    CONTINUE = "continue"
    ACCEPT = "accept"
    """The milter has seen enough: of this session (at CONNECT and HELO) or of this message."""
    DISCARD = "discard"
    """Answer as if accepted, deliver to nobody."""
    REJECT = "reject"
    TEMPFAIL = "tempfail"
    REPLY = "reply"
    """Refuse with the reply that the milter has chosen."""
    SHUTDOWN = "shutdown"
    """Answer 421 and close the SMTP session."""
    CONNECTION_FAILURE = "connection failure"
    """Close the SMTP session without a reply."""


@dataclass(slots=True, frozen=True)
class Verdict:
    """A ruling with its reply; `code` is 0 where nothing is refused."""

    ruling: Ruling
    code: int = 0
    enhanced: str = ""
    """For example "5.7.1"; empty when the milter gave none."""
    lines: tuple[str, ...] = ()
    """The text, a string a line, without codes. Octets over 127 are kept by surrogateescape."""

    @property
    def refuses(self) -> bool:
        """True when the SMTP command is answered with 4xx or 5xx."""
        return self.code >= 400

    @property
    def goes_on(self) -> bool:
        """True when later milters are to be asked."""
        return self.ruling is Ruling.CONTINUE or self.ruling is Ruling.ACCEPT


CONTINUE = Verdict(Ruling.CONTINUE)
ACCEPT = Verdict(Ruling.ACCEPT)
DISCARD = Verdict(Ruling.DISCARD)
REJECT = Verdict(Ruling.REJECT, 550, "5.7.1", ("Command rejected",))
TEMPFAIL = Verdict(Ruling.TEMPFAIL, 451, "4.7.1", ("Service unavailable - try again later",))
SHUTDOWN = Verdict(Ruling.SHUTDOWN, 421, "4.7.0", ("Closing the connection",))
CONNECTION_FAILURE = Verdict(Ruling.CONNECTION_FAILURE, 421, "4.7.0", ("Closing the connection",))


@dataclass(slots=True, frozen=True)
class AddHeader:
    """Append a header after the last one."""

    name: bytes
    value: bytes


@dataclass(slots=True, frozen=True)
class InsertHeader:
    """Insert a header so that `index` headers of the whole message are above it (0: on top)."""

    index: int
    name: bytes
    value: bytes


@dataclass(slots=True, frozen=True)
class ChangeHeader:
    """Replace the `index`-th header (from 1) of that name; append it when there is none."""

    index: int
    name: bytes
    value: bytes


@dataclass(slots=True, frozen=True)
class DeleteHeader:
    """Delete the `index`-th header (from 1) of that name, if there is one."""

    index: int
    name: bytes


@dataclass(slots=True, frozen=True)
class AddRecipient:
    """Add a recipient; `parameters` are ESMTP parameters as one string, `NOTIFY=NEVER`."""

    address: bytes
    parameters: bytes = b""


@dataclass(slots=True, frozen=True)
class DeleteRecipient:
    """Remove a recipient."""

    address: bytes


@dataclass(slots=True, frozen=True)
class ChangeSender:
    """Replace the envelope sender; empty for the null sender."""

    address: bytes
    parameters: bytes = b""


@dataclass(slots=True, frozen=True)
class ReplaceBody:
    """Replace the body with these pieces, joined, as the milter sent them (`message.crlf` for line ends)."""

    chunks: tuple[bytes, ...]


@dataclass(slots=True, frozen=True)
class Quarantine:
    """Accept, and hold."""

    reason: str


Edit = (
    AddHeader
    | InsertHeader
    | ChangeHeader
    | DeleteHeader
    | AddRecipient
    | DeleteRecipient
    | ChangeSender
    | ReplaceBody
    | Quarantine
)


@dataclass(slots=True, frozen=True)
class Outcome:
    """What one milter answered at one stage."""

    verdict: Verdict = CONTINUE
    edits: tuple[Edit, ...] = ()
    failure: str = ""
    """Why the milter gave no proper answer and its default action was taken; empty when it did."""


class DefaultAction(Enum):
    """What holds when a milter cannot be asked, is late or breaks the protocol."""

    TEMPFAIL = "tempfail"
    ACCEPT = "accept"
    REJECT = "reject"
    QUARANTINE = "quarantine"

    def outcome(self, failure: str) -> Outcome:
        """The outcome that stands for the answer that was not given."""
        if self is DefaultAction.TEMPFAIL:
            return Outcome(Verdict(Ruling.TEMPFAIL, *_UNAVAILABLE_4), failure=failure)
        if self is DefaultAction.REJECT:
            return Outcome(Verdict(Ruling.REJECT, *_UNAVAILABLE_5), failure=failure)
        if self is DefaultAction.QUARANTINE:
            return Outcome(ACCEPT, (Quarantine(f"filter failed: {failure}"),), failure=failure)
        return Outcome(ACCEPT, failure=failure)


_UNAVAILABLE_4 = (451, "4.7.1", ("Service unavailable - try again later",))
_UNAVAILABLE_5 = (550, "5.5.0", ("Service unavailable",))
