"""Who is behind a session, when it is not who connected: XCLIENT, XFORWARD, and what STARTTLS makes void.

XCLIENT (Postfix's XCLIENT_README) puts a trusted peer's client in place of the peer, for all that follows;
XFORWARD (XFORWARD_README) tells where the next message came from, for log and next hops alone. A fact that
the peer says it does not know is not known: it is never left as it was. Nothing here raises.

What XCLIENT says of HELO and PROTO counts until the client introduces itself again, as in Postfix: for who is
asked about the new connection. A transaction needs that introduction all the same.
"""

from __future__ import annotations

from collections.abc import Mapping

from mta.session import NOT_KNOWN, Session
from mta.smtp.xclient import TEMPUNAVAIL, UNAVAILABLE


def become(session: Session, attributes: Mapping[str, str]) -> None:
    """XCLIENT: `attributes` as `mta.smtp.xclient.parse_xclient` gives them."""
    known = _known(attributes)
    if "ADDR" in attributes:
        session.client_address = known.get("ADDR", NOT_KNOWN)
    if "PORT" in attributes or "ADDR" in attributes:  # the peer's port says nothing beside another address
        session.client_port = int(known.get("PORT", 0))
    if "DESTADDR" in attributes:
        session.server_address = known.get("DESTADDR", "")
    if "DESTPORT" in attributes or "DESTADDR" in attributes:
        session.server_port = int(known.get("DESTPORT", 0))
    session.client_name = known.get("NAME", "")
    session.proxied = True
    forget_client(session)
    session.user = known.get("LOGIN", "")
    session.auth_mechanism = "XCLIENT" if session.user else ""
    session.helo = known.get("HELO", "")
    session.esmtp = known.get("PROTO", "").upper() == "ESMTP"


def take_forwarded(session: Session, attributes: Mapping[str, str]) -> None:
    """XFORWARD: `attributes` as `mta.smtp.xclient.parse_xforward` gives them."""
    known = _known(attributes)
    session.forwarded.update({name: known.get(name, "") for name in attributes})


def forget_client(session: Session) -> None:
    """What the client has said so far is void, its login too (RFC 3207 section 4.2)."""
    session.helo = ""
    session.esmtp = False
    session.user = ""
    session.auth_mechanism = ""
    session.addresses = ()
    session.forwarded.clear()


def _known(attributes: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in attributes.items() if value not in (UNAVAILABLE, TEMPUNAVAIL)}
