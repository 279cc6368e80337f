"""Who sent it: mail from outside through the daemon, with a DNS that answers, fails, lies or keeps silent."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mta.authn.results import Result
from sieve_ext.message import Message
from tests.dialog.senders import CLIENT, ED25519, RSA, Zone, authenticating, deliver, signed, stranger
from tests.dialog.server import run, serving

PLAIN = (
    b"From: Alice <alice@good.test>\r\nSubject: hi\r\nDate: Sat, 28 Nov 2026 00:00:00 +0000\r\n\r\nhello\r\n"
)
OTHER = PLAIN.replace(b"good.test", b"other.test")
FORGED = (
    b"Authentication-Results: mx.test; dmarc=pass header.from=good.test\r\n"
    b"Authentication-Results: MX.TEST.; spf=pass\r\n"
    b"Authentication-Results: other.test; dkim=pass\r\n"
)


def results(octets: bytes) -> list[str]:
    """Our results in a delivered message, one a line, without what strangers wrote."""
    found = [
        " ".join(field.unfolded.decode().split())
        for field in Message(octets).all("authentication-results")
        if field.unfolded.strip().startswith(b"mx.test")
    ]
    assert len(found) == 1, found
    return [part.strip() for part in found[0].split(";")][1:]


def words(octets: bytes) -> list[str]:
    return [part.split(" ")[0] for part in results(octets)]


def test_a_message_that_passes_everything(tmp_path: Path) -> None:
    async def main() -> None:
        async with authenticating(tmp_path, Zone()) as server:
            client = await stranger(server)
            message = signed(PLAIN, RSA, ED25519, now=time.time())
            assert (await deliver(client, message)).startswith("250 2.0.0 kept")
            (got,) = server.store.delivered
            assert got.octets.startswith(b"Authentication-Results: mx.test;\r\n\tiprev=pass")
            assert b"\r\nReceived: from mx.good.test" in got.octets
            assert got.octets.endswith(message)
            assert words(got.octets) == [
                "iprev=pass",
                "spf=pass",
                "dkim=pass",
                "dkim=pass",
                "arc=none",
                "dmarc=pass",
            ]
            text = "; ".join(results(got.octets))
            for part in (
                f"policy.iprev={CLIENT}",
                "smtp.mailfrom=alice@good.test",
                "header.d=good.test",
                "header.s=ed",
                "header.from=good.test",
            ):
                assert part in text
            snapshot = server.daemon.snapshot()
            assert snapshot["authentication"]["dkim\tpass"] == 2
            assert snapshot["authentication"]["dmarc\tpass"] == 1

    run(main)


def test_forged_results_are_gone_for_everybody_and_others_stay(tmp_path: Path) -> None:
    async def main() -> None:
        async with authenticating(tmp_path, Zone()) as server:
            client = await stranger(server, "198.51.100.7")
            assert (await deliver(client, FORGED + OTHER)).startswith("250")
            (got,) = server.store.delivered
            assert words(got.octets) == ["iprev=permerror", "spf=fail", "dkim=none", "arc=none", "dmarc=none"]
            assert b"other.test; dkim=pass" in got.octets
            assert got.octets.endswith(FORGED.split(b"\r\n", 2)[2] + OTHER)

    run(main)


def test_forged_results_are_removed_without_a_resolver_and_from_users(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:
            client = await server.connect()
            await client.hello()
            assert (await deliver(client, FORGED + OTHER)).startswith("250")
            (got,) = server.store.delivered
            assert b"mx.test; dmarc" not in got.octets
            assert b"MX.TEST" not in got.octets
            assert b"other.test" in got.octets

    run(main)


def test_a_filter_may_bring_results_in_our_name(tmp_path: Path) -> None:
    async def main() -> None:
        believed = 'results_from = ["198.51.100.7/32"]'
        async with authenticating(tmp_path, Zone(), authentication=believed) as server:
            client = await stranger(server, "198.51.100.7")
            assert (await deliver(client, FORGED + OTHER)).startswith("250")
            (got,) = server.store.delivered
            assert got.octets.endswith(FORGED + OTHER)

    run(main)


@pytest.mark.parametrize("own", [True, False])
def test_mail_of_our_own_is_looked_at_only_when_that_is_wanted(tmp_path: Path, own: bool) -> None:
    async def main() -> None:
        wanted = f"own_mail = {str(own).lower()}"
        zone = Zone()
        async with authenticating(tmp_path, zone, trusted='"192.0.2.0/24"', authentication=wanted) as server:
            client = await stranger(server)
            assert (await deliver(client, PLAIN)).startswith("250")
            (got,) = server.store.delivered
            assert (b"Authentication-Results" in got.octets) == own

    run(main)


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        ("good.test", ["iprev=temperror", "spf=temperror", "dkim=temperror", "arc=none", "dmarc=temperror"]),
        ("_domainkey.good.test", ["iprev=pass", "spf=pass", "dkim=temperror", "arc=none", "dmarc=pass"]),
        ("_dmarc.good.test", ["iprev=pass", "spf=pass", "dkim=pass", "arc=none", "dmarc=temperror"]),
    ],
)
def test_a_dns_that_fails_is_a_temperror_and_no_refusal(
    tmp_path: Path, broken: str, expected: list[str]
) -> None:
    async def main() -> None:
        zone = Zone()
        zone.broken.add(broken)
        async with authenticating(tmp_path, zone) as server:
            client = await stranger(server)
            assert (await deliver(client, signed(PLAIN, now=time.time()))).startswith("250")
            assert words(server.store.delivered[0].octets) == expected

    run(main)


def test_a_dns_that_keeps_silent_costs_its_time_and_nothing_else(tmp_path: Path) -> None:
    async def main() -> None:
        zone = Zone()
        zone.silent = True
        async with authenticating(tmp_path, zone) as server:
            client = await stranger(server)
            assert (await deliver(client, signed(PLAIN, now=time.time()))).startswith("250")
            found = words(server.store.delivered[0].octets)
            assert set(found) - {"arc=none"} == {
                f"{method}={Result.TEMPERROR}" for method in ("iprev", "spf", "dkim", "dmarc")
            }

    run(main)


def test_what_is_switched_off_is_not_looked_at(tmp_path: Path) -> None:
    async def main() -> None:
        async with authenticating(
            tmp_path, Zone(), authentication='checks = ["spf"]\nreceived_spf = true'
        ) as server:
            client = await stranger(server)
            assert (await deliver(client, PLAIN)).startswith("250")
            (got,) = server.store.delivered
            assert words(got.octets) == ["spf=pass"]
            value = " ".join(Message(got.octets).all("received-spf")[0].unfolded.decode().split())
            assert value == (
                "pass (mx.test: 192.0.2.25 matches ip4:192.0.2.25) receiver=mx.test; client-ip=192.0.2.25; "
                'envelope-from="alice@good.test"; helo=mx.good.test; identity=mailfrom;'
            )

    run(main)


def test_each_is_asked_once_in_a_session(tmp_path: Path) -> None:
    async def main() -> None:
        zone = Zone()
        async with authenticating(tmp_path, zone, more="") as server:
            client = await stranger(server)
            for _ in range(3):
                assert (await deliver(client, signed(PLAIN, now=time.time()))).startswith("250")
            resolver = server.daemon._resolver
            assert resolver is not None
            assert resolver.counters["sent"] <= 8

    run(main)


def test_a_large_message_is_verified_beside_the_loop(tmp_path: Path) -> None:
    async def main() -> None:
        async with authenticating(tmp_path, Zone()) as server:
            client = await stranger(server)
            message = signed(PLAIN + (b"x" * 70 + b"\r\n") * 30_000, now=time.time())
            assert (await deliver(client, message)).startswith("250")
            (got,) = server.store.delivered
            assert "dkim=pass" in words(got.octets)
            assert got.octets.endswith(message)

    run(main)


def test_the_sign_of_a_domain_is_looked_for_when_that_is_wanted(tmp_path: Path) -> None:
    """BIMI: off by default; what strangers have written for mail programs is taken out."""
    zone = Zone()
    zone.add("default._bimi.good.test", "TXT", '"v=BIMI1; l=https://good.test/logo.svg"')
    forged = b"BIMI-Location: v=BIMI1; l=https://evil.test/\r\nBIMI-Indicator: PHN2Zz4=\r\n"

    async def main() -> None:
        checks = 'checks = ["spf", "dkim", "dmarc", "bimi"]'
        for authentication, there in ((checks, True), ("", False)):
            folder = tmp_path / str(there)
            folder.mkdir()
            async with authenticating(folder, zone, authentication=authentication) as server:
                client = await stranger(server)
                message = signed(PLAIN, RSA, now=time.time())
                assert (await deliver(client, forged + message)).startswith("250")
                got = server.store.delivered[0].octets
                assert ("bimi=pass" in words(got)) is there
                assert (b"BIMI-" not in got) is there
                assert b"policy.indicator-uri=" in got or not there

    run(main)
