"""From what happened to a message to the reports about it, as messages for the queue."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from mailqueue.model import NewMessage, QueuedRecipient, Status
from mailqueue.store.base import Blob
from mta.address import Address
from mta.delivery.outcome import NextHop
from mta.dsn.decide import Kind, Options, Vouching, Why, sort_out
from mta.dsn.render import ENTROPY, Report, Reporter, Way, render
from mta.dsn.returned import Limits, Original
from mta.dsn.values import Event, RecipientReport
from mta.envelope import Envelope, Recipient
from mta.handover import Parcel
from mta.reply import Reply
from mta.session import Session
from mta.spool.hops import site_of
from mta.spool.journaling import journal_report
from mta.spool.record import encode_recipient, encode_record, make_record

Route = Callable[[Session, Envelope, Recipient], NextHop | Reply]
"""Where a recipient's copy goes (`mta.policy.verdict.Policy.route`)."""


Sign = Callable[[bytes, Blob], bytes]
"""Signatures for a message from us, of its header block and its body; empty when it goes unsigned."""


@dataclass(slots=True, frozen=True)
class ReportSettings:
    """How reports are made."""

    hostname: str
    postmaster: Address
    options: Options = field(default_factory=Options)
    limits: Limits = field(default_factory=Limits)
    lifetime: float = 2 * 86400.0
    """Seconds that a report is tried."""


class Reports:
    """Writes reports."""

    def __init__(
        self,
        settings: ReportSettings,
        route: Route,
        count: Callable[[Why], None],
        *,
        now: Callable[[], float],
        entropy: Callable[[int], bytes] = os.urandom,
        sign: Sign | None = None,
    ) -> None:
        """`count` is told why there is a report, or none, for each event; `sign` signs them."""
        self._sign = sign
        self._settings = settings
        self._route = route
        self._count = count
        self._now = now
        self._entropy = entropy

    def about(
        self, original: Original, events: Sequence[Event], vouching: Vouching, kind: Kind
    ) -> list[NewMessage]:
        """The reports that `events` of one message call for, not yet in the queue.

        Those about members of an alias with an owner go to who is behind the owner: an address of ours, for
        which nobody has to vouch.
        """
        owned: dict[tuple[Address, ...], list[Event]] = {}
        for event in events:
            owned.setdefault(event.recipient.owners, []).append(event)
        reports: list[NewMessage] = []
        for owners, some in owned.items():
            if owners:
                sender = some[0].recipient.sender or owners[0]
                about = replace(original, envelope=original.envelope.owned_by(sender))
                reports += self._about(about, some, Vouching.NETWORK, kind, owners)
            else:
                reports += self._about(original, some, vouching, kind, (original.envelope.sender,))
        return reports

    def _about(
        self,
        original: Original,
        events: Sequence[Event],
        vouching: Vouching,
        kind: Kind,
        owners: Sequence[Address],
    ) -> list[NewMessage]:
        settings = self._settings
        owed = sort_out(original.envelope, events, vouching, kind, settings.options)
        for why in owed.reasons:
            self._count(why)
        reports: list[NewMessage] = []
        if owed.to_sender:
            sender = original.envelope.sender
            reports += [
                # Who is behind an owner has been looked up with the list.
                self._report(
                    original, owed.to_sender, one, Kind.REPORT, addressed=one != sender, vouching=vouching
                )
                for one in owners
            ]
        if owed.to_postmaster:
            reports.append(self._report(original, owed.to_postmaster, settings.postmaster, Kind.NOTICE))
        return reports

    def _report(
        self,
        original: Original,
        about: list[RecipientReport],
        to: Address,
        kind: Kind,
        *,
        addressed: bool = False,
        vouching: Vouching = Vouching.NETWORK,
    ) -> NewMessage:
        settings, now = self._settings, self._now()
        report = render(
            original,
            about,
            Reporter(settings.hostname),
            to=to,
            now=now,
            entropy=self._entropy(ENTROPY),
            kind=kind,
            way=Way(utf8=original.envelope.smtputf8),
            limits=settings.limits,
        )
        return self._queued(report, kind, addressed=addressed, vouching=vouching)

    def journal(self, parcel: Parcel, header: bytes, to: Address) -> NewMessage:
        """A journal report of a message for one archive; one that cannot be delivered is the postmaster's."""
        report = journal_report(
            parcel,
            header,
            to=to,
            hostname=self._settings.hostname,
            now=self._now(),
            entropy=self._entropy(32),
        )
        return self._queued(report, Kind.REPORT)

    def _queued(
        self, report: Report, kind: Kind, *, addressed: bool = False, vouching: Vouching = Vouching.NETWORK
    ) -> NewMessage:
        """For the address that it is about: who is behind it is looked up at the first try.

        `vouching` is for that address, and kept for what follows if it cannot be delivered.
        """
        settings, now = self._settings, self._now()
        envelope = report.envelope
        record = make_record(
            envelope, None, now,
            vouching=vouching, kind=kind, message_id=report.message_id, has_8bit=True,
            addressed=addressed,
        )  # fmt: skip
        recipient = envelope.recipients[0]
        hop = self._route(record.origin.session(), envelope, recipient)
        signatures = self._sign(report.header, report.body) if self._sign is not None else b""
        return NewMessage(
            "",
            [
                QueuedRecipient(
                    recipient.address.text,
                    "" if isinstance(hop, Reply) else site_of(hop),
                    Status.QUEUED,
                    now,
                    data=encode_recipient(recipient),
                )
            ],
            signatures + report.header,
            report.body,
            encode_record(record),
            now,
            now + settings.lifetime,
        )
