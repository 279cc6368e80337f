"""What milters are told of a session: the client, the macros, paths and parameters of MAIL and RCPT.

Names and values of macros are those of Postfix (MILTER_README); Sendmail's and Postfix's `i` is the name of
the transaction in our log and in Received, and is known from MAIL on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import mta
from mailmilter.requests import LOCAL, Client, Family
from mta.address import Address
from mta.envelope import Envelope
from mta.policy.findings import METHODS, client_name, results, results_field, reverse_name
from mta.reply import Reply
from mta.session import Session

UNKNOWN = "unknown"
"""The name of a client whose name is not known, as Postfix has it."""
VERSION = f"Tamis {mta.__version__}"
RESULTS = {f"{method}_result": frozenset((method,)) for method in METHODS} | {
    "auth_results": METHODS,
    "client_name": frozenset(("iprev",)),
    "client_ptr": frozenset(("iprev",)),
    "_": frozenset(("iprev",)),
}
"""Macros that tell what sender authentication has found, and the methods that they need."""
_MAILERS = {"backend": "lmtp", "relay": "relay", "filter": "smtp"}
"""What Postfix calls such next hops in its default configuration."""


@dataclass(slots=True)
class Moment:
    """What is known at a stage."""

    session: Session
    hostname: str
    envelope: Envelope | None = None
    sender: Address | None = None
    """As the client gave it: the policy may have another one by now."""
    recipient: Address | None = None
    """In stage RCPT, as the client gave it."""
    next_hop: str = ""
    """Of the recipient, as "backend:store"; "" when it is not known."""
    refused: Reply | None = None
    """The recipient is refused."""
    steady: dict[str, str] = field(default_factory=dict)
    """What does not change until the next HELO, STARTTLS or AUTH; empty: to be made."""


def values(moment: Moment, asked: Collection[str] = ()) -> dict[str, str]:
    """All macros that have a value now, by bare name; of `RESULTS` those that are `asked` for."""
    if not moment.steady:
        moment.steady.update(_steady(moment.session, moment.hostname))
    found = dict(moment.steady)
    if asked:
        found |= {f"{method}_result": result for method, result in results(moment.session).items()}
        if "auth_results" in asked and (field := results_field(moment.session)):
            found["auth_results"] = field
    session, envelope = moment.session, moment.envelope
    if envelope is None or moment.sender is None:
        return found
    sender = moment.sender
    found["i"] = f"{session.id}.{session.transactions}"
    found["mail_addr"] = sender.text
    found["mail_host"] = sender.domain or moment.hostname
    found["mail_mailer"] = "smtp"
    if envelope.auth is not None:
        found["auth_author"] = envelope.auth
    recipient = moment.recipient
    if recipient is None:
        return found
    if moment.refused is None:
        found["rcpt_addr"] = recipient.text
        found["rcpt_host"] = recipient.domain or moment.hostname
        found["rcpt_mailer"] = _MAILERS.get(moment.next_hop.partition(":")[0], "smtp")
    else:
        found["rcpt_addr"] = moment.refused.text
        found["rcpt_host"] = moment.refused.enhanced
        found["rcpt_mailer"] = "error"
    return found


def _steady(session: Session, hostname: str) -> dict[str, str]:
    name, address = client_name(session) or UNKNOWN, session.client_address
    reverse = reverse_name(session) or UNKNOWN
    if address == "unix":
        name, address = LOCAL.name, LOCAL.address
        reverse = name
    found = {
        "j": hostname,
        "v": VERSION,
        "_": f"{name} [{address}]",
        "daemon_name": hostname,
        "daemon_addr": session.server_address,
        "daemon_port": str(session.server_port),
        "client_addr": address,
        "client_name": name,
        "client_ptr": reverse,
        "client_port": str(session.client_port),
    }
    tls = session.tls
    if tls is not None:
        found |= {"tls_version": tls.version, "cipher": tls.cipher, "cipher_bits": str(tls.bits)}
        if tls.peer_subject:
            found["cert_subject"] = tls.peer_subject
        if tls.peer_issuer:
            found["cert_issuer"] = tls.peer_issuer
    if session.user:
        found |= {"auth_authen": session.user, "auth_type": session.auth_mechanism}
    return found


def client_of(session: Session) -> Client:
    """The client as CONNECT tells it; that of a Unix socket is this machine."""
    address = session.client_address
    if address == "unix":
        return LOCAL
    if not session.client_ip:
        return Client(client_name(session) or UNKNOWN)
    family = Family.INET6 if ":" in address else Family.INET
    return Client(client_name(session), family, session.client_port, address)


def octets(address: Address) -> bytes:
    """An address as it was written."""
    return address.text.encode("utf-8", "surrogateescape")


def words(parameters: Sequence[tuple[str, str | None]]) -> Iterable[bytes]:
    """ESMTP parameters as words."""
    return [
        (keyword if value is None else f"{keyword}={value}").encode("utf-8", "surrogateescape")
        for keyword, value in parameters
    ]
