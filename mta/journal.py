"""What happened, for people and machines: one log line a message, and the counters.

The line of a message holds who sent what to whom, what each next hop said and how long it took; it is what a
postmaster searches. Refusals, logins, TLS failures and our own faults have their lines; a session that only
did what it should has none but at level debug.
"""

from __future__ import annotations

from mta.accounts.authenticator import KNOWN
from mta.accounts.limiter import TOO_MANY_FROM_CLIENT
from mta.envelope import Envelope
from mta.firsttry import HAS_IT_ALREADY, HAS_IT_UNTOLD
from mta.handover import Completed
from mta.log import Logger
from mta.metrics import Stats
from mta.net.tlsinfo import failure_class, failure_text
from mta.reply import Reply
from mta.session import Session

LOGGED_RESULTS = 20
"""Results of sender authentication in the line of a message; it may have many signatures."""
_CLASSES = {2: "delivered", 4: "temporary", 5: "permanent"}


class LogJournal:
    """`mta.receiver.Journal` and `mta.handover.Record` of a worker."""

    def __init__(self, log: Logger, stats: Stats) -> None:
        """Write to `log` and count in `stats`."""
        self._log = log
        self._stats = stats

    # --- messages ----------------------------------------------------------------------------------

    def completed(self, session: Session, envelope: Envelope, transaction: str, result: Completed) -> None:
        """One line for a message that was answered."""
        answer, stats, listener = result.answer, self._stats, session.listener
        stats.messages[answer.result, listener] += 1
        stats.message_bytes[listener] += result.size
        stats.answer_seconds[listener].observe(result.seconds)
        recipients = []
        for outcome in result.outcomes:
            reply = outcome.reply
            kind = "queued" if outcome.queue_id else _CLASSES[reply.code // 100]
            if answer.result == "discarded":
                kind = answer.result
            stats.recipients[kind, outcome.label] += 1
            if reply is HAS_IT_ALREADY or reply is HAS_IT_UNTOLD:
                stats.repeats_answered += 1
            line = {"to": outcome.recipient.address.text, "reply": str(reply), "peer": outcome.peer}
            if outcome.passage is not None:
                line["site"], line["tls"] = outcome.passage.site, outcome.passage.tls
            if reply.cause:
                line["cause"] = reply.cause
            recipients.append(line)
        fields: dict[str, object] = {
            "id": transaction,
            "result": answer.result,
            "client": session.client_address,
            "helo": session.helo,
        }
        if session.forwarded:
            fields["origin"] = session.forwarded.get("ADDR") or "unknown"
            for name in ("NAME", "HELO", "PROTO", "IDENT"):
                if value := session.forwarded.get(name):
                    fields[f"origin_{name.lower()}"] = value
        if session.user:
            fields["user"] = session.user
        if session.tls is not None:
            fields["tls"] = session.tls.version
        fields["sender"] = envelope.sender.text
        fields["message_id"] = result.message_id
        fields["size"] = result.size
        if result.results:
            for one in result.results:
                stats.authentication[one.method, one.result.value] += 1
            fields["authentication"] = " ".join(
                f"{one.method}={one.result}" for one in result.results[:LOGGED_RESULTS]
            )
        if result.signed:
            for signature in result.signed:
                stats.signatures[signature.partition(" ")[0]] += 1
            fields["signed"] = list(result.signed)
        fields["recipients"] = recipients
        if len(recipients) > 1:
            fields["reply"] = str(answer.final)
        fields["seconds"] = round(result.seconds, 4)
        self._log.info("message", **fields)

    def unacknowledged(self, session: Session, transaction: str, recipients: int) -> None:
        """Recipients have a message of which the client does not know."""
        self._stats.unacknowledged += recipients
        self._log.warning("delivered, not acknowledged", id=transaction, recipients=recipients)

    # --- sessions ----------------------------------------------------------------------------------

    def connected(self, session: Session) -> None:
        """A client has been let in."""
        self._stats.sessions[session.listener] += 1
        self._stats.sessions_open[session.listener] += 1
        self._log.debug(
            "connected", session=session.id, listener=session.listener, client=session.client_address
        )
        if session.tls is not None:  # a proxy has told of it
            self.tls_started(session)

    def refused(
        self, session: Session, stage: str, reply: Reply, envelope: Envelope | None, what: str
    ) -> None:
        """A command was refused."""
        stage = stage.lower() or "syntax"
        self._stats.refusals[stage, session.listener] += 1
        self._log.info(
            "refused",
            session=session.id,
            listener=session.listener,
            client=session.client_address,
            helo=session.helo,
            user=session.user,
            stage=stage,
            sender=envelope.sender.text if envelope is not None else "",
            what=what,
            reply=str(reply),
            cause=reply.cause,
        )

    def broken_off(
        self, session: Session, envelope: Envelope | None, size: int, error: Exception | None
    ) -> None:
        """The connection has ended within a message, of which `size` octets had come.

        Without an envelope it is us who have ended it.
        """
        reason = "timeout or stop" if envelope is None else str(error or "closed by the client")
        self._log.info(
            "message broken off",
            session=session.id,
            listener=session.listener,
            client=session.client_address,
            helo=session.helo,
            user=session.user,
            sender=envelope.sender.text if envelope is not None else "",
            size=size,
            reason=reason,
        )

    def logged_in(self, session: Session) -> None:
        """A user has logged in."""
        self._stats.auth["success", session.auth_mechanism] += 1
        self._log.info(
            "login",
            session=session.id,
            client=session.client_address,
            user=session.user,
            mechanism=session.auth_mechanism,
        )

    def login_failed(self, session: Session, mechanism: str, reply: Reply) -> None:
        """A login failed; the name that was tried is not logged, for it may be a password."""
        # The guess that ends a session is answered 421, and is a guess all the same.
        temporary = reply.is_temporary and not reply.close
        # ManageSieve passes on whatever a client calls it: a series for each word would fill the memory.
        known = mechanism if mechanism in KNOWN else "unknown"
        if reply is TOO_MANY_FROM_CLIENT:
            self.limited("failures_per_client")
        self._stats.auth["temporary" if temporary else "failure", known] += 1
        self._log.info(
            "login failed",
            session=session.id,
            client=session.client_address,
            mechanism=mechanism,
            reply=str(reply),
            cause=reply.cause,
        )

    def limited(self, limit: str) -> None:
        """A client was refused because of a limit."""
        self._stats.limits[limit] += 1

    def tls_started(self, session: Session) -> None:
        """TLS stands."""
        tls = session.tls
        assert tls is not None
        self._stats.tls_sessions[tls.version, session.listener] += 1
        self._log.debug("TLS", session=session.id, version=tls.version, cipher=tls.cipher, sni=tls.sni)

    def handshake_failed(self, session: Session, error: Exception) -> None:
        """STARTTLS came to nothing."""
        self._stats.tls_failures[failure_class(error), session.listener] += 1
        self._log.info(
            "TLS handshake failed",
            session=session.id,
            listener=session.listener,
            client=session.client_address,
            reason=failure_class(error),
            detail=failure_text(error),
        )

    def failed(self, session: Session, error: Exception) -> None:
        """We have a bug: the stack goes to the log, 451 4.3.0 to the client."""
        self._stats.internal_errors += 1
        self._log.error("internal error", session=session.id, exc_info=error)

    def closed(self, session: Session, error: Exception | None) -> None:
        """The connection is closed."""
        self._stats.sessions_open[session.listener] -= 1
        self._log.debug(
            "closed",
            session=session.id,
            transactions=session.transactions,
            errors=session.errors,
            reason=str(error) if error is not None else "",
        )
