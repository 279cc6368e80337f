"""The `Authenticator` of the SMTP server: which mechanisms, over which back end, how fast.

Mechanisms are offered inside TLS, over Unix sockets and on listeners that are declared insecure, nowhere
else. -PLUS needs a channel binding that clients expect, EXTERNAL a verified client certificate that stands
for a user. The order is from strong to weak, for many clients take the first they know. Failures pass the
limiter, which delays and counts them; logins are reported once, with their mechanism.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from mta.accounts import senderlogin
from mta.accounts.limiter import TOO_MANY_IN_SESSION, FailureLimiter
from mta.accounts.senderlogin import SenderLoginSettings
from mta.address import Address
from mta.reply import Reply
from mta.session import Session, TlsInfo
from mta.smtp.auth import (
    CREDENTIALS_INVALID,
    DEFAULT_BINDINGS,
    ENCRYPTION_REQUIRED,
    MECHANISM_TOO_WEAK,
    MECHANISM_UNKNOWN,
    Challenge,
    Failure,
    Login,
    ServerExchange,
    Step,
)

ORDER = (
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-1-PLUS",
    "SCRAM-SHA-256",
    "SCRAM-SHA-1",
    "PLAIN",
    "LOGIN",
    "OAUTHBEARER",
    "XOAUTH2",
    "EXTERNAL",
)
"""Mechanisms that may be offered, in this order. EXTERNAL is last: a certificate need not mean a login."""
KNOWN = frozenset((*ORDER, "CRAM-MD5", "DIGEST-MD5", "SCRAM-MD5", "NTLM", "APOP", "ANONYMOUS"))
"""Names answered 534 (too weak here) where others are answered 504 (unknown)."""


class Backend(Protocol):
    """Where the accounts are."""

    def mechanisms(self) -> Collection[str]:
        """What can be done now, in any order."""

    def begin(
        self,
        mechanism: str,
        session: Session,
        channel_bindings: Mapping[str, bytes],
        certificate_user: str,
        plus_offered: bool,
    ) -> ServerExchange | Reply:
        """Start an exchange; `certificate_user` is "" without a certificate that stands for a user."""

    async def close(self) -> None:
        """Free what the back end holds."""


@dataclass(slots=True, frozen=True)
class AuthSettings:
    """What is offered to whom."""

    mechanisms: tuple[str, ...] = ()
    """Names in the order in which they are offered; () for all that the back end can do, in `ORDER`."""
    require_tls: bool = True
    """Offer AUTH inside TLS only (RFC 4954 section 4)."""
    sender_login: SenderLoginSettings = senderlogin.DEFAULTS


def certificate_address(tls: TlsInfo) -> str:
    """Whom a verified certificate stands for: its first e-mail address, "" if it has none.

    Only fields that a verified certificate fills are looked at.
    """
    return next((name for name in (*tls.peer_names, tls.peer_subject) if "@" in name), "")


class SessionAuthenticator:
    """`mta.smtp.auth.Authenticator` over a back end."""

    def __init__(
        self,
        backend: Backend,
        limiter: FailureLimiter,
        settings: AuthSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`limiter` counts failures and delays their answers; `clock` and `sleep` are in seconds."""
        self._backend = backend
        self._limiter = limiter
        self._settings = settings
        self._clock = clock
        self._sleep = sleep

    def is_secured(self, session: Session) -> bool:
        """True when a password may travel on this session."""
        return session.tls is not None or not self._settings.require_tls or session.client_address == "unix"

    def mechanisms(self, session: Session, channel_binding_types: frozenset[str]) -> tuple[str, ...]:
        """Names for EHLO; () where AUTH is not offered."""
        if not self.is_secured(session):
            return ()
        possible = set(self._backend.mechanisms())
        # A client cannot ask for our types of binding and does not fall back from -PLUS: without the one
        # that it will take, -PLUS is offered only where the administrator names it.
        usable = (
            channel_binding_types if self._settings.mechanisms else channel_binding_types & DEFAULT_BINDINGS
        )
        if not usable:
            possible = {name for name in possible if not name.endswith("-PLUS")}
        if "EXTERNAL" in possible and not self._certified(session):
            possible.remove("EXTERNAL")
        return tuple(name for name in self._settings.mechanisms or ORDER if name in possible)

    def begin(
        self, mechanism: str, session: Session, channel_bindings: Mapping[str, bytes]
    ) -> ServerExchange | Reply:
        """Start an exchange, or refuse: 538, 534, 504, and 454 for a client with too many failures."""
        mechanism = mechanism.upper()
        if not self.is_secured(session):
            return ENCRYPTION_REQUIRED
        offered = self.mechanisms(session, frozenset(channel_bindings))
        if mechanism not in offered:
            switched_off = mechanism in KNOWN and not mechanism.endswith("-PLUS") and mechanism != "EXTERNAL"
            return MECHANISM_TOO_WEAK if switched_off else MECHANISM_UNKNOWN
        refused = self._limiter.refuses(session)
        if refused is not None:
            return refused
        plus_offered = f"{mechanism.removesuffix('-PLUS')}-PLUS" in offered
        user = self._certified(session) if mechanism == "EXTERNAL" else ""
        exchange = self._backend.begin(mechanism, session, channel_bindings, user, plus_offered)
        if isinstance(exchange, Reply):
            return exchange
        return _LimitedExchange(self, self._limiter, exchange, session)

    def owns(self, session: Session, sender: Address) -> bool:
        """The sender-login check."""
        return senderlogin.owns(self._settings.sender_login, session, sender)

    async def close(self) -> None:
        """Free what the back end holds."""
        await self._backend.close()

    def _certified(self, session: Session) -> str:
        return certificate_address(session.tls) if session.tls is not None else ""

    def now(self) -> float:
        """The clock by which delays are counted."""
        return self._clock()

    def conclude(
        self,
        session: Session,
        result: Login | Failure,
        *,
        started: float,
        counted: tuple[float, bool] | None,
        is_left: bool,
    ) -> Step | Awaitable[Step]:
        """Count the end of an exchange; a wrong guess is answered late.

        `started` is when the response came, `counted` what the limiter said of a failure that it knows
        already. When the client has left, nobody reads the answer: it is not delayed.
        """
        if isinstance(result, Failure) and result.reply.code == CREDENTIALS_INVALID.code:
            delay, last = counted or self._limiter.failed(session)
            if last:
                result = Failure(replace(TOO_MANY_IN_SESSION, cause=result.reply.cause))
            return result if is_left else self._later(result, started + delay)
        if isinstance(result, Login):
            self._limiter.succeeded(session)
        return result

    async def _later(self, result: Failure, when: float) -> Step:
        delay = when - self._clock()
        if delay > 0:
            await self._sleep(delay)
        return result


class _LimitedExchange:
    """An exchange whose end passes the limiter."""

    __slots__ = (
        "_authenticator",
        "_counted",
        "_exchange",
        "_is_left",
        "_is_waiting",
        "_limiter",
        "_session",
    )

    def __init__(
        self,
        authenticator: SessionAuthenticator,
        limiter: FailureLimiter,
        exchange: ServerExchange,
        session: Session,
    ) -> None:
        self._authenticator = authenticator
        self._limiter = limiter
        self._exchange = exchange
        self._session = session
        self._counted: tuple[float, bool] | None = None
        self._is_waiting = False
        self._is_left = False

    def step(self, response: bytes | None) -> Step | Awaitable[Step]:
        started = self._authenticator.now()
        step = self._exchange.step(response)
        if isinstance(step, (Challenge, Login, Failure)):
            return self._take(step, started)
        self._is_waiting = True
        return self._wait(step, started)

    def cancel(self) -> None:
        if self._is_waiting and not self._is_left:
            self._is_left = True
            self._limiter.left(self._session)
        self._exchange.cancel()

    async def _wait(self, waiting: Awaitable[Step], started: float) -> Step:
        try:
            step = await waiting
        finally:
            self._is_waiting = False
            if self._is_left:
                self._limiter.settled(self._session)
        taken = self._take(step, started)
        return taken if isinstance(taken, (Login, Failure, Challenge)) else await taken

    def _take(self, step: Step, started: float) -> Step | Awaitable[Step]:
        if isinstance(step, Challenge):
            if step.refused and self._counted is None:  # the client need not come back for the 535
                self._counted = self._limiter.failed(self._session)
            return step
        return self._authenticator.conclude(
            self._session,
            step,
            started=started,
            counted=self._counted,
            is_left=self._is_left,
        )
