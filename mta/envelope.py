"""The envelope of a message: sender, recipients and what MAIL and RCPT said about them.

Values only. The server session builds it, the policy may change it, delivery relays it. Parameters of
extensions that later parts honour (DSN, REQUIRETLS, DELIVERBY, FUTURERELEASE, MT-PRIORITY) are carried
as they were validated, so that a next hop that offers them gets them.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct, field
from msgspec.structs import replace

from mta.address import Address
from mta.reply import Reply


class BodyType(StrEnum):
    """The BODY parameter of MAIL (RFC 6152, RFC 3030)."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT_MIME = "8BITMIME"
    BINARY_MIME = "BINARYMIME"


SEVEN_BIT, EIGHT_BIT_MIME, BINARY_MIME = BodyType  # by names of their own, as in `mta.smtp.state`


class DeliverBy(NamedTuple):
    """The BY parameter of MAIL (RFC 2852): seconds (may be negative for mode N), mode "N" or "R", trace."""

    seconds: int
    mode: str
    trace: bool


class OriginalRecipient(NamedTuple):
    """The ORCPT parameter of RCPT (RFC 3461 section 4.2): address type and decoded address."""

    address_type: str
    address: str

    @classmethod
    def of(cls, address: Address) -> OriginalRecipient:
        """What reports are to name when others take an address's place (RFC 3461, RFC 6533 section 3)."""
        return cls("rfc822" if address.text.isascii() else "utf-8", address.text)


class Recipient(Struct):
    """One RCPT: the forward-path and its parameters.

    `notify` is None when NOTIFY was not given, else a subset of NEVER, SUCCESS, FAILURE, DELAY.
    """

    address: Address
    notify: frozenset[str] | None = None
    original: OriginalRecipient | None = None
    route: str = ""
    """Name of the transport that a policy has chosen, "" for the usual way."""
    refusal: Reply | None = None
    """Why it does not get the message though it was accepted; None when it does. Positive: discarded."""
    parameters: Sequence[tuple[str, str | None]] = ()
    """What the client said behind the address, keywords in upper case, for filters that want to see it."""
    members: list[Recipient] = field(default_factory=list)
    """Who gets the mail in its place, when it is an alias for several; its own address gets none then."""
    by_site: bool = False
    """An alias of ours leads here: the client needs no right to relay."""
    sender: Address | None = None
    """The sender that the next hop is told for this recipient; None for that of the message."""
    owners: tuple[Address, ...] = ()
    """Who hears what becomes of it: those behind `sender`, which owns the alias that leads here. Empty: the
    sender of the message."""
    heard: Address | None = None
    """The address whose own scripts have been asked about the message; None before."""
    is_copy: bool = False
    """What becomes of it is nobody's concern but the log's."""

    @property
    def behind(self) -> Sequence[Recipient]:
        """Who gets the mail: the members, without any the recipient itself."""
        return self.members or (self,)


_USUAL = frozenset({"FAILURE", "DELAY"})
"""What NOTIFY says where it is not given (RFC 3461 section 4.1)."""


def joint_notify(recipients: Sequence[Recipient]) -> frozenset[str] | None:
    """NOTIFY of one in the place of several: NEVER of one silences no other."""
    each = {one.notify for one in recipients} or {None}
    if len(each) == 1:
        return each.pop()
    return frozenset[str]().union(*(_USUAL if one is None else one for one in each)) - {"NEVER"}


class Envelope(Struct):
    """One mail transaction's envelope (RFC 5321 section 2.3.1)."""

    sender: Address
    recipients: list[Recipient] = field(default_factory=list)
    size: int = 0
    """SIZE of MAIL in octets (RFC 1870), 0 when not declared."""
    body: BodyType = BodyType.SEVEN_BIT
    smtputf8: bool = False
    """SMTPUTF8 was given (RFC 6531)."""
    auth: str | None = None
    """AUTH= of MAIL, decoded (RFC 4954 section 5)."""
    ret: str | None = None
    """RET of MAIL: "FULL" or "HDRS" (RFC 3461 section 4.3)."""
    envid: str | None = None
    """ENVID of MAIL, decoded (RFC 3461 section 4.4)."""
    require_tls: bool = False
    """REQUIRETLS was given (RFC 8689)."""
    deliver_by: DeliverBy | None = None
    hold_for: int | None = None
    """HOLDFOR of MAIL in seconds (RFC 4865)."""
    hold_until: str | None = None
    """HOLDUNTIL of MAIL, an RFC 3339 date-time (RFC 4865)."""
    priority: int | None = None
    """MT-PRIORITY of MAIL, -9 to 9 (RFC 6710)."""
    prdr: bool = False
    """PRDR was given: one reply per recipient after the data."""
    parameters: Sequence[tuple[str, str | None]] = ()
    """What the client said behind the address, keywords in upper case, for filters that want to see it."""
    copies: tuple[tuple[str, Address], ...] = ()
    """Who gets copies for recipients, as scripts have said at RCPT, each with the place."""

    @property
    def everyone(self) -> list[Recipient]:
        """Who gets the mail: the recipients, of aliases for several their members."""
        for one in self.recipients:
            if one.members:
                break
        else:  # as nearly always
            return self.recipients
        return [each for one in self.recipients for each in one.behind]

    def sent_to(self, recipients: Sequence[Recipient]) -> Envelope:
        """The envelope as a next hop is told it for recipients that have the same sender."""
        sender = recipients[0].sender
        if sender is None:
            return self
        return self.owned_by(sender) if recipients[0].owners else replace(self, sender=sender)

    def owned_by(self, owner: Address) -> Envelope:
        """The envelope for members of an alias with an owner: what the sender wants to be told stays behind
        (RFC 3461 section 5.2.7.1)."""
        return replace(self, sender=owner, ret=None, envid=None)
