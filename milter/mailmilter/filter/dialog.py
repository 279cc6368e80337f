"""The filter's side of one connection, but for the octets: commands in, answers out.

`FilterDialog.handle` takes one packet and calls back. The order of commands is the MTA's affair: a filter
that listens to libmilter's rules gets them from any MTA that speaks the protocol; what is malformed ends the
connection.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable

from mailmilter.constants import UNANSWERED, Command, Protocol
from mailmilter.filter import events
from mailmilter.filter.answers import ACCEPT, CONTINUE, TEMPFAIL, Answer
from mailmilter.filter.base import Milter, answer_to, method_of
from mailmilter.filter.context import Context
from mailmilter.negotiation import Agreement, Offer, encode_symbols, parse_offer
from mailmilter.packets import MilterProtocolError, packet

_LOG = logging.getLogger("mailmilter")
_NO_ANSWER = frozenset({Command.ABORT, Command.MACRO, Command.QUIT, Command.QUIT_REUSE})


Result = Awaitable[Answer | None] | Answer | None
"""What a callback returns."""


class FilterDialog:
    """One connection of an MTA to a filter."""

    def __init__(self, factory: Callable[[], Milter], write: Callable[[bytes], None]) -> None:
        """`write` takes octets for the MTA."""
        self.finished = False
        """True when the connection is to be closed."""
        self._factory = factory
        self._write = write
        self._milter = factory()
        self._agreement: Agreement | None = None
        self._context: Context | None = None
        self._open = False
        self._in_message = False

    async def handle(self, code: int, data: bytes) -> None:
        """Take one packet of the MTA. Raises MilterProtocolError when it is none."""
        try:
            command = Command(code)
        except ValueError:
            raise MilterProtocolError(f"an unknown command {chr(code)!r}") from None
        if command is Command.NEGOTIATE:
            self._negotiate(data)
            return
        ctx = self._context
        agreement = self._agreement
        if ctx is None or agreement is None:
            raise MilterProtocolError(f"{command.name} before the negotiation")
        if command is Command.MACRO:
            ctx.set_macros(*events.parse_macros(data))
        elif command is Command.ABORT:
            await self._abort()
        elif command in _NO_ANSWER:
            await self.end()
            if command is Command.QUIT:
                self.finished = True
            else:
                self._begin(agreement)
        elif command is Command.END_OF_MESSAGE:
            await self._end_of_message(ctx, data)
        else:
            await self._event(ctx, command, data)

    async def end(self) -> None:
        """The session is over, by QUIT or because the MTA is gone."""
        if self._open and self._context is not None:
            self._open = False
            await self._abort()
            await self._call(self._milter.close, self._context)

    def _negotiate(self, data: bytes) -> None:
        agreement = answer_to(type(self._milter), parse_offer(data))
        if agreement is None:
            _LOG.error("the MTA cannot do what %s requires", type(self._milter).__name__)
            self.finished = True
            return
        answer = Offer(agreement.version, agreement.actions, agreement.protocol).encode()
        self._write(packet(Command.NEGOTIATE, answer + encode_symbols(agreement.symbols)))
        self._agreement = agreement
        self._begin(agreement, self._milter)

    def _begin(self, agreement: Agreement, milter: Milter | None = None) -> None:
        self._milter = milter or self._factory()
        self._context = Context(agreement, write=self._write)
        self._open = False
        self._in_message = False

    async def _abort(self) -> None:
        if self._in_message and self._context is not None:
            self._in_message = False
            await self._call(self._milter.abort, self._context)
            self._context.end_message()

    async def _event(self, ctx: Context, command: Command, data: bytes) -> None:
        name = method_of(command)
        if name is None:
            raise MilterProtocolError(f"an unexpected command {command.name}")
        self._open = True
        arguments = self._arguments(ctx, command, data)
        answer = await self._call(getattr(self._milter, name), ctx, *arguments)
        refused = answer not in (CONTINUE, ACCEPT) or ctx.macro("rcpt_mailer") == "error"
        if command is Command.RCPT and not refused:
            ctx.recipients.append(events.parse_envelope(data)[0])
        if ctx.agreement.protocol & UNANSWERED[command]:
            return
        self._write(answer.encode())

    def _arguments(self, ctx: Context, command: Command, data: bytes) -> tuple[object, ...]:
        """The arguments of a callback; notes in the context what later ones want to know."""
        if command is Command.CONNECT:
            ctx.client = events.parse_connect(data)
            return (ctx.client,)
        if command is Command.HELO:
            ctx.helo = events.parse_text(data)
            return (ctx.helo,)
        if command is Command.MAIL:
            self._in_message = True
            ctx.begin_message(*events.parse_envelope(data))
            return (ctx.sender, ctx.sender_parameters)
        if command is Command.RCPT:
            return events.parse_envelope(data)
        if command is Command.HEADER:
            field = events.parse_header(data)
            ctx.fields.append(field)
            return (field,)
        if command is Command.BODY:
            return (data,)
        return (data.rstrip(b"\0"),) if command is Command.UNKNOWN else ()

    async def _end_of_message(self, ctx: Context, data: bytes) -> None:
        if data and not ctx.agreement.protocol & Protocol.NO_BODY:
            # Old MTAs put the last piece of the body here (libmilter takes it as one, too).
            answer = await self._call(self._milter.body, ctx, data)
            if answer is not CONTINUE:
                self._write(answer.encode())
                return
        answer = await self._call(self._milter.end_of_message, ctx)
        if answer in (CONTINUE, ACCEPT):
            for edit in ctx.edits:
                self._write(edit)
        self._in_message = False
        ctx.end_message()
        self._write(answer.encode())

    async def _call(self, callback: Callable[..., Result], *arguments: object) -> Answer:
        """The answer of a callback; what it raises is logged, and becomes TEMPFAIL."""
        try:
            result = callback(*arguments)
            answer = await result if inspect.isawaitable(result) else result
        except Exception:  # noqa: BLE001 -- the filter's author may write anything; the MTA needs an answer
            _LOG.exception("a callback of %s failed", type(self._milter).__name__)
            return TEMPFAIL
        return CONTINUE if answer is None else answer
