"""One AUTH after another in a session: between the server session's events and the authenticator.

Only the outcome leaves this module: who has logged in is noted in the session, and the caller is told. A
failed login has been delayed, counted and turned into a 421 by the authenticator where that was due.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from mta.net.dialogue import Work
from mta.policy.verdict import Verdict
from mta.reply import Reply
from mta.session import Session
from mta.smtp.auth import (
    CANCELLED,
    CREDENTIALS_INVALID,
    Authenticator,
    Challenge,
    Login,
    ServerExchange,
    Step,
)

Told = Callable[[str, Reply | None], None]
"""Called with the mechanism and None for a login, or the reply that refuses it."""
Admit = Callable[[Session], Verdict | Awaitable[Verdict]]
"""What the policy says to a user whose password was right."""


class Party(Protocol):
    """The server session of a protocol that has logins."""

    def answer(self, reply: Reply | None = None) -> None:
        """End the exchange; None is success."""

    def challenge(self, data: bytes) -> None:
        """Go on with it."""


class LoginDialog:
    """The AUTH commands of one session (RFC 4954), or those of another protocol with SASL."""

    __slots__ = (
        "_admit",
        "_authenticator",
        "_bindings",
        "_exchange",
        "_is_refused",
        "_mechanism",
        "_session",
        "_smtp",
        "_tell",
    )

    def __init__(
        self, authenticator: Authenticator, session: Session, smtp: Party, tell: Told, admit: Admit
    ) -> None:
        """Log `session` in, if `admit` agrees; its answers go to `smtp`."""
        self._admit = admit
        self._authenticator = authenticator
        self._session = session
        self._smtp = smtp
        self._tell = tell
        self._exchange: ServerExchange | None = None
        self._is_refused = False
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
        return self._step(exchange, initial)

    def respond(self, data: bytes) -> Work | None:
        """The client's answer to a challenge."""
        assert self._exchange is not None
        return self._step(self._exchange, data)

    def cancel(self) -> None:
        """The client gave up, or is gone. A check that is under way goes on, and how it ended is told."""
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        exchange.cancel()
        if self._is_refused:
            self._tell(self._mechanism, CREDENTIALS_INVALID)

    def _step(self, exchange: ServerExchange, response: bytes | None) -> Work | None:
        self._is_refused = False
        step = exchange.step(response)
        if isinstance(step, Awaitable):
            return self._later(exchange, step)
        return self._apply(step)

    async def _later(self, exchange: ServerExchange, waiting: Awaitable[Step]) -> None:
        step = await waiting
        if self._exchange is not exchange:
            self._note(step)
            return
        work = self._apply(step)
        if work is not None:
            await work

    def _note(self, step: Step) -> None:
        """Tell how it ended for a client that has left: it is in no session, and no policy is asked."""
        if isinstance(step, Challenge):
            if step.refused:
                self._tell(self._mechanism, CREDENTIALS_INVALID)
        elif isinstance(step, Login):
            self._name(step)
            self._tell(step.mechanism, None)
            self._forget()
        elif step.reply != CANCELLED:
            self._tell(self._mechanism, step.reply)

    def _apply(self, step: Step) -> Work | None:
        if isinstance(step, Challenge):
            self._is_refused = step.refused
            self._smtp.challenge(step.data)
            return None
        self._exchange = None
        if not isinstance(step, Login):
            self._refuse(step.reply)
            return None
        self._name(step)
        try:
            verdict = self._admit(self._session)
        except BaseException:
            self._forget()
            raise
        if isinstance(verdict, Verdict) and not verdict.delay:
            self._conclude(verdict)
            return None
        return self._conclude_later(verdict)

    async def _conclude_later(self, verdict: Verdict | Awaitable[Verdict]) -> None:
        try:
            if not isinstance(verdict, Verdict):
                verdict = await verdict
            if verdict.delay:
                await asyncio.sleep(verdict.delay)
        except BaseException:
            self._forget()
            raise
        self._conclude(verdict)

    def _conclude(self, verdict: Verdict) -> None:
        session = self._session
        reply = verdict.reply
        if reply is None or reply.is_positive:
            self._tell(session.auth_mechanism, None)
            self._smtp.answer()
            return
        mechanism = session.auth_mechanism
        self._forget()
        self._tell(mechanism, reply)
        self._smtp.answer(reply)

    def _name(self, login: Login) -> None:
        session = self._session
        session.user = login.user
        session.auth_mechanism = login.mechanism
        session.addresses = login.addresses

    def _forget(self) -> None:
        """Nobody has logged in: also when the policy has not answered, for whatever reason."""
        session = self._session
        session.user = session.auth_mechanism = ""
        session.addresses = ()

    def _refuse(self, reply: Reply) -> None:
        self._tell(self._mechanism, reply)
        self._smtp.answer(reply)
