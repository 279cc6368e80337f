"""The values that deciding and rendering share: what happened to a recipient, and what is said of it.

`Event` is what the transaction or the queue saw; `mta.dsn.decide` turns it into a `RecipientReport`, which
is what `mta.dsn.render` writes. Times are seconds since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mta.envelope import Recipient
from mta.reply import Reply


class Action(StrEnum):
    """The Action field (RFC 3464 section 2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"


class Result(StrEnum):
    """What happened to a recipient."""

    FAILED = "failed"
    """Refused for good."""
    EXPIRED = "expired"
    """Tried as long as the queue tries."""
    DELAYED = "delayed"
    """Still being tried, and longer than the sender expects."""
    DELIVERED = "delivered"
    """In the mail store (or handed to a mailing list, RFC 3461 section 5.2.7.1)."""
    RELAYED = "relayed"
    """Taken by a next hop; `Event.next_hop_dsn` says whether the parameters went along."""
    EXPANDED = "expanded"
    """Replaced by several recipients, which got what was asked but SUCCESS (RFC 3461 section 5.2.7.3)."""
    LATE = "late"
    """The time of DELIVERBY has passed (RFC 2852 section 4)."""


@dataclass(slots=True, frozen=True)
class Event:
    """What happened to one recipient of a message."""

    recipient: Recipient
    result: Result
    reply: Reply | None = None
    """The last reply of the next hop, or ours when there was none."""
    peer: str = ""
    """The server that gave `reply`, "host:port" or the path of a socket; "" when the reply is ours."""
    last_attempt: float | None = None
    retry_until: float | None = None
    """When trying ends; for DELAYED and LATE."""
    next_hop_dsn: bool = False
    """RELAYED: the next hop offered DSN."""
    next_hop_deliver_by: bool = False
    """RELAYED: the next hop offered DELIVERBY."""


@dataclass(slots=True, frozen=True)
class RecipientReport:
    """One recipient in a report."""

    recipient: Recipient
    action: Action
    status: str
    """An enhanced code of the class that `action` has (RFC 3463)."""
    reply: Reply | None = None
    peer: str = ""
    last_attempt: float | None = None
    retry_until: float | None = None
