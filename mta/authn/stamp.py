"""What sender authentication does to a message on its way through: fields taken out, fields put in front.

Before anything reads the message, fields Authentication-Results that claim our name are taken out of it.
When it is accepted and about to be delivered or queued, our own results are put in front of it, and it is
signed (`mta.authn.signer`).

Imports nothing that only evaluation or signing needs: forged fields are removed by every server.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mta.authn.authresults import FIELD, forged, render
from mta.authn.results import MethodResult
from mta.envelope import Envelope
from mta.handover import Stamped
from mta.reply import Reply
from mta.session import Session
from sieve_ext.message import Message

if TYPE_CHECKING:
    from mta.authn.evaluation import Authentication
    from mta.authn.signer import Signer


SIGNS = ("bimi-location", "bimi-indicator")
"""Fields that receivers write for mail programs (BIMI)."""


@dataclass(slots=True, frozen=True)
class StampSettings:
    """What is written and removed."""

    authserv_id: str
    """Our name in Authentication-Results."""
    received_spf: bool = False
    """Write Received-SPF, too."""
    believes: Callable[[str], bool] = lambda address: False
    """Tells whether results in our name are left in mail of a client address."""
    bimi: bool = False
    """Remove the fields by which receivers tell mail programs of a sign: of strangers they say nothing."""


class Stamper:
    """`mta.handover.Stamps` of a worker."""

    def __init__(
        self,
        settings: StampSettings,
        signer: Signer | None,
        count: Callable[[Session, Authentication, bool], None] | None = None,
    ) -> None:
        """Without a signer nothing is signed.

        `count` is told of each message that was looked at, and whether it was refused for good (reports).
        """
        self._count = count
        self._settings = settings
        self._signer = signer

    def cleaned(self, session: Session, message: Message) -> Message | None:
        """The message without forged results, None when there are none."""
        if self._settings.believes(session.client_address):
            return None
        fields = forged(message, (self._settings.authserv_id,))
        if self._settings.bimi:
            fields += [field for name in SIGNS for field in message.all(name)]
        if not fields:
            return None
        message = message.snapshot()
        message.remove(fields)
        return message

    def answered(self, session: Session, reply: Reply) -> None:
        """The message of the current transaction was answered."""
        of_session = session.authentication
        if self._count is None or of_session is None or of_session.transaction is None:
            return
        if of_session.transaction.examined and not reply.is_temporary:
            self._count(session, of_session.transaction, reply.is_permanent)

    async def stamp(
        self,
        session: Session,
        envelope: Envelope,
        message: Message,
        fields: bytes,
        signing: Sequence[object],
        leaves: Callable[[], bool],
    ) -> Stamped:
        """What goes in front of a message that is accepted.

        `fields` are header fields that we add and that are signed with it; `signing` is what the policy
        wants of signatures; `leaves` tells whether somebody outside gets it.
        """
        of_session = session.authentication
        authentication = of_session.transaction if of_session is not None else None
        results: tuple[MethodResult, ...] = ()
        front = b""
        if authentication is not None and authentication.examined:
            results = await authentication.results()
            front = await self._results(session, envelope, authentication, results)
        if self._signer is None:
            return Stamped(front, results)
        if fields:
            message = message.snapshot()
            message.prepend(fields)
        signed = await self._signer.sign(session, envelope, message, authentication, signing, leaves=leaves())
        return Stamped(signed.fields + front, results, signed.by, signed.refusal)

    async def _results(
        self,
        session: Session,
        envelope: Envelope,
        authentication: Authentication,
        results: Sequence[MethodResult],
    ) -> bytes:
        settings = self._settings
        utf8 = envelope.smtputf8
        value = render(settings.authserv_id, results, utf8=utf8)
        front = f"{FIELD}: {value}\r\n"
        if settings.received_spf and (found := authentication.known_spf) is not None:
            from mta.authn import receivedspf

            name = settings.authserv_id
            value = receivedspf.render(name, session, authentication.sender, found)
            front += f"{receivedspf.FIELD}: {value}\r\n"
        return front.encode("utf-8" if utf8 else "ascii", "replace")
