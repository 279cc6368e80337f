"""Making guesses slow: delays and limits for failed logins.

A refused login is answered late: the first after a second, each further one of the same client or session
later, up to five seconds. The delay counts from when the response came in, so it also hides how long the
check took. After three failures in a session the answer is 421 4.7.0 and the session ends. A client address
with too many failures in the window is not listened to any more (454 4.7.0), whichever worker it reaches.

Only 535 counts: a back end that is down is nobody's guess. A client that leaves before the answer does not
get away with it: the check goes on and is counted, and until then it counts as if it had failed. Otherwise as
many guesses could be left behind as fit into the time of the first answer.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Protocol

from mta.reply import Reply
from mta.session import Session

MAX_SESSIONS = 4096
"""Sessions with a failure that are remembered, those of the last guesses; 100 octets each."""
TOO_MANY_IN_SESSION = Reply(421, "4.7.0", "Too many failed logins, closing the connection", close=True)
"""Instead of the last 535 of a session."""
TOO_MANY_FROM_CLIENT = Reply(454, "4.7.0", "Too many failed logins from your address, try again later")
"""AUTH from a client over its limit."""


class FailureCounter(Protocol):
    """Counts failed logins by client, for all workers of a node."""

    def add(self, client_address: str) -> None:
        """One more failure."""

    def count(self, client_address: str) -> int:
        """Failures of this client (or of its network, as the counter sees fit) within the window."""

    def counts(self, client_address: str) -> bool:
        """False for a client whose failures are not counted."""


def _network(client_address: str) -> str:
    if ":" not in client_address:
        return client_address
    return str(ipaddress.ip_network((client_address.partition("%")[0], 64), strict=False))


@dataclass(slots=True, frozen=True)
class LimiterSettings:
    """How failures are answered; times in seconds."""

    delay: float = 1.0
    """Before the answer to the first failure; doubled with each further one."""
    max_delay: float = 5.0
    """Longest delay: the client would give up, and the session costs memory meanwhile."""
    failures_per_session: int = 3
    """People mistype twice."""
    failures_per_client: int = 20
    """Within the window of the counter; 0 for no limit. An office behind one address mistypes too."""


class FailureLimiter:
    """Applies the settings to sessions."""

    def __init__(self, settings: LimiterSettings, counter: FailureCounter) -> None:
        """`counter` is shared by the workers."""
        self._settings = settings
        self._counter = counter
        self._sessions: dict[str, int] = {}
        self._left: dict[str, int] = {}

    def refuses(self, session: Session) -> Reply | None:
        """The answer to AUTH of a client over its limit, None for others."""
        limit, address = self._settings.failures_per_client, session.client_address
        if limit and self._counter.count(address) + self._left.get(_network(address), 0) >= limit:
            return TOO_MANY_FROM_CLIENT
        return None

    def left(self, session: Session) -> None:
        """The client has left while its login is checked: call `settled` at the end of the check."""
        address = session.client_address
        if self._counter.counts(address):
            network = _network(address)
            self._left[network] = self._left.get(network, 0) + 1

    def settled(self, session: Session) -> None:
        """A check for a client that has left is over."""
        network = _network(session.client_address)
        left = self._left.pop(network, 0)
        if left > 1:
            self._left[network] = left - 1

    def failed(self, session: Session) -> tuple[float, bool]:
        """Count a failure: the delay of its answer in seconds, and True when the session must end."""
        self._counter.add(session.client_address)
        failures = self._sessions.pop(session.id, 0) + 1
        last = failures >= self._settings.failures_per_session
        if not last:
            if len(self._sessions) >= MAX_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
            self._sessions[session.id] = failures
        exponent = min(max(failures, self._counter.count(session.client_address)) - 1, 16)
        return min(self._settings.delay * 2**exponent, self._settings.max_delay), last

    def succeeded(self, session: Session) -> None:
        """Forget the failures of the session; those of the client stay, for it may own one account."""
        self._sessions.pop(session.id, None)
