"""vnd.tamis.srs: senders of mail that is passed on (`mta.policy.srs`). Status: complete.

    srs                     stage route: the next hop is told a sender of ours that leads back
    srs_reverse             stage rcpt: who is behind such an address gets the mail

`srs` does something where the mail of a sender that is none of ours leaves our domains; the null sender
stays. Reports that we make ourselves go to the original sender. `srs_reverse` refuses addresses of the form
that were not made here, or too long ago, and leaves all others alone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from mta.address import Address, parse_address
from mta.policy.aliases import Member
from mta.policy.ground import Ground
from mta.policy.sieve.asking import Services
from mta.policy.sieve.expand import Expand, Expansion
from mta.policy.sieve.facts import RCPT, ROUTE, Facts
from mta.policy.sieve.reply import Answer, PolicyAction
from mta.policy.srs import Srs, SrsError, SrsExpired
from mta.reply import Reply
from sieve_ext.extend import Act, Capability, Checker, Compiler, Request, Run, Step

SRS = "tamis_srs"
"""The setting that says whether there are secrets: "yes" or "no"; empty where nobody knows."""
NOT_OURS = Reply(550, "5.1.1", "this return address was not made here")
EXPIRED = Reply(550, "5.1.1", "the time of this return address is over")


@dataclass(frozen=True)
class ForwardSender(Request):
    """What is the next hop told as the sender? Answered by an address, None for the sender itself, or a text
    that says why it cannot be rewritten."""


@dataclass(frozen=True)
class ReverseSender(Request):
    """Where does the recipient's address lead back to? Answered by an address, None when it is no return
    address, or an SrsError."""


@dataclass(eq=False)
class RewriteSender(PolicyAction):
    """Another sender for this recipient's next hop."""

    address: Address
    name = "srs"

    def describe(self) -> str:
        """One line for people."""
        return f"srs <{self.address}>"


def srs_services(srs: Srs, ground: Ground, now: Callable[[], float]) -> Services:
    """Who makes and reads return addresses; `now` is seconds of the epoch."""
    domains = ground.settings.domains

    def forward(request: ForwardSender, facts: Facts) -> Address | str | None:
        envelope, recipient = facts.envelope, facts.recipient
        if envelope is None or recipient is None or recipient.sender is not None:
            return None
        sender = envelope.sender
        if sender.is_null or sender.domain in domains or recipient.address.domain in domains:
            return None
        try:
            return srs.forward(sender, now())
        except SrsError as error:
            return str(error)

    def reverse(request: ReverseSender, facts: Facts) -> Address | SrsError | None:
        if facts.recipient is None or facts.recipient.address.domain not in domains:
            return None
        try:
            return srs.reverse(facts.recipient.address, now())
        except SrsError as error:
            return error

    return {ForwardSender: forward, ReverseSender: reverse}


class _Srs(Act):
    def check(self, checker: Checker) -> None:
        """There are secrets."""
        if checker.unit.settings.text(SRS) == "no":
            checker.error(
                self, "no-secrets", f"the {self.name} command needs secrets", "set srs.secrets_file"
            )


class SrsCommand(_Srs):
    """srs."""

    word = "srs"
    stages = ROUTE

    def compile(self, compiler: Compiler) -> Step:
        """Ask, and add the action."""

        def rewrite(run: Run) -> Generator[Request, Any, None]:
            found = yield ForwardSender()
            if isinstance(found, Address):
                run.add(RewriteSender(found))
            elif found is not None:
                run.note(f"srs: the sender stays: {found}")

        return rewrite


class SrsReverseCommand(_Srs):
    """srs_reverse."""

    word = "srs_reverse"
    stages = RCPT

    def compile(self, compiler: Compiler) -> Step:
        """Ask, and put the address in the recipient's place, or refuse it."""

        def reverse(run: Run) -> Generator[Request, Any, None]:
            found = yield ReverseSender()
            if isinstance(found, Address):
                address = _recipient(run)
                run.add(Expansion([Expand(address, ())], {address.key: (Member(found),)}, is_proved=True))
            elif found is not None:
                run.note(f"srs_reverse: {found}")
                run.add(Answer(EXPIRED if isinstance(found, SrsExpired) else NOT_OURS))

        return reverse


def _recipient(run: Run) -> Address:
    return parse_address(run.envelope.extra["to"][0])


CAPABILITIES = (
    Capability("vnd.tamis.srs", words=(SrsCommand, SrsReverseCommand), specification="docs/policy/srs.md"),
)
