"""Outbound security in a DNS of our own: signed zones of all kinds, servers with TLS of all kinds."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme

from mta.delivery.security.der import public_key_info
from mta.delivery.security.honesty import Honesty
from mta.delivery.security.memory import Memory
from mta.delivery.security.provider import OutboundSecurity, SecuritySettings
from mta.delivery.security.requirement import HostAddresses, Level, MxSet, Requirement, Result, Wishes
from mta.net.connect import ConnectFailure, Endpoint, connect
from mta.net.outbound import Timeouts
from mta.net.resolver.base import Status
from mta.net.resolver.stub import Stub
from mta.net.tlsfailure import FailureType
from mta.reply import Reply
from mta.smtp.opening import ClientSettings
from tests.peers.dnsworld import DnsWorld, Zone, running_dnsworld
from tests.peers.needs import needs
from tests.peers.postfix import running_postfix
from tests.peers.smtptls import Mode, SmtpTls
from tests.unit.test_security_sts import Web, plain

pytestmark = pytest.mark.scenario

PAST = datetime(2021, 1, 1, tzinfo=UTC)


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def warning(self, event: str, **fields: Any) -> None:
        self.lines.append((event, fields))

    error = warning


@dataclass
class Authority:
    """A private authority whose certificates the servers have, and one that everybody knows."""

    private: trustme.CA = field(default_factory=trustme.CA)
    public: trustme.CA = field(default_factory=trustme.CA)

    def __post_init__(self) -> None:
        self.leaves = {
            "dane": self.private.issue_cert("ok.dane.test"),
            "rolled": self.private.issue_cert("ok.dane.test"),
            "expired": self.private.issue_cert("ok.dane.test", not_after=PAST),
            "other": self.private.issue_cert("other.test"),
            "known": self.public.issue_cert("mx.sts.test"),
            "known-other": self.public.issue_cert("mx.elsewhere.test"),
            "known-expired": self.public.issue_cert("mx.sts.test", not_after=PAST),
        }

    def der(self, name: str) -> bytes:
        if name in ("private", "public"):
            pem = getattr(self, name).cert_pem
        else:
            pem = self.leaves[name].cert_chain_pems[0]
        return ssl.PEM_cert_to_DER_cert(pem.bytes().decode())

    def tlsa(self, usage: int, name: str) -> str:
        return f"{usage} 1 1 {hashlib.sha256(public_key_info(self.der(name))).hexdigest()}"

    def context(self, name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf = self.leaves[name]
        chain = leaf.private_key_and_cert_chain_pem.bytes()
        if name in ("dane", "rolled", "expired", "other"):
            chain += self.private.cert_pem.bytes()
        with trustme.Blob(chain).tempfile() as path:
            context.load_cert_chain(path)
        return context


PKI = Authority()


def zones() -> dict[str, Zone]:
    ee, ta, next_ee = PKI.tlsa(3, "dane"), PKI.tlsa(2, "private"), PKI.tlsa(3, "rolled")
    old = PKI.tlsa(3, "expired")
    return {
        "dane.test": Zone(
            f"ok 300 A 127.0.0.1\n_25._tcp.ok 300 TLSA {ee}\n"
            f"roll 300 A 127.0.0.1\n_25._tcp.roll 300 TLSA {ee}\n_25._tcp.roll 300 TLSA {next_ee}\n"
            f"old 300 A 127.0.0.1\n_25._tcp.old 300 TLSA {old}\n"
            f"ta 300 A 127.0.0.1\n_25._tcp.ta 300 TLSA {ta}\n"
            f"pkix 300 A 127.0.0.1\n_25._tcp.pkix 300 TLSA 1 1 1 {'ab' * 32}\n"
            f"alias 300 CNAME ok\nout 300 CNAME mx.unsigned.test.\n_25._tcp.out 300 TLSA {ee}\n"
            f"outbare 300 CNAME mx.unsigned.test.\n"
            f"via 300 A 127.0.0.1\n_25._tcp.via 300 CNAME _tlsa\n_tlsa 300 TLSA {ee}\n"
            f"wild 300 A 127.0.0.1\n*._tcp.wild 300 TLSA {ee}\n"
            "none 300 A 127.0.0.1\n"
            "cap 300 A 127.0.0.1\n_25._smtp.cap 300 SVCB 1 . key65280=1.2\n"
            "req 300 A 127.0.0.1\n_25._smtp.req 300 SVCB 1 . key65280=1.2 key65282\n"
        ),
        "nsec3.test": Zone(
            f"none 300 A 127.0.0.1\nok 300 A 127.0.0.1\n_25._tcp.ok 300 TLSA {ee}\nalias 300 CNAME ok\n"
            f"*.w 300 A 127.0.0.1\n*._tcp.wild 300 TLSA {ee}\nwild 300 A 127.0.0.1\n",
            nsec3=True,
        ),
        "sts.test": Zone(
            '_mta-sts 300 TXT "v=STSv1; id=1"\nmta-sts 300 A 127.0.0.1\n', signed=False, delegated=False
        ),
    }


@pytest.fixture(scope="module")
def world() -> Iterator[DnsWorld]:
    needs("nsd", "unbound")
    with running_dnsworld(zones()) as running:
        yield running


@dataclass
class Station:
    """The security of a worker in this world."""

    security: OutboundSecurity
    stub: Stub
    rows: list[tuple[str, Any]]
    memory: Memory

    async def requirement(self, domain: str, host: str, **wishes: Any) -> Requirement | Reply:
        """Asked as routing does: the MX of the domain, the address of the host."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 20
        mx = await self.stub.query(domain, "MX", deadline)
        found = await self.security.for_domain(
            MxSet(domain, mx.status, (host,), mx.reason, mx.canonical), Wishes(**wishes), deadline
        )
        if isinstance(found, Reply):
            return found
        self.domain = found
        answer = await self.stub.query(host, "A", deadline)
        assert answer.usable, answer
        return await found.for_host(HostAddresses(host, answer.status, answer.canonical), deadline)

    async def try_out(self, what: Requirement, port: int) -> FailureType | str | None:
        """One connection under a requirement: how it ended, "clear" for a session without TLS."""
        tls = self.security.client_tls(what)
        loop = asyncio.get_running_loop()
        times = Timeouts(connect=1.0) if what.host.startswith("silent") else Timeouts(connect=10.0)
        try:
            connection = await connect(
                Endpoint("127.0.0.1", port), ClientSettings(helo_name="us.test"), tls, times, loop.time() + 20
            )
        except ConnectFailure as failure:
            if failure.tls_failure is not None:
                self.domain.report(Result(what, "127.0.0.1", failure.tls_failure, failure.reply.cause))
            return failure.tls_failure or "other"
        peer = connection.session.peer
        assert peer.verified == (what.level.authenticates and peer.encrypted) or what.testing
        self.domain.report(Result(what, "127.0.0.1", connection.tls_failure, connection.tls_detail))
        connection.quit()
        if not peer.encrypted:
            return "clear"
        return connection.tls_failure


Play = Callable[[Station], Awaitable[None]]


def play(world: DnsWorld, act: Play, ca_file: str = "", policy: bytes = b"") -> None:
    async def fetch(domain: str, deadline: float) -> bytes:
        return policy

    async def run() -> None:
        stub = Stub([world.resolver])
        rows: list[tuple[str, Any]] = []
        memory = Memory(None)
        settings = SecuritySettings(
            ca_file=ca_file, signed_names=(".", "test"), broken_names=("expired.test",)
        )
        security = OutboundSecurity(
            settings, stub, memory, Log(), now=lambda: 1_800_000_000.0,
            record=lambda domain, row: rows.append((domain, row)), fetch=fetch,
        )  # fmt: skip
        try:
            await act(Station(security, stub, rows, memory))
        finally:
            await security.close()
            stub.close()

    asyncio.run(run())


DNS_CASES: list[tuple[str, str, Level | str, str]] = [
    ("dane.test", "ok.dane.test", Level.DANE, "ok.dane.test"),
    ("dane.test", "ta.dane.test", Level.DANE, "ta.dane.test"),
    ("dane.test", "alias.dane.test", Level.DANE, "ok.dane.test"),
    ("dane.test", "via.dane.test", Level.DANE, "via.dane.test"),
    ("dane.test", "wild.dane.test", Level.DANE, "wild.dane.test"),
    ("dane.test", "out.dane.test", Level.DANE, "out.dane.test"),
    ("dane.test", "outbare.dane.test", Level.MAY, ""),
    ("dane.test", "pkix.dane.test", Level.ENCRYPT, ""),
    ("dane.test", "none.dane.test", Level.MAY, ""),
    ("dane.test", "cap.dane.test", Level.ENCRYPT, ""),
    ("nsec3.test", "ok.nsec3.test", Level.DANE, "ok.nsec3.test"),
    ("nsec3.test", "alias.nsec3.test", Level.DANE, "ok.nsec3.test"),
    ("nsec3.test", "none.nsec3.test", Level.MAY, ""),
    ("nsec3.test", "any.w.nsec3.test", Level.MAY, ""),
    ("nsec3.test", "wild.nsec3.test", Level.DANE, "wild.nsec3.test"),
    ("unsigned.test", "mx.unsigned.test", Level.MAY, ""),
    ("unsigned.test", "ok.dane.test", Level.DANE, "ok.dane.test"),
    ("nods.test", "mx.nods.test", Level.MAY, ""),
    ("dane.test", "mx.bogus.test", "TLSA", ""),
    ("bogus.test", "mx.bogus.test", "MX records of bogus.test", ""),
    ("expired.test", "mx.expired.test", "MX records of expired.test", ""),
    ("stripped.test", "mx.stripped.test", "MX records of stripped.test", ""),
]


@pytest.mark.parametrize(("domain", "host", "expected", "base"), DNS_CASES)
def test_dns(world: DnsWorld, domain: str, host: str, expected: Level | str, base: str) -> None:
    async def act(station: Station) -> None:
        found = await station.requirement(domain, host)
        if isinstance(expected, str):
            assert isinstance(found, Reply)
            assert found.is_temporary
            assert expected in found.text
            assert "DNSSEC" in found.text
            assert [row["failure"] for _, row in station.rows] == ["dnssec-invalid"]
            return
        assert isinstance(found, Requirement), found
        assert found.level is expected
        assert (found.names[0] if found.names else "") == base

    play(world, act)


TLS_CASES: list[tuple[str, str, Mode, object]] = [
    ("ok.dane.test", "dane", "good", None),
    ("ok.dane.test", "rolled", "good", FailureType.VALIDATION_FAILURE),
    ("ok.dane.test", "dane", "stripped", FailureType.STARTTLS_NOT_SUPPORTED),
    ("ok.dane.test", "dane", "refused", FailureType.STARTTLS_NOT_SUPPORTED),
    ("ok.dane.test", "dane", "injected", "other"),
    ("ok.dane.test", "dane", "garbage", FailureType.VALIDATION_FAILURE),
    ("ok.dane.test", "dane", "closed", FailureType.VALIDATION_FAILURE),
    ("roll.dane.test", "rolled", "good", None),
    ("roll.dane.test", "dane", "good", None),
    ("old.dane.test", "expired", "good", None),
    ("ta.dane.test", "other", "good", FailureType.CERTIFICATE_HOST_MISMATCH),
    ("ta.dane.test", "expired", "good", FailureType.CERTIFICATE_EXPIRED),
    ("ta.dane.test", "known", "good", FailureType.VALIDATION_FAILURE),
    ("pkix.dane.test", "other", "good", None),
    ("pkix.dane.test", "other", "stripped", FailureType.STARTTLS_NOT_SUPPORTED),
    ("cap.dane.test", "other", "good", None),
    ("cap.dane.test", "other", "stripped", FailureType.STARTTLS_NOT_SUPPORTED),
    ("req.dane.test", "other", "good", FailureType.VALIDATION_FAILURE),
    ("none.dane.test", "other", "good", None),
    ("none.dane.test", "other", "stripped", "clear"),
    ("none.dane.test", "other", "garbage", "clear"),
    ("none.dane.test", "other", "refused", "clear"),
]


@pytest.mark.parametrize(("host", "certificate", "mode", "expected"), TLS_CASES)
def test_handshake(world: DnsWorld, host: str, certificate: str, mode: Mode, expected: object) -> None:
    async def act(station: Station) -> None:
        found = await station.requirement("dane.test", host)
        assert isinstance(found, Requirement)
        with SmtpTls(PKI.context(certificate), mode) as server:
            assert await station.try_out(found, server.port) == expected
            assert not server.clear, "nothing was said in the clear"
            if mode == "good":
                assert server.sni == [found.names[0] if found.names else host]
        failures = [row["failure"] for _, row in station.rows if "failure" in row]
        told = ["tlsa-invalid"] if host == "pkix.dane.test" else []  # before any handshake
        assert failures[: len(told)] == told
        assert len(failures) == len(told) + (expected not in (None, "other"))

    play(world, act)


@pytest.mark.parametrize(
    ("host", "certificate", "expected"),
    [
        ("ok.dane.test", "dane", None),
        ("ok.dane.test", "rolled", FailureType.VALIDATION_FAILURE),
        ("old.dane.test", "expired", None),
    ],
)
def test_postfix_receives(world: DnsWorld, host: str, certificate: str, expected: object) -> None:
    async def act(station: Station) -> None:
        found = await station.requirement("dane.test", host)
        assert isinstance(found, Requirement)
        chain = PKI.leaves[certificate].private_key_and_cert_chain_pem.bytes()
        with running_postfix(chain) as server:
            assert await station.try_out(found, server.port) == expected

    play(world, act)


def test_promise_that_is_kept(world: DnsWorld) -> None:
    async def act(station: Station) -> None:
        found = await station.requirement("dane.test", "req.dane.test")
        assert isinstance(found, Requirement)
        with SmtpTls(PKI.context("other"), offered=("REQUIRETLS",)) as server:
            assert await station.try_out(found, server.port) is None

    play(world, act)


POLICY = "version: STSv1\nmode: {}\nmx: mx.sts.test\nmax_age: 86400\n"

STS_CASES: list[tuple[str, str, Mode, object]] = [
    ("enforce", "known", "good", None),
    ("enforce", "known-other", "good", FailureType.CERTIFICATE_HOST_MISMATCH),
    ("enforce", "known-expired", "good", FailureType.CERTIFICATE_EXPIRED),
    ("enforce", "dane", "good", FailureType.CERTIFICATE_NOT_TRUSTED),
    ("enforce", "known", "stripped", FailureType.STARTTLS_NOT_SUPPORTED),
    ("testing", "known", "good", None),
    ("testing", "dane", "good", FailureType.CERTIFICATE_NOT_TRUSTED),
    ("testing", "known", "stripped", "clear"),
]


@pytest.mark.parametrize(("mode", "certificate", "how", "expected"), STS_CASES)
def test_mta_sts(
    world: DnsWorld,
    tmp_path_factory: pytest.TempPathFactory,
    mode: str,
    certificate: str,
    how: Mode,
    expected: object,
) -> None:
    ca_file = tmp_path_factory.mktemp("ca") / "ca.pem"
    PKI.public.cert_pem.write_to_path(str(ca_file))

    async def act(station: Station) -> None:
        found = await station.requirement("sts.test", "mx.sts.test")
        assert isinstance(found, Requirement)
        assert found.level is (Level.STS if mode == "enforce" else Level.MAY)
        with SmtpTls(PKI.context(certificate), how) as server:
            assert await station.try_out(found, server.port) == expected
            assert not server.clear
        (row,) = [row for _, row in station.rows]
        assert row["policy"]["policy-type"] == "sts"
        assert ("failure" in row) == (expected is not None)

    play(world, act, str(ca_file), POLICY.format(mode).encode())


def test_policy_over_https(world: DnsWorld, tmp_path: Path) -> None:
    web = Web(tmp_path, "mta-sts.sts.test")
    web.answer = plain(POLICY.format("enforce").encode())

    async def run() -> None:
        stub = Stub([world.resolver])
        async with web.serve() as port:
            settings = SecuritySettings(ca_file=web.ca_file, https_port=port)
            rows: list[tuple[str, Any]] = []
            memory = Memory(tmp_path / "memory")
            security = OutboundSecurity(
                settings, stub, memory, Log(), now=lambda: 1_800_000_000.0,
                record=lambda domain, row: rows.append((domain, row)),
            )  # fmt: skip
            station = Station(security, stub, rows, memory)
            found = await station.requirement("sts.test", "mx.sts.test")
            assert isinstance(found, Requirement)
            assert found.level is Level.STS
            refused = await station.requirement("sts.test", "mx.evil.test")
            assert isinstance(refused, Reply)
            assert len(web.asked) == 1
            await security.close()
        stub.close()

    asyncio.run(run())


def test_server_that_is_silent_in_the_handshake(world: DnsWorld) -> None:
    async def act(station: Station) -> None:
        found = Requirement("silent.test", Level.ENCRYPT)
        await station.requirement("dane.test", "none.dane.test")
        with SmtpTls(PKI.context("other"), "silent") as server:
            assert await station.try_out(found, server.port) is FailureType.VALIDATION_FAILURE

    play(world, act)


def test_require_tls_in_the_world(world: DnsWorld) -> None:
    async def act(station: Station) -> None:
        found = await station.requirement("unsigned.test", "mx.unsigned.test", require_tls=True)
        assert isinstance(found, Reply)
        assert (found.code, found.enhanced) == (550, "5.7.30")
        found = await station.requirement("dane.test", "none.dane.test", require_tls=True)
        assert isinstance(found, Requirement)
        assert found.level is Level.VERIFY

    play(world, act)


def test_resolver_of_the_world_is_honest(world: DnsWorld) -> None:
    async def act(station: Station) -> None:
        verdict = await station.security.probe(asyncio.get_running_loop().time() + 10)
        assert verdict.honesty is Honesty.HONEST, verdict

    play(world, act)


def test_pin_against_a_zone_that_loses_its_ds(world: DnsWorld) -> None:
    # nods.test is signed, but the parent has no DS (any more).
    async def act(station: Station) -> None:
        station.security.pins.proven("mx", "nods.test")
        found = await station.requirement("nods.test", "mx.nods.test")
        assert isinstance(found, Reply)
        assert "was signed with DNSSEC" in found.text
        assert "our resolver" not in found.text, "it is the zone, not the resolver"

    play(world, act)


def test_statuses_of_nsec3(world: DnsWorld) -> None:
    async def act(station: Station) -> None:
        deadline = asyncio.get_running_loop().time() + 10
        for name, rdtype, exists in (
            ("none.nsec3.test", "TLSA", True),
            ("nothing.nsec3.test", "A", False),
            ("_tcp.ok.nsec3.test", "TXT", True),
        ):
            answer = await station.stub.query(name, rdtype, deadline)
            assert (answer.status, answer.records, answer.exists) == (Status.SECURE, (), exists), name

    play(world, act)
