"""The milters of one SMTP session: `mailmilter.chain` told what happens here, and what it says as replies.

A milter takes part from the beginning or joins later; then the stages that are over are told to it first.
What it answers at a stage counts at once; what it wants done with the message is kept for the end of the
data. Nothing here raises for what milters do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from mailmilter.chain import MilterChain, Result
from mailmilter.connection import Milter, MilterPool
from mailmilter.constants import Stage
from mailmilter.macros import Values
from mailmilter.message import Field
from mailmilter.values import SHUTDOWN, Quarantine, Ruling
from mailmilter.values import Verdict as MilterVerdict
from mta.address import Address
from mta.content import MEMORY_LIMIT
from mta.envelope import Envelope, Recipient
from mta.policy.external.tally import Tally
from mta.policy.findings import METHODS, find_out, results_field
from mta.policy.milter.edits import BodyBuffer, Changes, EditError, changes_of, shown_to_milters
from mta.policy.milter.macros import RESULTS, Moment, client_of, octets, values, words
from mta.policy.verdict import Orders
from mta.reply import Reply
from mta.session import Session
from sieve_ext.message import Message

T = TypeVar("T")

GONE = Reply(451, "4.3.0", "the session is over", "the client has gone")
BAD_EDIT = Reply(451, "4.7.1", "Service unavailable - try again later")
NAME = frozenset(("iprev",))
"""What is asked about each client with milters: CONNECT tells its name."""
CLOSING = frozenset((Ruling.SHUTDOWN, Ruling.CONNECTION_FAILURE))


@dataclass(slots=True, frozen=True)
class Surroundings:
    """What the milters of all sessions of a worker have in common."""

    hostname: str
    pool: MilterPool
    complain: Callable[[str, str, str], None]
    """Told of trouble: what it is, the session, the text."""
    spill_directory: str | None = None
    shown: frozenset[str] = frozenset()
    """Names of the milters that see our Authentication-Results in the header."""
    tally: Tally | None = None


class Joined:
    """The milters of a session."""

    __slots__ = (
        "_above",
        "_around",
        "_busy",
        "_changes",
        "_complaints",
        "_done",
        "_ended",
        "_given",
        "_held",
        "_is_late",
        "_moment",
        "_refused",
        "_session",
        "chain",
        "discarded",
    )

    def __init__(self, session: Session, around: Surroundings, always: Iterable[Milter] = ()) -> None:
        """`always` take part from the beginning; without any the session may be at any stage."""
        always = tuple(always)
        self._session = session
        self._around = around
        self._moment = Moment(session, around.hostname)
        self.chain = MilterChain(around.pool, self._values, always)
        self._is_late = not always
        self._busy = self._ended = False
        self._complaints: set[str] = set()
        self.discarded = ""
        """The milter that discards the message; "" for none."""
        self._forget()

    def _forget(self) -> None:
        self.discarded = ""
        self._above = b""
        self._changes: list[Changes] = []
        self._done: set[str] = set()
        self._held: dict[str, None] = {}
        self._refused: dict[str, Reply] = {}
        self._given: dict[int, tuple[Recipient, str]] = {}

    def _values(self, stage: Stage) -> Values:
        if self._session.authentication is None:
            return values(self._moment)
        return values(self._moment, RESULTS.keys() & self.chain.asked(stage))

    async def _find_out(self, *stages: Stage) -> None:
        """What the macros of some stages tell of sender authentication, if milters ask for it."""
        if self._session.authentication is not None:
            asked = RESULTS.keys() & self.chain.asked(*stages)
            await find_out(self._session, {method for name in asked for method in RESULTS[name]})

    # --- the stages of a session; each gives the reply that refuses it, or None --------------------------

    async def connect(self) -> Reply | None:
        """The client is there."""
        self._is_late = False
        await find_out(self._session, NAME)
        return await self._ask(lambda: self.chain.connect(client_of(self._session)))

    async def helo(self) -> Reply | None:
        """EHLO, HELO or LHLO."""
        self._moment.steady.clear()
        await self._find_out(Stage.HELO)
        return await self._ask(lambda: self.chain.helo(self._session.helo))

    async def mail(self, envelope: Envelope, sender: Address) -> Reply | None:
        """MAIL with the sender that the client gave."""
        self._meet(envelope, sender)
        await self._find_out(Stage.MAIL)
        return await self._ask(lambda: self.chain.mail(octets(sender), tuple(words(envelope.parameters))))

    async def rcpt(self, recipient: Recipient, address: Address, next_hop: str) -> Reply | None:
        """RCPT with the address that the client gave, for a recipient that we accept."""
        self._given[id(recipient)] = recipient, address.text
        self._name(address, next_hop)
        await self._find_out(Stage.RCPT)
        return await self._ask(lambda: self.chain.rcpt(octets(address), tuple(words(recipient.parameters))))

    async def rejected(self, recipient: Recipient, address: Address, refusal: Reply) -> None:
        """RCPT that we refuse, for those that want to know."""
        if not self.chain.wants_rejected:
            return
        self._name(address, "", refusal)
        given = tuple(words(recipient.parameters))
        await self._ask(lambda: self.chain.rejected_rcpt(octets(address), given))
        self._name(address, "")

    async def data(self) -> Reply | None:
        """DATA or the first BDAT."""
        await self._find_out(Stage.DATA)
        return await self._ask(self.chain.data)

    async def unknown(self, line: bytes) -> Reply | None:
        """A line that is no command."""
        return await self._ask(lambda: self.chain.unknown(line))

    # --- joining -------------------------------------------------------------------------------------------

    async def join(
        self, milter: Milter, stage: str, envelope: Envelope | None, accepted: Sequence[Recipient]
    ) -> Reply | None:
        """Take a milter in at a stage, which is not over; nothing if it is here."""
        if milter.name in self.chain.names:
            return None
        if self._is_late:
            await self._catch_up(stage, envelope, accepted)
            self._is_late = False
        result = await self._guarded(lambda: self.chain.join(milter))
        if result is None:
            return GONE
        refusals = {one.address: self._reply(one.verdict, milter.name) for one in result.refused}
        for address, reply in refusals.items():
            self._refused[address.decode("utf-8", "surrogateescape")] = reply
        temporary = next((reply for reply in refusals.values() if reply.is_temporary), None)
        if temporary is not None:  # the client comes again with all of them
            return temporary
        if stage == "rcpt" and result.refused and result.verdict is result.refused[-1].verdict:
            result = replace(result, verdict=MilterVerdict(Ruling.CONTINUE), milter="")
        return self._heard(result)

    async def _catch_up(self, stage: str, envelope: Envelope | None, accepted: Sequence[Recipient]) -> None:
        """Tell the chain, which has nobody yet, what is over."""
        chain = self.chain
        if stage == "connect":
            return
        await find_out(self._session, NAME)
        await chain.connect(client_of(self._session))
        if stage == "helo":
            return
        await chain.helo(self._session.helo)
        if envelope is None or stage == "mail":
            return
        self._meet(envelope, envelope.sender)
        await chain.mail(octets(envelope.sender), tuple(words(envelope.parameters)))
        for one in accepted:
            self._name(one.address, one.route)
            await chain.rcpt(octets(one.address), tuple(words(one.parameters)))
        if stage == "data":
            await chain.data()

    # --- the message ---------------------------------------------------------------------------------------

    def wait_for_content(self) -> set[str]:
        """The milters that have not been asked about the message."""
        return {name for name in self.chain.names if name not in self._done}

    async def content(
        self,
        message: Message,
        recipients: Sequence[Recipient],
        names: Collection[str],
        missing: bytes = b"",
    ) -> tuple[Reply | None, Message | None]:
        """Ask some milters about a message: the reply that refuses it, or the message as edited, if it is.

        What else they want is kept for `orders`. `missing` are header fields that are to be added.
        """
        await self._find_out(Stage.END_OF_HEADERS, Stage.END_OF_MESSAGE)
        shown = await self._results_field(names)
        edited = shown_to_milters(message, recipients, self._above, missing, shown)
        fields = [] if missing else list(edited.fields)  # what is missing is an edit in any case
        spill = self._around.spill_directory
        result = await self._guarded(lambda: self.chain.message(edited, lambda: BodyBuffer(spill), names))
        if result is None:
            return GONE, None
        self._done |= set(names)
        reply = self._heard(result)
        if reply is not None or self.discarded:
            return reply, None
        if shown is not None:
            edited.fields[:] = [one for one in edited.fields if one is not shown]
            fields = [one for one in fields if one is not shown]
        given = [self._name_of(one) for one in recipients]
        work = (result.edits, edited, fields, message, recipients, given, self._around.hostname)
        try:
            if edited.body_replaced and message.size > MEMORY_LIMIT:
                changes = await asyncio.to_thread(changes_of, *work)
            else:
                changes = changes_of(*work)
        except (EditError, OSError) as error:
            self._complain("milter", f"{', '.join(names)}: {error}")
            return replace(BAD_EDIT, cause=str(error)), None
        self._changes.append(changes)
        if changes.message is not None:
            self._above = changes.above
        return None, changes.message

    async def _results_field(self, names: Collection[str]) -> Field | None:
        """Our Authentication-Results, where one of the milters is to see it; we write it when all is over."""
        if self._session.authentication is None or not self._around.shown & set(names):
            return None
        await find_out(self._session, METHODS)
        value = results_field(self._session)
        return Field(b"Authentication-Results", b" " + value.encode("utf-8", "replace")) if value else None

    def ordered(self, orders: Orders, envelope: Envelope, message: Message | None) -> Orders:
        """The orders of the policy, with what milters want; `message` is the edited one, if it is."""
        removed = dict(orders.removed or {})
        added = list(orders.added)
        for changes in self._changes:
            for gone in changes.removed:
                added = [one for one in added if one is not gone]
                for position, one in enumerate(envelope.recipients):
                    if one is gone:
                        removed[position] = "a milter"
            known = {one.address.key for one in added}
            standing = (one for at, one in enumerate(envelope.recipients) if at not in removed)
            known |= {each.address.key for one in standing for each in one.behind}
            added += [one for one in changes.added if one.address.key not in known]
        senders = [one for one in self._changes if one.sender is not None]
        last = senders[-1] if senders else Changes(sender=orders.sender)
        return replace(
            orders,
            message=orders.message if message is None else message,
            above=self._above + orders.above,
            new_body=orders.new_body or any(one.new_body for one in self._changes),
            sender=last.sender,
            ret=last.ret,
            envid=last.envid,
            added=tuple(added),
            removed=removed or None,
            discarded=orders.discarded or (f"milter {self.discarded}" if self.discarded else ""),
            held=orders.held or "; ".join(self._held),
        )

    def refusal(self, recipient: Recipient) -> Reply | None:
        """Why a milter that joined late refuses a recipient that was accepted before."""
        return self._refused.get(self._name_of(recipient)) if self._refused else None

    def _name_of(self, recipient: Recipient) -> str:
        """The address by which milters know it: that of the client, if they have heard it."""
        given = self._given.get(id(recipient))
        return recipient.address.text if given is None else given[1]

    # --- ends ----------------------------------------------------------------------------------------------

    def abort(self) -> None:
        """The transaction is over."""
        if self._busy or self._ended:
            return
        self.chain.abort()
        self._moment.envelope = self._moment.sender = self._moment.recipient = None
        self._forget()

    def end(self) -> None:
        """The session is over; a stage that is still going on comes to its end first."""
        self._ended = True
        if not self._busy:
            self._close_if_over()

    def _close_if_over(self) -> None:
        if self._ended:
            self.chain.close()

    # --- asking --------------------------------------------------------------------------------------------

    def _meet(self, envelope: Envelope, sender: Address) -> None:
        moment = self._moment
        moment.steady.clear()  # somebody may have logged in
        moment.envelope, moment.sender, moment.recipient, moment.refused = envelope, sender, None, None

    def _name(self, address: Address, next_hop: str, refused: Reply | None = None) -> None:
        moment = self._moment
        moment.recipient, moment.next_hop, moment.refused = address, next_hop, refused

    async def _ask(self, ask: Callable[[], Awaitable[Result]]) -> Reply | None:
        if self.discarded:
            return None
        result = await self._guarded(ask)
        return GONE if result is None else self._heard(result)

    async def _guarded(self, ask: Callable[[], Awaitable[T]]) -> T | None:
        """What is asked, or None when the session is over."""
        if self._ended:
            return None
        self._busy = True
        try:
            return await ask()
        finally:
            self._busy = False
            self._close_if_over()

    def _heard(self, result: Result) -> Reply | None:
        self._count(result)
        for failure in result.failures:
            if failure not in self._complaints:
                self._complaints.add(failure)
                self._complain("milter failed", failure)
        for answer in result.answers:
            for edit in answer.outcome.edits:
                if isinstance(edit, Quarantine):
                    self._held[f"milter {answer.milter}: {edit.reason}"] = None
        verdict = result.verdict
        if verdict.ruling is Ruling.DISCARD:
            self.discarded = result.milter
            return None
        return self._reply(verdict, result.milter) if verdict.refuses else None

    def _count(self, result: Result) -> None:
        tally = self._around.tally
        if tally is None:
            return
        for answer in result.answers:
            failure = answer.outcome.failure
            if not failure:
                tally.answered(answer.milter, answer.outcome.verdict.ruling.value, answer.seconds)
            elif f"{answer.milter}: {failure}" not in self._complaints:  # it holds for the session
                tally.failed(answer.milter, failure, answer.seconds)

    def _reply(self, verdict: MilterVerdict, milter: str) -> Reply:
        return Reply(
            verdict.code,
            verdict.enhanced,
            "\n".join(verdict.lines) or "refused",
            f"milter {milter}",
            verdict.ruling in CLOSING or verdict.code == SHUTDOWN.code,
        )

    def _complain(self, what: str, text: str) -> None:
        self._around.complain(what, self._session.id, text)
