"""Who sent this? All methods together, each evaluated once and only when somebody asks for it.

    session.authentication = evaluator.of(session)
    transaction = session.authentication.begin(envelope)     # at MAIL
    transaction.message = message                            # at the end of the data
    await transaction.dmarc()                                # asks for SPF and DKIM first
    await transaction.results()                              # all that are switched on

iprev and SPF of the HELO name belong to the session, SPF of MAIL FROM to the transaction, DKIM, ARC and DMARC
to its message. Each method has a deadline of its own. What goes wrong on our side (a temporary file that
cannot be read, a bug) is a *temperror* like a DNS that does not answer: nobody passes or fails by it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from mta.address import Address
from mta.authn.arc import Chain, validate
from mta.authn.dkim import DkimResult, Options, method_results, verify
from mta.authn.dmarc import DmarcResult, DmarcSettings
from mta.authn.dmarc import check as check_author
from mta.authn.dmarcauthor import Author
from mta.authn.iprev import IprevResult
from mta.authn.iprev import check as check_name
from mta.authn.once import Once
from mta.authn.results import MethodResult, Result
from mta.authn.spf import SpfResult, check_helo, check_sender
from mta.content import SpillError
from mta.envelope import Envelope
from mta.net.resolver.base import Resolver
from mta.session import Session
from sieve_ext.message import Message

T = TypeVar("T")

METHODS = ("iprev", "spf", "dkim", "arc", "dmarc", "bimi")
"""In the order in which results are written."""
OFF = "not looked at"
"""The reason of a method that is switched off, or that has nothing to look at yet."""


@dataclass(slots=True, frozen=True)
class EvaluationSettings:
    """What is evaluated, and how."""

    hostname: str
    methods: frozenset[str] = frozenset(METHODS)
    seconds: float = 5.0
    """For each method; DMARC comes after SPF and DKIM, so that a message takes twice that at the most."""
    dkim: Options = field(default_factory=Options)
    dmarc: DmarcSettings = field(default_factory=DmarcSettings)


class Evaluator:
    """Evaluates for a worker."""

    def __init__(
        self,
        settings: EvaluationSettings,
        resolver: Resolver,
        examines: Callable[[Session], bool],
        complain: Callable[[str, Exception], None],
    ) -> None:
        """`examines` tells of whom mail is looked at; `complain` hears of our own faults, by method."""
        self.settings = settings
        self.resolver = resolver
        self.examines = examines
        self.complain = complain

    def of(self, session: Session) -> SessionAuthentication:
        """What will be known of a session."""
        return SessionAuthentication(self, session)

    def is_on(self, method: str, session: Session) -> bool:
        """Whether a method is evaluated for mail of this session."""
        return method in self.settings.methods and self.examines(session)

    def deadline(self) -> float:
        """When a method that begins now must have ended, by the loop's clock."""
        return asyncio.get_running_loop().time() + self.settings.seconds

    async def guarded(self, method: str, work: Awaitable[T], failed: Callable[[MethodResult], T]) -> T:
        """What `work` finds; a temperror when it fails by our fault."""
        try:
            return await work
        except (OSError, SpillError) as error:
            reason = "the message could not be read"
            self.complain(method, error)
        except Exception as error:  # noqa: BLE001 - a bug here must not keep mail from being answered
            reason = "internal error"
            self.complain(method, error)
        return failed(MethodResult(method, Result.TEMPERROR, reason))


class SessionAuthentication:
    """What is known, or can be found out, of who a client is."""

    __slots__ = ("_evaluator", "_helo", "_iprev", "_session", "transaction")

    def __init__(self, evaluator: Evaluator, session: Session) -> None:
        """Nothing is asked yet."""
        self._evaluator = evaluator
        self._session = session
        self._iprev: tuple[str, Once[IprevResult]] | None = None
        self._helo: tuple[str, str, Once[SpfResult]] | None = None
        self.transaction: Authentication | None = None
        """Of the last MAIL."""

    def begin(self, envelope: Envelope) -> Authentication:
        """MAIL: a new transaction, with the sender that the client has given."""
        self.transaction = Authentication(self._evaluator, self, self._session, envelope.sender)
        return self.transaction

    async def iprev(self) -> IprevResult:
        """The reverse name of the client."""
        session, evaluator = self._session, self._evaluator
        if not evaluator.is_on("iprev", session):
            return IprevResult(MethodResult("iprev", Result.NONE, OFF))
        address = session.client_address
        if self._iprev is None or self._iprev[0] != address:
            self._iprev = address, Once()
        return await self._iprev[1].get(partial(self._find_iprev, address))

    async def _find_iprev(self, address: str) -> IprevResult:
        evaluator = self._evaluator
        work = check_name(evaluator.resolver, address, deadline=evaluator.deadline())
        return await evaluator.guarded("iprev", work, IprevResult)

    async def helo(self) -> SpfResult:
        """SPF of the HELO name."""
        session, evaluator = self._session, self._evaluator
        if not evaluator.is_on("spf", session) or not session.helo:
            return SpfResult(MethodResult("spf", Result.NONE, OFF), "helo", session.helo)
        about = session.client_address, session.helo
        if self._helo is None or self._helo[:2] != about:
            self._helo = (*about, Once())
        return await self._helo[2].get(partial(self._find_helo, *about))

    async def _find_helo(self, address: str, name: str) -> SpfResult:
        evaluator = self._evaluator
        work = check_helo(
            evaluator.resolver,
            address,
            name,
            deadline=evaluator.deadline(),
            receiver=evaluator.settings.hostname,
        )
        return await evaluator.guarded("spf", work, lambda one: SpfResult(one, "helo", name))

    @property
    def known_iprev(self) -> IprevResult | None:
        """As far as it was asked for."""
        return self._iprev[1].value if self._iprev is not None else None

    @property
    def known_helo(self) -> SpfResult | None:
        """As far as it was asked for."""
        return self._helo[2].value if self._helo is not None else None


class Authentication:
    """What is known, or can be found out, of who sent one message."""

    __slots__ = (
        "_arc",
        "_bimi",
        "_dkim",
        "_dmarc",
        "_evaluator",
        "_session",
        "_spf",
        "examined",
        "message",
        "of_session",
        "sender",
    )

    def __init__(
        self, evaluator: Evaluator, of_session: SessionAuthentication, session: Session, sender: Address
    ) -> None:
        """`sender` is that of MAIL as the client gave it."""
        self._evaluator = evaluator
        self._session = session
        self.of_session = of_session
        self.sender = sender
        self.examined = evaluator.examines(session)
        """False: this is no mail that is looked at, and all results are *none*."""
        self.message: Message | None = None
        """The message as it came, once it is there; it must not be edited."""
        self._spf: Once[SpfResult] = Once()
        self._dkim: Once[tuple[DkimResult, ...]] = Once()
        self._arc: Once[Chain] = Once()
        self._dmarc: Once[DmarcResult] = Once()
        self._bimi: Once[MethodResult] = Once()

    # --- the methods -------------------------------------------------------------------------------

    async def iprev(self) -> IprevResult:
        """The reverse name of the client."""
        return await self.of_session.iprev()

    async def spf(self) -> SpfResult:
        """SPF of MAIL FROM; of the HELO name for the null sender."""
        if not self._is_on("spf"):
            return SpfResult(MethodResult("spf", Result.NONE, OFF), "mailfrom", self.sender.domain)
        return await self._spf.get(self._find_spf)

    async def dkim(self) -> tuple[DkimResult, ...]:
        """The result of each signature, empty for a message without one."""
        if self.message is None or not self._is_on("dkim"):
            return ()
        return await self._dkim.get(self._find_dkim)

    async def arc(self) -> Chain:
        """The chain of those who passed the message on."""
        if self.message is None or not self._is_on("arc"):
            return Chain(Result.NONE, OFF)
        return await self._arc.get(self._find_arc)

    async def dmarc(self) -> DmarcResult:
        """Whether the message may carry its From."""
        if self.message is None or not self._is_on("dmarc"):
            return DmarcResult(MethodResult("dmarc", Result.NONE, OFF), Author())
        return await self._dmarc.get(self._find_dmarc)

    async def bimi(self) -> MethodResult:
        """What the author's domain has published as its sign."""
        if self.message is None or not self._is_on("bimi"):
            return MethodResult("bimi", Result.NONE, OFF)
        return await self._bimi.get(self._find_bimi)

    async def results(self) -> tuple[MethodResult, ...]:
        """Of all methods that are switched on, for the header field and the log; empty when none is."""
        if not self.examined:
            return ()
        await asyncio.gather(self.iprev(), self.spf(), self.dkim(), self.arc())
        await self.dmarc()
        await self.bimi()
        return self.known()

    def known(self) -> tuple[MethodResult, ...]:
        """As far as somebody has asked for them."""
        found: list[MethodResult] = []
        if (one := self.of_session.known_iprev) is not None:
            found.append(one.result)
        found += [one.result for one in (self._spf.value, self.of_session.known_helo) if one is not None]
        if self._dkim.value is not None:
            found += method_results(self._dkim.value)
        if self._arc.value is not None:
            found.append(self._arc.value.method_result)
        if self._dmarc.value is not None:
            found.append(self._dmarc.value.result)
        if self._bimi.value is not None:
            found.append(self._bimi.value)
        return tuple(found)

    @property
    def known_spf(self) -> SpfResult | None:
        """As far as it was asked for."""
        return self._spf.value

    @property
    def known_dkim(self) -> tuple[DkimResult, ...] | None:
        """As far as they were asked for."""
        return self._dkim.value

    @property
    def known_arc(self) -> Chain | None:
        """As far as it was asked for."""
        return self._arc.value

    @property
    def known_dmarc(self) -> DmarcResult | None:
        """As far as it was asked for."""
        return self._dmarc.value

    @property
    def authserv_id(self) -> str:
        """Our name in Authentication-Results."""
        return self._evaluator.settings.hostname

    # --- finding out -------------------------------------------------------------------------------

    def _is_on(self, method: str) -> bool:
        return self.examined and method in self._evaluator.settings.methods

    async def _find_spf(self) -> SpfResult:
        evaluator, session = self._evaluator, self._session
        work = check_sender(
            evaluator.resolver,
            session.client_address,
            self.sender,
            session.helo,
            deadline=evaluator.deadline(),
            receiver=evaluator.settings.hostname,
        )
        domain = self.sender.domain or session.helo
        return await evaluator.guarded("spf", work, lambda one: SpfResult(one, "mailfrom", domain))

    async def _find_dkim(self) -> tuple[DkimResult, ...]:
        assert self.message is not None
        evaluator = self._evaluator
        work = verify(self.message, evaluator.resolver, evaluator.settings.dkim)
        return await evaluator.guarded("dkim", work, lambda one: (DkimResult(one.result, one.reason),))

    async def _find_arc(self) -> Chain:
        assert self.message is not None
        evaluator = self._evaluator
        work = validate(self.message, evaluator.resolver, evaluator.settings.dkim)
        return await evaluator.guarded("arc", work, lambda one: Chain(one.result, one.reason))

    async def _find_dmarc(self) -> DmarcResult:
        assert self.message is not None
        evaluator = self._evaluator
        sender, signatures = await asyncio.gather(self.spf(), self.dkim())
        work = check_author(
            evaluator.resolver,
            self.message,
            sender,
            [one.method_result for one in signatures],
            deadline=evaluator.deadline(),
            settings=evaluator.settings.dmarc,
            draw=random.random() * 100,
        )
        return await evaluator.guarded("dmarc", work, lambda one: DmarcResult(one, Author()))

    async def _find_bimi(self) -> MethodResult:
        from mta.authn.bimi import check as check_sign  # off by default

        assert self.message is not None
        evaluator = self._evaluator
        author, signatures = await self.dmarc(), await self.dkim()
        work = check_sign(evaluator.resolver, self.message, author, signatures, deadline=evaluator.deadline())
        return await evaluator.guarded("bimi", work, lambda one: one)
