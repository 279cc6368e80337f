"""SPF (RFC 7208) over the table resolver: results, limits, errors of the DNS, and the public suite."""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path
from typing import Any

import pytest
import spf  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.address import NULL, parse_address
from mta.authn.results import Result
from mta.authn.spf import SpfResult, check_helo, check_host, check_sender
from mta.net.resolver.base import Status
from mta.net.resolver.fake import FakeResolver
from tests.peers.cost import processor_seconds
from tests.simulation.loop import run as virtual

CLIENT = "192.0.2.1"
CLIENT6 = "2001:db8::1"
SUITE = Path(__file__).parents[3] / "shared" / "suites" / "spf" / "rfc7208-tests.yml"
TYPES = ("A", "AAAA", "MX", "PTR", "TXT")


def check(dns: FakeResolver, client: str = CLIENT, domain: str = "d.test", **others: Any) -> SpfResult:
    async def run() -> SpfResult:
        deadline = asyncio.get_running_loop().time() + others.pop("seconds", 5.0)
        local = others.pop("local", "user")
        helo = others.pop("helo", "helo.test")
        return await check_host(dns, client, local, domain, helo, deadline=deadline, **others)

    return asyncio.run(run())


def zone(record: str | bytes = "") -> FakeResolver:
    """A world with the record at d.test, and things that records refer to."""
    dns = FakeResolver()
    if record:
        dns.text("d.test", record)
    dns.add("d.test", "A", CLIENT)
    dns.add("d.test", "AAAA", CLIENT6)
    dns.add("d.test", "MX", "10 mx1.d.test.", "20 mx2.d.test.")
    dns.add("mx1.d.test", "A", "198.51.100.1")
    dns.add("mx2.d.test", "A", CLIENT)
    dns.add("mx2.d.test", "AAAA", CLIENT6)
    dns.text("good.test", "v=spf1 ip4:192.0.2.0/24 -all")
    dns.text("bad.test", "v=spf1 -all")
    dns.text("soft.test", "v=spf1 ~all")
    dns.text("syntax.test", "v=spf1 foo -all")
    dns.text("why.test", "%{i} may not send for %{d}: see http://%{d}/%{l}")
    dns.text("utf.test", "Zutritt verboten für %{i}")
    dns.fail("down.test")
    dns.fail("bogus.test", status=Status.BOGUS, reason="signature expired")
    dns.add("alias.test", "CNAME", "good.test.")
    dns.add("1.2.0.192.in-addr.arpa", "PTR", "host.d.test.", "down.test.", "liar.test.")
    dns.add("host.d.test", "A", CLIENT)
    dns.add("liar.test", "A", "203.0.113.9")
    dns.add("1.2.0.192.test", "A", "127.0.0.2")
    dns.add("host.with.dash.d.test", "A", "127.0.0.2")
    return dns


TABLE = [
    ("", Result.NONE),
    ("v=spf1", Result.NEUTRAL),
    ("v=spf10 -all", Result.NONE),
    ("V=SPF1 +all", Result.PASS),
    ("v=spf1 -all", Result.FAIL),
    ("v=spf1 ~all", Result.SOFTFAIL),
    ("v=spf1 ?all", Result.NEUTRAL),
    ("v=spf1 ip4:192.0.2.1 -all", Result.PASS),
    ("v=spf1 ip4:192.0.2.0/24 -all", Result.PASS),
    ("v=spf1 ip4:192.0.2.2 -all", Result.FAIL),
    ("v=spf1 ip4:0.0.0.0/0 -all", Result.PASS),
    ("v=spf1 ip4:192.0.2.1/33 -all", Result.PERMERROR),
    ("v=spf1 ip4:192.0.2.256 -all", Result.PERMERROR),
    ("v=spf1 ip4:192.0.2.1/" + "9" * 400 + " -all", Result.PERMERROR),
    ("v=spf1 ip4:192.0.2.1/" + "9" * 5000 + " -all", Result.PERMERROR),
    ("v=spf1 ip6:2001:db8::/32 -all", Result.FAIL),
    ("v=spf1 a -all", Result.PASS),
    ("v=spf1 -a ~all", Result.FAIL),
    ("v=spf1 a:mx1.d.test -all", Result.FAIL),
    ("v=spf1 a:mx2.d.test -all", Result.PASS),
    ("v=spf1 a:mx1.d.test/0 -all", Result.PASS),
    ("v=spf1 a:nowhere.test -all", Result.FAIL),
    ("v=spf1 a:down.test -all", Result.TEMPERROR),
    ("v=spf1 a:bogus.test -all", Result.TEMPERROR),
    ("v=spf1 ip4:192.0.2.1 a:down.test -all", Result.PASS),
    ("v=spf1 mx -all", Result.PASS),
    ("v=spf1 mx:nowhere.test -all", Result.FAIL),
    ("v=spf1 include:good.test -all", Result.PASS),
    ("v=spf1 include:alias.test -all", Result.PASS),
    ("v=spf1 include:bad.test ~all", Result.SOFTFAIL),
    ("v=spf1 include:soft.test -all", Result.FAIL),
    ("v=spf1 include:nowhere.test -all", Result.PERMERROR),
    ("v=spf1 include:syntax.test +all", Result.PERMERROR),
    ("v=spf1 include:down.test -all", Result.TEMPERROR),
    ("v=spf1 include:d.test -all", Result.PERMERROR),
    ("v=spf1 ip4:192.0.2.1 include:d.test -all", Result.PASS),
    ("v=spf1 include -all", Result.PERMERROR),
    ("v=spf1 redirect=good.test", Result.PASS),
    # Names are in any case (RFC 7208 section 4.6.1), exp= and redirect= occur once, others as they like (6).
    ("v=spf1 REDIRECT=good.test", Result.PASS),
    ("v=spf1 redirect=good.test Redirect=good.test", Result.PERMERROR),
    ("v=spf1 exp=why.test EXP=why.test", Result.PERMERROR),
    ("v=spf1 exp= -all", Result.PERMERROR),
    ("v=spf1 foo=1 foo=2 op=3 op=3 ip4:192.0.2.1 -all", Result.PASS),
    ("v=spf1 foo=%{z} ip4:192.0.2.1 -all", Result.PERMERROR),
    # The lookup of redirect= counts when it is made.
    ("v=spf1 redirect=bad.test " + "a:mx1.d.test " * 9 + "a:mx2.d.test", Result.PASS),
    ("v=spf1 redirect=bad.test " + "a:mx1.d.test " * 10 + "-all", Result.FAIL),
    ("v=spf1 redirect=good.test " + "a:mx1.d.test " * 9, Result.PASS),
    ("v=spf1 redirect=good.test " + "a:mx1.d.test " * 10, Result.PERMERROR),
    ("v=spf1 redirect=bad.test", Result.FAIL),
    ("v=spf1 redirect=nowhere.test", Result.PERMERROR),
    ("v=spf1 redirect=d.test", Result.PERMERROR),
    ("v=spf1 redirect=down.test", Result.TEMPERROR),
    ("v=spf1 redirect=good.test redirect=good.test", Result.PERMERROR),
    ("v=spf1 exists:%{l}.d.test -all", Result.FAIL),
    ("v=spf1 exists:mx1.%{d} -all", Result.PASS),
    ("v=spf1 exists:%{x}.d.test -all", Result.PERMERROR),
    # Macros (section 7): what is none is an error; "r" in any case; parts are joined with dots.
    ("v=spf1 exists:%{d0}.test -all", Result.PERMERROR),
    ("v=spf1 exists:%{d#}.test -all", Result.PERMERROR),
    ("v=spf1 exists:%{d.test -all", Result.PERMERROR),
    ("v=spf1 exists:%{}.test -all", Result.PERMERROR),
    ("v=spf1 exists:%{iR}.test -all", Result.PASS),
    ("v=spf1 exists:%{i2R}.test -all", Result.FAIL),
    ("v=spf1 exists:%{h-}.d.test -all", Result.PASS),
    ("v=spf1 exists:%{h1r-+}.d.test -all", Result.PASS),
    ("v=spf1 exists:%{d" + "9" * 300 + "}.test -all", Result.FAIL),
    ("v=spf1 exists:" + "a" * 600 + ".test -all", Result.PERMERROR),
    ("v=spf1 ptr:d.test -all", Result.PASS),
    ("v=spf1 ptr:liar.test -all", Result.FAIL),
    ("v=spf1 foo -all", Result.PERMERROR),
    ("v=spf1 a, -all", Result.PERMERROR),
    ("v=spf1 unknown=thing ip4:192.0.2.1 -all", Result.PASS),
    (b"v=spf1 ip4:192.0.2.1 \xc3\xa9 -all", Result.PERMERROR),
    (b"v=spf1\tip4:192.0.2.1 -all", Result.NONE),
    ("v=spf1 " + "a:nowhere.test " * 2 + "-all", Result.FAIL),
    ("v=spf1 " + "a:nowhere.test " * 3 + "-all", Result.PERMERROR),
    ("v=spf1 " + "a:mx1.d.test " * 10 + "-all", Result.FAIL),
    ("v=spf1 " + "a:mx1.d.test " * 11 + "-all", Result.PERMERROR),
    ("v=spf1 " + "ip4:198.51.100.1 " * 200 + "-all", Result.FAIL),
    ("v=spf1 " + "ip4:198.51.100.1 " * 300 + "-all", Result.PERMERROR),
]


@pytest.mark.parametrize(("record", "result"), TABLE)
def test_result_of_a_record(record: str | bytes, result: Result) -> None:
    found = check(zone(record), helo="host-with-dash" if "%{h" in str(record) else "helo.test")
    assert found.result.result is result, found.result.reason
    assert found.result.method == "spf"
    assert found.result.properties == {"smtp.mailfrom": "user@d.test"}
    assert found.passed is (result is Result.PASS)


@pytest.mark.parametrize(
    ("record", "result"),
    [
        ("v=spf1 a -all", Result.PASS),
        ("v=spf1 mx -all", Result.PASS),
        ("v=spf1 ip4:0.0.0.0/0 -all", Result.FAIL),
        ("v=spf1 ip6:2001:db8::/32 -all", Result.PASS),
        ("v=spf1 ip6:2001:db8::2/127 -all", Result.FAIL),
        ("v=spf1 a//64 -all", Result.PASS),
    ],
)
def test_result_for_an_ipv6_client(record: str, result: Result) -> None:
    assert check(zone(record), CLIENT6).result.result is result


def test_ipv4_mapped_address_is_ipv4() -> None:
    assert check(zone("v=spf1 ip4:192.0.2.1 -all"), "::ffff:192.0.2.1").passed


def test_hosts_of_one_mx_without_ipv6_are_one_void_lookup() -> None:
    dns = zone("v=spf1 mx:four.test ip6:2001:db8::/32 -all")
    dns.add("four.test", "MX", *(f"{n} h{n}.four.test." for n in range(5)))
    for n in range(5):
        dns.add(f"h{n}.four.test", "A", CLIENT)
    assert check(dns, CLIENT6).passed


@pytest.mark.parametrize(("broken", "result"), [(5, Result.TEMPERROR), (30, Result.PASS)])
def test_hosts_of_an_mx_are_looked_at_in_order(broken: int, result: Result) -> None:
    dns = zone("v=spf1 mx -all")
    dns.add("d.test", "MX", f"{broken} down.test.")
    assert check(dns).result.result is result


def test_reverse_dns_that_fails_does_not_match() -> None:
    """RFC 7208 section 5.5: no error of the check; the macro is "unknown" then (section 7.3)."""
    dns = FakeResolver()
    dns.text("d.test", "v=spf1 ptr:d.test exists:%{p}.d.test -all")
    dns.fail("1.2.0.192.in-addr.arpa")
    assert check(dns).result.result is Result.FAIL
    assert ("unknown.d.test", "A") in dns.asked


def test_clients_own_zone_cannot_break_a_record() -> None:
    dns = FakeResolver()
    dns.text("d.test", "v=spf1 ptr:d.test -all")
    dns.add("1.2.0.192.in-addr.arpa", "PTR", "many.d.test.")
    dns.add("many.d.test", "A", *(f"10.0.{n // 250}.{n % 250}" for n in range(600)))
    assert check(dns).result.result is Result.FAIL


def test_two_records_are_an_error() -> None:
    dns = zone("v=spf1 -all")
    dns.text("d.test", "v=spf1 +all")
    assert check(dns).result.result is Result.PERMERROR


def test_other_texts_do_not_count() -> None:
    dns = zone("v=spf1 +all")
    dns.text("d.test", b"\xff\xfe", "google-site-verification=x", "")
    assert check(dns).passed


@pytest.mark.parametrize(
    "domain", ["", "localhost", "a..test", "a" * 64 + ".test", "[192.0.2.1]", "x y\0.test"]
)
def test_what_is_no_domain_has_no_result(domain: str) -> None:
    found = check(zone(), domain=domain)
    assert found.result.result is Result.NONE
    assert found.queries == 0


@pytest.mark.parametrize("client", ["unix", "", "1.2.3"])
def test_client_without_an_address(client: str) -> None:
    assert check(zone("v=spf1 -all"), client).result.result is Result.NONE


def test_explanation_is_expanded() -> None:
    found = check(zone("v=spf1 -all exp=why.test"))
    assert found.explanation == "192.0.2.1 may not send for d.test: see http://d.test/user"


@pytest.mark.parametrize("name", ["nowhere.test", "down.test", "utf.test", "%{x}.test"])
def test_fail_without_a_usable_explanation(name: str) -> None:
    found = check(zone(f"v=spf1 -all exp={name}"))
    assert found.explanation == ""
    assert found.result.result is (Result.PERMERROR if "%" in name else Result.FAIL)


def test_explanation_is_one_printable_line() -> None:
    dns = zone("v=spf1 -all exp=evil.test")
    dns.text("evil.test", "go\r\n250 away\0" + "x" * 450)
    text = check(dns).explanation
    assert text.startswith("go  250 away x")
    assert len(text) <= 400
    assert text.isprintable()


def test_explanation_is_asked_for_only_after_a_fail() -> None:
    dns = zone("v=spf1 ip4:192.0.2.1 -all exp=why.test")
    assert check(dns).passed
    assert ("why.test", "TXT") not in dns.asked


def test_null_sender_is_checked_by_helo() -> None:
    async def run() -> SpfResult:
        deadline = asyncio.get_running_loop().time() + 5
        return await check_sender(zone(), CLIENT, NULL, "good.test", deadline=deadline)

    found = asyncio.run(run())
    assert found.passed
    assert found.result.properties == {"smtp.mailfrom": "postmaster@good.test"}
    assert found.domain == "good.test"


def test_helo_is_an_identity_of_its_own() -> None:
    async def run() -> SpfResult:
        deadline = asyncio.get_running_loop().time() + 5
        return await check_helo(zone(), CLIENT, "Good.TEST.", deadline=deadline)

    found = asyncio.run(run())
    assert found.passed
    assert found.identity == "helo"
    assert found.result.properties == {"smtp.helo": "good.test"}


def test_quoted_at_sign_does_not_move_the_domain() -> None:
    dns = zone("v=spf1 -all")

    async def run() -> SpfResult:
        deadline = asyncio.get_running_loop().time() + 5
        sender = parse_address('"x@good.test"@d.test')
        return await check_sender(dns, CLIENT, sender, "helo.test", deadline=deadline)

    assert asyncio.run(run()).result.result is Result.FAIL


def test_local_part_beyond_ascii_matches_nothing() -> None:
    dns = zone("v=spf1 exists:%{l}.d.test -all")
    dns.add("xn--mller-kva.d.test", "A", "127.0.0.1")
    assert check(dns, local="müller").result.result is Result.FAIL
    assert ("xn--mller-kva.d.test", "A") not in dns.asked


def test_long_names_lose_labels_from_the_left() -> None:
    """RFC 7208 section 7.3: down to 253 characters."""
    dns = zone("v=spf1 exists:" + "%{l}." * 6 + "d.test -all")
    dns.add(f"{'x' * 60}." * 4 + "d.test", "A", "127.0.0.1")
    assert check(dns, local="x" * 60).passed


def test_time_is_over() -> None:
    dns = zone("v=spf1 a mx include:good.test -all")
    dns.delay = 0.02
    found = check(dns, seconds=0.03)
    assert found.result.result is Result.TEMPERROR


def test_hosts_of_an_mx_are_asked_together() -> None:
    dns = zone("v=spf1 mx:ten.test -all")
    dns.add("ten.test", "MX", *(f"{n} h{n}.ten.test." for n in range(10)))
    for n in range(10):
        dns.add(f"h{n}.ten.test", "A", "198.51.100.7")
    dns.delay = 1.0

    async def ask() -> tuple[SpfResult, float]:
        time = asyncio.get_running_loop().time
        began = time()
        found = await check_host(dns, CLIENT, "user", "d.test", "helo.test", deadline=began + 60)
        return found, time() - began

    found, seconds = virtual(ask())
    assert found.result.result is Result.FAIL
    assert found.queries == 12
    assert seconds < 4, "one after the other they take 12 s"


def test_lookup_bomb_stays_small() -> None:
    dns = zone("v=spf1 " + " ".join(f"include:b{n}.test" for n in range(9)) + " -all")
    for n in range(9):
        dns.text(f"b{n}.test", "v=spf1 " + " ".join(f"mx:m{n}-{k}.test" for k in range(9)) + " -all")
        for k in range(9):
            dns.add(f"m{n}-{k}.test", "MX", *(f"1 h{n}-{k}-{h}.test." for h in range(10)))
    found = check(dns)
    assert found.result.result is Result.PERMERROR
    assert found.queries <= 40


@pytest.mark.parametrize(
    "term",
    [
        "a:" + "a." * 4000 + "%",
        "exists:." + "a" * 8000 + "!",
        "a:" + "%{d}" * 2000,
        "exists:%{l}" * 700,
        "x" * 8000,
        "include:" + ".x-" * 2500,
    ],
)
def test_long_terms_take_no_time(term: str) -> None:
    dns = zone("v=spf1 " + term + " -all")
    assert processor_seconds(lambda: check(dns), 0.5) < 0.5


def test_large_record_of_legal_terms_takes_no_time() -> None:
    terms = " ".join(f"exists:.{'a' * 480}!{n}" for n in range(8))
    dns = zone("v=spf1 include:good2.test " + terms + " -all")
    assert processor_seconds(lambda: check(dns), 0.5) < 0.5


def test_number_of_questions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spf, "MAX_LOOKUP", 10_000)
    dns = zone("v=spf1 " + " ".join(f"a:h{n}.d.test" for n in range(200)) + " -all")
    for n in range(200):
        dns.add(f"h{n}.d.test", "A", "198.51.100.1")
    found = check(dns)
    assert found.result.result is Result.PERMERROR
    assert found.result.reason == "too many DNS lookups"
    assert found.queries == 150


PIECES = [
    "a",
    "mx",
    "ptr",
    "exists:",
    "include:",
    "ip4:",
    "redirect=",
    "exp=",
    "%{d}",
    "%{p}",
    "%",
    "{",
    "}",
    ":",
    "/",
    "//",
    "=",
    ".",
    "-",
    "+",
    "99",
    "é",
    "good.test",
    "down.test",
    "d.test",
    "192.0.2.1",
    "all",
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from([*PIECES, " ", "\0"]), max_size=25))
def test_no_record_breaks_the_check(parts: list[str]) -> None:
    found = check(zone("v=spf1 " + "".join(parts)))
    assert found.result.result in Result


def _suite_zone(data: dict[str, list[Any]]) -> FakeResolver:
    """The zone data of the suite, where type SPF stands for TXT unless TXT is there."""
    dns = FakeResolver()
    for name, entries in data.items():
        dns.add(name, "A")
        pairs = [pair for entry in entries if isinstance(entry, dict) for pair in entry.items()]
        texts = [value for kind, value in pairs if kind == "TXT"]
        if not texts:
            texts = [value for kind, value in pairs if kind == "SPF"]
        for value in texts:
            if value != "NONE":
                whole = "".join(value) if isinstance(value, list) else str(value)
                dns.text(name, whole.encode("latin-1"))
        for kind, value in pairs:
            if kind == "MX":
                dns.add(name, "MX", f"{value[0]} {value[1] or '.'}")
            elif kind not in ("TXT", "SPF"):
                dns.add(name, kind, value or ".")
        if "TIMEOUT" in entries:
            there = {kind for kind, value in pairs if value != "NONE"}
            for kind in TYPES:
                if kind not in there:
                    dns.fail(name, kind)
    return dns


def test_public_suite() -> None:
    """All cases of the RFC 7208 suite, explanations included."""
    if not SUITE.exists():
        pytest.skip(f"the public SPF suite is not at {SUITE.parent.name}/{SUITE.name} beside the project")
    yaml = importlib.import_module("yaml")
    wrong: list[str] = []
    cases = 0
    for document in yaml.safe_load_all(SUITE.read_text("utf-8")):
        dns = _suite_zone(document["zonedata"])
        for name, case in document["tests"].items():
            sender = case.get("mailfrom") or f"postmaster@{case['helo']}"
            local, at, domain = sender.partition("@")
            found = check(
                dns, str(case["host"]), domain if at else sender, local=local if at else "", helo=case["helo"]
            )
            results = case["result"] if isinstance(case["result"], list) else [case["result"]]
            explanation = case.get("explanation")
            if found.result.result not in results or (
                explanation is not None and found.explanation != explanation.replace("DEFAULT", "")
            ):
                wrong.append(f"{name}: {found.result}")
            cases += 1
    assert wrong == []
    assert cases == 203
