"""What is kept of a message beside its octets: the envelope, and who sent it, as octets for the queue.

The queue does not look into them. Unknown fields are ignored and missing ones have defaults, so that a node
may read what a newer or an older one has written. A field never changes its meaning.
"""

from __future__ import annotations

import datetime

import msgspec

from mta.address import NULL, Address, AddressError, parse_address
from mta.dsn.decide import Kind, Vouching
from mta.envelope import BodyType, DeliverBy, Envelope, OriginalRecipient, Recipient
from mta.session import Session
from mta.smtp.relaying import client_attributes


class RecordError(ValueError):
    """Octets that are no record: the queue is damaged, or written by something else."""


class Origin(msgspec.Struct, omit_defaults=True, frozen=True):
    """The session that a message came in by."""

    transaction: str = ""
    listener: str = ""
    protocol: str = "smtp"
    client_address: str = ""
    client_name: str = ""
    helo: str = ""
    user: str = ""
    attributes: dict[str, str] = {}
    """What XCLIENT and XFORWARD tell of it."""

    def session(self) -> Session:
        """As much of the session as a policy needs for a route."""
        session = Session(self.transaction, self.listener, self.protocol, self.client_address)
        session.client_name = self.client_name
        session.helo = self.helo
        session.user = self.user
        return session


class Record(msgspec.Struct, omit_defaults=True):
    """A message but for its octets, its sender and its recipients, which the queue knows itself."""

    kind: str = Kind.MESSAGE.value
    vouching: str = Vouching.NOBODY.value
    message_id: str = ""
    body: str = BodyType.SEVEN_BIT.value
    smtputf8: bool = False
    has_8bit: bool = False
    plain: bool = False
    auth: str | None = None
    ret: str | None = None
    envid: str | None = None
    require_tls: bool = False
    deliver_by: tuple[float, str, bool] | None = None
    """The end of the time (seconds of the epoch), mode, trace."""
    release: float = 0.0
    """Not to be tried before (seconds of the epoch); 0: at once."""
    priority: int | None = None
    origin: Origin = Origin()
    lifetime: float = 0.0
    """Seconds after which a policy wants it given up; 0: as the configuration says."""
    addressed: bool = False
    """Of our own mail: it has been looked up who gets it (`mta.spool.addressing`)."""

    def envelope(self, sender: str, now: float) -> Envelope:
        """The envelope as it is sent at the time `now`, without recipients. Raises RecordError."""
        by = self.deliver_by
        return Envelope(
            _address(sender),
            body=BodyType(self.body),
            smtputf8=self.smtputf8,
            auth=self.auth,
            ret=self.ret,
            envid=self.envid,
            require_tls=self.require_tls,
            deliver_by=None if by is None else DeliverBy(round(by[0] - now), by[1], by[2]),
            priority=self.priority,
        )


class _Wishes(msgspec.Struct, omit_defaults=True):
    """What RCPT asked for."""

    notify: list[str] | None = None
    original: tuple[str, str] | None = None
    route: str = ""
    """The transport that a policy has chosen."""
    sender: str | None = None
    """The sender that its next hop is told, if it is not that of the message."""
    owners: list[str] = []
    """Who reports about it go to, if not to the sender of the message."""


_encode = msgspec.msgpack.Encoder().encode
_KINDS, _VOUCHINGS, _BODIES = frozenset(Kind), frozenset(Vouching), frozenset(BodyType)
_record = msgspec.msgpack.Decoder(Record).decode
_wishes = msgspec.msgpack.Decoder(_Wishes).decode


def make_record(
    envelope: Envelope,
    session: Session | None,
    now: float,
    *,
    vouching: Vouching,
    kind: Kind = Kind.MESSAGE,
    transaction: str = "",
    message_id: str = "",
    has_8bit: bool = False,
    plain: bool = False,
    lifetime: float = 0.0,
    addressed: bool = False,
) -> Record:
    """Write down an envelope that came in at `now`; `session` is None for what we made ourselves."""
    by = envelope.deliver_by
    origin = Origin(transaction)
    if session is not None:
        origin = Origin(
            transaction,
            session.listener,
            session.protocol,
            session.client_address,
            session.client_name,
            session.helo,
            session.user,
            client_attributes(session),
        )
    return Record(
        kind.value,
        vouching.value,
        message_id,
        envelope.body.value,
        envelope.smtputf8,
        has_8bit,
        plain,
        envelope.auth,
        envelope.ret,
        envelope.envid,
        envelope.require_tls,
        None if by is None else (now + by.seconds, by.mode, by.trace),
        release_time(envelope, now),
        envelope.priority,
        origin,
        lifetime,
        addressed,
    )


def release_time(envelope: Envelope, now: float) -> float:
    """When FUTURERELEASE lets a message go (RFC 4865), in seconds of the epoch; 0 when it does not wait."""
    if envelope.hold_for is not None:
        return now + envelope.hold_for
    if envelope.hold_until is not None:
        return datetime.datetime.fromisoformat(envelope.hold_until).timestamp()
    return 0.0


def encode_record(record: Record) -> bytes:
    """The record as octets."""
    return _encode(record)


def decode_record(octets: bytes) -> Record:
    """The inverse of `encode_record`. Raises RecordError."""
    try:
        record = _record(octets)
    except msgspec.MsgspecError as error:
        raise RecordError(f"the envelope is unreadable: {error}") from error
    for word, words in ((record.kind, _KINDS), (record.vouching, _VOUCHINGS), (record.body, _BODIES)):
        if word not in words:
            raise RecordError(f"the envelope is unreadable: {word!r} is unknown")
    return record


def encode_recipient(recipient: Recipient) -> bytes:
    """What a recipient asked for, as octets; its address is kept by the queue."""
    sender = recipient.sender
    if recipient.notify is None and recipient.original is None and not recipient.route and sender is None:
        return b""
    notify = None if recipient.notify is None else sorted(recipient.notify)
    original = recipient.original
    kept = None if original is None else (original.address_type, original.address)
    told = None if sender is None else sender.text
    return _encode(_Wishes(notify, kept, recipient.route, told, [one.text for one in recipient.owners]))


def decode_recipient(address: str, octets: bytes) -> Recipient:
    """The inverse of `encode_recipient`. Raises RecordError."""
    recipient = Recipient(_address(address))
    if octets:
        try:
            wishes = _wishes(octets)
        except msgspec.MsgspecError as error:
            raise RecordError(f"a recipient is unreadable: {error}") from error
        recipient.notify = None if wishes.notify is None else frozenset(wishes.notify)
        recipient.original = None if wishes.original is None else OriginalRecipient(*wishes.original)
        recipient.route = wishes.route
        recipient.sender = None if wishes.sender is None else _address(wishes.sender)
        recipient.owners = tuple(map(_address, wishes.owners))
    return recipient


def _address(text: str) -> Address:
    try:
        return parse_address(text) if text else NULL
    except AddressError as error:
        raise RecordError(f"an address is unreadable: {error}") from error
