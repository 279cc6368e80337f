"""What `expand` has found, carried out on recipients.

One address behind an alias takes the recipient's place. Several become its members: each is judged by the
policy behind as if the client had named it, but that it needs no right to relay where the alias is ours. A
member that is refused for good is left out, and the log says so; when none is left, or one is refused for
now, that is the recipient's answer. NOTIFY goes along but for SUCCESS, for which the sender hears that the
alias was expanded (RFC 3461 section 5.2.7.3 b); the ORCPT of all is what the client named.

Behind an alias with an owner (`mta.policy.aliases`) are the members of a list, also when it is only one. They
are sent the message from the owner, who hears what becomes of them, and for the sender the alias is where it
is delivered (RFC 3461 section 5.2.7.1). A message of the null sender keeps it: a report must not bring forth
another one, and so on, between a list and an owner who is in it.

An address that the policy behind has put in the place of one that does not exist (`catch_all`, postmaster)
may be an alias in its turn: it is looked for in the same tables, once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from msgspec import structs

from mta.address import Address
from mta.envelope import Envelope, OriginalRecipient, Recipient
from mta.policy.aliases import Member
from mta.policy.sieve.asking import Unavailable
from mta.policy.sieve.expand import Broken, Expand, Expansion
from mta.policy.sieve.onerror import DEFER
from mta.policy.sieve.turns import AT_ONCE
from mta.policy.verdict import CONTINUE, Verdict
from mta.reply import Reply

MEMBERS_MOST = 10_000
"""Members of all aliases of a message after which no more is expanded: a client that names the list of all
people again and again must not fill the memory."""
TOO_MANY = Verdict(Reply(452, "4.5.3", "too many recipients behind aliases, send to the rest again"))

Judge = Callable[[Recipient], Verdict | Awaitable[Verdict]]
"""The policy behind, asked about a recipient."""
Ask = Callable[[Expand], object]
"""Asks for the aliases of an address; may be an awaitable."""
Tell = Callable[[str], None]
"""Told for the log that a member is left out, or that aliases are not in order."""


def is_full(envelope: Envelope) -> bool:
    """Whether the aliases of a message have as many members as there may be."""
    return sum(len(one.members) for one in envelope.recipients) >= MEMBERS_MOST


def set_notify(envelope: Envelope, notify: frozenset[str]) -> None:
    """Let a policy have said NOTIFY of all recipients that the client has named."""
    for recipient in envelope.recipients:
        recipient.notify = notify
        for member in recipient.members:
            member.notify = _for_owner(notify) if member.owners else _without_success(notify)


def settle(
    recipient: Recipient,
    expansion: Expansion,
    judge: Judge,
    ask: Ask,
    tell: Tell,
    *,
    by_site: bool,
    owned: bool,
) -> Verdict | Awaitable[Verdict]:
    """The verdict about a recipient, whose address or members are set.

    `by_site` says that the address is one of ours, or that the client may relay anyway; `owned` that owners
    of aliases are to be the senders.
    """
    request = next((one for one in expansion.asked if one.address.key == recipient.address.key), None)
    settling = _Settling(request or expansion.asked[0], judge, ask, tell, by_site, owned)
    if request is None:  # the script has put it in the place of what it has looked for
        return settling.stand_in(recipient, lambda: judge(recipient)) if by_site else judge(recipient)
    targets = expansion.found.get(recipient.address.key) if by_site else None
    return settling.judged(recipient) if targets is None else settling.replaced(recipient, targets)


class _Settling:
    def __init__(
        self, request: Expand, judge: Judge, ask: Ask, tell: Tell, by_site: bool, owned: bool
    ) -> None:
        self._request = request
        self._judge = judge
        self._ask = ask
        self._tell = tell
        self._by_site = by_site
        self._owned = owned

    def replaced(
        self, recipient: Recipient, targets: Sequence[Member], *, again: bool = True
    ) -> Verdict | Awaitable[Verdict]:
        """Put `targets` in the place of the recipient's address."""
        if recipient.original is None:  # what reports are to name (RFC 3461 section 5.2.1)
            recipient.original = OriginalRecipient.of(recipient.address)
        judge = self.judged if again else self._judge
        if len(targets) == 1 and not (self._owned and targets[0].owner):
            recipient.address = targets[0].address
            recipient.by_site = self._by_site
            return judge(recipient)
        notify = _without_success(recipient.notify)
        members = [
            structs.replace(
                recipient, address=target.address, notify=notify, members=[], by_site=self._by_site
            )
            for target in targets
        ]
        if self._owned:
            for member, target in zip(members, targets, strict=True):
                if target.owner is not None:
                    member.sender, member.owners = target.owner.address, target.owner.people
                    member.notify = _for_owner(recipient.notify)
        if len(members) > AT_ONCE:
            return self._chosen_in_turns(recipient, members, judge)
        verdicts = [judge(member) for member in members]
        if all(isinstance(one, Verdict) for one in verdicts):
            return self._chosen(recipient, members, [one for one in verdicts if isinstance(one, Verdict)])
        return self._chosen_later(recipient, members, verdicts)

    async def _chosen_in_turns(
        self, recipient: Recipient, members: Sequence[Recipient], judge: Judge
    ) -> Verdict:
        found: list[Verdict] = []
        for start in range(0, len(members), AT_ONCE):
            some = members[start : start + AT_ONCE]
            found += await asyncio.gather(*(_settled(judge(member)) for member in some))
        return self._chosen(recipient, members, found)

    async def _chosen_later(
        self,
        recipient: Recipient,
        members: Sequence[Recipient],
        verdicts: Sequence[Verdict | Awaitable[Verdict]],
    ) -> Verdict:
        found = await asyncio.gather(*map(_settled, verdicts))
        return self._chosen(recipient, members, found)

    def _chosen(
        self, recipient: Recipient, members: Sequence[Recipient], verdicts: Sequence[Verdict]
    ) -> Verdict:
        """Keep the members that are not refused."""
        kept: dict[tuple[str, str], Recipient] = {}
        refused: Verdict | None = None
        for member, verdict in zip(members, verdicts, strict=True):
            reply = verdict.reply
            if reply is None or reply.is_positive:
                for one in member.behind:
                    kept.setdefault((one.address.local, one.address.domain), one)
            elif reply.is_temporary or reply.close:
                return verdict
            else:
                refused = refused or verdict
                self._tell(f"alias {recipient.address}: {member.address} is left out: {reply}")
        if not kept and refused is not None:
            return refused
        recipient.members = list(kept.values())
        return CONTINUE

    def judged(self, recipient: Recipient) -> Verdict | Awaitable[Verdict]:
        """What the policy behind says; who it puts in the place of somebody else may be an alias."""
        before = recipient.address
        verdict = self._judge(recipient)
        if not isinstance(verdict, Verdict):
            return self._judged_later(recipient, before, verdict)
        if recipient.address is before or verdict.reply is not None or recipient.members:
            return verdict
        return self.stand_in(recipient, lambda: verdict)

    async def _judged_later(
        self, recipient: Recipient, before: Address, awaited: Awaitable[Verdict]
    ) -> Verdict:
        verdict = await awaited
        if recipient.address is before or verdict.reply is not None or recipient.members:
            return verdict
        return await self.stand_in(recipient, lambda: verdict)

    async def stand_in(
        self, recipient: Recipient, else_: Callable[[], Verdict | Awaitable[Verdict]]
    ) -> Verdict:
        """Put others in the place of the address if it is an alias, else what `else_` says."""
        answer = self._ask(replace(self._request, address=recipient.address))
        if isinstance(answer, Awaitable):
            answer = await answer
        if isinstance(answer, Unavailable):
            self._tell(f"expand: {answer.reason}")
            return Verdict(DEFER)
        if isinstance(answer, Broken):
            self._tell(f"expand: {answer.reason}")
            return Verdict(answer.reply)
        if not isinstance(answer, tuple):
            return await _settled(else_())
        return await _settled(self.replaced(recipient, answer, again=False))


async def _settled(verdict: Verdict | Awaitable[Verdict]) -> Verdict:
    """The verdict, waited for where it is not there at once."""
    return verdict if isinstance(verdict, Verdict) else await verdict


def _for_owner(notify: frozenset[str] | None) -> frozenset[str] | None:
    """NOTIFY of members whose owner hears of them: the sender's wishes are about the alias."""
    return frozenset(("FAILURE", "DELAY")) if notify is not None and "SUCCESS" in notify else None


def _without_success(notify: frozenset[str] | None) -> frozenset[str] | None:
    """NOTIFY of members."""
    if notify is None or "SUCCESS" not in notify:
        return notify
    return notify - {"SUCCESS"} or frozenset(("NEVER",))
