"""SPF: whether a client may send for the domain of MAIL FROM or HELO (RFC 7208).

    found = await check_sender(resolver, "192.0.2.1", sender, "mx.example.org", deadline=loop.time() + 10)
    found.result.result      # Result.PASS, FAIL, SOFTFAIL, NEUTRAL, NONE, TEMPERROR, PERMERROR

A DNS that is slow, down or bogus gives TEMPERROR, never FAIL. Bounds of one check: ten terms that look
something up and two that find nothing (section 4.6.4), `MAX_QUERIES` questions, the caller's deadline and
`SECONDS`, sizes of records and terms (`mta.authn.spfengine`).
"""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass
from typing import Literal

from mta.address import Address
from mta.authn.results import MethodResult, Result
from mta.authn.spfengine import PERM_ERROR, TEMP_ERROR, Engine, Key, Memory, Miss, plain_records
from mta.net.resolver.base import Resolver
from mta.net.resolver.names import wire_name

SECONDS = 20.0
"""The longest that a check takes (RFC 7208 section 4.6.4 allows no less for its end to be an error)."""
MAX_QUERIES = 150
"""Questions of one check: ten terms, each of which names ten hosts, and the records in between."""
MAX_EXPLANATION = 400
"""Characters of an explanation that are kept."""

Identity = Literal["mailfrom", "helo"]

_BROKEN = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RecursionError,
)
"""What pyspf might raise over a record nobody has thought of."""


@dataclass(slots=True, frozen=True)
class SpfResult:
    """What SPF says about one identity."""

    result: MethodResult
    identity: Identity
    domain: str
    """The domain that was checked, in A-labels, "" if there was none. With "pass" of MAIL FROM it is DMARC's
    SPF-authenticated identifier."""
    explanation: str = ""
    """What the domain says about a "fail" (exp=), printable ASCII, "" if nothing. A stranger wrote it: name
    the domain beside it (section 6.2)."""
    mechanism: str = ""
    """The term of the domain's own record that matched, "" for none."""
    queries: int = 0
    """Questions that were asked."""

    @property
    def passed(self) -> bool:
        """True for "pass"."""
        return self.result.passed


async def check_sender(
    resolver: Resolver, client: str, sender: Address, helo: str, *, deadline: float, receiver: str = "unknown"
) -> SpfResult:
    """Check MAIL FROM; for the null sender that is postmaster at the HELO name (RFC 7208 section 2.4).

    `client` is an IP address as text, `helo` what the client said, `receiver` our name. `deadline` is in
    seconds of the running loop's clock. Raises nothing but CancelledError.
    """
    local, domain = (sender.local, sender.domain) if sender.domain else ("postmaster", helo)
    return await check_host(resolver, client, local, domain, helo, deadline=deadline, receiver=receiver)


async def check_helo(
    resolver: Resolver, client: str, helo: str, *, deadline: float, receiver: str = "unknown"
) -> SpfResult:
    """Check the HELO name (RFC 7208 section 2.3); else as `check_sender`."""
    return await check_host(
        resolver, client, "postmaster", helo, helo, deadline=deadline, receiver=receiver, identity="helo"
    )


async def check_host(
    resolver: Resolver,
    client: str,
    local: str,
    domain: str,
    helo: str,
    *,
    deadline: float,
    receiver: str = "unknown",
    identity: Identity = "mailfrom",
) -> SpfResult:
    """The function check_host() of RFC 7208 section 4; parts of an address instead of a whole one."""
    check = _Check(resolver, client, local, domain, helo, deadline, receiver, identity)
    return await check.run()


class _Check:
    """One check: runs of the engine with lookups between them."""

    def __init__(
        self,
        resolver: Resolver,
        client: str,
        local: str,
        domain: str,
        helo: str,
        deadline: float,
        receiver: str,
        identity: Identity,
    ) -> None:
        self.resolver = resolver
        self.client = client
        self.local = local
        self.domain = domain.lower().removesuffix(".")
        self.helo = helo
        self.deadline = min(deadline, asyncio.get_running_loop().time() + SECONDS)
        self.receiver = receiver
        self.identity: Identity = identity
        self.memory = Memory()
        self.mechanism = ""

    async def run(self) -> SpfResult:
        try:
            address = ipaddress.ip_address(self.client.partition("%")[0])
        except ValueError:
            return self._found(Result.NONE, "the client has no IP address")
        if "." not in self.domain or wire_name(self.domain) is None or self.domain.startswith("["):
            return self._found(Result.NONE, "no domain to check")  # RFC 7208 section 4.3
        self.client = str(address)
        result, reason, explanation = await self._evaluate()
        if result is Result.FAIL and not explanation:
            explanation = await self._explanation()
        return self._found(result, reason, explanation)

    async def _evaluate(self) -> tuple[Result, str, str]:
        """Run until nothing is missing."""
        while True:
            try:
                return self._once()
            except Miss as miss:
                if len(self.memory.answers) >= MAX_QUERIES:
                    return Result.PERMERROR, "too many DNS lookups", ""
                await self._look_up([miss.key])

    async def _explanation(self) -> str:
        """The text of exp=, whose lookups pyspf does not insist on; "" when they fail (section 6.2)."""
        while self.memory.unseen and len(self.memory.answers) < MAX_QUERIES:
            await self._look_up(list(self.memory.unseen))
            try:
                result, _, explanation = self._once()
            except Miss:
                return ""
            if result is not Result.FAIL:
                return ""
            if explanation:
                return explanation
        return ""

    def _once(self) -> tuple[Result, str, str]:
        """One run: result, reason, explanation. Raises Miss."""
        try:
            engine = Engine(self.memory, self.client, self.local, self.domain, self.helo, self.receiver)
            text, _, explanation = engine.check()
            result = Result(text)
        except PERM_ERROR as error:
            return Result.PERMERROR, str(error), ""
        except TEMP_ERROR as error:
            return Result.TEMPERROR, str(error), ""
        except _BROKEN as error:
            return Result.PERMERROR, f"the record cannot be evaluated ({type(error).__name__})", ""
        if result in (Result.PERMERROR, Result.TEMPERROR):
            return (
                result,
                explanation.removeprefix("SPF Permanent Error: ").removeprefix("SPF Temporary Error: "),
                "",
            )
        self.mechanism = engine.mechanism or ""
        return result, "", _printable(explanation) if result is Result.FAIL else ""

    async def _look_up(self, keys: list[Key]) -> None:
        """Ask; with the hosts of MX and PTR records at once, since the next run will want them."""
        await asyncio.gather(*map(self._ask, keys))
        hosts: set[Key] = set()
        address_type = "AAAA" if ":" in self.client else "A"
        for name, qtype in keys:
            answer = self.memory.answers[name, qtype]
            if qtype in ("MX", "PTR") and answer.usable and len(answer.records) <= 10:
                for record in plain_records(answer, qtype):
                    host = record[1] if qtype == "MX" else record
                    hosts.add((host.lower().rstrip("."), address_type))
        missing = [key for key in hosts if key not in self.memory.answers and wire_name(key[0]) is not None]
        await asyncio.gather(*map(self._ask, missing))

    async def _ask(self, key: Key) -> None:
        self.memory.answers[key] = await self.resolver.query(*key, self.deadline)

    def _found(self, result: Result, reason: str, explanation: str = "") -> SpfResult:
        if self.identity == "helo":
            properties = {"smtp.helo": self.domain}
        else:
            properties = {"smtp.mailfrom": f"{self.local}@{self.domain}"}
        if not reason and result is not Result.NONE:
            reason = f"{self.client} matches {self.mechanism}" if self.mechanism else "nothing matches"
        return SpfResult(
            MethodResult("spf", result, _printable(reason), properties),
            self.identity,
            self.domain,
            explanation,
            _printable(self.mechanism),
            len(self.memory.answers),
        )


def _printable(text: str) -> str:
    """What a stranger wrote as one line of printable ASCII, not too long."""
    return "".join(c if " " <= c <= "~" else " " for c in text[:MAX_EXPLANATION]).strip()
