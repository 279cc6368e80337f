"""Recipients that scripts add to a message: each is judged by the policy behind before it is one.

Of `add_recipient` each must be one that the client could have named. A copy (`bcc`) is the site's own: it
needs no right to relay, and it is sent with the null sender, so that nobody's mail server reports to the
sender about it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

from mta.address import NULL
from mta.envelope import Envelope, Recipient
from mta.policy.sieve.decision import Decision
from mta.policy.verdict import Verdict

NO_REPORTS = frozenset(("NEVER",))
"""NOTIFY of added recipients: the sender does not know of them."""


def _wanted(decision: Decision) -> Iterator[tuple[str, Recipient]]:
    for place, address in decision.added:
        yield place, Recipient(address, NO_REPORTS)
    for place, address in decision.copies:
        yield place, Recipient(address, NO_REPORTS, by_site=True, sender=NULL, is_copy=True)


async def added_recipients(
    decision: Decision,
    envelope: Envelope,
    judge: Callable[[Recipient], Verdict | Awaitable[Verdict]],
    tell: Callable[[str], None],
) -> tuple[Recipient, ...]:
    """Those that are not refused: for good, or copies at all. `tell` hears of the others."""
    known = {recipient.address.key for recipient in envelope.everyone}
    added: list[Recipient] = []
    for place, recipient in _wanted(decision):
        address = recipient.address
        verdict = judge(recipient)
        if not isinstance(verdict, Verdict):
            verdict = await verdict
        if verdict.reply is not None and (verdict.reply.is_permanent or recipient.is_copy):
            tell(f"{place}: {address} is not added: {verdict.reply}")
        elif recipient.address.key not in known:
            known.add(recipient.address.key)
            added.append(recipient)
    return tuple(added)
