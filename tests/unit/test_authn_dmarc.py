"""DMARC (RFC 9989): tree walk, alignment and policy over the table resolver; RFC 7489 by option; iprev."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from mta.authn import iprev
from mta.authn.dmarc import DmarcResult, DmarcSettings, check
from mta.authn.dmarcwalk import Walk, lookup, targets, walk
from mta.authn.results import MethodResult, Result
from mta.authn.spf import Identity, SpfResult
from mta.net.resolver.base import Status
from mta.net.resolver.fake import FakeResolver
from sieve_ext.message import HeaderIndex
from sieve_ext.message.header import Header

PASS, FAIL, NONE = Result.PASS, Result.FAIL, Result.NONE
TEMP, PERM = Result.TEMPERROR, Result.PERMERROR


def zone(**records: str) -> FakeResolver:
    """Policy records: d_test="p=reject" is v=DMARC1; p=reject at _dmarc.d.test; "!" is a failing DNS."""
    dns = FakeResolver()
    for name, text in records.items():
        domain = name.replace("_", ".")
        if text == "!":
            dns.fail(f"_dmarc.{domain}", "TXT")
        else:
            dns.text(f"_dmarc.{domain}", f"v=DMARC1; {text}")
            dns.add(domain, "A", "192.0.2.1")
    return dns


def spf(domain: str, result: Result = PASS, identity: Identity = "mailfrom") -> SpfResult:
    return SpfResult(MethodResult("spf", result), identity, domain)


def dkim(*domains: str, result: Result = PASS) -> list[MethodResult]:
    return [MethodResult("dkim", result, "", {"header.d": domain}) for domain in domains]


def evaluate(
    dns: FakeResolver,
    sender: str = "a@d.test",
    spf_result: SpfResult | None = None,
    dkim_results: Sequence[MethodResult] = (),
    **others: Any,
) -> DmarcResult:
    async def run() -> DmarcResult:
        deadline = asyncio.get_running_loop().time() + others.pop("seconds", 5.0)
        header = Header(HeaderIndex(f"From: {sender}\r\n\r\n".encode()))
        return await check(dns, header, spf_result, dkim_results, deadline=deadline, **others)

    return asyncio.run(run())


def walked(dns: FakeResolver, domain: str, **others: Any) -> Walk:
    async def run() -> Walk:
        return await walk(dns, domain, asyncio.get_running_loop().time() + 5, **others)

    return asyncio.run(run())


def test_targets_of_a_long_name() -> None:
    """The example of RFC 9989 section 4.10."""
    assert targets("a.b.c.d.e.f.g.h.i.j.mail.example.com") == [
        "a.b.c.d.e.f.g.h.i.j.mail.example.com",
        "g.h.i.j.mail.example.com",
        "h.i.j.mail.example.com",
        "i.j.mail.example.com",
        "j.mail.example.com",
        "mail.example.com",
        "example.com",
        "com",
    ]


@pytest.mark.parametrize(("labels", "count"), [(1, 1), (2, 2), (7, 7), (8, 8), (9, 8), (127, 8)])
def test_number_of_targets(labels: int, count: int) -> None:
    assert len(targets(".".join("x" * labels))) == count


WALKS: list[tuple[dict[str, str], str, str, str]] = [
    # records, domain, organizational domain, place of the policy
    ({}, "a.d.test", "a.d.test", ""),
    ({"d_test": "p=none"}, "d.test", "d.test", "d.test"),
    ({"d_test": "p=none"}, "a.d.test", "d.test", "d.test"),
    ({"d_test": "p=none"}, "a.b.c.d.test", "d.test", "d.test"),
    ({"d_test": "p=none", "a_d_test": "p=none"}, "a.d.test", "d.test", "a.d.test"),
    ({"d_test": "p=none", "b_d_test": "p=none"}, "a.b.d.test", "d.test", "d.test"),
    ({"d_test": "p=none", "b_d_test": "p=none; psd=n"}, "a.b.d.test", "b.d.test", "b.d.test"),
    ({"d_test": "p=none", "a_d_test": "p=none; psd=n"}, "a.d.test", "a.d.test", "a.d.test"),
    ({"test": "p=reject; psd=y"}, "a.d.test", "d.test", "test"),
    ({"test": "p=reject; psd=y"}, "d.test", "d.test", "test"),
    ({"test": "p=reject; psd=y", "d_test": "p=none"}, "a.d.test", "d.test", "d.test"),
    ({"test": "p=reject; psd=y", "a_d_test": "p=none"}, "a.d.test", "d.test", "a.d.test"),
    ({"test": "p=reject; psd=y", "b_d_test": "p=none"}, "a.b.d.test", "d.test", "test"),
    ({"test": "p=reject; psd=n"}, "a.d.test", "test", "test"),
    ({"test": "p=reject"}, "a.d.test", "test", "test"),
    ({"co_test": "p=none; psd=y", "test": "p=none; psd=y"}, "a.d.co.test", "d.co.test", "co.test"),
    ({"d_test": "p=none; psd=y"}, "d.test", "d.test", "d.test"),
    ({"d_test": "p=none; psd=y", "test": "p=none; psd=y"}, "d.test", "d.test", "d.test"),
    ({"d_test": "p=none; psd=y"}, "a.d.test", "a.d.test", "d.test"),
    ({"d_test": "p=none; psd=y", "a_d_test": "p=none"}, "a.d.test", "a.d.test", "a.d.test"),
    ({"d_test": "p=none; psd=n", "test": "!"}, "a.d.test", "d.test", "d.test"),
    ({"d_test": "p=none; psd=y", "test": "!"}, "b.a.d.test", "a.d.test", "d.test"),
    ({"d_test": "nonsense"}, "a.d.test", "d.test", "d.test"),
]


@pytest.mark.parametrize(("records", "domain", "organizational", "place"), WALKS)
def test_walk(records: dict[str, str], domain: str, organizational: str, place: str) -> None:
    found = walked(zone(**records), domain)
    assert (found.organizational, found.policy_domain, found.error) == (organizational, place, "")


@pytest.mark.parametrize("failing", ["a_d_test", "d_test", "test"])
def test_walk_that_the_dns_breaks(failing: str) -> None:
    assert walked(zone(**{"x_test": "p=none", failing: "!"}), "a.d.test").error == "SERVFAIL"


def test_several_records_are_none() -> None:
    dns = zone(d_test="p=reject")
    dns.text("_dmarc.d.test", "v=DMARC1; p=none")
    found = walked(dns, "d.test")
    assert found.policy is None


def test_other_texts_beside_the_record() -> None:
    dns = zone(d_test="p=reject")
    dns.text("_dmarc.d.test", "v=spf1 -all", b"\xff")
    assert walked(dns, "d.test").policy is not None


def test_own_record_needs_one_question() -> None:
    dns = zone(d_test="p=none")
    walked(dns, "d.test", whole=False)
    assert dns.asked == [("_dmarc.d.test", "TXT")]


def test_bogus_policy_is_a_temporary_error() -> None:
    dns = zone()
    dns.fail("_dmarc.d.test", "TXT", Status.BOGUS, "signature expired")
    found = evaluate(dns, spf_result=spf("d.test"))
    assert found.result.result is TEMP
    assert "signature expired" in found.result.reason


D = {"d_test": "p=reject"}
STRICT = {"d_test": "p=reject; adkim=s; aspf=s"}
CASES: list[tuple[dict[str, str], str, SpfResult | None, list[MethodResult], Result, str]] = [
    # records, From, SPF, DKIM, result, disposition
    ({}, "a@d.test", spf("d.test"), [], NONE, "none"),
    ({}, "a@d.test", None, [], NONE, "none"),
    (D, "a@d.test", None, [], FAIL, "reject"),
    (D, "a@d.test", spf("d.test"), [], PASS, "none"),
    (D, "a@D.TEST", spf("d.test"), [], PASS, "none"),
    (D, "a@d.test", spf("m.d.test"), [], PASS, "none"),
    (D, "a@m.d.test", spf("d.test"), [], PASS, "none"),
    (D, "a@m.d.test", spf("n.d.test"), [], PASS, "none"),
    (D, "a@d.test", spf("e.test"), [], FAIL, "reject"),
    (D, "a@d.test", spf("xd.test"), [], FAIL, "reject"),
    (D, "a@d.test", spf("test"), [], FAIL, "reject"),
    (D, "a@d.test", spf("d.test.evil.example"), [], FAIL, "reject"),
    (D, "a@d.test", spf("d.test", FAIL), [], FAIL, "reject"),
    (D, "a@d.test", spf("d.test", Result.SOFTFAIL), [], FAIL, "reject"),
    (D, "a@d.test", spf("d.test", Result.NEUTRAL), [], FAIL, "reject"),
    (D, "a@d.test", spf("d.test", PERM), [], FAIL, "reject"),
    (D, "a@d.test", spf("d.test", PASS, "helo"), [], FAIL, "reject"),
    (D, "a@d.test", spf("d.test", TEMP), [], TEMP, "none"),
    (D, "a@d.test", spf("m.d.test", TEMP), [], TEMP, "none"),
    (D, "a@d.test", spf("e.test", TEMP), [], FAIL, "reject"),
    (D, "a@d.test", spf("d.test", TEMP), dkim("d.test"), PASS, "none"),
    (D, "a@d.test", None, dkim("d.test"), PASS, "none"),
    (D, "a@d.test", None, dkim("D.Test"), PASS, "none"),
    (D, "a@d.test", None, dkim("s.d.test"), PASS, "none"),
    (D, "a@d.test", None, dkim("e.test", "d.test"), PASS, "none"),
    (D, "a@d.test", None, dkim("e.test", "f.test"), FAIL, "reject"),
    (D, "a@d.test", None, dkim("d.test", result=FAIL), FAIL, "reject"),
    (D, "a@d.test", None, dkim("d.test", result=Result.POLICY), FAIL, "reject"),
    (D, "a@d.test", None, dkim("d.test", result=Result.NEUTRAL), FAIL, "reject"),
    (D, "a@d.test", None, dkim("d.test", result=PERM), FAIL, "reject"),
    (D, "a@d.test", None, dkim("d.test", result=TEMP), TEMP, "none"),
    (D, "a@d.test", None, dkim("e.test", result=TEMP), FAIL, "reject"),
    (D, "a@d.test", None, [MethodResult("dkim", PASS)], FAIL, "reject"),
    (STRICT, "a@d.test", spf("d.test"), [], PASS, "none"),
    (STRICT, "a@d.test", spf("m.d.test"), [], FAIL, "reject"),
    (STRICT, "a@d.test", None, dkim("m.d.test"), FAIL, "reject"),
    (STRICT, "a@m.d.test", None, dkim("m.d.test"), PASS, "none"),
    (STRICT, "a@m.d.test", None, dkim("d.test"), FAIL, "reject"),
    ({"d_test": "p=reject; adkim=s"}, "a@d.test", spf("m.d.test"), dkim("m.d.test"), PASS, "none"),
    ({"d_test": "p=reject; aspf=s"}, "a@d.test", spf("m.d.test"), dkim("m.d.test"), PASS, "none"),
    ({"d_test": "p=reject; adkim=s"}, "a@d.test", spf("m.d.test"), [], PASS, "none"),
    ({"d_test": "p=reject; adkim=s"}, "a@d.test", None, dkim("m.d.test"), FAIL, "reject"),
    ({"d_test": "p=reject; aspf=s"}, "a@d.test", spf("m.d.test"), [], FAIL, "reject"),
    ({"d_test": "p=reject; aspf=s"}, "a@d.test", None, dkim("m.d.test"), PASS, "none"),
    ({"d_test": "p=none"}, "a@d.test", None, [], FAIL, "none"),
    ({"d_test": "p=quarantine"}, "a@d.test", None, [], FAIL, "quarantine"),
    ({"d_test": "p=reject; t=y"}, "a@d.test", None, [], FAIL, "quarantine"),
    ({"d_test": "p=quarantine; t=y"}, "a@d.test", None, [], FAIL, "none"),
    ({"d_test": "p=none; t=y"}, "a@d.test", None, [], FAIL, "none"),
    ({"d_test": "p=reject; pct=0"}, "a@d.test", None, [], FAIL, "reject"),
    ({"d_test": "p=reject; sp=none", "m_d_test": "p=quarantine"}, "a@m.d.test", None, [], FAIL, "quarantine"),
    ({"d_test": "p=reject; sp=none", "m_d_test": "x=1; p=none"}, "a@n.m.d.test", None, [], FAIL, "none"),
    ({"d_test": "p=reject; sp=quarantine; np=reject"}, "a@ghost.d.test", None, [], FAIL, "reject"),
    ({"d_test": "p=none; np=reject"}, "a@ghost.d.test", None, [], FAIL, "reject"),
    ({"d_test": "p=none; np=reject"}, "a@host.d.test", None, [], FAIL, "none"),
    ({"d_test": "p=none; sp=quarantine; np=reject"}, "a@host.d.test", None, [], FAIL, "quarantine"),
    ({"d_test": "p=none; np=reject"}, "a@d.test", None, [], FAIL, "none"),
    ({"d_test": "p=none; np=reject"}, "a@broken.d.test", None, [], TEMP, "none"),
    ({"d_test": "p=none"}, "a@broken.d.test", None, [], FAIL, "none"),
    ({"test": "p=none; np=reject; psd=y"}, "a@ghost.test", None, [], FAIL, "reject"),
    ({"test": "p=none; sp=quarantine; psd=y"}, "a@m.ghost.test", spf("n.ghost.test"), [], PASS, "none"),
    ({"test": "p=none; sp=quarantine; psd=y"}, "a@one.test", spf("two.test"), [], FAIL, "quarantine"),
    ({"d_test": "p=reject; psd=y"}, "a@one.d.test", spf("two.d.test"), [], FAIL, "reject"),
    ({"d_test": "p=reject; psd=y"}, "a@m.one.d.test", spf("one.d.test"), [], PASS, "none"),
    ({"d_test": "p=reject", "b_d_test": "p=none; psd=n"}, "a@b.d.test", spf("d.test"), [], FAIL, "none"),
    ({"d_test": "p=reject", "b_d_test": "p=none; psd=n"}, "a@b.d.test", spf("x.b.d.test"), [], PASS, "none"),
    ({"d_test": "p=reject", "b_d_test": "p=none; psd=n"}, "a@d.test", spf("b.d.test"), [], FAIL, "reject"),
    ({"d_test": "p=reject", "b_d_test": "p=none"}, "a@b.d.test", spf("d.test"), [], PASS, "none"),
    ({"d_test": "nonsense"}, "a@d.test", None, [], NONE, "none"),
    ({"d_test": "p=oops; rua=mailto:r@d.test"}, "a@d.test", None, [], FAIL, "none"),
    ({"d_test": "p=oops; rua=mailto:r@d.test"}, "a@d.test", spf("d.test"), [], PASS, "none"),
    ({"d_test": "!"}, "a@d.test", spf("d.test"), [], TEMP, "none"),
    ({"d_test": "!"}, "a@m.d.test", spf("m.d.test"), [], TEMP, "none"),
    ({"d_test": "p=reject", "test": "!"}, "a@d.test", spf("d.test"), [], PASS, "none"),
    ({"d_test": "p=reject", "test": "!"}, "a@d.test", spf("m.d.test"), [], TEMP, "none"),
    ({"d_test": "p=reject", "test": "!"}, "a@d.test", spf("e.example"), [], FAIL, "reject"),
    ({"d_test": "p=reject", "e_test": "!"}, "a@d.test", spf("e.test"), [], FAIL, "reject"),
    ({"d_test": "p=reject", "m_d_test": "!"}, "a@d.test", spf("m.d.test"), [], TEMP, "none"),
    ({"d_test": "p=reject", "m_d_test": "!"}, "a@d.test", spf("m.d.test"), dkim("d.test"), PASS, "none"),
    ({"xn--bcher-kva_test": "p=reject"}, "a@bücher.test", spf("xn--bcher-kva.test"), [], PASS, "none"),
    ({"xn--bcher-kva_test": "p=reject"}, "a@bücher.test", None, [], FAIL, "reject"),
    ({"xn--bcher-kva_test": "p=reject"}, "a@bücher.test", None, dkim("m.Bücher.test"), PASS, "none"),
    (D, "a@d.test", spf(""), dkim("", "..", "d.test\0"), FAIL, "reject"),
    (D, "", spf("d.test"), [], PERM, "none"),
    (D, "a@d.test <b@d.test>", spf("d.test"), [], PERM, "none"),
    (D, "a@[192.0.2.1]", spf("d.test"), [], PERM, "none"),
    (D, "a@d.test, b@e.test", spf("e.test"), [], FAIL, "reject"),
    (D, "a@d.test, b@e.test", spf("d.test"), [], NONE, "none"),
    ({"d_test": "p=reject", "e_test": "p=quarantine"}, "a@e.test, b@d.test", None, [], FAIL, "reject"),
    (D | {"e_test": "p=none"}, "a@e.test, b@d.test", spf("e.test"), dkim("d.test"), PASS, "none"),
    (D, ", ".join(f"a@d{n}.test" for n in range(5)), spf("d.test"), [], PERM, "none"),
]  # fmt: skip


@pytest.mark.parametrize(("records", "sender", "spf_result", "dkim_results", "result", "disposition"), CASES)
def test_case(
    records: dict[str, str],
    sender: str,
    spf_result: SpfResult | None,
    dkim_results: list[MethodResult],
    result: Result,
    disposition: str,
) -> None:
    dns = zone(**records)
    dns.add("host.d.test", "MX", "0 mx.d.test.")
    dns.fail("broken.d.test", "A")
    found = evaluate(dns, sender, spf_result, dkim_results)
    assert (found.result.result, found.disposition) == (result, disposition), found.result.reason
    assert found.result.method == "dmarc"
    assert found.passed is (result is PASS)
    if result in (PASS, FAIL):
        assert found.result.properties["header.from"] == found.domain
        assert found.result.properties["policy.dmarc"] == disposition


def test_there_are_enough_cases() -> None:
    assert len(CASES) + len(WALKS) >= 100


def test_what_is_aligned_is_told() -> None:
    found = evaluate(zone(**D), "a@m.d.test", spf("n.d.test"), dkim("d.test", "e.test", "x.d.test"))
    assert found.spf_aligned
    assert found.dkim_aligned == ("d.test", "x.d.test")
    assert found.identifiers == ("n.d.test", "d.test", "e.test", "x.d.test")
    assert (found.organizational, found.policy_domain) == ("d.test", "d.test")


def test_nobody_fails_because_we_could_not_look_at_signatures() -> None:
    dns = zone(d_test="p=reject")
    ours = MethodResult("dkim", Result.TEMPERROR, "the message could not be read")
    assert evaluate(dns, "a@d.test", None, [ours]).result.result is Result.TEMPERROR
    assert evaluate(dns, "a@d.test", None, [ours, *dkim("d.test")]).passed
    assert evaluate(dns, "a@d.test", None, dkim("e.test")).result.result is FAIL


def test_strangers_dns_has_no_say() -> None:
    """A domain of another organization is not asked for, so that its errors cannot soften a policy."""
    dns = zone(d_test="p=reject", e_test="!")
    assert evaluate(dns, "a@d.test", spf("m.e.test"), dkim("k.e.test")).result.result is FAIL
    assert not any("e.test" in name for name, _ in dns.asked)


def test_signing_domains_are_capped() -> None:
    dns = zone(**D)
    many = dkim(*(f"s{n}.d.test" for n in range(1000)))
    found = evaluate(dns, "a@d.test", None, many)
    assert found.passed
    assert len(dns.asked) < 50


def test_slow_dns_is_a_temporary_error() -> None:
    dns = zone(**D)
    dns.delay = 1.0
    assert evaluate(dns, "a@d.test", spf("d.test"), seconds=0.02).result.result is TEMP


LEGACY: list[tuple[dict[str, str], str, SpfResult | None, Result, str]] = [
    ({"d_uk": "p=reject"}, "a@d.uk", spf("m.d.uk"), PASS, "none"),
    ({"d_co_uk": "p=reject; sp=quarantine"}, "a@m.d.co.uk", None, FAIL, "quarantine"),
    ({"d_co_uk": "p=reject"}, "a@d.co.uk", spf("e.co.uk"), FAIL, "reject"),
    ({"d_co_uk": "p=reject"}, "a@x.y.d.co.uk", spf("z.d.co.uk"), PASS, "none"),
    ({"d_co_uk": "p=reject", "y_d_co_uk": "p=none"}, "a@x.y.d.co.uk", None, FAIL, "reject"),
    ({"co_uk": "p=reject; psd=y"}, "a@d.co.uk", None, NONE, "none"),
    ({"d_uk": "p=none; np=reject"}, "a@ghost.d.uk", None, FAIL, "none"),
    ({"d_uk": "p=reject; t=y"}, "a@d.uk", None, FAIL, "reject"),
    ({"d_uk": "p=reject; pct=50"}, "a@d.uk", None, FAIL, "reject"),
    ({"d_uk": "p=reject; pct=10"}, "a@d.uk", None, FAIL, "quarantine"),
    ({"d_uk": "p=quarantine; pct=0"}, "a@d.uk", None, FAIL, "none"),
    ({"d_uk": "!"}, "a@d.uk", spf("d.uk"), TEMP, "none"),
]


@pytest.mark.parametrize(("records", "sender", "spf_result", "result", "disposition"), LEGACY)
def test_public_suffix_list(
    records: dict[str, str], sender: str, spf_result: SpfResult | None, result: Result, disposition: str
) -> None:
    settings = DmarcSettings(public_suffixes=True)
    found = evaluate(zone(**records), sender, spf_result, settings=settings, draw=25.0)
    assert (found.result.result, found.disposition) == (result, disposition), found.result.reason


def test_list_asks_two_names_at_the_most() -> None:
    dns = zone()

    async def run() -> Walk:
        return await lookup(dns, "a.b.c.d.co.uk", asyncio.get_running_loop().time() + 5)

    assert asyncio.run(run()).organizational == "d.co.uk"
    assert [name for name, _ in dns.asked] == ["_dmarc.a.b.c.d.co.uk", "_dmarc.d.co.uk"]


def reverse_zone() -> FakeResolver:
    dns = FakeResolver()
    dns.add("1.2.0.192.in-addr.arpa", "PTR", "liar.test.", "MX.d.test.")
    dns.add("mx.d.test", "A", "192.0.2.1")
    dns.add("liar.test", "A", "192.0.2.9")
    dns.add("2.2.0.192.in-addr.arpa", "PTR", "liar.test.")
    dns.fail("3.2.0.192.in-addr.arpa")
    dns.add("4.2.0.192.in-addr.arpa", "PTR", "down.test.")
    dns.fail("down.test")
    dns.add("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", "PTR", "six.test.")
    dns.add("six.test", "AAAA", "2001:db8::1")
    return dns


@pytest.mark.parametrize(
    ("client", "result", "name"),
    [
        ("192.0.2.1", PASS, "mx.d.test"),
        ("::ffff:192.0.2.1", PASS, "mx.d.test"),
        ("2001:db8::1", PASS, "six.test"),
        ("192.0.2.2", FAIL, ""),
        ("192.0.2.3", TEMP, ""),
        ("192.0.2.4", TEMP, ""),
        ("192.0.2.5", PERM, ""),
        ("unix", NONE, ""),
    ],
)
def test_iprev(client: str, result: Result, name: str) -> None:
    async def run() -> iprev.IprevResult:
        return await iprev.check(reverse_zone(), client, deadline=asyncio.get_running_loop().time() + 5)

    found = asyncio.run(run())
    assert (found.result.result, found.name, found.secure) == (result, name, False)


def test_iprev_asks_for_ten_names() -> None:
    dns = FakeResolver()
    dns.add("1.2.0.192.in-addr.arpa", "PTR", *(f"n{n}.test." for n in range(100)))

    async def run() -> iprev.IprevResult:
        return await iprev.check(dns, "192.0.2.1", deadline=asyncio.get_running_loop().time() + 5)

    assert asyncio.run(run()).result.result is FAIL
    assert len(dns.asked) == 11


SPOOFS = [
    # Each mail program shows one of the addresses, or the first.
    "ceo@bank.test,",
    "ceo@bank.test, root",
    "<ceo@bank.test> <a@d.test>",
    "ceo@bank.test <a@d.test>",
    "a@d.test\r\nFrom: ceo@bank.test",
    "a@d.test\r\nFrom : ceo@bank.test",
    "a@d.test\r\nFrom\x0b: ceo@bank.test",
    "a@d.test\r\nSubject: x\rFrom: ceo@bank.test",
    "ceo@bank.test\r\nFrom:",
    "<@x.test:ceo@bank.test>",
    "<ceo@bank.test",
    "ceo@(c)bank.test",
    "ceo@bank(a (b) c).test (d)",
    "ceo@bank .\r\n test",
    "=?utf-8?q?ceo=40bank=2Etest?=@d.test",
    "ceo@=?utf-8?q?bank?=.test",
    '"ceo@bank.test"@d.test',
    "ceo@bank.test.",
    "ceo@BANK.test\0",
    "ceo@bank.test, " + ", ".join(f"a@d{n}.test" for n in range(5)),
    ", ".join(f"a@d{n}.test" for n in range(9)) + ", ceo@bank.test",
    " ".join(f"a@d{n}.test" for n in range(9)) + " <ceo@bank.test>",
    ", ".join(f"a@d{n}.test" for n in range(9)) + "\r\nFrom: ceo@bank.test, a@e.test",
    ", ".join(f"a@d{n}.test" for n in range(9)) + "\r\nFrom: a@e.test\r\nFrom: a@f.test <ceo@bank.test>",
]


@pytest.mark.parametrize("sender", SPOOFS)
def test_from_in_an_odd_form_does_not_evade_the_policy(sender: str) -> None:
    found = evaluate(zone(bank_test="p=reject"), sender, spf("d.test"), dkim("d.test"))
    assert (found.result.result, found.domain, str(found.disposition)) == (FAIL, "bank.test", "reject")


@pytest.mark.parametrize("sender", SPOOFS)
@pytest.mark.parametrize("records", [{}, {"bank_test": "p=reject"}])
def test_from_in_an_odd_form_never_passes(sender: str, records: dict[str, str]) -> None:
    found = evaluate(zone(**records), sender, spf("bank.test"), dkim("bank.test", "d.test"))
    assert (found.result.result, found.result.reason) == (PERM, found.author.reason)


def test_no_more_than_a_few_suspected_domains_are_asked_for() -> None:
    dns = zone()
    found = evaluate(dns, ", ".join(f"a@d{n}.test" for n in range(100)) + ",")
    assert found.result.result is PERM
    assert len({name for name, _ in dns.asked}) <= 5


@pytest.mark.parametrize(
    "sender", ["root", "", "<>", "a@localhost", "a@[192.0.2.1]", "nobody:;", "a@-!.test"]
)
def test_from_without_a_domain_is_permerror(sender: str) -> None:
    dns = zone()
    assert evaluate(dns, sender).result.result is PERM
    assert dns.asked == []
