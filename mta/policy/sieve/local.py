"""vnd.tamis.site: what the configuration says of domains, users and clients. Status: complete.

    local_domain            the recipient is in one of our domains
    has_route               there is a way to the recipient's domain
    may_relay               the client has logged in or is in a trusted network
    logged_in               it has logged in
    login_required          the listener takes mail from users only
    owns_sender             the user may send as the sender of the envelope
    check_recipient         refuses a recipient of ours that does not exist

`check_recipient` asks the source of the recipient's domain, and refuses in its words; our users and networks
need no answer of a mail store that is away. `postmaster` and `abuse` exist in any case; mail for who does not
goes to the catch-all of the domain, if it has one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any

from mta.address import Address
from mta.policy.aliases import Member
from mta.policy.ground import Ground
from mta.policy.recipients import Existence
from mta.policy.sieve.asking import Services
from mta.policy.sieve.envelope import RewriteRecipient
from mta.policy.sieve.expand import Expansion
from mta.policy.sieve.facts import RCPT, RCPT_AND_ROUTE, Facts
from mta.policy.sieve.reply import Answer
from mta.reply import Reply
from mta.session import Session
from sieve_ext.extend import (
    Act,
    Capability,
    Compiler,
    Request,
    Run,
    Step,
    Test,
    asking,
    choice,
    glance_of,
    with_glance,
)

Owns = Callable[[Session, Address], bool | Awaitable[bool]]
"""Tells whether a session's user may send as an address."""


@dataclass(frozen=True)
class OwnsSender(Request):
    """May the user send as the sender of the envelope? Answered by a bool."""

    def unanswered(self) -> bool:
        """Where nobody knows, nobody may."""
        return False


@dataclass(frozen=True)
class CheckRecipient(Request):
    """Does the recipient exist? Answered by `Found`."""

    address: Address | None = None
    """Another address of ours, to which an alias leads; None for the recipient itself."""


@dataclass(slots=True, frozen=True)
class Found:
    """What is known of a recipient of ours."""

    refusal: Reply | None = None
    """None: it exists, or somebody stands in."""
    stand_in: Address | None = None
    """Who gets its mail."""


EXISTS = Found()
_USER = "vnd.tamis.auth-user"
_OWNS_SENDER, _CHECK_RECIPIENT = OwnsSender(), CheckRecipient()


def site_services(ground: Ground, owns: Owns) -> Services:
    """Who answers the questions about the site."""

    def owns_sender(request: OwnsSender, facts: Facts) -> bool | Awaitable[bool]:
        return facts.envelope is not None and owns(facts.session, facts.envelope.sender)

    def check_recipient(request: CheckRecipient, facts: Facts) -> Found | Awaitable[Found]:
        assert facts.recipient is not None  # the word is legal in stage "rcpt" only
        address = request.address or facts.recipient.address
        if request.address is not None and not ground.is_local(facts.session, address):
            return EXISTS
        if address.domain not in ground.settings.domains:
            return Found(stand_in=ground.stand_in(address))
        found = ground.find(address)
        if found is None:
            return EXISTS
        if isinstance(found, Reply):
            return _found(ground, address, found)
        return _found_later(facts.session, address, found)

    async def _found_later(session: Session, address: Address, asked: Awaitable[Existence]) -> Found:
        refusal = await asked
        if refusal is None or ground.can_wait(session, address, refusal):
            return EXISTS
        return _found(ground, address, refusal)

    return {OwnsSender: owns_sender, CheckRecipient: check_recipient}


def _found(ground: Ground, address: Address, refusal: Reply) -> Found:
    if refusal.is_permanent and not _is_full(refusal):
        stand_in = ground.stand_in(address)
        if stand_in is not None:
            return Found(stand_in=stand_in)
    return Found(refusal)


def _is_full(reply: Reply) -> bool:
    """The recipient exists, its mailbox is the problem (RFC 3463 section 3.3)."""
    return reply.enhanced.startswith(("5.2.", "4.2."))


class _Item(Test):
    """A test of an item of the environment that is yes or no."""

    item = ""

    def compile(self, compiler: Compiler) -> Step:
        """Look at the item."""
        item = self.item
        return with_glance(
            lambda run: run.environment.get(item) == "yes",
            lambda environment, host: environment.get(item) == "yes",
        )


class LocalDomainTest(_Item):
    """local_domain."""

    word = "local_domain"
    item = "vnd.tamis.local-domain"
    stages = RCPT_AND_ROUTE


class HasRouteTest(_Item):
    """has_route."""

    word = "has_route"
    item = "vnd.tamis.has-route"
    stages = RCPT_AND_ROUTE


class MayRelayTest(_Item):
    """may_relay."""

    word = "may_relay"
    item = "vnd.tamis.may-relay"


class LoggedInTest(Test):
    """logged_in."""

    word = "logged_in"

    def compile(self, compiler: Compiler) -> Step:
        """There is a user."""
        return with_glance(
            lambda run: bool(run.environment.get(_USER)),
            lambda environment, host: bool(environment.get(_USER)),
        )


class LoginRequiredTest(_Item):
    """login_required."""

    word = "login_required"
    item = "vnd.tamis.login-required"


class OwnsSenderTest(Test):
    """owns_sender."""

    word = "owns_sender"
    stages = frozenset(("mail",))

    def compile(self, compiler: Compiler) -> Step:
        """Ask."""
        return asking(_OWNS_SENDER, lambda run, answer: bool(answer), bool)


class CheckRecipientCommand(Act):
    """check_recipient."""

    word = "check_recipient"
    stages = RCPT

    def compile(self, compiler: Compiler) -> Step:
        """Ask, and add what follows from the answer."""
        expanded = compiler.fitting(_check_expanded)
        one = compiler.fitting(asking(_CHECK_RECIPIENT, _conclude, _says_nothing))
        return with_glance(choice([(_has_expanded, expanded)], one), glance_of(one))


def _says_nothing(found: Found | None) -> bool:
    """True where `_conclude` does nothing."""
    return found is None or found is EXISTS


def _has_expanded(run: Run) -> bool:
    return any(isinstance(one, Expansion) and one.found for one in run.result.actions)


def _check_expanded(run: Run) -> Generator[Request, Any, None]:
    aliases = [one for one in run.result.actions if isinstance(one, Expansion) and one.found]
    return (yield from _check_targets(run, aliases[-1]))


def _conclude(run: Run, found: Found | None) -> None:
    """Add what follows from the answer about the recipient."""
    if found is None or found is EXISTS:
        return
    if found.refusal is not None:
        run.add(Answer(found.refusal))
    elif found.stand_in is not None:
        run.add(RewriteRecipient(found.stand_in))


def _check_targets(run: Run, expansion: Expansion) -> Generator[Request, Any, None]:
    """Leave those of ours who do not exist out of what the script has expanded; refuse if none is left."""
    for key, targets in expansion.found.items():
        kept: dict[str, Member] = {}
        refusals = []
        for target in targets:
            run.spend(1)
            found = yield CheckRecipient(target.address)
            if found is not None and found.refusal is not None:
                run.note(f"alias {key}: {target} is left out: {found.refusal}")
                refusals.append(found.refusal)
                continue
            if found is not None and found.stand_in is not None:
                target = Member(found.stand_in, target.owner)
            kept.setdefault(target.address.key, target)
        later = [one for one in refusals if one.is_temporary]
        if later or not kept:
            run.add(Answer((later or refusals)[0]))
        expansion.found[key] = tuple(kept.values())


CAPABILITIES = (
    Capability(
        "vnd.tamis.site",
        words=(
            LocalDomainTest, HasRouteTest, MayRelayTest, LoggedInTest, LoginRequiredTest, OwnsSenderTest,
            CheckRecipientCommand,
        ),
        specification="docs/policy/site.md",
    ),
)  # fmt: skip
