"""The client side of an SMTP or LMTP session (RFC 5321, RFC 2033), without I/O.

`ClientSession` is fed the octets that a server sends and hands out those that go to it; a shell
(`mta.net.outbound`) owns socket, TLS and clock. It runs one dialog at a time: `opening` by itself, then one
`Mailing` or `RecipientCheck` after another, QUIT at the end. Dialogs are generators, see `mta.smtp.opening`.

It promises: nothing a server says raises. What is no reply, what comes unasked, what comes between the 220
to STARTTLS and the handshake (injection), a 421 and a closed connection all end in `Phase.CLOSED` with
`failure` set, and every recipient of the running transaction that had no reply yet keeps none: what that
means depends on `Mailing.sent`. Calling it out of turn is our own fault and raises RuntimeError.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Protocol

from mta.reply import Reply
from mta.smtp.opening import (
    SEND_CONTENT,
    ClientSettings,
    Dialog,
    Peer,
    PeerFailure,
    closing,
    opening,
    protocol_failure,
)
from mta.smtp.replies import ReplyError, ReplyParser

CLOSED_BY_US = "The connection to the next server was closed"


class Phase(Enum):
    """Where a session stands."""

    OPENING = "opening"
    STARTTLS = "starttls"
    """The shell makes the TLS handshake, then calls `tls_started`."""
    READY = "ready"
    """Waits for the next transaction."""
    COMMAND = "command"
    """Replies to commands are awaited."""
    CONTENT = "content"
    """The shell sends the content with `content` and `end_of_content`."""
    FINAL = "final"
    """The message is with the server, its reply is awaited."""
    QUITTING = "quitting"
    CLOSED = "closed"


# Looked up several times for each message; a global is cheaper than an attribute of an Enum.
_READY = Phase.READY
_COMMAND = Phase.COMMAND
_FINAL = Phase.FINAL
_CLOSED = Phase.CLOSED
_STARTTLS = Phase.STARTTLS


class Exchange(Protocol):
    """What a session does between two READY."""

    def dialog(self, settings: ClientSettings, peer: Peer) -> Dialog:
        """The dialog; raises PeerFailure."""


class ContentExchange(Exchange, Protocol):
    """An exchange that sends content."""

    sent: bool

    def frame(self, chunk: bytes) -> bytes:
        """Content as it is sent."""

    def finish(self) -> bytes:
        """What ends the content."""


class ClientSession:
    """One session with one server."""

    __slots__ = (
        "_dialog",
        "_exchange",
        "_out",
        "_parser",
        "_settings",
        "failed_as",
        "failure",
        "messages",
        "peer",
        "phase",
        "replied",
        "waiting",
    )

    def __init__(self, settings: ClientSettings, *, encrypted: bool = False, verified: bool = False) -> None:
        """`encrypted`: TLS is there from the first octet; `verified`: with a verified certificate."""
        self._settings = settings
        self._parser = ReplyParser()
        self._out: list[bytes] = []
        self._exchange: ContentExchange | None = None
        self.peer = Peer(encrypted=encrypted, verified=verified)
        self.phase = Phase.OPENING
        self.failure: Reply | None = None
        self.failed_as: type[PeerFailure] | None = None
        """What kind of failure a dialog ended with."""
        """Why the session is CLOSED: a temporary reply with the cause for the log."""
        self.messages = 0
        """Transactions begun."""
        self.replied = False
        """A reply has come since the running exchange began. 421 in its place is none: the server leaves."""
        self.waiting = True
        """The next move is the server's."""
        self._dialog: Dialog | None = opening(settings, self.peer)
        next(self._dialog)

    def begin(self, exchange: Exchange) -> None:
        """Start a check. Raises RuntimeError unless READY."""
        self._begin(exchange, None)

    def begin_mailing(self, mailing: ContentExchange) -> None:
        """Start a transaction. Raises RuntimeError unless READY."""
        self._begin(mailing, mailing)

    def _begin(self, exchange: Exchange, mailing: ContentExchange | None) -> None:
        if self.phase is not _READY:
            raise RuntimeError(f"a transaction begun while {self.phase.value}")
        self._exchange = mailing
        self.messages += 1
        self.phase = _COMMAND
        self.waiting = True
        self.replied = False
        self._dialog = dialog = exchange.dialog(self._settings, self.peer)
        self._resume(dialog, None)

    def receive_data(self, data: bytes) -> None:
        """Octets from the server."""
        if self.phase is _STARTTLS or self.phase is _CLOSED:
            self._close(protocol_failure("octets between STARTTLS and its handshake").reply)
            return
        try:
            for reply in self._parser.read(data):
                dialog = self._dialog
                if dialog is None:
                    self._unasked(reply)
                elif self.phase is _STARTTLS:
                    self._close(protocol_failure("octets after the 220 to STARTTLS").reply)
                else:
                    if reply.code != 421:
                        self.replied = True
                    self._resume(dialog, reply)
                if self.phase is _CLOSED:
                    return
        except ReplyError as error:
            self._close(protocol_failure(str(error)).reply)

    def receive_end(self, cause: str) -> None:
        """The connection is closed, by the server or by a failure that `cause` tells to the log."""
        if self.peer.refused and (not self.messages or (self.messages == 1 and not self.replied)):
            cause = f"{cause} after {self.peer.refused}"
        self._close(Reply(451, "4.4.2", "The connection to the next server was lost", cause))

    def fail(self, reply: Reply) -> None:
        """The shell gives up: a timeout, a TLS failure, content that cannot be read."""
        self._close(reply)

    def bytes_to_send(self) -> bytes:
        """What is to be sent now, b"" for nothing."""
        out = self._out
        if not out:
            return b""
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data

    def tls_started(self, *, verified: bool, channel_bindings: Mapping[str, bytes]) -> None:
        """The handshake after STARTTLS succeeded. Raises RuntimeError in any other phase."""
        if self.phase is not Phase.STARTTLS:
            raise RuntimeError("no handshake was due")
        self.peer.encrypted = True
        self.peer.verified = verified
        self.peer.channel_bindings = channel_bindings
        self.peer.offered = {}
        self.phase = Phase.OPENING
        self.waiting = True
        if self._dialog is not None:
            self._resume(self._dialog, None)

    def content(self, chunk: bytes) -> bytes:
        """The next octets of content as they are sent. Raises BareLineEnd; RuntimeError out of phase."""
        return self._sending().frame(chunk)

    def end_of_content(self) -> bytes:
        """What ends the content. Raises BareLineEnd; RuntimeError out of phase."""
        end = self._sending().finish()
        self.phase = _FINAL
        self.waiting = True
        return end

    def quit(self) -> None:
        """Say QUIT if it may be said now, else just close."""
        if self.phase is Phase.READY:
            self._out.append(b"QUIT\r\n")
            self.phase = Phase.QUITTING
        elif self.phase is not Phase.QUITTING:
            self._close(Reply(451, "4.4.2", CLOSED_BY_US, "closed by us"))

    def _sending(self) -> ContentExchange:
        if self.phase is not Phase.CONTENT or self._exchange is None:
            raise RuntimeError(f"content sent while {self.phase.value}")
        return self._exchange

    def _unasked(self, reply: Reply) -> None:
        """A reply while no dialog runs: to QUIT, a good-bye (421), or the server is out of step with us."""
        if self.phase is Phase.QUITTING:
            self._close(Reply(451, "4.4.2", CLOSED_BY_US, "QUIT"))
        elif reply.code == 421:
            self._close(closing(reply))
        else:
            self._close(protocol_failure(f"unasked: {reply}").reply)

    def _resume(self, dialog: Dialog, reply: Reply | None) -> None:
        try:
            step = next(dialog) if reply is None else dialog.send(reply)
        except StopIteration:
            self._dialog = self._exchange = None
            self.phase = _READY
            self.waiting = False
            return
        except PeerFailure as failure:
            self.failed_as = type(failure)
            self._close(failure.reply)
            return
        if isinstance(step, bytes):
            if step:
                self._out.append(step)
                if self._exchange is not None and self._exchange.sent:
                    self.phase = _FINAL
        elif step is SEND_CONTENT:
            self.phase = Phase.CONTENT
            self.waiting = False
        elif not self._parser.is_empty:
            self._close(protocol_failure("octets after the 220 to STARTTLS").reply)
        else:
            self.phase = _STARTTLS
            self.waiting = False

    def _close(self, reply: Reply) -> None:
        if self.phase is _CLOSED:
            return
        self.phase = _CLOSED
        self.waiting = False
        self.failure = reply
        self._out.clear()
        if self._dialog is not None:
            self._dialog.close()
            self._dialog = None
