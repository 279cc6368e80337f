"""What holds for domains and hosts, from a table of DNS answers: RFC 7672, RFC 8461, RFC 8689, and pins."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mta.delivery.security import pins as pins_module
from mta.delivery.security.honesty import Honesty
from mta.delivery.security.memory import Memory, Pin
from mta.delivery.security.provider import OutboundSecurity, SecuritySettings
from mta.delivery.security.requirement import (
    DomainSecurity,
    HostAddresses,
    Level,
    MxSet,
    PolicyType,
    Requirement,
    Result,
    Tlsa,
    Wishes,
)
from mta.delivery.security.sts import FAILURE_TIME, REFRESH_TIME, FetchError
from mta.net.resolver.base import Answer, Status
from mta.net.resolver.fake import FakeResolver
from mta.net.tlsfailure import FailureType
from mta.reply import Reply

GOOD = "3 1 1 " + "ab" * 32
ANCHOR = "2 0 1 " + "cd" * 32
D, H = "good.test", "mx.good.test"
TLSA = "_25._tcp." + H
POLICY = "version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: {age}\n"


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def warning(self, event: str, **fields: Any) -> None:
        self.lines.append((event, fields))

    error = warning

    def events(self) -> list[str]:
        return [event for event, _ in self.lines]


class World:
    """A resolver, a clock, policies on the web, and the security that looks at them."""

    def __init__(self, path: Path | None = None, **settings: Any) -> None:
        self.dns = FakeResolver()
        self.dns.status("test", Status.SECURE)
        self.dns.status("plain.test", Status.INSECURE)
        self.dns.add(".", "SOA")
        self.log = Log()
        self.time = 1_800_000_000.0
        self.rows: list[tuple[str, Any]] = []
        self.web: dict[str, bytes | FetchError] = {}
        self.fetched: list[str] = []
        self.memory = Memory(path)
        self.security = OutboundSecurity(
            SecuritySettings(**settings),
            self.dns,
            self.memory,
            self.log,
            now=lambda: self.time,
            record=lambda domain, row: self.rows.append((domain, row)),
            fetch=self.fetch,
        )

    async def fetch(self, domain: str, deadline: float) -> bytes:
        self.fetched.append(domain)
        found = self.web.get(domain, FetchError(FailureType.STS_POLICY_FETCH_ERROR, "nothing there"))
        if isinstance(found, FetchError):
            raise found
        return found

    def policy(self, domain: str, mx: str, mode: str = "enforce", age: int = 86400, id: str = "1") -> None:
        self.dns.text(f"_mta-sts.{domain}", f"v=STSv1; id={id};")
        self.web[domain] = POLICY.format(mode=mode, mx=mx, age=age).encode()

    async def domain(
        self, name: str = D, status: Status = Status.SECURE, **wishes: Any
    ) -> DomainSecurity | Reply:
        canonical = wishes.pop("canonical", "")
        routed = wishes.pop("routed", False)
        deadline = asyncio.get_running_loop().time() + 5
        mx = MxSet(name, status, ("mx." + name,), "why", canonical, routed)
        return await self.security.for_domain(mx, Wishes(**wishes), deadline)

    async def host(
        self,
        host: str = H,
        addresses: Status = Status.SECURE,
        canonical: str = "",
        **how: Any,
    ) -> Requirement | Reply:
        found = await self.domain(**how)
        if isinstance(found, Reply):
            return found
        deadline = asyncio.get_running_loop().time() + 5
        return await found.for_host(HostAddresses(host, addresses, canonical), deadline)

    def failures(self) -> list[str]:
        return [row["failure"] for _, row in self.rows if "failure" in row]


Case = Callable[[World], Awaitable[None]]


def play(case: Case, **settings: Any) -> None:
    async def run() -> None:
        world = World(**settings)
        await case(world)
        await world.security.close()

    asyncio.run(run())


def requirement(found: Requirement | Reply) -> Requirement:
    assert isinstance(found, Requirement), found
    return found


def refused(found: object, code: int = 451, enhanced: str = "4.7.5") -> str:
    assert isinstance(found, Reply), found
    assert (found.code, found.enhanced) == (code, enhanced)
    return found.text


# --- DANE: what the table of RFC 7672 and the mistakes of others say -----------------------------------


def test_dane() -> None:
    async def case(world: World) -> None:
        world.dns.add(TLSA, "TLSA", GOOD, ANCHOR)
        found = requirement(await world.host())
        assert found.level is Level.DANE
        assert found.tlsa == (Tlsa(3, 1, 1, b"\xab" * 32), Tlsa(2, 0, 1, b"\xcd" * 32))
        assert found.names == (H, D)
        assert found.policy.type is PolicyType.TLSA
        assert found.policy.domain == H
        assert found.policy.lines == (GOOD, ANCHOR)
        tls = world.security.client_tls(found)
        assert tls is not None
        assert (tls.name, tls.required, tls.verifies) == (H, True, True)

    play(case)


@pytest.mark.parametrize("status", [Status.FAIL, Status.BOGUS])
def test_tlsa_that_cannot_be_looked_up(status: Status) -> None:
    # Mistake 1: only "there is" and "there is not" are answers; anything else is no "no TLSA".
    async def case(world: World) -> None:
        world.dns.fail(TLSA, "TLSA", status, "SERVFAIL")
        text = refused(await world.host())
        assert "TLSA" in text
        assert "SERVFAIL" in text
        assert world.failures() == ["dnssec-invalid"]

    play(case)


@pytest.mark.parametrize("exists", [True, False])
def test_tlsa_proven_absent(exists: bool) -> None:
    async def case(world: World) -> None:
        if exists:
            world.dns.add(TLSA, "TXT", "x")
        assert requirement(await world.host()).level is Level.MAY

    play(case)


def test_no_question_for_a_host_that_is_not_signed() -> None:
    # Mistake 2: its TLSA question may well fail, and that would make the host undeliverable.
    async def case(world: World) -> None:
        world.dns.fail("_25._tcp.mx.plain.test", "TLSA")
        found = requirement(await world.host("mx.plain.test", Status.INSECURE))
        assert found.level is Level.MAY
        assert not [one for one in world.dns.asked if one[1] == "TLSA"]

    play(case)


def test_alias_into_an_unsigned_zone() -> None:
    # Mistake 4: the alias itself may be signed, and have TLSA records.
    async def case(world: World) -> None:
        world.dns.add(H, "CNAME", "mx.plain.test.")
        world.dns.add(TLSA, "TLSA", GOOD)
        found = requirement(await world.host(addresses=Status.INSECURE, canonical="mx.plain.test"))
        assert (found.level, found.names[0]) == (Level.DANE, H)

    play(case)


def test_alias_from_an_unsigned_zone() -> None:
    async def case(world: World) -> None:
        world.dns.add("mx.plain.test", "CNAME", "mx.good.test.")
        world.dns.add("_25._tcp.mx.plain.test", "TLSA", GOOD)
        found = requirement(await world.host("mx.plain.test", Status.INSECURE, "mx.good.test"))
        assert found.level is Level.MAY

    play(case)


def test_alias_that_cannot_be_looked_up() -> None:
    async def case(world: World) -> None:
        world.dns.fail(H, "CNAME", Status.BOGUS, "no signature")
        refused(await world.host(addresses=Status.INSECURE, canonical="mx.plain.test"))

    play(case)


@pytest.mark.parametrize(
    ("where", "base"), [("end", "end.test"), ("own", H), ("both", "end.test"), ("none", "")]
)
def test_secure_alias(where: str, base: str) -> None:
    # RFC 7672 section 2.2.3: at the end of the chain first, then at the name of the MX record.
    async def case(world: World) -> None:
        if where in ("end", "both"):
            world.dns.add("_25._tcp.end.test", "TLSA", GOOD)
        if where in ("own", "both"):
            world.dns.add(TLSA, "TLSA", ANCHOR)
        found = requirement(await world.host(canonical="end.test"))
        assert found.level is (Level.DANE if base else Level.MAY)
        assert found.names == ((base, D) if base else ())

    play(case)


def test_tlsa_that_is_an_alias() -> None:
    async def case(world: World) -> None:
        world.dns.add(TLSA, "CNAME", "_tlsa.good.test.")
        world.dns.add("_tlsa.good.test", "TLSA", GOOD)
        assert requirement(await world.host()).names[0] == H

    play(case)


def test_unsigned_tlsa_is_none() -> None:
    async def case(world: World) -> None:
        world.dns.add(TLSA, "TLSA", GOOD)
        world.dns.status(TLSA, Status.INSECURE)
        assert requirement(await world.host()).level is Level.MAY

    play(case)


@pytest.mark.parametrize("text", ["1 1 1 " + "ab" * 32, "0 0 1 " + "ab" * 32, "3 7 1 " + "ab" * 32])
def test_unusable_records_mean_tls_without_proof(text: str) -> None:
    # Mistake 5, and RFC 7672 section 2.2: mandatory TLS, nobody is authenticated.
    async def case(world: World) -> None:
        world.dns.add(TLSA, "TLSA", text)
        found = requirement(await world.host())
        assert (found.level, found.tlsa) == (Level.ENCRYPT, ())
        ((domain, row),) = world.rows
        assert (domain, row["failure"], row["policy"]["policy-type"]) == (D, "tlsa-invalid", "tlsa")

    play(case)


def test_one_usable_record_is_enough() -> None:
    async def case(world: World) -> None:
        world.dns.add(TLSA, "TLSA", "1 1 1 " + "ab" * 32, GOOD)
        found = requirement(await world.host())
        assert (found.level, len(found.tlsa)) == (Level.DANE, 1)
        assert not world.rows

    play(case)


def test_unsigned_mx_with_a_signed_host() -> None:
    # RFC 7672 section 2.2.1 lets it be used; the domain is no reference name then.
    async def case(world: World) -> None:
        world.dns.add(TLSA, "TLSA", GOOD)
        found = requirement(await world.host(name="plain.test", status=Status.INSECURE))
        assert (found.level, found.names) == (Level.DANE, (H,))

    play(case)


def test_alias_of_the_domain_is_a_reference_name() -> None:
    async def case(world: World) -> None:
        world.dns.add(TLSA, "TLSA", GOOD)
        found = requirement(await world.host(canonical=""))
        assert found.names == (H, D)
        domain = await world.domain(canonical="real.test")
        assert not isinstance(domain, Reply)
        what = await domain.for_host(HostAddresses(H, Status.SECURE), asyncio.get_running_loop().time() + 5)
        assert requirement(what).names == (H, D, "real.test")

    play(case)


def test_route_to_a_host() -> None:
    async def case(world: World) -> None:
        world.dns.add(TLSA, "TLSA", GOOD)
        found = requirement(await world.host(name=H, status=Status.INSECURE, routed=True))
        assert (found.level, found.names) == (Level.DANE, (H,))

    play(case)


def test_dane_switched_off() -> None:
    async def case(world: World) -> None:
        world.dns.add(TLSA, "TLSA", GOOD)
        assert requirement(await world.host()).level is Level.MAY

    play(case, dane=False)


# --- the domain ----------------------------------------------------------------------------------------


def test_bogus_and_failed_mx() -> None:
    async def case(world: World) -> None:
        text = refused(await world.domain(status=Status.BOGUS))
        assert "DNSSEC" in text
        assert "why" in text
        refused(await world.domain(status=Status.FAIL), enhanced="4.4.3")
        assert world.failures() == ["dnssec-invalid"]

    play(case)


@pytest.mark.parametrize(
    ("minimum", "level"),
    [
        (Level.NONE, Level.NONE),
        (Level.MAY, Level.MAY),
        (Level.ENCRYPT, Level.ENCRYPT),
        (Level.VERIFY, Level.VERIFY),
    ],
)
def test_our_own_least(minimum: Level, level: Level) -> None:
    async def case(world: World) -> None:
        assert requirement(await world.host(minimum=minimum)).level is level
        world.dns.add(TLSA, "TLSA", GOOD)
        assert requirement(await world.host(minimum=minimum)).level is Level.DANE, "more is proven"

    play(case)


def test_demands_that_cannot_be_met() -> None:
    async def case(world: World) -> None:
        assert "DANE" in refused(await world.host(minimum=Level.DANE))
        assert "MTA-STS" in refused(await world.host(minimum=Level.STS))
        assert world.failures() == ["dane-required"]

    play(case)


def test_default_level() -> None:
    async def case(world: World) -> None:
        assert requirement(await world.host()).level is Level.ENCRYPT

    play(case, level=Level.ENCRYPT)


# --- REQUIRETLS and TLS-Required: No -------------------------------------------------------------------


def test_require_tls() -> None:
    async def case(world: World) -> None:
        assert requirement(await world.host(require_tls=True)).level is Level.VERIFY
        text = refused(await world.domain("plain.test", Status.INSECURE, require_tls=True), 550, "5.7.30")
        assert "REQUIRETLS" in text
        world.policy("plain.test", "mx.plain.test")
        found = await world.host(
            "mx.plain.test", Status.INSECURE, name="plain.test", status=Status.INSECURE, require_tls=True
        )
        assert requirement(found).level is Level.STS
        world.dns.add(TLSA, "TLSA", GOOD)
        assert requirement(await world.host(require_tls=True)).level is Level.DANE

    play(case, signed_names=("test",))


def test_require_tls_is_not_met_by_a_test() -> None:
    async def case(world: World) -> None:
        world.policy("plain.test", "mx.plain.test", mode="testing")
        refused(await world.domain("plain.test", Status.INSECURE, require_tls=True), 550, "5.7.30")
        world.policy(D, H, mode="testing")
        found = requirement(await world.host(require_tls=True))
        assert (found.level, found.testing) == (Level.VERIFY, False)

    play(case, signed_names=("test",))


@pytest.mark.parametrize("trouble", ["record", "fetch", "certificate", "testing", "resolver"])
def test_require_tls_waits_while_nothing_is_known(trouble: str) -> None:
    """Mail is returned for what is proven to be missing, not for a DNS or web server that is away."""

    async def case(world: World) -> None:
        world.policy("plain.test", "mx.plain.test", mode="testing")
        kind = FailureType.STS_POLICY_FETCH_ERROR
        if trouble == "record":
            world.dns.fail("_mta-sts.plain.test", "TXT")
        elif trouble == "fetch":
            world.web["plain.test"] = FetchError(kind, "no answer in time")
        elif trouble == "certificate":
            world.web["plain.test"] = FetchError(FailureType.STS_WEBPKI_INVALID, "expired")
        elif trouble == "testing":
            await world.host("mx.plain.test", Status.INSECURE, **PLAIN)
            world.dns = world.security.resolver = world.security._sts._resolver = FakeResolver()
            world.policy("plain.test", "mx.plain.test", id="2")
            world.web["plain.test"] = FetchError(kind, "no answer in time")
        else:
            world.dns.text("_mta-sts.plain.test", "v=STSv1; id=2; id=3")
            world.security.settings = replace(world.security.settings, signed_names=(".",))
        text = refused(await world.domain("plain.test", Status.INSECURE, require_tls=True))
        assert "REQUIRETLS" in text

    play(case, signed_names=("test",))


def test_tls_optional() -> None:
    async def case(world: World) -> None:
        world.dns.fail(TLSA, "TLSA")
        world.policy(D, "other.test")
        assert requirement(await world.host(tls_optional=True)).level is Level.MAY
        assert not world.fetched
        # REQUIRETLS and our own policy beat it.
        refused(await world.host(tls_optional=True, require_tls=True))
        refused(await world.host(tls_optional=True, minimum=Level.ENCRYPT))

    play(case)

    async def strict(world: World) -> None:
        assert requirement(await world.host(tls_optional=True)).level is Level.ENCRYPT

    play(strict, level=Level.ENCRYPT)


# --- MTA-STS -------------------------------------------------------------------------------------------

PLAIN: dict[str, Any] = {"name": "plain.test", "status": Status.INSECURE}


def test_sts_enforce() -> None:
    async def case(world: World) -> None:
        world.policy("plain.test", "*.plain.test")
        found = requirement(await world.host("mx.plain.test", Status.INSECURE, **PLAIN))
        assert found.level is Level.STS
        assert found.policy.type is PolicyType.STS
        assert found.policy.mx == ("*.plain.test",)
        text = refused(await world.host("mx.evil.test", Status.INSECURE, **PLAIN))
        assert "mx.evil.test" in text
        assert world.failures() == ["validation-failure"]
        assert world.fetched == ["plain.test"]

    play(case)


@pytest.mark.parametrize(
    ("settings", "wishes"), [({"level": Level.ENCRYPT}, {}), ({}, {"minimum": Level.ENCRYPT})]
)
def test_sts_testing_is_tested_where_we_demand_encryption(
    settings: dict[str, Any], wishes: dict[str, Any]
) -> None:
    async def case(world: World) -> None:
        world.policy("plain.test", "mx.plain.test", mode="testing")
        found = requirement(await world.host("mx.plain.test", Status.INSECURE, **PLAIN, **wishes))
        assert (found.level, found.testing) == (Level.ENCRYPT, True)
        assert found.policy.type is PolicyType.STS
        tls = world.security.client_tls(found)
        assert tls is not None
        assert tls.verifies, "what is reported under the policy was looked at"
        assert tls.insists, "and without TLS no mail flows"
        assert tls.fallback is not None
        assert (tls.fallback.required, tls.fallback.verifies) == (True, False)

    play(case, **settings)


def test_sts_testing() -> None:
    async def case(world: World) -> None:
        world.policy("plain.test", "mx.plain.test", mode="testing")
        found = requirement(await world.host("mx.plain.test", Status.INSECURE, **PLAIN))
        assert (found.level, found.testing) == (Level.MAY, True)
        tls = world.security.client_tls(found)
        assert tls is not None
        assert tls.verifies
        assert not tls.insists
        assert tls.fallback is not None
        assert not tls.fallback.verifies
        other = requirement(await world.host("mx.evil.test", Status.INSECURE, **PLAIN))
        assert (other.level, other.testing) == (Level.MAY, False)
        assert world.failures() == ["validation-failure"]

    play(case)


def test_dane_wins() -> None:
    async def case(world: World) -> None:
        world.policy(D, "other.test")
        world.dns.add(TLSA, "TLSA", GOOD)
        assert requirement(await world.host()).level is Level.DANE
        assert not world.fetched

    play(case)


def test_dane_behind_an_unsigned_mx_does_not_win_over_names() -> None:
    # Whoever redirects an unsigned MX could point it to a host with TLSA records of his own.
    async def case(world: World) -> None:
        world.policy("plain.test", "mx.plain.test")
        world.dns.add(TLSA, "TLSA", GOOD)
        refused(await world.host(**PLAIN))
        world.dns.text("_mta-sts.other.test", "v=STSv1; id=1")
        world.web["other.test"] = POLICY.format(mode="enforce", mx=H, age=999).encode()
        found = requirement(await world.host(name="other.test", status=Status.INSECURE))
        assert found.level is Level.DANE

    play(case)


def test_unusable_tlsa_leaves_sts_in_place() -> None:
    async def case(world: World) -> None:
        world.policy(D, H)
        world.dns.add(TLSA, "TLSA", "1 1 1 " + "ab" * 32)
        assert requirement(await world.host()).level is Level.STS

    play(case)


def test_sts_policy_outlives_its_record_and_its_server(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path / "s")
        world.policy("plain.test", "mx.plain.test", age=7200)
        await world.host("mx.plain.test", Status.INSECURE, **PLAIN)
        await world.security.close()
        # Another worker after a restart, with somebody between us and the domain.
        later = World(tmp_path / "s")
        later.time += 7000
        refused(await later.host("mx.evil.test", Status.INSECURE, **PLAIN))
        assert not later.fetched
        later.dns.fail("_mta-sts.plain.test", "TXT")
        refused(await later.host("mx.evil.test", Status.INSECURE, **PLAIN))
        later.dns = FakeResolver()
        await later.security.close()

    asyncio.run(run())


def test_sts_policy_that_ends_holds_mail_a_while() -> None:
    async def case(world: World) -> None:
        world.policy("plain.test", "mx.plain.test", age=7200)
        await world.host("mx.plain.test", Status.INSECURE, **PLAIN)
        world.web.clear()
        world.time += 7300
        text = refused(await world.host("mx.plain.test", Status.INSECURE, **PLAIN))
        assert "MTA-STS" in text
        assert "held until" in text
        assert world.log.events() == ["downgrade"]
        assert world.security.counters["downgrade:sts"] == 1
        world.time += 49 * 3600
        found = requirement(await world.host("mx.plain.test", Status.INSECURE, **PLAIN))
        assert found.level is Level.MAY
        assert world.log.events() == ["downgrade", "downgrade accepted"]

    play(case)


def test_mode_none_releases_at_once() -> None:
    async def case(world: World) -> None:
        world.policy("plain.test", "mx.plain.test", age=7200)
        await world.host("mx.plain.test", Status.INSECURE, **PLAIN)
        world.dns = world.security.resolver = world.security._sts._resolver = FakeResolver()
        world.policy("plain.test", "mx.plain.test", mode="none", id="2")
        found = requirement(await world.host("mx.plain.test", Status.INSECURE, **PLAIN))
        assert found.level is Level.MAY
        world.time += 90000
        world.web.clear()
        found = requirement(await world.host("mx.plain.test", Status.INSECURE, **PLAIN))
        assert found.level is Level.MAY
        assert not world.log.lines

    play(case)


def test_sts_refresh_and_failures() -> None:
    async def case(world: World) -> None:
        world.policy("plain.test", "mx.plain.test", age=30 * 86400)
        host: Callable[[], Coroutine[Any, Any, Requirement | Reply]] = lambda: world.host(  # noqa: E731
            "mx.plain.test", Status.INSECURE, **PLAIN
        )
        await host()
        world.time += REFRESH_TIME + 1
        world.web["plain.test"] = POLICY.format(mode="enforce", mx="other.test", age=99999).encode()
        assert requirement(await host()).level is Level.STS, "refreshed behind the delivery"
        await asyncio.sleep(0.01)
        refused(await host())
        assert len(world.fetched) == 2
        world.time += REFRESH_TIME + 1
        world.web["plain.test"] = b"nonsense"
        for _ in range(3):
            refused(await host())
            await asyncio.sleep(0.01)
        assert len(world.fetched) == 3, "not again at once"

    play(case)


@pytest.mark.parametrize(
    ("trouble", "reason"), [("web", "nothing there"), ("record", "there is no record"), ("dns", "SERVFAIL")]
)
def test_policy_that_cannot_be_renewed_is_told_long_before_its_end(trouble: str, reason: str) -> None:
    async def case(world: World) -> None:
        world.policy("plain.test", "mx.plain.test", age=30 * 86400)
        await world.host("mx.plain.test", Status.INSECURE, **PLAIN)
        if trouble == "web":
            world.web.clear()
        elif trouble == "record":
            world.dns.remove("_mta-sts.plain.test", "TXT")
        else:
            world.dns.fail("_mta-sts.plain.test", "TXT", reason="SERVFAIL")
        for _ in range(17):
            world.time += 2 * 3600
            await world.host("mx.plain.test", Status.INSECURE, **PLAIN)
            await asyncio.sleep(0)
        assert not world.log.lines, "not for a moment's trouble"
        for _ in range(30):  # two and a half days
            world.time += 2 * 3600
            found = requirement(await world.host("mx.plain.test", Status.INSECURE, **PLAIN))
            assert found.level is Level.STS
            await asyncio.sleep(0)
        assert 2 <= len(world.log.lines) <= 3, "once a day"
        event, fields = world.log.lines[0]
        assert (event, fields["domain"]) == ("MTA-STS policy not renewed", "plain.test")
        assert fields["until"] == "2027-02-14 08:00 UTC"
        assert reason in fields["reason"]

    play(case)


def test_sts_policy_of_a_day_is_fetched_again_before_its_end() -> None:
    """Large providers have a max_age of one day: their web server may be away at the end of it."""

    async def case(world: World) -> None:
        world.policy("plain.test", "mx.plain.test", age=86400)
        for _ in range(6):
            found = requirement(await world.host("mx.plain.test", Status.INSECURE, **PLAIN))
            assert found.level is Level.STS
            await asyncio.sleep(0.01)
            world.time += 10 * 3600
        assert len(world.fetched) == 3
        world.web.clear()  # nobody there at what was the end
        found = requirement(await world.host("mx.plain.test", Status.INSECURE, **PLAIN))
        assert found.level is Level.STS

    play(case)


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        (b"nonsense", "sts-policy-invalid"),
        (FetchError(FailureType.STS_WEBPKI_INVALID, "x"), "sts-webpki-invalid"),
        (FetchError(FailureType.STS_POLICY_FETCH_ERROR, "x"), "sts-policy-fetch-error"),
    ],
)
def test_policy_that_cannot_be_had(body: bytes | FetchError, failure: str) -> None:
    async def case(world: World) -> None:
        world.policy("plain.test", "mx.plain.test")
        world.web["plain.test"] = body
        for _ in range(2):
            found = requirement(await world.host("mx.plain.test", Status.INSECURE, **PLAIN))
            assert found.level is Level.MAY
        assert world.failures() == [failure] * 2
        assert len(world.fetched) == 1
        world.time += FAILURE_TIME + 1
        await world.host("mx.plain.test", Status.INSECURE, **PLAIN)
        assert len(world.fetched) == 2
        world.time -= 30 * 86400  # the clock is set back: that is no reason to go without the policy
        await world.host("mx.plain.test", Status.INSECURE, **PLAIN)
        assert len(world.fetched) == 3

    play(case)


def test_slow_policy_host_does_not_stop_mail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mta.delivery.security.sts.WAIT_TIME", 0.05)

    async def case(world: World) -> None:
        world.policy("plain.test", "mx.plain.test")
        go = asyncio.Event()
        fetch = world.security._sts._fetch

        async def slow(domain: str, deadline: float) -> bytes:
            await go.wait()
            return await fetch(domain, deadline)

        world.security._sts._fetch = slow
        both = [world.host("mx.plain.test", Status.INSECURE, **PLAIN) for _ in range(2)]
        for found in await asyncio.gather(*both):
            assert requirement(found).level is Level.MAY
        go.set()
        await asyncio.sleep(0.05)
        assert requirement(await world.host("mx.plain.test", Status.INSECURE, **PLAIN)).level is Level.STS
        assert world.fetched == ["plain.test"]

    play(case)


class PartlyDead(FakeResolver):
    """Servers that drop questions that they do not know: there is no answer, however long one waits."""

    async def query(self, name: str, rdtype: str, deadline: float) -> Answer:
        if rdtype in ("TXT", "SVCB"):
            await asyncio.sleep(deadline - asyncio.get_running_loop().time())
            return Answer(Status.FAIL, reason="no answer in time")
        return await super().query(name, rdtype, deadline)


def test_questions_that_are_dropped_leave_time_for_the_mail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.FakeResolver", PartlyDead)

    async def case(world: World) -> None:
        start = asyncio.get_running_loop().time()
        found = requirement(await world.host("mx.plain.test", Status.SECURE, **PLAIN))
        assert found.level is Level.MAY
        assert asyncio.get_running_loop().time() - start < 3, "of five seconds"

    play(case, dns_time=0.05)


def test_bogus_sts_record() -> None:
    async def case(world: World) -> None:
        world.dns.fail("_mta-sts.good.test", "TXT", Status.BOGUS, "expired")
        assert "MTA-STS" in refused(await world.host())

    play(case)


# --- pins ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("release", [True, False])
def test_zone_that_was_signed(release: bool) -> None:
    async def case(world: World) -> None:
        assert not isinstance(await world.domain(), Reply)
        text = refused(await world.domain(status=Status.INSECURE))
        assert "was signed with DNSSEC" in text
        assert world.log.events().count("downgrade") == 1
        world.time += 24 * 3600
        refused(await world.domain(status=Status.INSECURE))
        assert world.log.events().count("downgrade") == 1, "told once"
        assert not isinstance(await world.domain(), Reply)
        assert "proven again" in world.log.events()
        refused(await world.domain(status=Status.INSECURE))
        world.time += 48 * 3600 + 1
        found = await world.domain(status=Status.INSECURE)
        if release:
            assert not isinstance(found, Reply)
            assert "downgrade accepted" in world.log.events()
        else:
            assert "until an administrator" in refused(found)
            world.security.pins.forget("mx", D)
            assert not isinstance(await world.domain(status=Status.INSECURE), Reply)
        assert world.failures() == ["dnssec-invalid"] * len(world.failures())

    play(case, pin_release=release)


def test_pins_are_shared_and_survive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pins_module, "CACHE", 0.0)

    async def run() -> None:
        one, two = World(tmp_path / "s"), World(tmp_path / "s")
        await one.domain()
        await one.memory.settled()
        refused(await two.domain(status=Status.INSECURE))
        await one.security.close()
        await two.security.close()
        three = World(tmp_path / "s")
        three.time += 3600
        assert [(kind, name) for kind, name, _ in three.memory.broken_pins()] == [("mx", D)]
        refused(await three.domain(status=Status.INSECURE))
        await three.security.close()

    asyncio.run(run())


def test_pins_without_a_disk(tmp_path: Path) -> None:
    async def run() -> None:
        blocked = tmp_path / "file"
        blocked.write_text("no folder")
        complaints: list[str] = []
        world = World()
        world.memory._path = blocked / "s"
        world.memory.complain = complaints.append
        await world.domain()
        await world.memory.settled()
        refused(await world.domain(status=Status.INSECURE))
        await world.security.close()
        assert len(complaints) == 1

    asyncio.run(run())


def test_a_row_that_is_dropped_twice(tmp_path: Path) -> None:
    """What was written first leaves what comes after it alone."""
    faults: list[dict[str, Any]] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
        memory = Memory(tmp_path / "m")
        memory.set_pin("mx", "a.test", Pin(1.0, 1.0))
        memory.drop_pin("mx", "a.test")
        memory.drop_pin("mx", "a.test")
        await memory.settled()
        assert memory.pin("mx", "a.test") is None
        memory.close()

    asyncio.run(run())
    gc.collect()
    assert not faults


def test_what_is_long_past_is_forgotten() -> None:
    async def case(world: World) -> None:
        await world.domain()
        world.policy("plain.test", "mx.plain.test", age=100)
        await world.host("mx.plain.test", Status.INSECURE, **PLAIN)
        for days, there in ((59, True), (181, False)):
            world.memory.prune(world.time + days * 86400)
            await world.memory.settled()
            assert (world.memory.pin("mx", D) is not None) is there
            assert (world.memory.policy("plain.test") is not None) is there

    play(case)


def test_names_that_do_not_exist_leave_no_pins() -> None:
    async def case(world: World) -> None:
        deadline = asyncio.get_running_loop().time() + 5
        for status in (Status.SECURE, Status.INSECURE):
            found = await world.security.for_domain(MxSet("no.test", status), Wishes(), deadline)
            assert not isinstance(found, Reply)

    play(case)


def test_no_pins() -> None:
    async def case(world: World) -> None:
        await world.domain()
        assert not isinstance(await world.domain(status=Status.INSECURE), Reply)

    play(case, pin_hold=0.0)


def test_host_that_was_signed() -> None:
    async def case(world: World) -> None:
        await world.host()
        assert H in refused(await world.host(addresses=Status.INSECURE))

    play(case)


# --- the resolver --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signed", "broken", "honesty"),
    [
        (Status.SECURE, Status.BOGUS, Honesty.HONEST),
        (Status.SECURE, Status.FAIL, Honesty.HONEST),
        (Status.SECURE, Status.INSECURE, Honesty.BLIND),
        (Status.SECURE, Status.SECURE, Honesty.BLIND),
        (Status.INSECURE, Status.INSECURE, Honesty.BLIND),
        (Status.INSECURE, Status.FAIL, Honesty.DEAF),
        (Status.FAIL, Status.FAIL, Honesty.UNKNOWN),
    ],
)
def test_resolver(signed: Status, broken: Status, honesty: Honesty) -> None:
    async def case(world: World) -> None:
        for name, status in (("signed.example", signed), ("broken.example", broken)):
            if status in (Status.SECURE, Status.INSECURE):
                world.dns.add(name, "SOA", "a. b. 1 1 1 1 1")
                world.dns.status(name, status)
            else:
                world.dns.fail(name, "SOA", status)
        verdict = await world.security.probe(asyncio.get_running_loop().time() + 5)
        assert verdict.honesty is honesty
        assert world.security.counters[f"resolver:{honesty.name.lower()}"] == 1
        if honesty is Honesty.BLIND:
            # Nothing that it calls secure is: pinned names wait, others go without proof.
            world.dns.add(TLSA, "TLSA", GOOD)
            assert requirement(await world.host()).level is Level.MAY

    play(case, signed_names=("signed.example",), broken_names=("broken.example",))


def test_an_honest_resolver_is_nothing_to_warn_of() -> None:
    """That it is one again is told, after something else."""

    async def case(world: World) -> None:
        world.dns.add("signed.example", "SOA", "a. b. 1 1 1 1 1")
        world.dns.status("signed.example", Status.SECURE)
        world.dns.fail("broken.example", "SOA")
        loop = asyncio.get_running_loop()
        assert (await world.security.probe(loop.time() + 5)).validates
        assert not world.log.lines
        for status in (Status.INSECURE, Status.SECURE):
            world.dns.status("signed.example", status)
            world.security._probed = float("-inf")
            await world.security.probe(loop.time() + 5)
        assert [fields["state"] for _, fields in world.log.lines] == [
            Honesty.DEAF.value,
            Honesty.HONEST.value,
        ]

    play(case, signed_names=("signed.example",), broken_names=("broken.example",))


# --- capability records --------------------------------------------------------------------------------

SVCB = "_25._smtp." + H


def test_capability_record_raises() -> None:
    async def case(world: World) -> None:
        world.dns.add(SVCB, "SVCB", '1 . key65280="1.3" key65282')
        found = requirement(await world.host())
        assert (found.level, found.floor, found.promised) == (Level.ENCRYPT, "1.3", frozenset({"REQUIRETLS"}))
        world.dns.add(TLSA, "TLSA", GOOD)
        found = requirement(await world.host())
        assert (found.level, found.floor) == (Level.DANE, "1.3")
        tls = world.security.client_tls(found)
        assert tls is not None
        assert tls.context.minimum_version.name == "TLSv1_3"
        assert tls.promised == {"REQUIRETLS"}

    play(case)


def test_capability_record_never_lowers_and_needs_dnssec() -> None:
    async def case(world: World) -> None:
        world.dns.add(SVCB, "SVCB", '1 . key65284="1000"')
        assert requirement(await world.host(minimum=Level.VERIFY)).level is Level.VERIFY
        world.dns.add("_25._smtp.mx.plain.test", "SVCB", '1 . key65280="1.3"')
        found = requirement(await world.host("mx.plain.test", Status.INSECURE))
        assert found.level is Level.MAY
        assert ("_25._smtp.mx.plain.test", "SVCB") not in world.dns.asked

    play(case)


def test_stripped_capability_record() -> None:
    async def case(world: World) -> None:
        world.dns.fail(SVCB, "SVCB", Status.FAIL, "timeout")
        assert requirement(await world.host()).level is Level.MAY, "nothing was ever promised"
        world.dns.fail(SVCB, "SVCB", Status.BOGUS, "stripped")
        refused(await world.host())

    play(case)


def test_capability_record_that_was_there() -> None:
    async def case(world: World) -> None:
        world.dns.add(SVCB, "SVCB", '1 . key65280="1.2"')
        assert requirement(await world.host()).level is Level.ENCRYPT
        world.dns.fail(SVCB, "SVCB", Status.FAIL, "timeout")
        refused(await world.host(), enhanced="4.4.3")

    play(case)


# --- reports and reuse ---------------------------------------------------------------------------------


def test_report() -> None:
    async def case(world: World) -> None:
        world.dns.add(TLSA, "TLSA", GOOD)
        found = await world.domain()
        assert not isinstance(found, Reply)
        what = requirement(
            await found.for_host(HostAddresses(H, Status.SECURE), asyncio.get_running_loop().time() + 5)
        )
        found.report(Result(what, "192.0.2.1"))
        found.report(
            Result(what, "192.0.2.1", FailureType.CERTIFICATE_EXPIRED, "too old", "mx helo", "192.0.2.9")
        )
        policy = {"policy-type": "tlsa", "policy-string": [GOOD], "policy-domain": H}
        failure = {
            "policy": policy,
            "failure": "certificate-expired",
            "mx": H,
            "helo": "mx helo",
            "ip": "192.0.2.1",
            "local": "192.0.2.9",
            "reason": "too old",
        }
        assert world.rows == [(D, {"policy": policy}), (D, failure)]
        assert world.security.counters["level:dane"] == 1

    play(case)


def _need(level: Level, **more: Any) -> Requirement:
    return Requirement(H, level, **more)


DANE = {"tlsa": (Tlsa(3, 1, 1, b"\1" * 32),), "names": (H,)}


@pytest.mark.parametrize(
    ("needed", "there", "met"),
    [
        (_need(Level.NONE), _need(Level.NONE), True),
        (_need(Level.NONE), _need(Level.MAY), True),
        (_need(Level.MAY), _need(Level.NONE), False),
        (_need(Level.MAY), _need(Level.DANE, **DANE), True),
        (_need(Level.ENCRYPT), _need(Level.MAY), False),
        (_need(Level.ENCRYPT), _need(Level.VERIFY), True),
        (_need(Level.VERIFY), _need(Level.ENCRYPT), False),
        (_need(Level.VERIFY), _need(Level.DANE, **DANE), True),
        (_need(Level.STS), _need(Level.VERIFY), True),
        (_need(Level.STS), _need(Level.DANE, **DANE), False),
        (_need(Level.DANE, **DANE), _need(Level.DANE, **DANE), True),
        (_need(Level.DANE, **DANE), _need(Level.VERIFY), False),
        (_need(Level.DANE, **DANE), _need(Level.DANE, tlsa=(Tlsa(3, 1, 1, b"\2" * 32),), names=(H,)), False),
        (_need(Level.MAY), Requirement("other.test"), False),
        (_need(Level.VERIFY), _need(Level.MAY, testing=True), False),
        (_need(Level.MAY, testing=True), _need(Level.MAY), False),
        (_need(Level.MAY, testing=True), _need(Level.MAY, testing=True), True),
        (_need(Level.MAY, promised=frozenset({"REQUIRETLS"})), _need(Level.VERIFY), False),
        (_need(Level.ENCRYPT, floor="1.3"), _need(Level.ENCRYPT, floor="1.2"), False),
    ],
)
def test_reuse(needed: Requirement, there: Requirement, met: bool) -> None:
    assert needed.is_met_by(there) is met


def test_reading_does_not_wait_for_another_worker(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path / "s")
        await world.domain()
        await world.memory.settled()
        blocker = sqlite3.connect(tmp_path / "s")
        blocker.execute("BEGIN IMMEDIATE")
        try:
            world.memory.set_pin("mx", "other.test", Pin(1.0, 2.0))
            await asyncio.sleep(0.1)
            assert world.memory.pin("mx", D) is not None, "read beside the one who writes"
            assert world.memory.pin("mx", "other.test") == Pin(1.0, 2.0), "not written yet, and known"
        finally:
            blocker.rollback()
            blocker.close()
        await world.memory.settled()
        await world.security.close()
        again = Memory(tmp_path / "s")
        assert again.pin("mx", "other.test") == Pin(1.0, 2.0)
        again.close()

    asyncio.run(run())
