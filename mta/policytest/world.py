"""One test file's server: what it knows, and what its policy decides. Nothing is sent, and nobody is
asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from mta.address import NULL, Address, domain_key, parse_address
from mta.delivery.outcome import NextHop
from mta.envelope import Envelope, Recipient
from mta.policy.ground import DomainRule, Ground, PolicySettings
from mta.policy.recipients import Directory
from mta.policy.sieve.asking import Services, finish
from mta.policy.sieve.decision import Decision, decide
from mta.policy.sieve.dialect import policy_dialect
from mta.policy.sieve.expand import Aliases
from mta.policy.sieve.facts import FROM_DATA, FROM_MAIL, QUEUED, RCPT_AND_ROUTE, Facts, Surroundings
from mta.policy.sieve.greylist import greylist_services
from mta.policy.sieve.local import site_services
from mta.policy.sieve.milter import MILTERS
from mta.policy.sieve.outcome import Outcome
from mta.policy.sieve.policy import script_envelope
from mta.policy.sieve.policyserver import POLICY_SERVERS
from mta.policy.sieve.program import Program, load, settings_for
from mta.policy.sieve.rate import rate_services
from mta.policy.sieve.route import ROUTES, SOURCES
from mta.policy.sieve.scan import SCANNERS
from mta.policy.sieve.srs import srs_services
from mta.policy.sieve.tables import Lists
from mta.policy.srs import Srs, SrsSettings
from mta.policy.verdict import Tried
from mta.policytest.answers import AnswerError, Answers, MemoryLedger, TestTable
from mta.reply import Reply
from mta.session import Session
from sieve_ext import Event, Settings
from sieve_ext.message import Message

NOW = 1_700_000_000.0
"""The time at which tests begin, in seconds of the epoch."""
DEFAULT_ROUTES = "backend:store relay:out mx"
SECRET = "the secret of all tests"
HOST = "mx.example.org"

EVENTS: set[tuple[str, str]] = set()
"""Kind and word of all that policies under test have done: what tests of the tests look at."""


class Around(Surroundings):
    """Items of the environment, some of them said by the test."""

    __slots__ = ("_said",)

    def __init__(self, facts: Facts, said: dict[str, str]) -> None:
        """`said` are items by name; what is not known at the stage stays unknown."""
        super().__init__(facts)
        self._said = said

    def get(self, name: str, default: Any = None) -> Any:
        """The item."""
        found = super().get(name, default)
        return self._said.get(name, found) if found is not default else default

    def __getitem__(self, name: str) -> str:
        return self._said.get(name) or super().__getitem__(name)


class World:
    """What a test has said so far."""

    def __init__(self) -> None:
        """A server for nobody, and a client that has said nothing."""
        self.items: dict[str, str] = {}
        self.tables: dict[str, TestTable] = {}
        self.people: set[str] = set()
        self.domains: dict[str, tuple[str, Address | None]] = {}
        self.recipients: tuple[str, ...] = ()
        self.answers = Answers()
        self.ledger = MemoryLedger()
        self.ledger.now = NOW
        self.program: Program | None = None
        self.decision = Decision()
        self.notes: list[str] = []

    def add_domain(self, name: str, delimiters: str, catch_all: str) -> None:
        """One of our domains. Raises AddressError."""
        self.domains[domain_key(name)] = (delimiters, parse_address(catch_all) if catch_all else None)

    def add_person(self, text: str) -> None:
        """Somebody who exists; the domain is ours from now on. Raises AddressError."""
        address = parse_address(text)
        self.people.add(address.key)
        self.domains.setdefault(address.domain, ("+", None))

    def load(self, name: str, octets: bytes, settings: Settings) -> list[str]:
        """Take a policy file; what is wrong with it. Warnings are no errors."""
        names = {
            MILTERS: self.answers.names("milter"),
            POLICY_SERVERS: self.answers.names("policy_server"),
            SCANNERS: self.answers.names("scan"),
            SOURCES: settings.text(SOURCES).split(),
        }
        routes = (settings.text(ROUTES) or DEFAULT_ROUTES).split()
        made = settings_for(routes, self.tables, has_queue=True, names=names)
        self.program, found = load([(name, octets)], made, tracing=True, dialect=policy_dialect())
        return [str(one.diagnostic) for one in found if not one.is_warning]

    def run(self, stage: str, sender: str | None, recipient: str, user: str, message: Message) -> str:
        """Do the blocks of a stage; why the script failed, "" when it did not. Raises AddressError."""
        assert self.program is not None
        ground = self._ground()
        facts = self._facts(stage, sender, recipient, user, message, ground)
        envelope = facts.envelope
        seen = script_envelope(facts.session, envelope, facts.recipient if stage != "data" else None)
        current = message if stage in FROM_DATA | QUEUED else None
        around = Around(facts, self.items)
        running = self.program.run(stage, around, seen, current, trace=_note)
        outcome = finish(running, self._services(ground), facts)
        done = outcome if isinstance(outcome, Outcome) else asyncio.run(_wait(outcome))
        self.decision = decide(done)
        self.notes = done.notes
        return done.fault

    def _ground(self) -> Ground:
        listener = self._item("vnd.tamis.listener", "smtp")
        return Ground(
            PolicySettings(
                {
                    name: DomainRule(
                        NextHop("backend:store"), Directory(self.people.__contains__), delimiters, catch_all
                    )
                    for name, (delimiters, catch_all) in self.domains.items()
                },
                parse_address(f"postmaster@{HOST}"),
                is_trusted=lambda address: self._item("vnd.tamis.trusted") == "yes",
                relay=NextHop("relay:out") if self._item("vnd.tamis.has-route") != "no" else None,
                auth_required=frozenset(
                    [listener] if self._item("vnd.tamis.login-required") == "yes" else []
                ),
            )
        )

    def _facts(
        self, stage: str, sender: str | None, recipient: str, user: str, message: Message, ground: Ground
    ) -> Facts:
        item = self._item
        session = Session(
            "testtesttest", item("vnd.tamis.listener", "smtp"), item("vnd.tamis.protocol", "smtp"),
            item("remote-ip", "192.0.2.1"), client_name=item("remote-host"), helo=item("vnd.tamis.helo"),
            esmtp=True, user=item("vnd.tamis.auth-user", user), transactions=1,
        )  # fmt: skip
        envelope = current = tried = None
        if stage in FROM_MAIL:
            envelope = Envelope(parse_address(sender) if sender else NULL)
            people = self.recipients or ((recipient,) if recipient else ())
            envelope.recipients = [Recipient(parse_address(one)) for one in people]
            if stage in RCPT_AND_ROUTE | QUEUED and envelope.recipients:
                current = envelope.recipients[0]
        if stage in QUEUED:
            code = item("vnd.tamis.reply.code", "451")
            if not (code.isascii() and code.isdecimal() and len(code) == 3):
                raise AnswerError(f"'{code[:80]}' is no code of a reply such as 451")
            reply = Reply(
                int(code),
                item("vnd.tamis.reply.enhanced", "4.2.0"),
                item("vnd.tamis.reply.text", "busy"),
            )
            tried = Tried(reply, 1, 60.0, "backend:store", message.render_header())
        shown = message if stage in FROM_DATA | QUEUED else None
        return Facts(stage, session, HOST, envelope, current, shown, tried, ground)

    def _item(self, name: str, default: str = "") -> str:
        return self.items.get(name, default)

    def _services(self, ground: Ground) -> Services:
        def now() -> float:
            return self.ledger.now

        owns = self.answers.of("owns_sender")
        lists = Lists(self.tables)
        return {
            **lists.services,
            **Aliases(lists, ground).services,
            **rate_services(self.ledger, now),
            **greylist_services(self.ledger, now),
            **site_services(ground, lambda session, sender: owns == ("yes",)),
            **srs_services(Srs(SrsSettings([SECRET], "example.org")), ground, now),
            **self.answers.services,
        }


async def _wait(outcome: Awaitable[Outcome]) -> Outcome:
    return await outcome


def _note(name: str, event: Event) -> None:
    EVENTS.add((event.kind, event.word))


def spent(work: Callable[[], Any]) -> tuple[Any, float]:
    """What `work` comes to, and the processor time of it: it is not the test file's."""
    before = time.thread_time()
    return work(), time.thread_time() - before
