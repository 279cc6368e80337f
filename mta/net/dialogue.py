"""What a connection needs of the server session that it carries: SMTP's, or that of another protocol.

The session is sans-IO. It yields events; `StartTls` and `Closed` of `mta.smtp.events` are the connection's,
all others its receiver's.
"""

from __future__ import annotations

from typing import Protocol

from mta.reply import Reply
from mta.smtp.state import State


class Dialogue(Protocol):
    """A server session (`mta.smtp.server.ServerSession`, `mta.managesieve.session.ManageSieveSession`)."""

    @property
    def state(self) -> State:
        """What the session is at: the connection's time-outs depend on it."""

    @property
    def message(self) -> object | None:
        """Not None while octets count even if they end no line."""

    @property
    def is_waiting(self) -> bool:
        """True while an event waits for its answer."""

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
