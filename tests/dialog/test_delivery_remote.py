"""Delivery to any domain: hosts in order, 421 at every moment, sites, loops, routes, proxies."""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import Coroutine
from typing import Any

import pytest
import trustme
import uvloop

from mta.delivery import sites
from mta.delivery.lookup import Ourselves
from mta.delivery.outcome import NextHop
from mta.net.dial import BadAddresses, Dialer, Source
from mta.net.limits import Networks
from mta.net.pool import PoolLimits
from mta.net.resolver.base import Status
from mta.net.socks5 import Proxy
from mta.reply import Reply
from tests.dialog.world import send, short, world
from tests.peers.needs import needs_ipv6
from tests.peers.scripted import CLOSE, RESET, SILENCE, Script


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await main

    uvloop.run(bounded())


def smtp(offers: tuple[str, ...] = ("PIPELINING",), **answers: Any) -> Script:
    return Script(answers=answers, lmtp=False, offers=offers)


def test_the_preferred_host_gets_it_and_the_connection_is_used_again() -> None:
    async def main() -> None:
        async with world() as w:
            w.domain("d.test", "10 mx1.test", "20 mx2.test")
            first = await w.server("mx1.test", "127.0.2.1")
            second = await w.server("mx2.test", "127.0.2.2")
            to = w.transport()
            for _ in range(3):
                (outcome,) = await send(to, "a@d.test")
                assert short([outcome]) == ["250 2.0.0"]
                assert outcome.peer == f"mx1.test[127.0.2.1]:{w.port}"
                assert outcome.passage is not None
                assert (outcome.passage.site, outcome.passage.tls) == ("mx1.test>mx2.test", "clear")
                assert outcome.label == "mx"
            assert (first.connections, len(first.messages)) == (1, 3)
            assert second.connections == 0

    run(main())


def test_a_dead_first_host_is_remembered_for_all_domains_that_it_serves() -> None:
    async def main() -> None:
        async with world() as w:
            w.domain("d.test", "10 mx1.test", "20 mx2.test")
            w.domain("e.test", "10 mx1.test", "20 mx3.test")
            w.dead("mx1.test", "127.0.2.1")
            await w.server("mx2.test", "127.0.2.2")
            third = await w.server("mx3.test", "127.0.2.3")
            to = w.transport()
            assert short(await send(to, "a@d.test")) == ["250 2.0.0"]
            assert to.hosts.health("mx1.test", w.port).failures == 1
            assert short(await send(to, "a@e.test")) == ["250 2.0.0"]
            assert to.hosts.health("mx1.test", w.port).failures == 1  # was not tried again
            assert third.connections == 1

    run(main())


@pytest.mark.parametrize("stage", ["GREETING", "STARTTLS", "MAIL", "DATA"])
def test_a_host_that_says_it_is_congested_is_tried_last_afterwards(stage: str) -> None:
    """4.4.5 (RFC 3463, X.4.5) is our own word, too, for a pool that has no connection free: no failure."""

    async def main() -> None:
        async with world() as w:
            w.domain("d.test", "10 mx1.test", "20 mx2.test")
            offers = ("STARTTLS",) if stage == "STARTTLS" else ()
            congested = Script(answers={stage: "421 4.4.5 congested"}, lmtp=False, offers=offers)
            first = await w.server("mx1.test", "127.0.2.1", congested)
            await w.server("mx2.test", "127.0.2.2")
            to = w.transport()
            for _ in range(2):
                assert short(await send(to, "a@d.test")) == ["250 2.0.0"]
            assert to.hosts.health("mx1.test", w.port).failures == 1
            assert first.connections == 1

    run(main())


def test_no_host_answers() -> None:
    async def main() -> None:
        async with world() as w:
            w.domain("d.test", "10 mx1.test", "20 mx2.test")
            w.dead("mx1.test", "127.0.2.1")
            w.dead("mx2.test", "127.0.2.2")
            to = w.transport()
            for _ in range(4):
                (outcome,) = await send(to, "a@d.test")
                assert short([outcome]) == ["451 4.4.1"]
                assert outcome.reply.cause

    run(main())


MOMENTS = [
    {"GREETING": "421 4.3.2 no"},
    {"GREETING": "554 5.3.2 no"},
    {"GREETING": CLOSE},
    {"GREETING": RESET},
    {"EHLO": "421 4.3.2 no"},
    {"EHLO": CLOSE},
    {"MAIL": "421 4.3.2 no"},
    {"RCPT": "421 4.3.2 no"},
    {"RCPT": RESET},
    {"DATA": "421 4.3.2 no"},
    {"DATA": CLOSE},
]


@pytest.mark.parametrize("offers", [("PIPELINING",), (), ("PIPELINING", "CHUNKING")])
@pytest.mark.parametrize("answers", MOMENTS, ids=lambda a: " ".join(f"{k}:{v}" for k, v in a.items()))
def test_a_host_that_leaves_before_it_has_the_message_is_followed_by_the_next(
    answers: dict[str, str], offers: tuple[str, ...]
) -> None:
    async def main() -> None:
        async with world() as w:
            w.domain("d.test", "10 mx1.test", "20 mx2.test")
            await w.server("mx1.test", "127.0.2.1", smtp(offers, **answers))
            second = await w.server("mx2.test", "127.0.2.2", smtp(offers))
            to = w.transport()
            outcomes = await send(to, "a@d.test", "b@d.test")
            if "DATA" in answers and "CHUNKING" in offers:
                assert short(outcomes) == ["250 2.0.0"] * 2  # it is not asked
                return
            if answers.get("RCPT") == RESET and "CHUNKING" in offers:
                assert short(outcomes) == ["451 4.4.2 sent"] * 2  # the message had gone ahead
                return
            assert short(outcomes) == ["250 2.0.0"] * 2
            assert len(second.messages) == 1

    run(main())


@pytest.mark.parametrize("final", ["421 4.3.2 no", CLOSE, RESET])
def test_after_the_final_dot_no_other_host_is_tried(final: str) -> None:
    async def main() -> None:
        async with world() as w:
            w.domain("d.test", "10 mx1.test", "20 mx2.test")
            await w.server("mx1.test", "127.0.2.1", smtp(FINAL=final))
            second = await w.server("mx2.test", "127.0.2.2")
            (outcome,) = await send(w.transport(), "a@d.test")
            assert outcome.reply.is_temporary
            assert outcome.sent is (not final.startswith("421"))
            assert second.connections == 0

    run(main())


@pytest.mark.parametrize("reset", ["421 4.3.2 no", "500 what", "451 4.3.0 not now", CLOSE, RESET])
@pytest.mark.parametrize("offers", [("PIPELINING",), ("PIPELINING", "CHUNKING")])
def test_a_refused_rset_fails_no_message(reset: str, offers: tuple[str, ...]) -> None:
    async def main() -> None:
        async with world() as w:
            w.domain("d.test", "10 mx1.test")
            first = smtp(offers, RCPT=["550 5.1.1 nobody", "250 2.1.5 OK"], RSET=reset)
            server = await w.server("mx1.test", "127.0.2.1", first, smtp(offers))
            to = w.transport()
            assert short(await send(to, "a@d.test")) == ["550 5.1.1"]
            assert short(await send(to, "b@d.test")) == ["250 2.0.0"]
            assert len(server.messages) == 1

    run(main())


def test_a_connection_that_died_while_idle_is_replaced() -> None:
    async def main() -> None:
        async with world() as w:
            w.domain("d.test", "10 mx1.test")
            first = smtp(MAIL=["250 2.1.0 OK", "421 4.4.2 idle for too long"])
            server = await w.server("mx1.test", "127.0.2.1", first, smtp())
            to = w.transport()
            assert short(await send(to, "a@d.test")) == ["250 2.0.0"]
            assert short(await send(to, "a@d.test")) == ["250 2.0.0"]
            assert (server.connections, len(server.messages)) == (2, 2)
            assert to.hosts.health("mx1.test", w.port).failures == 0

    run(main())


def test_domains_with_one_mx_set_share_connections_and_their_limit() -> None:
    async def main() -> None:
        async with world() as w:
            for name in ("d.test", "e.test", "f.test"):
                w.domain(name, "10 mx1.test", "20 mx2.test")
            server = await w.server("mx1.test", "127.0.2.1")
            to = w.transport(pool=PoolLimits(max_connections=2))
            assert short(await send(to, "a@d.test")) == ["250 2.0.0"]
            assert short(await send(to, "a@e.test")) == ["250 2.0.0"]
            assert server.connections == 1
            sent = await asyncio.gather(*(send(to, f"{n}@{d}.test") for n in range(10) for d in "def"))
            assert all(short(outcomes) == ["250 2.0.0"] for outcomes in sent)
            assert server.most_open <= 2
            assert len(to.sites) == 1
            assert to.names("mx/d.test") == to.names("mx/f.test") == "mx/(mx1.test>mx2.test)"
            assert to.pools["mx"].size == 2

    run(main())


def test_sites_that_nobody_uses_go_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sites, "IDLE_SITES", 20)

    async def main() -> None:
        async with world() as w:
            to = w.transport(pool=PoolLimits(idle_time=0))
            await w.server("mx.test", "127.0.2.1")
            for number in range(60):
                w.dns.add(f"mx{number}.test", "A", "127.0.2.1")
                w.domain(f"d{number}.test", f"10 mx{number}.test")
                assert short(await send(to, f"a@d{number}.test")) == ["250 2.0.0"]
                for _ in range(200):
                    if not to.pools["mx"].size:
                        break
                    await asyncio.sleep(0.005)
            assert len(to.sites) <= 20
            assert to.pools["mx"].stats.opened == 60

    run(main())


def test_a_dead_ipv6_address_costs_a_moment_once() -> None:
    needs_ipv6()

    async def main() -> None:
        async with world() as w:
            w.domain("d.test", "10 mx1.test")
            w.dead("mx1.test", "::1")
            await w.server("mx1.test", "127.0.2.1")
            to = w.transport(pool=PoolLimits(idle_time=0))
            (outcome,) = await send(to, "a@d.test")
            assert outcome.peer == f"mx1.test[127.0.2.1]:{w.port}"
            assert to.bad.last(["::1", "127.0.2.1"], 0.0) == ["127.0.2.1", "::1"]

    run(main())


def test_the_next_address_is_tried_beside_one_that_does_not_answer() -> None:
    async def main() -> None:
        async with world() as w:
            w.domain("d.test", "10 mx1.test")
            w.silent("mx1.test", "127.0.2.9")
            await w.server("mx1.test", "127.0.2.1")
            to = w.transport()
            loop = asyncio.get_running_loop()
            begun = loop.time()
            (outcome,) = await send(to, "a@d.test")
            assert outcome.peer.endswith(f"[127.0.2.1]:{w.port}")
            assert loop.time() - begun < 1.9  # the timeout of one address is 2 s

    run(main())


def test_an_address_whose_server_sends_us_away_is_followed_by_the_next_address() -> None:
    async def main() -> None:
        async with world() as w:
            w.domain("d.test", "10 mx1.test")
            await w.server("mx1.test", "127.0.2.1", smtp(GREETING="421 4.7.0 too many"))
            await w.server("mx1.test", "127.0.2.2")
            (outcome,) = await send(w.transport(), "a@d.test")
            assert outcome.peer == f"mx1.test[127.0.2.2]:{w.port}"

    run(main())


DNS = [
    ("nothing.test", "550 5.1.2"),
    ("null.test", "556 5.1.10"),
    ("slow.test", "451 4.4.3"),
    ("forged.test", "451 4.7.5"),
    ("hostless.test", "550 5.4.4"),
    ("hostslow.test", "451 4.4.3"),
    ("local.test", "550 5.4.4"),
    ("us.test", "554 5.4.6"),
    ("usbyaddress.test", "554 5.4.6"),
]


@pytest.mark.parametrize("away", ["421 4.3.2 later", CLOSE, "refused", "probed"])
@pytest.mark.parametrize("backup", ["no address", "554 5.7.1 no service here"])
def test_a_useless_backup_does_not_make_a_moments_absence_permanent(away: str, backup: str) -> None:
    async def main() -> None:
        async with world() as w:
            w.domain("d.test", "10 mx1.test", "20 mx2.test")
            if away in ("refused", "probed"):
                w.dead("mx1.test", "127.0.2.1")
            else:
                await w.server("mx1.test", "127.0.2.1", smtp(MAIL=away))
            if backup == "no address":
                w.dns.add("mx2.test", "TXT", '"a name without address"')
            else:
                await w.server("mx2.test", "127.0.2.2", smtp(GREETING=backup))
            to = w.transport()
            if away == "probed":  # three failures, and another delivery is finding out whether it is back
                health = to.hosts.health("mx1.test", w.port)
                health.failures, health.retry_at, health.probing = 3, math.inf, True
                health.last = Reply(451, "4.4.1", "away")
                to.hosts.failed("mx1.test", w.port, health)
            for _ in range(2):
                (outcome,) = await send(to, "a@d.test")
                assert outcome.reply.is_temporary, outcome.reply

    run(main())


def test_a_domain_whose_hosts_all_have_no_address_is_refused() -> None:
    async def main() -> None:
        async with world() as w:
            w.domain("d.test", "10 mx1.test", "20 mx2.test")
            for name in ("mx1.test", "mx2.test"):
                w.dns.add(name, "TXT", '"a name without address"')
            assert short(await send(w.transport(), "a@d.test")) == ["550 5.4.4"]

    run(main())


@pytest.mark.parametrize(("domain", "expected"), DNS)
def test_what_the_dns_says_is_permanent_only_if_proven(domain: str, expected: str) -> None:
    async def main() -> None:
        async with world() as w:
            w.domain("null.test", "0 .")
            w.dns.fail("slow.test")
            w.dns.fail("forged.test", "MX", Status.BOGUS, "signature expired")
            w.domain("hostless.test", "10 no.test")
            w.dns.add("no.test", "TXT", '"x"')
            w.domain("hostslow.test", "10 slow.test")
            w.domain("local.test", "10 here.test")
            w.dns.add("here.test", "A", "127.0.0.1")
            w.domain("us.test", "10 mx.us.test")
            w.domain("usbyaddress.test", "10 other.test", "20 far.test")
            w.dns.add("other.test", "A", "127.0.3.3")
            ours = Ourselves(
                is_name={"mx.us.test"}.__contains__,
                is_address={"127.0.3.3"}.__contains__,
                is_refused={"127.0.0.1"}.__contains__,
            )
            (outcome,) = await send(w.transport(ours=ours), f"a@{domain}")
            assert short([outcome]) == [expected]

    run(main())


def test_a_host_that_is_an_address_with_a_zone_is_no_way_around_refused_networks() -> None:
    """The kernel connects to ::1 for "::1%1", which no list of networks knows."""
    needs_ipv6()

    async def main() -> None:
        async with world() as w:
            here = await w.server("here.test", "::1")
            w.domain("zone.test", "10 ::1%1.")
            w.domain("plain.test", "10 ::1.")
            ours = Ourselves(is_refused=Networks(["::1"]).contain_text)
            to = w.transport(ours=ours)
            assert short(await send(to, "a@plain.test", "a@zone.test")) == ["550 5.4.4", "550 5.4.4"]
            assert here.connections == 0

    run(main())


def test_a_backup_that_is_ourselves_does_not_send_to_itself() -> None:
    async def main() -> None:
        async with world() as w:
            w.domain("d.test", "10 dead.test", "20 mx.us.test", "30 late.test")
            w.dead("dead.test", "127.0.2.1")
            late = await w.server("late.test", "127.0.2.3")
            await w.server("mx.us.test", "127.0.3.3")
            to = w.transport(ours=Ourselves(is_address={"127.0.3.3"}.__contains__))
            assert short(await send(to, "a@d.test")) == ["451 4.4.1"]
            assert late.connections == 0

    run(main())


def test_address_literals() -> None:
    async def main() -> None:
        async with world() as w:
            server = await w.server("any.test", "127.0.2.1")
            assert short(await send(w.transport(), "a@[127.0.2.1]")) == ["250 2.0.0"]
            assert server.commands[2] == "RCPT TO:<a@[127.0.2.1]>"

    run(main())


def test_a_route_names_the_host_the_name_for_ehlo_and_a_fallback() -> None:
    async def main() -> None:
        async with world() as w:
            w.domain("d.test", "10 mx1.test")
            await w.server("mx1.test", "127.0.2.1")
            gateway = await w.server("gw.test", "127.0.2.9")
            to = w.transport()
            route = f"smtp:[gw.test]:{w.port};helo=out.test"
            assert short(await send(to, "a@d.test", route=route)) == ["250 2.0.0"]
            assert gateway.commands[0] == "EHLO out.test"
            w.domain("dead.test", "10 gone.test")
            w.dead("gone.test", "127.0.2.2")
            route = f"mx;fallback=smtp:[gw.test]:{w.port}"
            assert short(await send(to, "a@dead.test", route=route)) == ["250 2.0.0"]
            assert len(gateway.messages) == 2
            assert short(await send(to, "a@x.test", route="mx:d.test")) == ["250 2.0.0"]
            assert short(await send(to, "a@d.test", route="mx;source=gone")) == ["451 4.3.5"]

    run(main())


def test_a_host_that_is_not_secure_enough_for_one_domain_serves_the_others() -> None:
    async def main() -> None:
        async with world() as w:
            w.domain("strict.test", "10 mx1.test")
            w.domain("d.test", "10 mx1.test", "20 mx2.test")
            first = await w.server("mx1.test", "127.0.2.1")  # without STARTTLS
            second = await w.server("mx2.test", "127.0.2.2")
            to = w.transport()
            for _ in range(3):
                assert short(await send(to, "a@strict.test", route="mx;tls=encrypt")) == ["451 4.7.4"]
            assert short(await send(to, "a@d.test")) == ["250 2.0.0"]
            assert (len(first.messages), len(second.messages)) == (1, 0)

    run(main())


@pytest.mark.parametrize(
    ("tls", "answer"), [("", "250 2.0.0"), ("may", "250 2.0.0"), ("encrypt", "451 4.7.4")]
)
def test_the_least_protection_of_a_route_is_that_of_its_fallback(tls: str, answer: str) -> None:
    async def main() -> None:
        async with world() as w:
            w.domain("dead.test", "10 gone.test")
            w.dead("gone.test", "127.0.2.2")
            await w.server("gw.test", "127.0.2.9")  # without STARTTLS
            option = f";tls={tls}" if tls else ""
            route = f"mx{option};fallback=smtp:[gw.test]:{w.port}"
            assert short(await send(w.transport(), "a@dead.test", route=route)) == [answer]

    run(main())


def test_recipients_of_several_domains_of_a_site_use_one_connection() -> None:
    async def main() -> None:
        async with world() as w:
            w.domain("d.test", "10 mx1.test")
            w.domain("e.test", "10 mx1.test")
            server = await w.server("mx1.test", "127.0.2.1")
            outcomes = await send(w.transport(), "a@d.test", "b@e.test", "c@d.test")
            assert [o.recipient.address.text for o in outcomes] == ["a@d.test", "b@e.test", "c@d.test"]
            assert short(outcomes) == ["250 2.0.0"] * 3
            assert (server.connections, len(server.messages)) == (1, 2)

    run(main())


def test_mail_that_may_have_tls_does_not_go_over_a_connection_that_was_kept_from_it() -> None:
    """A route for one domain of the site says tls=none."""

    async def main() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("other.test").configure_cert(context)
        async with world() as w:
            w.domain("d.test", "10 mx1.test")
            w.domain("e.test", "10 mx1.test")
            await w.server("mx1.test", "127.0.2.1", Script(lmtp=False, offers=("STARTTLS",), tls=context))
            to = w.transport()
            ways = [("a@d.test", "mx;tls=none"), ("a@e.test", ""), ("a@d.test", "mx;tls=none")]
            how = []
            for address, route in ways:
                (outcome,) = await send(to, address, route=route)
                assert short([outcome]) == ["250 2.0.0"]
                assert outcome.passage is not None
                how.append(outcome.passage.tls)
            assert how == ["clear", "may", "may"], "whoever wants none takes what there is"

    run(main())


def test_opportunistic_tls_and_what_it_was() -> None:
    async def main() -> None:
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("other.test").configure_cert(context)
        async with world() as w:
            for number, offers in enumerate((("STARTTLS",), ()), 1):
                w.domain(f"d{number}.test", f"10 mx{number}.test")
                script = Script(lmtp=False, offers=offers, tls=context)
                await w.server(f"mx{number}.test", f"127.0.2.{number}", script)
            to = w.transport()
            for number, tls in ((1, "may"), (2, "clear")):
                (outcome,) = await send(to, f"a@d{number}.test")
                assert short([outcome]) == ["250 2.0.0"]
                assert outcome.passage is not None
                assert outcome.passage.tls == tls
            (outcome,) = await send(to, "a@d1.test", route="mx;tls=encrypt")
            assert outcome.passage is not None
            assert outcome.passage.tls == "encrypt"
            # A connection of level "may" is not used for it, and one without TLS is not made.
            assert w.servers["127.0.2.1"].connections == 2
            assert short(await send(to, "a@d2.test", route="mx;tls=encrypt")) == ["451 4.7.4"]

    run(main())


def test_the_site_of_a_next_hop_is_known_before_its_limits_count() -> None:
    async def main() -> None:
        async with world() as w:
            w.domain("d.test", "10 mx1.test")
            to = w.transport()
            deadline = asyncio.get_running_loop().time() + 5
            await to.prepare(NextHop("mx", "d.test"), deadline)
            await to.prepare(NextHop("mx", "d.test;tls=encrypt"), deadline)
            await to.prepare(NextHop("smtp", "[gw.test]:25"), deadline)
            await to.prepare(NextHop("mx", "none.test"), deadline)
            assert to.names("mx/d.test") == to.names("mx/d.test;tls=encrypt") == "mx/(mx1.test)"
            assert to.names("smtp/[gw.test]:25") == "mx/(gw.test)"
            assert to.names("mx/none.test") == "mx/none.test"

    run(main())


def test_a_silent_server_costs_its_timeout_and_the_next_host_gets_it() -> None:
    async def main() -> None:
        async with world() as w:
            w.domain("d.test", "10 mx1.test", "20 mx2.test")
            await w.server("mx1.test", "127.0.2.1", smtp(GREETING=SILENCE))
            await w.server("mx2.test", "127.0.2.2")
            assert short(await send(w.transport(), "a@d.test")) == ["250 2.0.0"]

    run(main())


# Sources and proxies.


def test_connections_come_from_the_source_that_a_route_names() -> None:
    async def main() -> None:
        async with world() as w:
            w.domain("d.test", "10 mx1.test")
            server = await w.server("mx1.test", "127.0.2.1")
            sources = {"bulk": Source(("127.0.5.5", "::2"))}
            to = w.transport(sources=sources, helos={"bulk": "bulk.us.test"})
            assert short(await send(to, "a@d.test", route="mx;source=bulk")) == ["250 2.0.0"]
            assert [writer.get_extra_info("peername")[0] for writer in server.writers] == ["127.0.5.5"]
            assert server.commands[0] == "EHLO bulk.us.test"
            assert short(await send(to, "a@d.test")) == ["250 2.0.0"]
            assert server.connections == 2

    run(main())


@pytest.mark.parametrize("name", ["a@[127.0.2.1]", "a@d.test"])
def test_nothing_leaves_by_a_family_of_which_the_source_has_no_address(name: str) -> None:
    async def main() -> None:
        async with world() as w:
            w.domain("d.test", "10 mx1.test")
            server = await w.server("mx1.test", "127.0.2.1")
            to = w.transport(source="out", sources={"out": Source(("::1",))})
            outcomes = await send(to, name)
            assert short(outcomes) == ["550 5.4.4"]
            assert server.connections == 0
            assert "IPv6 address" in outcomes[0].reply.cause or "to send from" in outcomes[0].reply.cause
            to = w.transport(source="out", sources={"out": Source(("127.0.5.5", "::1"))})
            assert short(await send(to, name)) == ["250 2.0.0"]

    run(main())


class SocksServer:
    """A SOCKS5 server that connects where it is told, if the password is right."""

    def __init__(self, *, password: str = "", refuse: int = 0) -> None:
        self.password, self.refuse = password, refuse
        self.asked: list[str] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            _, count = await reader.readexactly(2)
            methods = await reader.readexactly(count)
            if self.password:
                assert 2 in methods
                writer.write(b"\x05\x02")
                _, size = await reader.readexactly(2)
                user = await reader.readexactly(size)
                password = await reader.readexactly((await reader.readexactly(1))[0])
                good = (user, password.decode()) == (b"tamis", self.password)
                writer.write(b"\x01\x00" if good else b"\x01\x01")
            else:
                writer.write(b"\x05\x00")
            head = await reader.readexactly(4)
            assert head == b"\x05\x01\x00\x01"
            host = ".".join(map(str, await reader.readexactly(4)))
            port = int.from_bytes(await reader.readexactly(2), "big")
            self.asked.append(host)
            writer.write(
                bytes((5, self.refuse, 0, 3, 4)) + b"here\0\0"
                if self.refuse == 0
                else bytes((5, self.refuse, 0, 1, 0, 0, 0, 0, 0, 0))
            )
            if self.refuse:
                return
            far_reader, far_writer = await asyncio.open_connection(host, port)
            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the client is gone
        finally:
            writer.close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


@pytest.mark.parametrize(
    ("password", "given", "refuse", "expected"),
    [
        ("", "", 0, "250 2.0.0"),
        ("secret", "secret", 0, "250 2.0.0"),
        ("secret", "wrong", 0, "451 4.4.1"),
        ("secret", "token" * 60, 0, "451 4.4.1"),
        ("", "", 5, "451 4.4.1"),
    ],
)
def test_a_socks5_proxy(password: str, given: str, refuse: int, expected: str) -> None:
    async def main() -> None:
        socks = SocksServer(password=password, refuse=refuse)
        server = await asyncio.start_server(socks.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with world() as w:
            w.domain("d.test", "10 mx1.test")
            await w.server("mx1.test", "127.0.2.1")
            proxy = Proxy("127.0.0.1", port, "tamis" if given else "", given)
            to = w.transport(source="out", sources={"out": Source((), proxy)})
            (outcome,) = await send(to, "a@d.test")
            assert short([outcome]) == [expected]
            if given == password:
                assert socks.asked == ["127.0.2.1"]
            if expected[0] == "4":
                assert "SOCKS5 proxy" in outcome.reply.cause
        server.close()

    run(main())


def test_a_dialer_that_is_cancelled_leaves_nothing_open() -> None:
    async def main() -> None:
        dialer = Dialer(["192.0.2.1", "192.0.2.2"], 25, Source(), BadAddresses(), 30.0)
        task = asyncio.get_running_loop().create_task(dialer(asyncio.get_running_loop().time() + 30))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises((asyncio.CancelledError, OSError)):
            await task

    run(main())
