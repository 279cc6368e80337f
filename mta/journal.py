"""What happened, for people and machines: one log line a message, and the counters.

The line of a message holds who sent what to whom, what each next hop said and how long it took; it is what a
postmaster searches. Refusals, logins, TLS failures and our own faults have their lines; a session that only
did what it should has none but at level debug.
"""

from __future__ import annotations

from typing import Any

from mta.envelope import Envelope
from mta.log import Logger
from mta.net.tlsinfo import failure_class
from mta.reply import Reply
from mta.session import Session
from mta.transaction import Completed


class LogJournal:
    """`mta.receiver.Journal` and `mta.transaction.Record` of a worker."""

    def __init__(self, log: Logger) -> None:
        """Write to `log`."""
        self._log = log

    # --- messages ----------------------------------------------------------------------------------

    def completed(self, session: Session, envelope: Envelope, transaction: str, result: Completed) -> None:
        """One line for a message that was answered."""
        answer = result.answer
        self._log.info(
            "message",
            id=transaction,
            result=answer.result,
            client=session.client_address,
            helo=session.helo,
            user=session.user,
            tls=session.tls.version if session.tls is not None else "",
            sender=envelope.sender.text,
            message_id=result.message_id,
            size=result.size,
            recipients=[
                {"to": outcome.recipient.address.text, "reply": str(outcome.reply), "peer": outcome.peer}
                if not outcome.reply.cause
                else {
                    "to": outcome.recipient.address.text,
                    "reply": str(outcome.reply),
                    "peer": outcome.peer,
                    "cause": outcome.reply.cause,
                }
                for outcome in result.outcomes
            ],
            reply=str(answer.final),
            seconds=round(result.seconds, 4),
        )

    def unacknowledged(self, session: Session, transaction: str, recipients: int) -> None:
        """Recipients have a message of which the client does not know."""
        self._log.warning("delivered, not acknowledged", id=transaction, recipients=recipients)

    # --- sessions ----------------------------------------------------------------------------------

    def connected(self, session: Session) -> None:
        """A client has been let in."""
        self._log.debug(
            "connected", session=session.id, listener=session.listener, client=session.client_address
        )

    def refused(
        self, session: Session, stage: str, reply: Reply, envelope: Envelope | None, what: str
    ) -> None:
        """A command was refused."""
        self._log.info(
            "refused",
            session=session.id,
            listener=session.listener,
            client=session.client_address,
            helo=session.helo,
            user=session.user,
            stage=stage.lower(),
            sender=envelope.sender.text if envelope is not None else "",
            what=what,
            reply=str(reply),
            cause=reply.cause,
        )

    def logged_in(self, session: Session) -> None:
        """A user has logged in."""
        self._log.info(
            "login",
            session=session.id,
            client=session.client_address,
            user=session.user,
            mechanism=session.auth_mechanism,
        )

    def login_failed(self, session: Session, mechanism: str, reply: Reply) -> None:
        """A login failed; the name that was tried is not logged, for it may be a password."""
        self._log.info(
            "login failed",
            session=session.id,
            client=session.client_address,
            mechanism=mechanism,
            reply=str(reply),
            cause=reply.cause,
        )

    def tls_started(self, session: Session) -> None:
        """TLS stands."""
        tls = session.tls
        assert tls is not None
        self._log.debug("TLS", session=session.id, version=tls.version, cipher=tls.cipher, sni=tls.sni)

    def handshake_failed(self, session: Session, error: Exception) -> None:
        """STARTTLS came to nothing."""
        self._log.info(
            "TLS handshake failed",
            session=session.id,
            client=session.client_address,
            reason=failure_class(error),
        )

    def failed(self, session: Session, error: Exception) -> None:
        """We have a bug: the stack goes to the log, 451 4.3.0 to the client."""
        self._log.error("internal error", session=session.id, exc_info=error)

    def closed(self, session: Session, error: Exception | None) -> None:
        """The connection is closed."""
        self._log.debug(
            "closed",
            session=session.id,
            transactions=session.transactions,
            errors=session.errors,
            reason=str(error) if error is not None else "",
        )

    def snapshot(self, listeners: object, transports: object, sessions: int) -> dict[str, Any]:
        return {}
