"""What a connection needs of the server session that it carries, SMTP's or that of another protocol, and of
the receiver that decides what is said in it.

The session is sans-IO. It yields events; `StartTls` and `Closed` of `mta.smtp.events` are the connection's,
all others its receiver's.
"""

from __future__ import annotations

import ssl
from collections.abc import Coroutine
from typing import Any, Protocol

from mta.reply import Reply
from mta.smtp.state import State

Work = Coroutine[Any, Any, None]
"""What takes time before an event is answered."""


class Dialogue(Protocol):
    """A server session (`mta.smtp.server.ServerSession`, `mta.managesieve.session.ManageSieveSession`)."""

    @property
    def state(self) -> State:
        """What the session is at: the connection's time-outs depend on it."""

    @property
    def message(self) -> object | None:
        """Not None while octets count even if they end no line."""

    @property
    def takes_leave(self) -> bool:
        """True when the last that waits to be read ends the session."""

    @property
    def is_waiting(self) -> bool:
        """True while an event waits for its answer."""

    @property
    def more(self) -> bool:
        """False when after the answer to the last event octets are needed for another one."""

    @property
    def buffered(self) -> int:
        """Octets that wait to be read."""

    def receive_data(self, data: bytes) -> None:
        """Octets of the client."""

    def next_event(self) -> object | None:
        """What happens next, None when octets or an answer are missing."""

    def data_to_send(self) -> bytes:
        """Octets for the client."""

    def answer(self, reply: Reply | None = None) -> None:
        """Answer what waits, or say something unasked before `close`."""

    def tls_started(self) -> None:
        """TLS stands."""

    def close(self) -> None:
        """Nothing more is read."""


class Receiver(Protocol):
    """Decides what is said in a session."""

    def handle(self, event: Any) -> Work | None:
        """Answer an event at once, or return a coroutine that will."""

    def tls_started(self, ssl_object: ssl.SSLObject) -> None:
        """STARTTLS is done."""

    def handshake_failed(self, error: Exception) -> None:
        """STARTTLS came to nothing."""

    def failed(self, error: Exception) -> None:
        """A task of this session failed: our bug."""

    def lost(self, error: Exception | None) -> None:
        """The connection is closed, by whatever side."""

    def tick(self, now: float) -> None:
        """Called about once a second."""
