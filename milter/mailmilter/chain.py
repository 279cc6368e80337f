"""Several milters in order through one SMTP session, each seeing the edits of the ones before.

`MilterChain` has one method for each SMTP stage. Each asks the milters one after the other, until one refuses
or discards; what is then true for the whole chain is in a `Result`. A milter may `join` at any time: the
stages that are over are replayed to it first. Nothing raises for what milters do.

The caller applies verdicts; the chain applies edits to the `Message` it is given, as the next milter must
see them, and returns them too. Quarantine may come at any stage, and comes again at each stage from a milter
whose default action it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import monotonic

from mailmilter import requests
from mailmilter.connection import Milter, MilterConnection, MilterPool, run_stage
from mailmilter.constants import Command, Protocol, Stage
from mailmilter.macros import Values, bare
from mailmilter.message import BodyStore, Message
from mailmilter.requests import Client, macro_packet
from mailmilter.session import Request
from mailmilter.values import CONTINUE, Edit, Outcome, Verdict

MacroSource = Callable[[Stage], Values]
"""All macros that have a value now, by name without braces: `j`, `i`, `mail_addr`, `tls_version` ...

Asked once at each stage; the mapping is kept for milters that join later, so it must not change afterwards.
"""


_CONTENT = (
    (Command.END_OF_HEADERS, Stage.END_OF_HEADERS),
    (Command.END_OF_MESSAGE, Stage.END_OF_MESSAGE),
)


@dataclass(slots=True, frozen=True)
class Answer:
    """What one milter said at one stage, for log and explanation."""

    milter: str
    outcome: Outcome
    seconds: float = 0.0
    """What it took."""


@dataclass(slots=True, frozen=True)
class Refused:
    """A recipient, already accepted, that a milter which joined late refuses."""

    address: bytes
    verdict: Verdict


@dataclass(slots=True, frozen=True)
class Result:
    """What the chain said at one stage."""

    verdict: Verdict = CONTINUE
    """Of the first milter that refused or discarded; else CONTINUE."""
    milter: str = ""
    """Whose verdict it is; empty for CONTINUE."""
    answers: tuple[Answer, ...] = ()
    """Of each milter that was asked, in order."""
    refused: tuple[Refused, ...] = ()
    """Only from `join`."""

    @property
    def edits(self) -> list[Edit]:
        """All edits, in order."""
        return [edit for answer in self.answers for edit in answer.outcome.edits]

    @property
    def failures(self) -> list[str]:
        """Why milters gave no proper answer, with their names."""
        return [f"{one.milter}: {one.outcome.failure}" for one in self.answers if one.outcome.failure]


@dataclass(slots=True)
class _Member:
    milter: Milter
    connection: MilterConnection | None = None
    down: Outcome | None = None
    """Holds for the session when there is no connection."""


@dataclass(slots=True, frozen=True)
class _Envelope:
    address: bytes
    parameters: tuple[bytes, ...]


@dataclass(slots=True)
class _Past:
    """The stages that are over, for milters that join late; macros are kept as they were then."""

    client: tuple[Client, Values] | None = None
    helo: tuple[str, Values] | None = None
    mail: tuple[_Envelope, Values] | None = None
    rcpt: list[tuple[_Envelope, Values]] = field(default_factory=list)
    data: Values | None = None


class MilterChain:
    """The milters of one SMTP session."""

    def __init__(self, pool: MilterPool, macros: MacroSource, milters: Iterable[Milter] = ()) -> None:
        """`milters` take part from the beginning; `macros` is asked again at every stage."""
        self._pool = pool
        self._macros = macros
        self._members = [_Member(milter) for milter in milters]
        self._past = _Past()

    @property
    def names(self) -> list[str]:
        """The milters that have joined, in order."""
        return [member.milter.name for member in self._members]

    @property
    def wants_rejected(self) -> bool:
        """True when a milter asked to hear of recipients that the MTA refuses (SMFIP_RCPT_REJ)."""
        return any(_has(member, Protocol.REJECTED_RCPT) for member in self._members)

    def asked(self, *stages: Stage) -> set[str]:
        """The macros that are sent at some stages, by bare name: what filters chose, or our lists."""
        found: set[str] = set()
        for member in self._members:
            connection = member.connection
            agreement = connection.session.agreement if connection is not None else None
            for stage in stages:
                names = agreement.symbols.get(stage) if agreement is not None else None
                found.update(member.milter.macros.get(stage, ()) if names is None else names)
        return {bare(name) for name in found}

    # The stages of a session.

    async def connect(self, client: Client) -> Result:
        """The client is there."""
        self._past = _Past(client=(client, self._macros(Stage.CONNECT)))
        return await self._all(self._connect_request)

    async def helo(self, name: str) -> Result:
        """HELO or EHLO; may come again, and after STARTTLS it does."""
        self._past.helo = (name, self._macros(Stage.HELO))
        return await self._all(self._helo_request)

    async def mail(self, address: bytes, parameters: Sequence[bytes] = ()) -> Result:
        """MAIL; the address without brackets, the ESMTP parameters as the client wrote them."""
        envelope = _Envelope(address, tuple(parameters))
        self._past.mail = (envelope, self._macros(Stage.MAIL))
        self._past.rcpt = []
        self._past.data = None
        result = await self._all(self._mail_request)
        if result.verdict.refuses:
            self._past.mail = None
        return result

    async def rcpt(self, address: bytes, parameters: Sequence[bytes] = ()) -> Result:
        """RCPT, for a recipient that the MTA accepts."""
        past = (_Envelope(address, tuple(parameters)), self._macros(Stage.RCPT))
        result = await self._all(partial(self._rcpt_request, *past))
        if not result.verdict.refuses:
            self._past.rcpt.append(past)
        return result

    async def rejected_rcpt(self, address: bytes, parameters: Sequence[bytes] = ()) -> Result:
        """RCPT that the MTA refuses, for the milters that want to know; their verdict is of no effect.

        As with Postfix the macros should have `rcpt_mailer` "error", `rcpt_host` the enhanced code and
        `rcpt_addr` the text of the reply, without the address that Postfix's replies begin with.
        """
        envelope = _Envelope(address, tuple(parameters))
        macros = self._macros(Stage.RCPT)
        wanting = [member for member in self._members if _has(member, Protocol.REJECTED_RCPT)]
        return await self._all(partial(self._rcpt_request, envelope, macros), wanting)

    async def data(self) -> Result:
        """DATA or the first BDAT."""
        self._past.data = self._macros(Stage.DATA)
        return await self._all(self._data_request)

    async def unknown(self, line: bytes) -> Result:
        """A command that the MTA does not know."""
        return await self._all(lambda _member: requests.unknown(line, b""))

    async def message(
        self,
        message: Message,
        new_store: Callable[[], BodyStore] | None = None,
        names: Collection[str] | None = None,
    ) -> Result:
        """The content, from headers to end of message; edits are applied to `message`.

        With `new_store`, which is called for each milter, replaced bodies are written there as they come, and
        the edits say only that there is one; without it they are held in memory. `names` are the milters that
        are asked, all by default.
        """
        answers: list[Answer] = []
        for member in list(self._members):
            if names is not None and member.milter.name not in names:
                continue
            store = new_store() if new_store is not None else None
            begun = monotonic()
            outcome = await self._content(member, message, store)
            answers.append(Answer(member.milter.name, outcome, monotonic() - begun))
            message.apply(outcome.edits, store)
            if not outcome.verdict.goes_on:
                return Result(outcome.verdict, member.milter.name, tuple(answers))
        return Result(answers=tuple(answers))

    def abort(self) -> None:
        """The transaction is over: reset, refused or, as Postfix does, ended well."""
        for member in self._members:
            connection = member.connection
            if connection is not None and not connection.session.failed:
                connection.session.abort()
                connection.send()
        self._past.mail = None
        self._past.rcpt = []
        self._past.data = None

    def close(self) -> None:
        """The SMTP session is over: quit, or give connections back for the next one."""
        for member in self._members:
            if member.connection is not None:
                self._pool.give_back(member.milter, member.connection)
                member.connection = None
                member.down = Outcome()

    async def join(self, milter: Milter) -> Result:
        """Add a milter, last in order, and replay to it what has happened; nothing if it is there already.

        A verdict on an earlier stage holds from now on: the caller answers it to the command at hand.
        Recipients that it refuses are in `refused`; when it refuses all of them, the verdict is the last one.
        """
        if milter.name in self.names:
            return Result()
        member = _Member(milter)
        self._members.append(member)
        past = self._past
        answers: list[Answer] = []
        refused: list[Refused] = []

        async def ask(build: Callable[[_Member], Request]) -> Outcome:
            begun = monotonic()
            outcome = await self._ask(member, build)
            answers.append(Answer(milter.name, outcome, monotonic() - begun))
            return outcome

        def ended(verdict: Verdict) -> Result:
            return Result(verdict, milter.name, tuple(answers), tuple(refused))

        for over, build in (
            (past.client, self._connect_request),
            (past.helo, self._helo_request),
            (past.mail, self._mail_request),
        ):
            if over is not None and not (verdict := (await ask(build)).verdict).goes_on:
                return ended(verdict)
        for envelope, macros in past.rcpt:
            verdict = (await ask(partial(self._rcpt_request, envelope, macros))).verdict
            if verdict.refuses and not _settled(member):
                refused.append(Refused(envelope.address, verdict))
            elif not verdict.goes_on:
                return ended(verdict)
        if refused and len(refused) == len(past.rcpt):
            return ended(refused[-1].verdict)
        if past.data is not None and not (verdict := (await ask(self._data_request)).verdict).goes_on:
            return ended(verdict)
        return Result(answers=tuple(answers), refused=tuple(refused))

    # Asking.

    async def _all(
        self, build: Callable[[_Member], Request], members: Sequence[_Member] | None = None
    ) -> Result:
        answers: list[Answer] = []
        for member in list(self._members if members is None else members):
            begun = monotonic()
            outcome = await self._ask(member, build)
            answers.append(Answer(member.milter.name, outcome, monotonic() - begun))
            if not outcome.verdict.goes_on:
                return Result(outcome.verdict, member.milter.name, tuple(answers))
        return Result(answers=tuple(answers))

    async def _ask(self, member: _Member, build: Callable[[_Member], Request]) -> Outcome:
        connection = await self._connection(member)
        if connection is None:
            assert member.down is not None
            return member.down
        first = connection.session.heard
        outcome = await run_stage(connection, member.milter, (build(member),))
        if outcome.failure and not connection.fresh and connection.session.heard == first:
            # An idle connection that the filter had given up: a new one, once.
            member.connection = None
            return await self._ask(member, build)
        connection.fresh = True
        return outcome

    async def _content(self, member: _Member, message: Message, store: BodyStore | None) -> Outcome:
        connection = await self._connection(member)
        if connection is None:
            assert member.down is not None
            return member.down
        agreement = connection.session.agreement
        assert agreement is not None
        macros = {stage: _macros(member, command, stage, self._macros(stage)) for command, stage in _CONTENT}
        wanted = requests.content(agreement, message.shown(), message.body(), macros)
        keep = store.write if store is not None else None
        return await run_stage(connection, member.milter, wanted, content=True, on_body=keep)

    async def _connection(self, member: _Member) -> MilterConnection | None:
        if member.connection is None and member.down is None:
            # Whoever is given up here would hear of later stages without those before.
            member.down = member.milter.default.outcome("the session was cancelled")
            found = await self._pool.take(member.milter)
            member.down = None
            if isinstance(found, str):
                member.down = member.milter.default.outcome(found)
            else:
                member.connection = found
        return member.connection

    # Requests, with the macros of their time.

    def _connect_request(self, member: _Member) -> Request:
        assert self._past.client is not None
        client, macros = self._past.client
        return requests.connect(client, _macros(member, Command.CONNECT, Stage.CONNECT, macros))

    def _helo_request(self, member: _Member) -> Request:
        assert self._past.helo is not None
        name, macros = self._past.helo
        return requests.helo(name, _macros(member, Command.HELO, Stage.HELO, macros))

    def _mail_request(self, member: _Member) -> Request:
        assert self._past.mail is not None
        envelope, macros = self._past.mail
        macro = _macros(member, Command.MAIL, Stage.MAIL, macros)
        return requests.envelope(Command.MAIL, envelope.address, envelope.parameters, macro)

    def _rcpt_request(self, envelope: _Envelope, macros: Values, member: _Member) -> Request:
        macro = _macros(member, Command.RCPT, Stage.RCPT, macros)
        return requests.envelope(Command.RCPT, envelope.address, envelope.parameters, macro)

    def _data_request(self, member: _Member) -> Request:
        assert self._past.data is not None
        return requests.data(_macros(member, Command.DATA, Stage.DATA, self._past.data))


def _macros(member: _Member, command: Command, stage: Stage, values: Values) -> bytes:
    assert member.connection is not None
    assert member.connection.session.agreement is not None
    milter = member.milter
    if milter.values:
        values = {**values, **milter.values}
    return macro_packet(command, stage, member.connection.session.agreement, values, milter.macros)


def _has(member: _Member, flag: Protocol) -> bool:
    connection = member.connection
    agreement = connection.session.agreement if connection else None
    return agreement is not None and bool(agreement.protocol & flag)


def _settled(member: _Member) -> bool:
    return member.connection is None or member.connection.session.settled
