"""One AUTH after another in a session: between the server session's events and the authenticator.

Only the outcome leaves this module: who has logged in is noted in the session, and the caller is told. A
failed login has been delayed, counted and turned into a 421 by the authenticator where that was due.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from mta.net.connection import Work
from mta.reply import Reply
from mta.session import Session
from mta.smtp.auth import Authenticator, Challenge, Login, ServerExchange, Step
from mta.smtp.server import ServerSession

Told = Callable[[str, Reply | None], None]
"""Called with the mechanism and None for a login, or the reply that refuses it."""


class LoginDialog:
    """The AUTH commands of one session (RFC 4954)."""

    __slots__ = ("_authenticator", "_bindings", "_exchange", "_mechanism", "_session", "_smtp", "_tell")

    def __init__(
        self, authenticator: Authenticator, session: Session, smtp: ServerSession, tell: Told
    ) -> None:
        """Log `session` in; its answers go to `smtp`."""
        self._authenticator = authenticator
        self._session = session
        self._smtp = smtp
        self._tell = tell
        self._exchange: ServerExchange | None = None
        self._mechanism = ""
        self._bindings: Mapping[str, bytes] = {}

    def bind(self, bindings: Mapping[str, bytes]) -> None:
        """TLS stands: its channel bindings by type (RFC 5929)."""
        self._bindings = bindings

    def mechanisms(self) -> tuple[str, ...]:
        """Names to offer in the answer to EHLO."""
        return self._authenticator.mechanisms(self._session, frozenset(self._bindings))

    def start(self, mechanism: str, initial: bytes | None) -> Work | None:
        """AUTH: answer at once, or return the coroutine that will."""
        self.cancel()
        self._mechanism = mechanism
        exchange = self._authenticator.begin(mechanism, self._session, self._bindings)
        if isinstance(exchange, Reply):
            self._refuse(exchange)
            return None
        self._exchange = exchange
        return self._step(exchange.step(initial))

    def respond(self, data: bytes) -> Work | None:
        """The client's answer to a challenge."""
        assert self._exchange is not None
        return self._step(self._exchange.step(data))

    def cancel(self) -> None:
        """The client gave up, or is gone."""
        if self._exchange is not None:
            self._exchange.cancel()
            self._exchange = None

    def _step(self, step: Step | Awaitable[Step]) -> Work | None:
        if isinstance(step, Awaitable):
            return self._later(step)
        self._apply(step)
        return None

    async def _later(self, step: Awaitable[Step]) -> None:
        self._apply(await step)

    def _apply(self, step: Step) -> None:
        if isinstance(step, Challenge):
            self._smtp.challenge(step.data)
            return
        self._exchange = None
        if isinstance(step, Login):
            session = self._session
            session.user = step.user
            session.auth_mechanism = step.mechanism
            session.addresses = step.addresses
            self._tell(step.mechanism, None)
            self._smtp.answer()
        else:
            self._refuse(step.reply)

    def _refuse(self, reply: Reply) -> None:
        self._tell(self._mechanism, reply)
        self._smtp.answer(reply)
