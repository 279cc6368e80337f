"""One message of the queue as a listing sees it: values that also travel over the control socket."""

from __future__ import annotations

from dataclasses import dataclass

from mta.address import AddressError, domain_key

STATUSES = ("queued", "deferred", "held", "delivered", "failed", "cancelled", "expanded")
"""What may be known of a recipient: the names of the queue's states in lower case."""
LIVE = frozenset(STATUSES[:3])
"""Statuses of recipients that may still get the message."""

NO_SUCH_MESSAGE = "no-such-message"
"""The code by which a worker answers that somebody else has the message, or nobody."""


@dataclass(slots=True, frozen=True)
class QueueRecipient:
    """One recipient of a queued message. `next_try` is seconds since 1970, None when none is planned."""

    address: str
    status: str = "queued"
    """One of `STATUSES`."""
    reply: str = ""
    """The last reply, "451 4.4.1 text"; "" before the first try."""
    next_try: float | None = None

    @property
    def is_live(self) -> bool:
        """True while it may still get the message."""
        return self.status in LIVE


@dataclass(slots=True, frozen=True)
class QueueRow:
    """One queued message."""

    id: str
    size: int
    """Octets, header included."""
    arrived: float
    """Seconds since 1970."""
    sender: str
    """The envelope sender, "" for the null sender."""
    recipients: tuple[QueueRecipient, ...]
    active: bool = False
    """Being delivered at this moment."""
    held: bool = False
    """Not tried until somebody releases it."""
    expiring: bool = False
    """An administrator has ordered that it be given up at the next chance."""
    node: str = ""
    """The node that has it."""

    @property
    def live(self) -> tuple[QueueRecipient, ...]:
        """The recipients that may still get the message."""
        return tuple(recipient for recipient in self.recipients if recipient.is_live)

    @property
    def deferred(self) -> bool:
        """True when somebody was tried in vain and will be tried again."""
        return any(recipient.status == "deferred" for recipient in self.recipients)


def state(row: QueueRow, recipient: QueueRecipient) -> str:
    """What to call a recipient that waits: "held" and "active" of its message go before its own status."""
    return "held" if row.held else "active" if row.active else recipient.status


def domain_of(address: str) -> str:
    """The domain of an address in the form in which domains are compared; "" for one without."""
    domain = address.rpartition("@")[2] if "@" in address else ""
    try:
        return domain_key(domain)
    except AddressError:
        return domain.lower()


def age(row: QueueRow, now: float) -> float:
    """Seconds that `row` has been in the queue, 0 for one from the future (clocks differ between nodes)."""
    return max(0.0, now - row.arrived)
