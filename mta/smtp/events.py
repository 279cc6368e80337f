"""What a server session tells its driver.

An event that *asks* must be answered by `ServerSession.answer` (or `challenge`, `answer_data`) before the
next one comes; the others only inform. The session itself answers what needs no decision (NOOP, RSET,
syntax errors, commands out of order).
"""

from __future__ import annotations

from dataclasses import dataclass

from mta.envelope import Envelope, Recipient
from mta.reply import Reply


@dataclass(slots=True)
class Connected:
    """Asks: greet the client (answer None) or turn it away."""


@dataclass(slots=True)
class Hello:
    """Asks: EHLO, HELO or LHLO with its argument; `valid` tells that it is a domain or an address literal."""

    verb: str
    name: str
    valid: bool


@dataclass(slots=True)
class StartTls:
    """Asks: STARTTLS; after a positive answer is sent the driver starts TLS and calls `tls_started`."""


@dataclass(slots=True)
class AuthStart:
    """Asks: AUTH with an offered mechanism; `initial` is None when no initial response was sent."""

    mechanism: str
    initial: bytes | None


@dataclass(slots=True)
class AuthResponse:
    """Asks: the client's answer to a challenge, decoded."""

    data: bytes


@dataclass(slots=True)
class AuthCancelled:
    """Informs: the exchange is over, because the client gave it up or sent what is no response."""


@dataclass(slots=True)
class MailFrom:
    """Asks: MAIL; the envelope becomes the session's when accepted."""

    envelope: Envelope


@dataclass(slots=True)
class RcptTo:
    """Asks: RCPT; the recipient joins the envelope when accepted."""

    envelope: Envelope
    recipient: Recipient


@dataclass(slots=True)
class DataStart:
    """Asks: the first DATA or BDAT of a transaction, before any octet of the message."""

    envelope: Envelope


@dataclass(slots=True)
class DataChunk:
    """Informs: octets of the message."""

    data: bytes


@dataclass(slots=True)
class DataEnd:
    """Asks, by `answer_data`: the message is complete, or cannot be accepted for the reason in `problem`."""

    envelope: Envelope
    problem: Reply | None
    plain: bool
    """No line of the message begins with a dot and all line ends are CRLF: DATA may send it as it is."""


@dataclass(slots=True)
class Reset:
    """Informs: the transaction was given up (RSET, EHLO, STARTTLS, a lost BDAT sequence)."""


@dataclass(slots=True)
class Verify:
    """Asks: VRFY with its argument; None answers 252."""

    argument: str


@dataclass(slots=True)
class Etrn:
    """Asks: ETRN with its argument."""

    argument: str


@dataclass(slots=True)
class Xclient:
    """Asks: XCLIENT attributes, upper-case names; values as `mta.smtp.xclient` explains."""

    attributes: dict[str, str]


@dataclass(slots=True)
class Xforward:
    """Asks: XFORWARD attributes, upper-case names; values as `mta.smtp.xclient` explains."""

    attributes: dict[str, str]


@dataclass(slots=True)
class Unknown:
    """Asks, if `ServerSession.asks_unknown` is set: a line that is no command; None answers 500."""

    line: bytes


@dataclass(slots=True)
class Refused:
    """Informs: the session refused something by itself (syntax, order, limits)."""

    reply: Reply
    verb: str


@dataclass(slots=True)
class Closed:
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
