"""Words that ask: lookup, rate, greylist, reverse_dns, dns, dnsbl - what they decide, and what does not
load."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mta.address import parse_address
from mta.envelope import Envelope, Recipient
from mta.net.resolver.fake import FakeResolver
from mta.policy.ledgerfile import FileLedger
from mta.policy.sieve.asking import Services, finish
from mta.policy.sieve.decision import Decision, decide
from mta.policy.sieve.dnsnet import dns_services, parse_listing
from mta.policy.sieve.facts import Facts, Surroundings
from mta.policy.sieve.greylist import greylist_services
from mta.policy.sieve.policy import script_envelope
from mta.policy.sieve.program import load, settings_for
from mta.policy.sieve.rate import rate_services
from mta.policy.sieve.tables import Lists
from mta.tables.table import Found, TableUnavailable
from tests.unit.policy_tables import session

REQUIRE = (
    'require ["vnd.tamis.stage", "vnd.tamis.reply", "vnd.tamis.net", "vnd.tamis.rate", "vnd.tamis.greylist",'
    ' "vnd.tamis.tables", "envelope", "extlists", "variables", "relational", "comparator-i;ascii-numeric"];\n'
)


class Remote:
    """A table that answers later, or not."""

    async def get(self, key: str) -> Found:
        await asyncio.sleep(0)
        if key == "broken":
            raise TableUnavailable("away")
        return {"a@x.test": "gold", "empty": ""}.get(key)

    async def close(self) -> None:
        return


def dns() -> FakeResolver:
    made = FakeResolver()
    made.add("7.2.0.192.in-addr.arpa", "PTR", "client.x.test")
    made.add("client.x.test", "A", "192.0.2.7")
    made.add("7.2.0.192.bl.test", "A", "127.0.0.4")
    made.add("7.2.0.192.gone.test", "A", "203.0.113.1")
    made.add("7.2.0.192.good.test", "A", "127.0.0.2")
    made.add("7.2.0.192.closed.test", "A", "127.255.255.254")
    made.add("spam.test.names.test", "A", "127.0.1.2")
    made.add("x.test", "MX", "10 mx.x.test", "20 mx2.x.test")
    made.text("x.test", "v=spf1 -all")
    for name in ("7.2.0.192.slow.test", "broken.test"):
        made.fail(name)
    return made


async def run(services: Services, script: str, stage: str) -> Decision:
    made, found = load(
        [("/p/a.sieve", (REQUIRE + script).encode())], settings_for((), ("t",), has_queue=True)
    )
    assert made is not None, [str(one) for one in found]
    recipient = Recipient(parse_address("b@example.test"))
    envelope = Envelope(parse_address("a@x.test"), [])
    client = session()
    facts = Facts(stage, client, "mx.test", envelope, recipient if stage == "rcpt" else None)
    seen = script_envelope(client, envelope, facts.recipient)
    outcome = finish(made.run(stage, Surroundings(facts), seen, None), services, facts)
    return decide(await outcome if hasattr(outcome, "__await__") else outcome)


def told(test: str, stage: str = "mail") -> str:
    """The reply to a test that answers "yes" and the variable v."""

    async def main() -> str:
        services = {**Lists({"t": Remote()}).services, **dns_services(dns(), 0.5)}
        decision = await run(services, f'stage "{stage}" {{ if {test} {{ reply "yes ${{v}}"; }} }}', stage)
        return "" if decision.reply is None else f"{decision.reply.code} {decision.reply.text}".strip()

    return asyncio.run(main())


AWAY = "a service needed to check this is not available"


@pytest.mark.parametrize(
    ("test", "reply"),
    [
        ('lookup "table:t" "a@x.test"', "550 yes"),
        ('lookup :value "v" "table:t" " a@x.test "', "550 yes gold"),
        ('lookup :value "v" "table:t" "empty"', "550 yes"),
        ('lookup "table:t" "nobody"', ""),
        ('lookup "table:t" "broken"', f"451 {AWAY}, try again later"),
        ('lookup :on_error "ignore" "table:t" "broken"', ""),
        ('lookup :on_error "reject" "table:t" "broken"', f"554 {AWAY}"),
        ('lookup "table:${env.helo}" "a"', f"451 {AWAY}, try again later"),
        ('envelope :list "from" "table:t"', "550 yes"),
        ('envelope :localpart :list "from" "table:t"', ""),
        ('string :list "broken" "table:t"', f"451 {AWAY}, try again later"),
        ('string :list ["nobody", "empty"] "table:t"', "550 yes"),
        ('valid_ext_list "table:t"', "550 yes"),
        ('reverse_dns "client.x.test"', "550 yes"),
        ('reverse_dns :matches "*.test"', "550 yes"),
        ('not reverse_dns :contains "dialup"', "550 yes"),
        ('dns :type "MX" :contains "x.test" "mx2"', "550 yes"),
        ('dns :type "mx" :count "eq" :comparator "i;ascii-numeric" "x.test" "2"', "550 yes"),
        ('dns :type "TXT" :matches "x.test" "v=spf1*"', "550 yes"),
        ('dns "nothing.test" "x"', ""),
        ('dns "broken.test" "x"', f"451 {AWAY}, try again later"),
        ('dns :on_error "ignore" "broken.test" "x"', ""),
        ('dnsbl :value "v" "bl.test"', "550 yes bl.test"),
        ('dnsbl "bl.test=127.0.0.[2..3]"', ""),
        ('dnsbl "bl.test=127.0.0.2;127.0.0.[3,4]"', "550 yes"),
        ('dnsbl "gone.test"', ""),
        ('dnsbl "nothing.test"', ""),
        ('dnsbl :threshold 3 ["bl.test*2", "good.test*1"]', "550 yes"),
        ('dnsbl :threshold 2 ["bl.test*2", "good.test*-1"]', ""),
        ('dnsbl :domain "spam.test" "names.test"', "550 yes"),
        ('dnsbl :domain "" "names.test"', ""),
        ('dnsbl "slow.test"', f"451 {AWAY}, try again later"),
        ('dnsbl :on_error "ignore" "slow.test"', ""),
        ('dnsbl ["slow.test", "bl.test"]', "550 yes"),
        ('dnsbl :threshold 3 ["slow.test", "bl.test"]', ""),
        ('dnsbl ["bl.test", "slow.test*-1"]', f"451 {AWAY}, try again later"),
        ('dnsbl :on_error "ignore" ["bl.test", "slow.test*-1"]', ""),
        ('dnsbl ["bl.test*2", "slow.test*-1"]', "550 yes"),
        ('dnsbl "closed.test"', f"451 {AWAY}, try again later"),
        ('dnsbl "closed.test=127.0.0.[2..11]"', f"451 {AWAY}, try again later"),
        ('dnsbl :on_error "ignore" "closed.test"', ""),
        ('dnsbl "closed.test=127.255.255.254"', "550 yes"),
        ('dnsbl ["closed.test", "bl.test"]', "550 yes"),
    ],
)
def test_what_tests_decide(test: str, reply: str) -> None:
    assert told(test) == reply


def test_the_command_lookup_empties_the_variable() -> None:
    script = 'stage "mail" { set "v" "old"; lookup :value "v" "table:t" "nobody"; reply "v=${v}"; }'

    async def main() -> None:
        decision = await run(Lists({"t": Remote()}).services, script, "mail")
        assert decision.reply is not None
        assert decision.reply.text == "v="

    asyncio.run(main())


def test_rates_and_greylists_in_scripts(tmp_path: Path) -> None:
    now = [1000.0]

    async def main() -> None:
        ledger = FileLedger(str(tmp_path / "ledger"), lambda: now[0])
        services = {**rate_services(ledger, lambda: now[0]), **greylist_services(ledger, lambda: now[0])}
        rate = 'stage "mail" { if rate :limit 2 :per "1m" "n" "${env.remote_ip}" { reply "no"; } }'
        found = [await run(services, rate, "mail") for _ in range(3)]
        assert [one.reply is None for one in found] == [True, True, False]
        grey = 'stage "rcpt" { greylist :delay "1m" :clients 1; }'
        waits = await run(services, grey, "rcpt")
        assert str(waits.reply) == "451 4.7.1 greylisted, try again in 60 seconds"
        test = await run(services, 'stage "rcpt" { if greylist :delay "1m" { reply "wait"; } }', "rcpt")
        assert test.reply is not None
        now[0] += 61
        assert (await run(services, grey, "rcpt")).reply is None
        other = grey.replace("1m", "2d").replace(":delay", ':within "9d" :delay')
        assert (await run(services, other, "rcpt")).reply is None  # the network is known
        await ledger.close()
        broken = FileLedger(str(tmp_path / "no" / "ledger"), lambda: now[0])
        services = {**rate_services(broken, lambda: now[0]), **greylist_services(broken, lambda: now[0])}
        for script, stage in ((rate, "mail"), (grey, "rcpt")):
            decision = await run(services, script, stage)
            assert decision.reply is not None
            assert (decision.reply.code, decision.reply.text[:9]) == (451, "a service")
        assert (
            await run(services, grey.replace("greylist", 'greylist :on_error "ignore"'), "rcpt")
        ).reply is None
        await broken.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("block", "code"),
    [
        ('"mail" { if lookup "table:x" "k" { keep; } }', "unknown-table"),
        ('"mail" { if lookup "t" "k" { stop; } }', "bad-list"),
        ('"mail" { lookup "table:t" "k"; }', "missing-value"),
        ('"mail" { if lookup :on_error "maybe" "table:t" "k" { stop; } }', "bad-on-error"),
        ('"mail" { if rate "n" "k" { stop; } }', "bad-limit"),
        ('"mail" { if rate :limit 1 :cost 2 :per "1m" "n" "k" { stop; } }', "bad-limit"),
        ('"mail" { if rate :limit 1 :per "5" "n" "k" { stop; } }', "bad-period"),
        ('"mail" { if rate :limit 1 :per "1m" "${env.helo}" "k" { stop; } }', "bad-name"),
        ('"mail" { greylist; }', "wrong-stage"),
        ('"rcpt" { greylist :delay "3d"; }', "bad-period"),
        ('"rcpt" { greylist :prefix 2; }', "bad-prefix"),
        ('"mail" { if dns :type "SOA" "x" "y" { stop; } }', "bad-type"),
        ('"mail" { if dnsbl "x=1.2.3" { stop; } }', "bad-value"),
        ('"mail" { if dnsbl :threshold 0 "x" { stop; } }', "bad-limit"),
    ],
)
def test_what_does_not_load(block: str, code: str) -> None:
    source = f"{REQUIRE}stage {block}".encode()
    made, found = load([("/p", source)], settings_for((), ("t",), has_queue=True))
    assert made is None
    assert code in [one.diagnostic.code for one in found]


def test_without_a_resolver_it_does_not_load() -> None:
    source = f'{REQUIRE}stage "mail" {{ if dnsbl "x" {{ stop; }} }}'.encode()
    settings = settings_for((), has_queue=True, names={"tamis_dns": ("no",)})
    assert [one.diagnostic.code for one in load([("/p", source)], settings)[1]] == ["no-resolver"]


@pytest.mark.parametrize(
    "text", ["", "a..b", "x=127.0.0.256", "x=127.0.0.[5..2]", "x=127.0.0.a", "x*0", "x*9999", "x*y", "a b"]
)
def test_lists_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_listing(text)
