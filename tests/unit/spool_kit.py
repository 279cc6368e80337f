"""A queue that is worked in virtual time, with next hops that do what a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mailqueue.model import NewMessage, QueuedMessage, QueuedRecipient, Status
from mailqueue.queue import MailQueue
from mailqueue.schedule import Dispatcher, Limits, RetryPolicy
from mailqueue.store.base import Store
from mailqueue.store.memory import MemoryStore
from mta.address import parse_address
from mta.content import Content
from mta.delivery.outcome import NextHop, Outcome, Told, Transport
from mta.dsn.decide import Kind, Options, Vouching, Why
from mta.envelope import Envelope, Recipient
from mta.policy.verdict import NO_ADVICE, Advice, Tried
from mta.reply import Reply
from mta.session import Session
from mta.spool.acts import Acts
from mta.spool.addressing import Addressing, Find
from mta.spool.advice import Advisor
from mta.spool.attempt import Attempts, AttemptSettings
from mta.spool.gate import Gate
from mta.spool.hops import PLAIN, SiteLimits, site_of
from mta.spool.record import Record, encode_recipient, encode_record, make_record
from mta.spool.reports import Reports, ReportSettings
from mta.spool.runner import Runner
from tests.simulation.loop import run
from tests.simulation.queues import LoopClock, settings

__all__ = ["DOWN", "HEADER", "LATER", "NO", "OK", "Hop", "Work", "played", "received", "route"]

OK = Reply(250, "2.0.0", "kept")
LATER = Reply(450, "4.2.0", "busy")
NO = Reply(550, "5.1.1", "no such user")
DOWN = Reply(451, "4.4.1", "The next server does not answer", "connection refused")
"""Ours: it has a cause."""
HEADER = b"From: alice@example.org\r\nSubject: hello\r\n\r\n"
RETRY = RetryPolicy(delays=(60.0, 300.0), jitter=0.0, expire=3600.0, warn=1800.0)


@dataclass
class Seen:
    """One call of a transport."""

    at: float
    envelope: Envelope
    recipients: list[str]
    octets: bytes


@dataclass
class Hop:
    """A next hop; `answer` gives the reply for an address and the number of the call."""

    answer: Callable[[str, int], Reply] = lambda address, call: OK
    seconds: float = 0.1
    took_dsn: bool = False
    during: Callable[[], Coroutine[Any, Any, None]] | None = None
    introduces: bool = False
    each: int = 0
    """Recipients in one transaction, which takes `seconds`; 0 for all."""
    looks: Callable[[], Reply | None] | None = None
    """What a look at it finds; None: it cannot be looked at."""
    look_seconds: float = 0.0
    sent: bool = False
    """Whether it had the whole message when it failed."""
    looked: list[float] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    under_way: int = 0
    most: int = 0

    async def deliver(
        self,
        envelope: Envelope,
        recipients: Sequence[Recipient],
        content: Content,
        deadline: float,
        client: Mapping[str, str] | None = None,
        told: Told | None = None,
    ) -> list[Outcome]:
        now = asyncio.get_running_loop().time()
        assert deadline > now
        call = len(self.seen)
        names = [recipient.address.text for recipient in recipients]
        self.seen.append(Seen(now, envelope, names, b"".join(content.chunks())))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        outcomes: list[Outcome] = []
        try:
            if self.during is not None:
                await self.during()
            while len(outcomes) < len(recipients):
                done = len(outcomes)
                await asyncio.sleep(self.seconds)
                outcomes += (
                    Outcome(
                        r, self.answer(r.address.text, call), "hop:25", sent=self.sent, took_dsn=self.took_dsn
                    )
                    for r in recipients[done : done + self.each if self.each else None]
                )
                if told is not None and len(outcomes) < len(recipients):
                    told([(place, outcomes[place]) for place in range(done, len(outcomes))])
        finally:
            self.under_way -= 1
        return outcomes

    async def look(self, deadline: float) -> Reply | None:
        assert self.looks is not None
        now = asyncio.get_running_loop().time()
        assert deadline > now
        self.looked.append(now)
        await asyncio.sleep(self.look_seconds)
        return self.looks()

    async def close(self) -> None:
        return

    @property
    def times(self) -> list[float]:
        return [seen.at for seen in self.seen]


def route(session: Session, envelope: Envelope, recipient: Recipient) -> NextHop | Reply:
    """By the domain: `back.test` to `backend:back`, others to the relay of that name."""
    name = recipient.address.domain.removesuffix(".test")
    if name == "nowhere":
        return Reply(550, "5.1.2", "no route", "policy")
    return NextHop("backend:back") if name == "back" else NextHop(f"relay:{name}")


class Silent:
    """An advisor that says what the test wants, by local part; usually nothing."""

    def __init__(
        self, advice: dict[str, Advice] | None = None, unreported: frozenset[str] = frozenset()
    ) -> None:
        self.advice = advice or {}
        self.unreported = unreported
        self.asked: list[tuple[str, Tried]] = []

    def retry(self, session: Session, envelope: Envelope, recipient: Recipient, tried: Tried) -> Advice:
        self.asked.append((recipient.address.local, tried))
        return self.advice.get(recipient.address.local, NO_ADVICE)

    async def bounce(self, session: Session, envelope: Envelope, recipient: Recipient, tried: Tried) -> bool:
        self.asked.append((recipient.address.local, tried))
        return recipient.address.local not in self.unreported


class Journal:
    """`mta.spool.attempt.Journal` that remembers."""

    def __init__(self) -> None:
        self.tries: list[tuple[str, list[str]]] = []
        self.expirations: list[tuple[str, list[str]]] = []
        self.reports: list[tuple[str, str]] = []
        self.unreadables: list[str] = []
        self.addressings: list[tuple[str, list[str]]] = []
        self.unaddressables: list[tuple[str, str]] = []
        self.untolds: list[tuple[str, str]] = []
        self.recalls: list[tuple[str, int]] = []
        self.not_tries: list[tuple[str, str]] = []
        self.failures: list[Exception] = []

    def tried(
        self,
        message: QueuedMessage,
        record: Record,
        outcomes: Sequence[Outcome],
        seconds: float,
        transport: str = "",
    ) -> None:
        self.tries.append((message.id, [str(outcome.reply) for outcome in outcomes]))

    def expired(self, message: QueuedMessage, record: Record, recipients: Sequence[Recipient]) -> None:
        self.expirations.append((message.id, [one.address.text for one in recipients]))

    def reported(self, about: str, report: str) -> None:
        self.reports.append((about, report))

    def addressed(self, about: str, name: str, recipients: Sequence[Recipient]) -> None:
        self.addressings.append((about, [one.address.text for one in recipients]))

    def unaddressed(self, name: str, recipient: Recipient, reply: Reply) -> None:
        self.unaddressables.append((recipient.address.text, str(reply)))

    def untold(self, name: str, recipient: Recipient, reply: str) -> None:
        self.untolds.append((recipient.address.text, reply))

    def recalled(self, site: str, messages: int) -> None:
        self.recalls.append((site, messages))

    def unreadable(self, name: str, problem: Exception) -> None:
        self.unreadables.append(name)

    def not_tried(self, name: str, problem: Exception) -> None:
        self.not_tries.append((name, str(problem)))

    def failed(self, name: str, error: Exception) -> None:
        self.failures.append(error)


class Work:
    """A queue, what works it, and its next hops: `back` is a mail store, all others are relays.

    Times in the methods are those of the loop, which begins anywhere.
    """

    def __init__(
        self,
        store: Store | None = None,
        *,
        retry: RetryPolicy = RETRY,
        limits: Mapping[str, Limits] | None = None,
        options: Options | None = None,
        wrap: Callable[[Attempts], Any] = lambda attempts: attempts,
        advisor: Advisor | None = None,
        find: Find | None = None,
        **queue: Any,
    ) -> None:
        self.store = store or MemoryStore()
        self.hops: dict[str, Hop] = {"back": Hop(), "relay": Hop(), "home": Hop()}
        self.journal = Journal()
        self.clock = LoopClock()
        self.retry = retry
        self.reasons: list[Why] = []
        self._options = options or Options()
        self._limits = limits or {}
        self._queue_settings = queue
        self._wrap = wrap
        self.advisor: Advisor = advisor or Silent()
        self._find = find

    async def __aenter__(self) -> Work:
        self.start = asyncio.get_running_loop().time()
        self.queue = await MailQueue.open(
            self.store,
            settings(**self._queue_settings),
            self.clock,
            lambda handles: self.runner.adopted(handles),
        )
        self.dispatcher = Dispatcher(SiteLimits(self._limits, 1), connections=1000)
        looks = {name: hop.look for name, hop in self.hops.items() if hop.looks is not None}
        self.reports = Reports(
            ReportSettings("mx.test", parse_address("postmaster@home.test"), self._options),
            route,
            self.reasons.append,
            now=self.now,
            entropy=bytes,
        )
        self.transports: dict[str, Transport] = {
            ("backend:" if name == "back" else "relay:") + name: hop for name, hop in self.hops.items()
        }
        self.runner = Runner(
            self.queue,
            self.dispatcher,
            lambda runner: self._wrap(
                Attempts(
                    AttemptSettings(
                        self.retry, RetryPolicy(self.retry.delays, jitter=0.0, expire=1800.0, warn=None)
                    ),
                    self.queue,
                    self.transports,
                    route,
                    lambda transport: transport.startswith("backend:"),
                    self.reports,
                    self.journal,
                    self.advisor,
                    added=runner.added,
                    now=self.now,
                    addressing=self._addressing(runner),
                )
            ),
            self.journal,
            retry=self.retry,
            now=self.now,
            looks={f"backend:{name}": look for name, look in looks.items()},
        )
        self.acts = Acts(self.queue, self.runner, self.runner.attempts, route, self.now)
        self.gate = Gate(self.dispatcher, self.now, self.runner.nudge)
        self.task = asyncio.get_running_loop().create_task(self.runner.run())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await self.runner.stop(0.0)
        if kind is None:
            await self.task
            await self.queue.close()
        else:
            self.task.cancel()

    def _addressing(self, runner: Runner) -> Addressing | None:
        if self._find is None:
            return None
        retry = RetryPolicy(self.retry.delays, jitter=0.0, expire=1800.0, warn=None)
        return Addressing(
            self._find, self.queue, route, self.journal, retry, added=runner.added, now=self.now, naming=PLAIN
        )

    def now(self) -> float:
        """Seconds of the epoch."""
        return self.clock.wall()

    @property
    def age(self) -> float:
        """Seconds since the start."""
        return asyncio.get_running_loop().time() - self.start

    def at(self, hop: str) -> list[float]:
        """When a next hop was called, in seconds since the start."""
        return [time - self.start for time in self.hops[hop].times]

    def message(
        self,
        *addresses: str,
        sender: str = "alice@home.test",
        envelope: Envelope | None = None,
        vouching: Vouching = Vouching.LOGIN,
        kind: Kind = Kind.MESSAGE,
        status: Status = Status.QUEUED,
        notify: frozenset[str] | None = None,
        due: float | None = None,
        body: bytes = b"hi\r\n",
        priority: int = 0,
    ) -> NewMessage:
        """A message that nobody has tried yet."""
        now = self.now()
        envelope = envelope or Envelope(parse_address(sender))
        record = make_record(envelope, None, now, vouching=vouching, kind=kind)
        people = []
        for address in addresses:
            recipient = Recipient(parse_address(address), notify)
            hop = route(record.origin.session(), envelope, recipient)
            site = "" if isinstance(hop, Reply) else site_of(hop)
            people.append(
                QueuedRecipient(
                    address, site, status, now if due is None else due, data=encode_recipient(recipient)
                )
            )
        return NewMessage(
            "" if kind is not Kind.MESSAGE else sender,
            people,
            HEADER,
            body,
            encode_record(record),
            now,
            now + self.retry.expire,
            priority,
        )

    async def add(self, *addresses: str, **options: Any) -> str:
        """Queue a message as `message` makes it."""
        name = await self.queue.enqueue(self.message(*addresses, **options))
        self.runner.added(name)
        return name

    def states(self, name: str) -> list[Status]:
        """The recipients of a message that is in the queue."""
        return [state.status for state in self.queue.live.recipients(self.queue.live.handle_of(name))]

    async def idle(self, seconds: float = 100_000.0) -> None:
        """Wait until the queue is empty."""
        end = self.age + seconds
        while len(self.queue.live) or self.runner.under_way:
            assert self.age < end, f"{len(self.queue.live)} messages are left"
            await asyncio.sleep(0.25)


def received(hop: Hop) -> list[str]:
    """The addresses that a next hop was given, in order."""
    return [name for seen in hop.seen for name in seen.recipients]


def played(
    main: Callable[[Work], Coroutine[Any, Any, None]], work: Work | None = None, limit: float = 1e6
) -> Work:
    """Run a test in virtual time."""
    work = work or Work()

    async def all_of_it() -> None:
        async with work:
            await main(work)
        assert not work.journal.failures, work.journal.failures

    run(all_of_it(), limit)
    return work
