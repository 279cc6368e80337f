"""Recipients that scripts add to a message: each is judged by the policy behind before it is one.

Of `add_recipient` each must be one that the client could have named. A copy (`bcc`) is the site's own: it
needs no right to relay, and it is sent with the null sender, so that nobody's mail server reports to the
sender about it. Either may be an alias of the site's: those behind it are added, as for mail that the server
writes itself (`mta.policy.sieve.ownmail`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from msgspec import structs

from mta.address import NULL
from mta.envelope import Envelope, Recipient
from mta.policy.sieve.decision import Decision
from mta.policy.sieve.envelope import ADDED_MOST
from mta.policy.sieve.verdicts import when
from mta.policy.verdict import Verdict
from mta.reply import Reply

Find = Callable[[str, Envelope, Recipient], Awaitable[Sequence[Recipient] | Reply | None]]
"""Who gets a message of a name in a recipient's place (`mta.policy.sieve.ownmail.OwnMail`)."""

NO_REPORTS = frozenset(("NEVER",))
"""NOTIFY of added recipients: the sender does not know of them."""


TOO_MANY = Verdict(Reply(452, "4.5.3", "too many recipients with copies, send to the rest again"))


def _wanted(decision: Decision) -> Iterator[tuple[str, Recipient]]:
    for place, address in decision.added:
        yield place, Recipient(address, NO_REPORTS)
    for place, address in decision.copies:
        yield place, Recipient(address, NO_REPORTS, by_site=True, sender=NULL, is_copy=True)


def keeping(decision: Decision, envelope: Envelope) -> Callable[[], None] | None:
    """Notes the copies that stage "rcpt" wants, to be called if the recipient is accepted; None: too many."""
    if not decision.copies:
        return _nothing
    copies = tuple(dict.fromkeys((*envelope.copies, *decision.copies)))
    return partial(setattr, envelope, "copies", copies) if len(copies) <= ADDED_MOST else None


def _nothing() -> None:
    return


def with_copies(asked: Decision | Awaitable[Decision], envelope: Envelope) -> Decision | Awaitable[Decision]:
    """What stage "data" decides, and the copies that were noted at RCPT: no policy behind adds them again."""
    if not envelope.copies:
        return asked
    copies, envelope.copies = envelope.copies, ()
    return when(asked, lambda decision: replace(decision, copies=[*copies, *decision.copies]))


async def added_recipients(
    name: str,
    decision: Decision,
    envelope: Envelope,
    find: Find | None,
    judge: Callable[[Recipient], Verdict | Awaitable[Verdict]],
    tell: Callable[[str], None],
) -> tuple[Recipient, ...] | Verdict:
    """Those that are not refused: for good, or copies at all. `tell` hears of the others.

    `find` says who is behind an alias, None where there are none; it is told `name`, that of the session. The
    verdict is what to answer when that cannot be known now of one that is no copy.
    """
    known = {recipient.address.key for recipient in envelope.everyone}
    added: list[Recipient] = []
    for place, wanted in _wanted(decision):
        found = None if find is None else await find(name, _own(envelope, wanted), wanted)
        if isinstance(found, Reply):
            if found.is_temporary and not wanted.is_copy:
                return Verdict(found)
            tell(f"{place}: {wanted.address} is not added: {found}")
            continue
        for recipient in [wanted] if found is None else _in_place_of(wanted, found):
            verdict = judge(recipient)
            if not isinstance(verdict, Verdict):
                verdict = await verdict
            if verdict.reply is not None and (verdict.reply.is_permanent or recipient.is_copy):
                tell(f"{place}: {recipient.address} is not added: {verdict.reply}")
                continue
            for one in recipient.behind:
                if one.address.key not in known:
                    known.add(one.address.key)
                    added.append(one)
    return tuple(added)


def _own(envelope: Envelope, wanted: Recipient) -> Envelope:
    return structs.replace(envelope, sender=NULL) if wanted.is_copy else envelope


def _in_place_of(wanted: Recipient, found: Sequence[Recipient]) -> list[Recipient]:
    if not wanted.is_copy:
        return list(found)
    return [structs.replace(one, by_site=True, sender=NULL, is_copy=True) for one in found]
