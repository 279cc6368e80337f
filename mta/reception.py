"""What the sessions of a listener share, and who is told what happens in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mta.envelope import Envelope
from mta.policy.verdict import Policy
from mta.reply import Reply
from mta.session import Session
from mta.smtp.auth import Authenticator
from mta.smtp.server_settings import ServerSettings
from mta.transaction import Transactions

if TYPE_CHECKING:
    from mta.authn.evaluation import Evaluator


class Journal(Protocol):
    """Told what happens in a session, for log and metrics."""

    def connected(self, session: Session) -> None:
        """A client has been let in."""

    def refused(
        self, session: Session, stage: str, reply: Reply, envelope: Envelope | None, what: str
    ) -> None:
        """A command or a client was refused; `what` is its argument, "" if there is none worth telling."""

    def broken_off(
        self, session: Session, envelope: Envelope | None, size: int, error: Exception | None
    ) -> None:
        """The connection has ended within a message, of which `size` octets had come.

        Without an envelope it is us who have ended it.
        """

    def logged_in(self, session: Session) -> None:
        """A user has logged in."""

    def login_failed(self, session: Session, mechanism: str, reply: Reply) -> None:
        """A login failed."""

    def tls_started(self, session: Session) -> None:
        """TLS stands (STARTTLS or implicit)."""

    def handshake_failed(self, session: Session, error: Exception) -> None:
        """TLS does not stand."""

    def failed(self, session: Session, error: Exception) -> None:
        """We have a bug."""

    def closed(self, session: Session, error: Exception | None) -> None:
        """The connection is closed."""


@dataclass(slots=True, frozen=True)
class Reception:
    """What the sessions of a listener share."""

    name: str
    protocol: str
    settings: ServerSettings
    policy: Policy
    transactions: Transactions
    journal: Journal
    new_id: Callable[[], str]
    clock: Callable[[], float]
    """The loop's, in seconds."""
    authenticator: Authenticator | None = None
    evaluator: Evaluator | None = None
    """Finds out who clients and senders are; None when nobody asks the DNS."""
    etrn: Callable[[Session, str], Reply] | None = None
    """Starts the queue for a node; None where ETRN is not offered."""
    trusts_xclient: Callable[[str], bool] = lambda address: False
    trusts_xforward: Callable[[str], bool] = lambda address: False
    greet_delay: float = 0.0
    """Seconds before the greeting."""
    errors_before_delay: int = 10
    error_delay: float = 1.0
    """Seconds by which a refusal is delayed after `errors_before_delay` of them."""
