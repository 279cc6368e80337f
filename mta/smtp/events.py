"""What a server session tells its driver.

An event that *asks* must be answered by `ServerSession.answer` (or `challenge`, `answer_data`) before the
next one comes; the others only inform. The session itself answers what needs no decision (NOOP, RSET,
syntax errors, commands out of order).
"""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from mta.envelope import Envelope, Recipient
from mta.reply import Reply


class Question(Struct):
    """An event that asks."""

    asks: ClassVar[bool] = True


class Notice(Struct):
    """An event that informs."""

    asks: ClassVar[bool] = False


class Connected(Question):
    """Asks: greet the client (answer None) or turn it away."""


class Hello(Question):
    """Asks: EHLO, HELO or LHLO with its argument, whatever that is."""

    verb: str
    name: str


class StartTls(Question):
    """Asks: STARTTLS; after a positive answer is sent the driver starts TLS and calls `tls_started`."""


class AuthStart(Question):
    """Asks: AUTH with an offered mechanism; `initial` is None when no initial response was sent."""

    mechanism: str
    initial: bytes | None


class AuthResponse(Question):
    """Asks: the client's answer to a challenge, decoded."""

    data: bytes


class AuthCancelled(Notice):
    """Informs: the exchange is over, because the client gave it up or sent what is no response."""


class MailFrom(Question):
    """Asks: MAIL; the envelope becomes the session's when accepted."""

    envelope: Envelope


class RcptTo(Question):
    """Asks: RCPT; the recipient joins the envelope when accepted."""

    envelope: Envelope
    recipient: Recipient


class DataStart(Question):
    """Asks: the first DATA or BDAT of a transaction, before any octet of the message."""

    envelope: Envelope


class DataChunk(Notice):
    """Informs: octets of the message."""

    data: bytes


class DataEnd(Question):
    """Asks, by `answer_data`: the message is complete, or cannot be accepted for the reason in `problem`."""

    envelope: Envelope
    problem: Reply | None
    plain: bool
    """No line of the message begins with a dot and all line ends are CRLF: DATA may send it as it is."""


class Reset(Notice):
    """Informs: the transaction was given up (RSET, EHLO, STARTTLS, a lost BDAT sequence)."""


class Verify(Question):
    """Asks: VRFY with its argument; None answers 252."""

    argument: str


class Etrn(Question):
    """Asks: ETRN with its argument."""

    argument: str


class Xclient(Question):
    """Asks: XCLIENT attributes, upper-case names; values as `mta.smtp.xclient` explains."""

    attributes: dict[str, str]


class Xforward(Question):
    """Asks: XFORWARD attributes, upper-case names; values as `mta.smtp.xclient` explains."""

    attributes: dict[str, str]


class Unknown(Question):
    """Asks, if `ServerSession.asks_unknown` is set: a line that is no command; None answers 500."""

    line: bytes


class Refused(Notice):
    """Informs: the session refused something by itself (syntax, order, limits)."""

    reply: Reply
    verb: str
    what: bytes = b""
    """The address or name as it was written, where that was wrong: for the log."""


class Closed(Notice):
    """Informs: nothing more will be read; close when the replies are sent."""


Event = (
    Connected
    | Hello
    | StartTls
    | AuthStart
    | AuthResponse
    | AuthCancelled
    | MailFrom
    | RcptTo
    | DataStart
    | DataChunk
    | DataEnd
    | Reset
    | Verify
    | Etrn
    | Xclient
    | Xforward
    | Unknown
    | Refused
    | Closed
)
