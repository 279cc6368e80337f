"""Policy servers (postgrey, policyd-spf...): what they are told, and what their actions mean here.

The protocol is Postfix's (SMTPD_POLICY_README), spoken by `mailmilter.policy`. An action that refuses is the
answer to the script; the others are kept for the message (`pending`) or go to the log.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from time import monotonic

from mailmilter.policy import Decision, Kind, PolicyClient, PolicyRequest, PolicyService
from mta.address import Address, AddressError, parse_address
from mta.policy.external.pending import Pending
from mta.policy.external.tally import Tally
from mta.policy.findings import client_name, find_out, results, reverse_name
from mta.policy.sieve.facts import Facts
from mta.reply import Reply
from mta.trace import PRODUCT

STATES = {"connect": "CONNECT", "helo": "EHLO", "mail": "MAIL", "rcpt": "RCPT", "data": "END-OF-MESSAGE"}
"""What Postfix calls the stages."""
MISCONFIGURED = Reply(451, "4.3.5", "server configuration problem")


@dataclass(slots=True, frozen=True)
class Told:
    """What a server has answered, as far as the script is concerned."""

    reply: Reply | None = None
    """The refusal; None goes on."""
    disconnects: bool = False
    failure: str = ""
    """Why it could not be asked; `reply` is what the configuration says of that."""
    note: str = ""
    """For the log."""


NOTHING_WANTED: Mapping[str, Collection[str]] = {}


class PolicyServers:
    """The policy servers of a worker."""

    def __init__(
        self,
        services: Mapping[str, PolicyService],
        pending: dict[str, Pending],
        transports: Callable[[str], str],
        wanted: Mapping[str, Collection[str]] = NOTHING_WANTED,
        tally: Tally | None = None,
    ) -> None:
        """`pending` is by session; `transports` gives our name for a destination of FILTER, "" for none.

        `wanted` are the methods of sender authentication that each server is told of.
        """
        self._wanted = wanted
        self._tally = tally
        self._clients = {name: PolicyClient(service) for name, service in services.items()}
        self._pending = pending
        self._transport = transports

    @property
    def names(self) -> Collection[str]:
        """All of them."""
        return self._clients.keys()

    async def ask(self, name: str, facts: Facts) -> Told:
        """Ask about what is known at a stage."""
        await find_out(facts.session, self._wanted.get(name, ()))
        begun = monotonic()
        reply = await self._clients[name].ask(request_of(facts))
        if reply.failure and self._tally is not None:
            self._tally.failed(name, reply.failure, monotonic() - begun)
        elif self._tally is not None:
            self._tally.answered(name, reply.decision.kind.value, monotonic() - begun)
        told = self._apply(name, reply.decision, facts)
        return Told(told.reply, told.disconnects, reply.failure, told.note) if reply.failure else told

    def measure(self) -> None:
        """Set the numbers of connections."""
        if self._tally is not None:
            clients = self._clients
            self._tally.measure(
                {name: one.open for name, one in clients.items()},
                {name: one.opened for name, one in clients.items()},
            )

    def close(self) -> None:
        """Close idle connections."""
        for client in self._clients.values():
            client.close()

    def _apply(self, name: str, decision: Decision, facts: Facts) -> Told:
        kind, text = decision.kind, decision.text
        cause = f"policy server {name}"
        if kind in (Kind.DUNNO, Kind.OK):
            return Told()
        if kind in (Kind.WARN, Kind.INFO):
            return Told(note=f"{kind.value}: {text}")
        reply = Reply(decision.code, decision.enhanced, text, cause, decision.disconnects)
        if kind in (Kind.REJECT, Kind.DEFER):
            return Told(reply, decision.disconnects)
        if facts.session.over:  # nobody would forget it
            return Told()
        pending = self._pending.setdefault(facts.session.id, Pending())
        wishes = pending.wishes(facts.stage)
        match kind:
            case Kind.DEFER_IF_PERMIT if facts.stage in ("rcpt", "data"):
                pending.defer_if_permit = pending.defer_if_permit or reply
            case Kind.DEFER_IF_PERMIT:
                wishes.defer_if_permit = wishes.defer_if_permit or reply
            case Kind.DEFER_IF_REJECT:
                pending.defer_if_reject = pending.defer_if_reject or reply
            case Kind.HOLD:
                wishes.held = wishes.held or f"{cause}: {text or 'hold'}"
            case Kind.DISCARD:
                wishes.discarded = wishes.discarded or f"{cause}: {text or 'discard'}"
            case Kind.PREPEND:
                field = text.encode("utf-8", "replace") + b"\r\n"
                if field not in wishes.prepended.splitlines(keepends=True):  # asked for each recipient
                    wishes.prepended += field
            case Kind.REDIRECT | Kind.BCC:
                address = _address(text)
                if address is None:
                    return Told(MISCONFIGURED, note=f"{kind.value}: {text} is no address")
                if kind is Kind.REDIRECT:
                    wishes.redirected = address
                else:
                    wishes.copies.append(address)
            case Kind.FILTER:
                route = self._transport(text)
                if not route:
                    return Told(MISCONFIGURED, note=f"filter: {text} is no filter of tamis.toml")
                wishes.route = route
            case _:
                return Told(MISCONFIGURED, note=f"an action that is none: {text}")
        return Told()


def _address(text: str) -> Address | None:
    try:
        return parse_address(text)
    except AddressError:
        return None


def request_of(facts: Facts) -> PolicyRequest:
    """The question: all that Postfix 3.9 tells, and our results of authentication where they are known."""
    session, envelope, message, recipient = facts.session, facts.envelope, facts.message, facts.recipient
    tls = session.tls
    at_end = message is not None
    recipients = envelope.recipients if envelope is not None else []
    if recipient is None and at_end and len(recipients) == 1:
        recipient = recipients[0]
    size = 0 if envelope is None else envelope.size
    state = STATES[facts.stage]
    return PolicyRequest(
        "HELO" if state == "EHLO" and not session.esmtp else state,
        protocol_name="ESMTP" if session.esmtp else "SMTP",
        client_address="" if session.client_address == "unix" else session.client_address,
        client_name=client_name(session) or "unknown",
        reverse_client_name=reverse_name(session) or "unknown",
        client_port=str(session.client_port),
        server_address=session.server_address,
        server_port=str(session.server_port),
        helo_name=session.helo,
        sender="" if envelope is None else envelope.sender.text,
        recipient="" if recipient is None else recipient.address.text,
        recipient_count=str(len(recipients)) if at_end else "0",
        queue_id=f"{session.id}.{session.transactions}" if at_end else "",
        instance=f"{session.id}.{session.transactions}" if envelope is not None else session.id,
        size=str(message.original_size if message is not None else size),
        sasl_method=session.auth_mechanism,
        sasl_username=session.user,
        sasl_sender="" if envelope is None or envelope.auth is None else envelope.auth,
        ccert_subject="" if tls is None else tls.peer_subject,
        ccert_issuer="" if tls is None else tls.peer_issuer,
        ccert_pubkey_fingerprint="" if tls is None else tls.peer_key_fingerprint,
        ccert_fingerprint="" if tls is None else tls.peer_fingerprint,
        encryption_protocol="" if tls is None else tls.version,
        encryption_cipher="" if tls is None else tls.cipher,
        encryption_keysize="0" if tls is None else str(tls.bits),
        policy_context=f"{PRODUCT} {facts.stage}",
        results=_results(facts),
    )


def _results(facts: Facts) -> dict[str, str]:
    found = {"listener": facts.session.listener}
    if facts.session.tls is not None:
        found["tls_sni"] = facts.session.tls.sni
    return found | {f"{method}_result": result for method, result in results(facts.session).items()}
