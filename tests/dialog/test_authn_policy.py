"""What a policy makes of sender authentication: the base policy's DMARC, the words, stage sign."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mta.authn.arc import Chain
from mta.authn.arcseal import seal
from mta.authn.results import Result
from sieve_ext.message import Message
from tests.dialog.senders import RSA, Zone, authenticating, deliver, signed, stranger
from tests.dialog.server import run
from tests.dialog.test_authn_signing import MESSAGE, OUTSIDE, make_keys, relaying, user, verified

PLAIN = b"From: Alice <alice@%s>\r\nSubject: hi\r\n\r\nhello\r\n"
ELSEWHERE = "198.51.100.7"
REQUIRE = (
    'require ["vnd.tamis.stage", "vnd.tamis.auth", "vnd.tamis.sign", "vnd.tamis.reply",'
    ' "variables", "editheader"];\n'
)


def test_the_base_policy_honours_dmarc(tmp_path: Path) -> None:
    async def main() -> None:
        async with authenticating(tmp_path, Zone()) as server:
            client = await stranger(server, ELSEWHERE)
            reply = await deliver(client, PLAIN % b"good.test", sender="x@x.test")
            assert reply == "550 5.7.1 the DMARC policy of good.test refuses this message\r\n"
            assert (await deliver(client, PLAIN % b"careful.test", sender="x@x.test")).startswith("250")
            assert (await deliver(client, PLAIN % b"none.test", sender="x@x.test")).startswith("250")
            first, second = server.store.delivered
            assert b"\r\nX-Quarantine: dmarc careful.test\r\n" in first.octets
            assert b"X-Quarantine" not in second.octets

    run(main)


@pytest.mark.parametrize("silent", [True, False])
def test_a_dns_that_fails_is_answered_as_the_policy_says(tmp_path: Path, silent: bool) -> None:
    script = (
        'stage "data" { if dmarc "temperror" { reply :code 451 :enhanced "4.7.0" "cannot be checked now"; } }'
    )
    (tmp_path / "policy.sieve").write_text(REQUIRE + script)

    async def main() -> None:
        zone = Zone()
        async with authenticating(tmp_path, zone, policy='scripts = ["policy.sieve"]') as server:
            client = await stranger(server, ELSEWHERE)
            zone.silent = silent
            zone.broken.add("good.test")
            reply = await deliver(client, PLAIN % b"good.test")
            assert reply == "451 4.7.0 cannot be checked now\r\n"
            assert server.store.delivered == []
            zone.silent = False
            zone.broken.clear()

    run(main)


WORDS = """
stage "connect" { if iprev "temperror" { defer; } }
stage "mail" {
    if spf "fail" { reply :enhanced "5.7.23" "SPF: ${env.remote_ip}"; }
    if spf :helo "fail" { reply "HELO"; }
}
stage "data" {
    if dkim :domain "good.test" :selector "rsa" "pass" { addheader "X-Test" "signature"; }
    if dkim :aligned "pass" { addheader "X-Test" "aligned"; }
    if dkim :domain "*.good.test" "pass" { addheader "X-Test" "below"; }
    if dkim :domain "table:vip" "pass" { addheader "X-Test" "listed"; }
    if arc :trusted "sealer.test" :said "dmarc=pass" "pass" { addheader "X-Test" "sealed"; }
    if dmarc "pass" { addheader "X-Test" "${env.auth_dmarc} ${env.auth_dmarc_domain} ${env.auth_spf}"; }
}
"""


def marks(octets: bytes) -> list[str | None]:
    return [field.text for field in reversed(Message(octets).all("x-test"))]


def test_the_words(tmp_path: Path) -> None:
    (tmp_path / "policy.sieve").write_text(REQUIRE + WORDS)
    (tmp_path / "vip").write_text("good.test\n")
    zone = Zone()
    sealer = type(RSA)("sealer.test", "rsa", RSA.key)
    zone.publish(sealer)

    async def main() -> None:
        table = '[tables.vip]\nfile = "vip"'
        async with authenticating(tmp_path, zone, policy='scripts = ["policy.sieve"]', more=table) as server:
            bad = await stranger(server, ELSEWHERE)
            assert (await bad.say("MAIL FROM:<a@good.test>")) == f"550 5.7.23 SPF: {ELSEWHERE}\r\n"
            client = await stranger(server)
            now = time.time()
            message = signed(PLAIN % b"good.test", now=now)
            assert (await deliver(client, message)).startswith("250")
            payload = "sealer.test; dmarc=pass header.from=good.test"
            chain = seal(Message(message), Chain(Result.NONE), payload, sealer, now=now)
            assert (await deliver(client, chain + message)).startswith("250")
            first, second = server.store.delivered
            expected = ["signature", "aligned", "listed", "pass good.test pass"]
            assert marks(first.octets) == expected
            assert marks(second.octets) == [*expected[:3], "sealed", expected[3]]

    run(main)


def test_stage_sign_chooses_the_key(tmp_path: Path) -> None:
    keys = make_keys(tmp_path, "example.test", "other.test")
    script = """
stage "sign" {
    if header "subject" "skip" { dkim_skip; }
    elsif header "subject" "two" { dkim_sign :selector "rsa"; dkim_sign :domain "Other.test"; }
    elsif header "subject" "none" { dkim_sign :domain "third.test"; }
}
"""
    (tmp_path / "policy.sieve").write_text(REQUIRE + script)

    async def main() -> None:
        async with relaying(tmp_path, policy='scripts = ["policy.sieve"]') as (server, relay):
            client = await user(server)
            for subject in (b"hi", b"skip", b"two"):
                message = MESSAGE.replace(b"Subject: hi", b"Subject: " + subject)
                assert (await deliver(client, message, to=OUTSIDE)).startswith("250")
            message = MESSAGE.replace(b"Subject: hi", b"Subject: none")
            assert (await deliver(client, message, to=OUTSIDE)).startswith("451 4.7.5")
            usual, skipped, two = [await verified(one.octets, keys) for one in relay.delivered]
            assert usual == [("example.test rsa", True), ("example.test ed25519", True)]
            assert skipped == []
            assert two == [
                ("example.test rsa", True),
                ("other.test rsa", True),
                ("other.test ed25519", True),
            ]

    run(main)


def test_many_large_messages_whose_scripts_wait_for_signatures(tmp_path: Path) -> None:
    """Scripts that read bodies run in threads, and so does the check of signatures that they wait for."""
    script = """stage "data" {
        if not allof (body :contains "the end", dkim "pass") { reply "not as it should be"; }
    }"""
    (tmp_path / "policy.sieve").write_text(REQUIRE.replace("[", '["body", ') + script)
    body = b"".join(b"%06d line of a large message, nothing else\r\n" % number for number in range(7000))
    octets = signed(PLAIN % b"good.test" + body + b"the end\r\n", now=time.time())
    assert len(octets) > 256 * 1024

    async def main() -> None:
        with ThreadPoolExecutor(2) as pool:
            asyncio.get_running_loop().set_default_executor(pool)
            async with authenticating(tmp_path, Zone(), policy='scripts = ["policy.sieve"]') as server:
                clients = [await stranger(server) for _ in range(6)]
                async with asyncio.timeout(20):  # less than the time of a stage
                    replies = await asyncio.gather(*(deliver(client, octets) for client in clients))
                assert [one[:3] for one in replies] == ["250"] * 6, replies

    run(main)
