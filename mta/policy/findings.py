"""Results of sender authentication for the programs beside us: found out when one wants them, told as text.

Milters want them by the names of macros, policy servers by the configuration. What nobody wants is not looked
at; what cannot be known yet, such as DKIM before there is a message, is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection
from dataclasses import replace

from mta.session import Session

SENDER = "smtp.mailfrom"
METHODS = frozenset(("iprev", "spf", "dkim", "arc", "dmarc"))


async def find_out(session: Session, wanted: Collection[str]) -> None:
    """Let the methods that are `wanted` have a result, as far as the session has come."""
    authentication = session.authentication
    if authentication is None or not wanted:
        return
    work: list[Awaitable[object]] = []
    if "iprev" in wanted:
        work.append(authentication.iprev())
    transaction = authentication.transaction
    if transaction is not None:
        if "spf" in wanted:
            work.append(transaction.spf())
        if transaction.message is not None:
            work += [
                getattr(transaction, method)() for method in ("dkim", "arc", "dmarc") if method in wanted
            ]
    if len(work) == 1:
        await work[0]
    elif work:
        await asyncio.gather(*work)


def results(session: Session) -> dict[str, str]:
    """What is known, by method. Of several signatures a good one counts; "none" for a message without."""
    authentication = session.authentication
    if authentication is None:
        return {}
    found: dict[str, str] = {}
    if (iprev := authentication.known_iprev) is not None:
        found["iprev"] = str(iprev.result.result)
    transaction = authentication.transaction
    if transaction is None or not transaction.examined:
        return found
    if (spf := transaction.known_spf) is not None:
        found["spf"] = str(spf.result.result)
    if (signatures := transaction.known_dkim) is not None:
        good = [one for one in signatures if one.passed] or signatures
        found["dkim"] = str(good[0].result) if good else "none"
    if (chain := transaction.known_arc) is not None:
        found["arc"] = str(chain.result)
    if (dmarc := transaction.known_dmarc) is not None:
        found["dmarc"] = str(dmarc.result.result)
    return found


def results_field(session: Session) -> str:
    """The value of Authentication-Results with what is known, in one line; "" when nothing was looked at.

    Of the sender it has the domain only: opendmarc 1.4 takes a local part for the domain.
    """
    authentication = session.authentication
    transaction = authentication.transaction if authentication is not None else None
    if transaction is None or not transaction.examined:
        return ""
    from mta.authn.authresults import render

    known = [
        replace(one, properties={**one.properties, SENDER: one.properties[SENDER].rpartition("@")[2]})
        if SENDER in one.properties
        else one
        for one in transaction.known()
    ]
    return " ".join(render(transaction.authserv_id, known).split())


def client_name(session: Session) -> str:
    """The name of the client: as a trusted peer says, or one that leads back to its address; "" for none."""
    if session.client_name or session.authentication is None:
        return session.client_name
    found = session.authentication.known_iprev
    return "" if found is None else found.name


def reverse_name(session: Session) -> str:
    """The name that the reverse zone has for the client, whether it leads back or not; "" for none."""
    if session.client_name or session.authentication is None:
        return session.client_name
    found = session.authentication.known_iprev
    return "" if found is None else found.reverse
