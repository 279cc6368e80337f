"""Which hosts take mail for a domain: tables of DNS answers and what they come to."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.delivery.lookup import Lookup, NoHosts, Ourselves
from mta.delivery.mx import (
    LONGEST_SITE,
    MxHost,
    MxHosts,
    in_turn,
    nowhere,
    read_addresses,
    read_literal,
    read_mx,
    site_name,
    without_us,
)
from mta.delivery.way import USUAL, Way, WayError, is_way, parse_way
from mta.net.resolver.base import Answer, Status
from mta.net.resolver.fake import FakeResolver
from mta.reply import Reply


def hosts_of(dns: FakeResolver, domain: str = "d.test", way: Way = USUAL) -> MxHosts | NoHosts:
    ourselves = Ourselves(
        is_name={"us.test"}.__contains__,
        is_address={"192.0.2.9"}.__contains__,
        is_refused=lambda a: a == "127.0.0.1",
    )

    async def main() -> MxHosts | NoHosts:
        return await Lookup(dns, ourselves, timeout=1.0).hosts(
            way, domain, asyncio.get_running_loop().time() + 5
        )

    return asyncio.run(main())


def text(found: MxHosts | NoHosts) -> str:
    if isinstance(found, NoHosts):
        return f"{found.reply.code} {found.reply.enhanced}"
    return " ".join(f"{host.rank}:{host.name}" for host in found.hosts)


MX = [
    (["10 a.test"], "0:a.test"),
    (["20 b.test", "10 a.test"], "0:a.test 1:b.test"),
    (["10 b.test", "10 A.Test."], "0:a.test 0:b.test"),
    (["5 a.test", "10 a.test"], "0:a.test"),
    (["0 ."], "556 5.1.10"),
    (["0 .", "10 ."], "556 5.1.10"),
    (["0 .", "10 a.test"], "0:a.test"),
    (["10 us.test"], "554 5.4.6"),
    (["10 a.test", "20 us.test", "30 c.test"], "0:a.test"),
    (["10 a.test", "10 us.test"], "554 5.4.6"),
    (["20 a.test", "10 us.test"], "554 5.4.6"),
]


@pytest.mark.parametrize(("records", "expected"), MX)
def test_mx_records(records: list[str], expected: str) -> None:
    dns = FakeResolver()
    dns.add("d.test", "MX", *records)
    assert text(hosts_of(dns)) == expected


def test_many_hosts_are_cut_at_the_end_of_the_list() -> None:
    dns = FakeResolver()
    dns.add("d.test", "MX", *(f"{n} h{n}.test" for n in range(1, 40)))
    found = hosts_of(dns)
    assert isinstance(found, MxHosts)
    assert found.names[0] == "h1.test"
    assert len(found.names) == 20


def test_of_too_many_equals_any_are_looked_at() -> None:
    """Not always the same (RFC 5321 section 5.1); the site is the same whichever they are."""
    dns = FakeResolver()
    equals = [f"10 h{n}.test" for n in range(30)]
    dns.add("d.test", "MX", "5 best.test", *equals, "20 z.test")
    seen, sites = set[str](), set[str]()
    for _ in range(200):
        found = hosts_of(dns)
        assert isinstance(found, MxHosts)
        assert (len(found.names), found.names[0]) == (20, "best.test")
        assert [host.rank for host in found.hosts] == [0] + 19 * [1]
        seen.update(found.names)
        sites.add(found.site)
    assert seen == {"best.test", *(f"h{n}.test" for n in range(30))}
    assert len(sites) == 1


def test_we_are_found_among_more_hosts_than_are_looked_at() -> None:
    """Else what is no better than we are would get the mail, and give it back."""
    dns = FakeResolver()
    equals = [f"10 h{n}.test" for n in range(30)]
    dns.add("d.test", "MX", *equals, "10 us.test", "20 z.test")
    found = hosts_of(dns)
    assert isinstance(found, NoHosts)
    assert str(found.reply).startswith("554 5.4.6")
    dns.add("e.test", "MX", "5 best.test", *equals, "10 us.test")
    better = hosts_of(dns, "e.test")
    assert isinstance(better, MxHosts)
    assert better.names == ("best.test",)


def test_the_implicit_mx_needs_proof_that_there_is_none() -> None:
    dns = FakeResolver()
    assert text(hosts_of(dns)) == "550 5.1.2"  # no such name
    dns.add("d.test", "A", "192.0.2.1")
    assert text(hosts_of(dns)) == "0:d.test"
    dns.fail("d.test", "MX")
    assert text(hosts_of(dns)) == "451 4.4.3"
    dns.fail("d.test", "MX", Status.BOGUS, "signature expired")
    found = hosts_of(dns)
    assert isinstance(found, NoHosts)
    assert (found.reply.code, found.reply.enhanced, found.status) == (451, "4.7.5", Status.BOGUS)
    assert "signature expired" in found.reply.text


def test_a_cname_leads_to_the_mx_of_its_target() -> None:
    dns = FakeResolver()
    dns.add("d.test", "CNAME", "real.test")
    dns.add("real.test", "MX", "10 a.test")
    found = hosts_of(dns)
    assert text(found) == "0:a.test"
    assert isinstance(found, MxHosts)
    assert found.canonical == "real.test"


def test_a_cname_to_a_name_without_mx_is_its_own_implicit_mx() -> None:
    dns = FakeResolver()
    dns.add("d.test", "CNAME", "real.test")
    dns.add("real.test", "A", "192.0.2.1")
    assert text(hosts_of(dns)) == "0:d.test"


LITERALS = [
    ("[192.0.2.1]", "0:192.0.2.1"),
    ("[IPv6:2001:db8::1]", "0:2001:db8::1"),
    ("[tag:something]", "550 5.1.2"),
]


@pytest.mark.parametrize(("domain", "expected"), LITERALS)
def test_address_literals(domain: str, expected: str) -> None:
    assert text(hosts_of(FakeResolver(), domain)) == expected
    assert isinstance(read_literal(domain), MxHosts | Reply)


def test_a_route_names_another_domain_or_a_host() -> None:
    dns = FakeResolver()
    dns.add("other.test", "MX", "10 a.test")
    assert text(hosts_of(dns, way=parse_way("mx:other.test"))) == "0:a.test"
    found = hosts_of(dns, way=parse_way("smtp:[us.test]:2525"))
    assert text(found) == "0:us.test"
    assert isinstance(found, MxHosts)
    assert found.routed


def answer(*records: str, status: Status = Status.INSECURE, exists: bool = True) -> Answer:
    dns = FakeResolver()
    for record in records:
        dns.add("h.test", "AAAA" if ":" in record else "A", record)
    if not records:
        return Answer(status, exists=exists, reason="why" if status in (Status.FAIL, Status.BOGUS) else "")
    rdtype = "AAAA" if ":" in records[0] else "A"
    found = asyncio.run(_ask(dns, rdtype))
    return Answer(status, found.records, 60.0)


async def _ask(dns: FakeResolver, rdtype: str) -> Answer:
    return await dns.query("h.test", rdtype, asyncio.get_running_loop().time() + 1)


SECURE = Status.SECURE
ADDRESSES = [
    (answer("192.0.2.1"), answer(), "192.0.2.1 insecure"),
    (answer("192.0.2.1", "192.0.2.2"), answer("2001:db8::1"), "2001:db8::1 192.0.2.1 192.0.2.2 insecure"),
    (answer("192.0.2.1", status=SECURE), answer(status=Status.FAIL), "192.0.2.1 secure"),
    (answer(status=Status.FAIL), answer("2001:db8::1"), "2001:db8::1 insecure"),
    (answer("192.0.2.1", status=SECURE), answer(status=Status.BOGUS), "451 4.7.5"),
    (answer(status=Status.FAIL), answer(), "451 4.4.3"),
    (answer(), answer(), "550 5.4.4"),
    (answer(exists=False), answer(exists=False), "550 5.4.4"),
    (answer("192.0.2.1"), None, "192.0.2.1 insecure"),
    (None, answer(), "550 5.4.4"),
]


@pytest.mark.parametrize(("four", "six", "expected"), ADDRESSES)
def test_addresses(four: Answer | None, six: Answer | None, expected: str) -> None:
    found = read_addresses("h.test", four, six)
    if isinstance(found, Reply):
        assert f"{found.code} {found.enhanced}" == expected
    else:
        assert f"{' '.join(found.addresses)} {found.status.value}" == expected


def test_nowhere_is_permanent_only_if_that_is_proven_of_each() -> None:
    gone, later = Reply(550, "5.4.4", "no"), Reply(451, "4.4.3", "later")
    assert nowhere("d.test", [gone, gone]).is_permanent
    assert nowhere("d.test", [gone, later]) is later


def test_equals_come_in_random_order_and_ranks_in_theirs() -> None:
    hosts = [MxHost(0, "a"), MxHost(0, "b"), MxHost(0, "c"), MxHost(1, "z")]
    rng = random.Random(1)
    seen = {tuple(in_turn(hosts, rng)[0]) for _ in range(200)}
    assert len(seen) == 6
    assert in_turn(hosts, rng)[1] == ["z"]


def test_ourselves_take_those_after_us_away() -> None:
    mx = MxHosts("d.test", (MxHost(0, "a"), MxHost(1, "us"), MxHost(2, "b")))
    found = without_us(mx, {"us"}.__contains__)
    assert isinstance(found, MxHosts)
    assert found.names == ("a",)
    assert without_us(mx, set[str]().__contains__) is mx


def test_site_names_say_hosts_and_order() -> None:
    two = [MxHost(0, "b"), MxHost(0, "a")]
    assert site_name(two) == "a|b"
    assert site_name([MxHost(0, "a"), MxHost(1, "b")]) == "a>b"
    long = [MxHost(0, f"mail{n}.example.net") for n in range(20)]
    assert len(site_name(long)) == LONGEST_SITE
    assert site_name(long) != site_name(long[:-1])


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=60))
def test_a_literal_is_read_or_refused(octets: str) -> None:
    read_literal(f"[{octets}]")


def test_the_answer_to_mx_has_a_time() -> None:
    dns = FakeResolver()
    dns.add("h.test", "MX", "1 a.test")
    found = read_mx("h.test", asyncio.run(_ask(dns, "MX")))
    assert isinstance(found, MxHosts)
    assert found.ttl == 300.0


WAYS = [
    "mx",
    "mx:example.net",
    "smtp:[mx.example.net]:2525",
    "smtp:[2001:db8::1]:25",
    "mx;tls=verify",
    "mx:example.net;tls=dane;source=bulk;helo=out.example.org;fallback=relay:smarthost",
    "smtp:[192.0.2.1]:25;fallback=smtp:[192.0.2.2]:26",
]


@pytest.mark.parametrize("way", WAYS)
def test_ways_are_written_as_they_are_read(way: str) -> None:
    assert is_way(way)
    assert str(parse_way(way)) == way


def test_ways_are_normalised() -> None:
    assert str(parse_way("mx:EXAMPLE.net.")) == "mx:example.net"
    assert str(parse_way("smtp:[MX.example.net]")) == "smtp:[mx.example.net]:25"


BAD_WAYS = [
    "mx:", "mx:a b", "mx:[192.0.2.1]", "smtp:mx.example.net", "smtp:[]:25", "smtp:[a.test]:0",
    "smtp:[a.test]25", "smtp:[a.test]:65536", "relay:x", "mx;tls=strong", "mx;color=blue", "mx;tls=",
    "mx;tls=may;tls=may", "mx;fallback=mx", "mx;fallback=relay:", "mx;helo=a b",
]  # fmt: skip


@pytest.mark.parametrize("way", BAD_WAYS)
def test_what_is_no_way_is_refused(way: str) -> None:
    with pytest.raises(WayError):
        parse_way(way)


def test_next_hops_of_ways() -> None:
    assert str(USUAL.next_hop("d.test")) == "NextHop(transport='mx', host='d.test')"
    assert parse_way("mx:o.test;tls=may").next_hop("d.test").host == "o.test;tls=may"
    assert parse_way("smtp:[o.test]:26").next_hop("d.test").host == "[o.test]:26"
