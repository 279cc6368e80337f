"""The MTA's side of one milter connection, sans-IO.

`MilterSession` is given the requests of a stage (`begin`), makes octets (`bytes_to_send`) and takes what the
filter sends (`receive`) until there is an `outcome`. Requests are taken from an iterator one by one, the next
when the filter has answered the last: a message of any size passes through without being held.

What ends what (as libmilter's API fixes it, and Postfix does it):

    answer                      CONNECT, HELO            MAIL, DATA, content       RCPT
    accept                      no more in the session   no more in the message    the same
    discard                     not allowed: continue    no more in the message    the same
    reject, tempfail, reply     holds for the session    holds for the message     this recipient
                                                                                   (or UNKNOWN command)
    shutdown, conn. failure     holds for the session    holds for the session     the same
    no or bad answer            the default action holds for the session (`failed`)

Edits and quarantine count when they come before the answer to the end of the message; anything unexpected
raises no exception but makes the outcome a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from mailmilter.constants import LEFT_OUT, UNANSWERED, Command, Protocol, Response
from mailmilter.negotiation import Agreement, Offer, agree, offer, parse_symbols
from mailmilter.packets import MAX_PACKET, MilterProtocolError, PacketReader, packet
from mailmilter.responses import NEGOTIATION, edit_of, parse_reply, plain_verdict
from mailmilter.values import (
    CONTINUE,
    DefaultAction,
    Edit,
    Outcome,
    Quarantine,
    ReplaceBody,
    Ruling,
    Verdict,
)

_BATCH = 256 * 1024
"""Octets made at a time while the filter answers nothing (NO_REPLY_*)."""
_SESSION_COMMANDS = frozenset({int(Command.CONNECT), int(Command.HELO)})
_SINGLE_COMMANDS = frozenset({int(Command.RCPT), int(Command.UNKNOWN)})
"""Commands whose refusal says nothing of the rest of the message."""
_CONTINUE = int(Response.CONTINUE)


@dataclass(slots=True, frozen=True)
class Bounds:
    """How much a filter may make us hold."""

    edits: int = 10_000
    edit_octets: int = 4 * 1024 * 1024
    """Of header and envelope edits of one message."""
    body_octets: int = 64 * 1024 * 1024
    """Of a replaced body, whether it is held here or handed to `on_body` piece by piece."""
    progress: int = 10_000
    """Progress reports before one answer."""


@dataclass(slots=True, frozen=True)
class Request:
    """A command, and the macro packet before it (may be empty)."""

    command: int
    data: bytes = b""
    macros: bytes = b""


class MilterSession:
    """One connection to one filter; see the module."""

    __slots__ = (
        "_abort_due",
        "_body",
        "_body_octets",
        "_bounds",
        "_default",
        "_edit_octets",
        "_edits",
        "_ended",
        "_holding",
        "_on_body",
        "_out",
        "_progress",
        "_reader",
        "_requests",
        "_skipped",
        "_waiting_for",
        "agreement",
        "heard",
        "offered",
        "outcome",
    )

    def __init__(
        self,
        offered: Offer | None = None,
        default: DefaultAction = DefaultAction.TEMPFAIL,
        bounds: Bounds | None = None,
    ) -> None:
        self.offered = offered or offer()
        self.agreement: Agreement | None = None
        """What was negotiated; None before."""
        self.outcome: Outcome | None = None
        """The answer to what was begun last; None while the filter is being asked."""
        self.heard = 0
        """Packets received: a timer for silence looks whether this number grows."""
        self._default = default
        self._bounds = bounds or Bounds()
        self._reader = PacketReader(MAX_PACKET)
        self._out: list[bytes] = []
        self._requests: Iterator[Request] = iter(())
        self._ended = False
        self._abort_due = False
        self._waiting_for = 0
        self._skipped = 0
        self._holding: tuple[Outcome, bool] | None = None
        self._edits: list[Edit] = []
        self._edit_octets = 0
        self._body: list[bytes] | None = None
        self._body_octets = 0
        self._on_body: Callable[[bytes], None] | None = None
        self._progress = 0

    # State that lasts.

    @property
    def settled(self) -> bool:
        """True when the filter is asked nothing more in this message or session."""
        return self._holding is not None

    @property
    def failed(self) -> bool:
        """True when the connection is of no more use."""
        return self._holding is not None and bool(self._holding[0].failure)

    @property
    def reusable(self) -> bool:
        """True when QUIT_REUSE may be sent: version 6, and the last answer was "continue" to the end of a
        message.

        libmilter takes it in no other state: it passes over it, and over the CONNECT that follows. A filter
        that wants no CONNECT would not notice the new session.
        """
        agreement = self.agreement
        if agreement is None or agreement.version < 6 or agreement.protocol & Protocol.NO_CONNECT:
            return False
        return self._ended and self._holding is None and not self._reader.waiting

    @property
    def _version(self) -> int:
        return self.agreement.version if self.agreement else 0

    # What the caller does.

    def negotiate(self) -> None:
        """Begin the connection: the first thing to do."""
        self.outcome = None
        self._waiting_for = NEGOTIATION
        self._out.append(packet(Command.NEGOTIATE, self.offered.encode()))

    def begin(self, requests: Iterable[Request], on_body: Callable[[bytes], None] | None = None) -> None:
        """Ask the requests of one stage; `outcome` is set when all are answered or one is not "continue".

        A new body goes to `on_body` piece by piece when it is given, else into the edits. Raises RuntimeError
        before negotiation and while another stage is open.
        """
        if self.agreement is None and not self.failed:
            raise RuntimeError("nothing is negotiated yet")
        if self._waiting_for:
            raise RuntimeError("the stage before is not answered yet")
        self._edits = []
        self._edit_octets = self._body_octets = self._progress = 0
        self._body = None
        self._on_body = on_body
        self.outcome = None
        if self._holding is not None:
            self.outcome = self._holding[0]
            return
        if self._abort_due:
            self._abort_due = False
            self._out.append(packet(Command.ABORT))
        self._ended = False
        self._requests = iter(requests)
        self._advance()

    def abort(self) -> None:
        """Give up the message, or close the one that ended: what follows is another one.

        Postfix says so after every message too. Raises RuntimeError while a stage is open.
        """
        if self._waiting_for:
            raise RuntimeError("a stage is open")
        if self._holding is not None and self._holding[1]:
            return
        self._holding = None
        self._skipped = 0
        if self._ended:
            # Nothing for libmilter to abort; sent with what comes next, for after it QUIT_REUSE is void.
            self._abort_due = True
        else:
            self._out.append(packet(Command.ABORT))

    def quit(self, *, reuse: bool = False) -> None:
        """End the session; `reuse` (only when `reusable`) keeps the connection for another one."""
        if not reuse:
            if not self.failed:
                self._out.append(packet(Command.QUIT))
            return
        self._out.append(packet(Command.QUIT_REUSE))
        self._ended = self._abort_due = False
        self._holding = None
        self._skipped = 0

    def fail(self, why: str) -> None:
        """The filter cannot be asked or is late: the default action holds from here on."""
        self._waiting_for = 0
        self._out.clear()
        self._requests = iter(())
        self._holding = (self._default.outcome(why), True)
        self.outcome = self._holding[0]

    def bytes_to_send(self) -> bytes:
        """What is to be written now; call again after it is written until it is empty."""
        if not self._out and not self._waiting_for and self.outcome is None:
            self._advance()
        if not self._out:
            return b""
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        return data

    def receive(self, data: bytes) -> None:
        """Take octets from the filter; none mean that it closed the connection."""
        if self.failed:
            return
        if not data:
            if self._waiting_for or self.outcome is None:
                self.fail("the filter closed the connection")
            else:
                self._holding = (self._default.outcome("the filter closed the connection"), True)
            return
        self._reader.feed(data)
        try:
            while (found := self._reader.next()) is not None:
                self.heard += 1
                self._take(*found)
        except MilterProtocolError as error:
            self.fail(f"protocol error: {error}")
        except OSError as error:  # `on_body` writes to a file of the caller's
            self.fail(f"the new body could not be kept: {error.strerror}")

    # The dialog.

    def _advance(self) -> None:
        """Make octets of requests until one is to be answered, there are enough, or none is left."""
        agreement = self.agreement
        if agreement is None:
            return
        flags = agreement.protocol.value
        made = 0
        while made < _BATCH:
            try:
                request = next(self._requests, None)
            except OSError as error:  # the body comes from a file of the caller's
                self.fail(f"the message could not be read: {error.strerror}")
                return
            if request is None:
                self._finish(CONTINUE)
                return
            command = request.command
            if command == self._skipped or not self._exists(command):
                continue
            self._skipped = 0
            if request.macros:
                self._out.append(request.macros)
            if flags & LEFT_OUT.get(command, 0):
                continue
            data = packet(command, request.data)
            self._out.append(data)
            made += len(data)
            if not flags & UNANSWERED.get(command, 0):
                self._waiting_for = command
                return

    def _exists(self, command: int) -> bool:
        """False for commands that came after the version spoken."""
        return not (
            (command == Command.UNKNOWN and self._version < 3)
            or (command == Command.DATA and self._version < 4)
        )

    def _take(self, code: int, data: bytes) -> None:
        waiting = self._waiting_for
        if not waiting:
            raise MilterProtocolError(f"{chr(code)!r} although nothing was asked")
        if waiting == NEGOTIATION:
            if code != NEGOTIATION:
                raise MilterProtocolError(f"{chr(code)!r} in answer to the negotiation")
            self.agreement = agree(self.offered, data)
            self._waiting_for = 0
            self.outcome = Outcome()
            return
        if code == _CONTINUE and not data:
            self._waiting_for = 0
            if waiting == Command.END_OF_MESSAGE:
                self._finish(CONTINUE, waiting)
            else:
                self._advance()
            return
        if code == Response.PROGRESS:
            if data or self._progress >= self._bounds.progress:
                raise MilterProtocolError("progress with data" if data else "progress without end")
            self._progress += 1
            return
        if code == Response.SET_SYMBOLS:
            # Only ever part of the negotiation's answer in libmilter; alone it changes nothing here.
            parse_symbols(data)
            return
        if code == Response.SKIP:
            self._take_skip(waiting, data)
            return
        verdict = parse_reply(data) if code == Response.REPLY else plain_verdict(code, data)
        if verdict is not None:
            self._waiting_for = 0
            if verdict.ruling is Ruling.CONTINUE:
                self._advance()
            else:
                self._finish(verdict, waiting)
            return
        self._take_edit(code, data, waiting)

    def _take_skip(self, waiting: int, data: bytes) -> None:
        if data or self.agreement is None or not self.agreement.protocol & Protocol.SKIP:
            raise MilterProtocolError("skip with data" if data else "skip was not negotiated")
        self._waiting_for = 0
        self._skipped = waiting
        self._advance()

    def _take_edit(self, code: int, data: bytes, waiting: int) -> None:
        agreement = self.agreement
        if agreement is None:
            raise MilterProtocolError("an edit before the negotiation")
        leading = bool(agreement.protocol & Protocol.LEADING_SPACE)
        edit = edit_of(code, data, agreement.actions, leading_space=leading)
        if edit is None:
            raise MilterProtocolError(f"an unknown response {chr(code)!r}")
        if waiting != Command.END_OF_MESSAGE and not isinstance(edit, Quarantine):
            raise MilterProtocolError(f"an edit in answer to {Command(waiting).name}")
        if isinstance(edit, bytes):
            self._take_body(edit)
            return
        self._edit_octets += len(data)
        if len(self._edits) >= self._bounds.edits or self._edit_octets > self._bounds.edit_octets:
            raise MilterProtocolError(f"more than {self._bounds.edits} edits or too many octets of them")
        self._edits.append(edit)

    def _take_body(self, piece: bytes) -> None:
        self._body_octets += len(piece)
        if self._body_octets > self._bounds.body_octets:
            raise MilterProtocolError(f"a new body of more than {self._bounds.body_octets} octets")
        if self._body is None:
            self._body = []
        if self._on_body is not None:
            self._on_body(piece)
        elif piece:
            self._body.append(piece)

    def _finish(self, verdict: Verdict, command: int = 0) -> None:
        self._requests = iter(())
        if command in _SESSION_COMMANDS and verdict.ruling is Ruling.DISCARD:
            verdict = CONTINUE
        edits = self._edits
        if self._body is not None:
            edits.append(ReplaceBody(tuple(self._body)))
        self.outcome = Outcome(verdict, tuple(edits))
        closing = verdict.ruling in (Ruling.SHUTDOWN, Ruling.CONNECTION_FAILURE) or verdict.code == 421
        if closing:
            self._holding = (Outcome(verdict), True)
        elif verdict.ruling is Ruling.CONTINUE or command == Command.END_OF_MESSAGE:
            pass
        elif command in _SESSION_COMMANDS:
            self._holding = (Outcome(verdict), True)
        elif command not in _SINGLE_COMMANDS or not verdict.refuses:
            self._holding = (Outcome(verdict), False)
        self._ended = command == Command.END_OF_MESSAGE and verdict.ruling is Ruling.CONTINUE
