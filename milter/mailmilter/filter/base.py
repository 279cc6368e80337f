"""The class that filters are made from; what is overridden decides what is negotiated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, TypeVar

from mailmilter.constants import ALL_ACTIONS, LEFT_OUT, UNANSWERED, Action, Command, Protocol, Stage
from mailmilter.filter.answers import Answer
from mailmilter.filter.context import Context
from mailmilter.message import Field
from mailmilter.negotiation import Agreement, Offer
from mailmilter.requests import Client

_Method = TypeVar("_Method", bound=Callable[..., object])


def listens(method: _Method) -> _Method:
    """Mark a callback that never answers: the MTA, if it can, does not wait for it (SMFIP_NR_*)."""
    method.__dict__["listens_only"] = True
    return method


class Milter:
    """A filter; one object for each SMTP session. Callbacks may be plain or `async`, None is CONTINUE.

    A callback that raises is logged and answered with TEMPFAIL.
    """

    actions: ClassVar[Action] = ALL_ACTIONS
    """What the filter may ask for. What the MTA cannot do is left out of the agreement."""
    required: ClassVar[Action] = Action(0)
    """What it cannot work without: an MTA that does not offer it is turned away."""
    symbols: ClassVar[Mapping[Stage, tuple[str, ...]]] = {}
    """Macros that it wants, by stage, in place of the MTA's own list (`("i", "{auth_authen}")`)."""
    leading_space: ClassVar[bool] = False
    """See and set header values with the blanks after the colon."""
    large_pieces: ClassVar[bool] = False
    """Take pieces of the body of up to 1 MiB, when the MTA offers them."""
    rejected_recipients: ClassVar[bool] = False
    """Hear of recipients that the MTA has refused too (macro `rcpt_mailer` is "error")."""

    async def connect(self, ctx: Context, client: Client) -> Answer | None:
        """A client is there."""

    async def helo(self, ctx: Context, name: str) -> Answer | None:
        """HELO or EHLO."""

    async def mail(self, ctx: Context, address: bytes, parameters: tuple[bytes, ...]) -> Answer | None:
        """MAIL: a message begins."""

    async def rcpt(self, ctx: Context, address: bytes, parameters: tuple[bytes, ...]) -> Answer | None:
        """RCPT."""

    async def data(self, ctx: Context) -> Answer | None:
        """DATA."""

    async def header(self, ctx: Context, field: Field) -> Answer | None:
        """One header field."""

    async def end_of_headers(self, ctx: Context) -> Answer | None:
        """The headers are over; they are in `ctx.fields` if `header` or this is overridden."""

    async def body(self, ctx: Context, piece: bytes) -> Answer | None:
        """A piece of the body, CRLF line ends."""

    async def end_of_message(self, ctx: Context) -> Answer | None:
        """The message is complete; edits are sent after this."""

    async def unknown(self, ctx: Context, line: bytes) -> Answer | None:
        """A command that the MTA does not know."""

    async def abort(self, ctx: Context) -> None:
        """The message is over before its time, or, with Postfix, after its time too."""

    async def close(self, ctx: Context) -> None:
        """The session is over; always called once when there was one."""


_METHODS = {
    Command.CONNECT: "connect",
    Command.HELO: "helo",
    Command.MAIL: "mail",
    Command.RCPT: "rcpt",
    Command.DATA: "data",
    Command.UNKNOWN: "unknown",
    Command.HEADER: "header",
    Command.END_OF_HEADERS: "end_of_headers",
    Command.BODY: "body",
}

_ENVELOPE = frozenset({Command.CONNECT, Command.HELO, Command.MAIL, Command.RCPT})
"""Always heard, for the context; without an answer, where the MTA can do that, when not overridden."""


def overridden(kind: type[Milter], name: str) -> bool:
    """True when the class has a callback of its own."""
    return getattr(kind, name) is not getattr(Milter, name)


def answer_to(kind: type[Milter], offered: Offer) -> Agreement | None:
    """What a filter of this class agrees on with an MTA; None when the MTA lacks what it requires."""
    if kind.required & ~offered.actions:
        return None
    protocol = Protocol(0)
    for command, name in _METHODS.items():
        mine = overridden(kind, name) or command in _ENVELOPE
        if command == Command.HEADER:
            mine = mine or overridden(kind, "end_of_headers") or overridden(kind, "end_of_message")
        if not mine:
            protocol |= Protocol(LEFT_OUT[command])
        elif getattr(getattr(kind, name), "listens_only", not overridden(kind, name)):
            protocol |= Protocol(UNANSWERED[command])
    protocol |= Protocol.SKIP
    if kind.leading_space:
        protocol |= Protocol.LEADING_SPACE
    if kind.rejected_recipients:
        protocol |= Protocol.REJECTED_RCPT
    if kind.large_pieces:
        large = Protocol.SIZE_1M if Protocol.SIZE_1M in offered.protocol else Protocol.SIZE_256K
        protocol |= large
    actions = kind.actions & offered.actions
    symbols = kind.symbols if offered.actions & Action.SET_SYMBOLS else {}
    return Agreement(min(offered.version, 6), actions, protocol & offered.protocol, symbols)


def method_of(command: int) -> str | None:
    """The name of the callback for a command of the MTA."""
    return _METHODS.get(Command(command))
