"""Signing what leaves: through the daemon, with keys that are there, missing or unsafe."""

from __future__ import annotations

import os
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import dkim  # type: ignore[import-untyped]
import pytest
from msgspec.structs import replace

from mta.authn.dkim import verify
from mta.authn.dkimfolder import KeyFolder
from mta.authn.dkimrotate import KeyState
from mta.net.resolver.fake import FakeResolver
from sieve_ext.message import Message
from tests.dialog.backend import ScriptedStore
from tests.dialog.milters import at, puppet
from tests.dialog.policies import REQUIRE
from tests.dialog.queueing import QUEUED, eventually, flush, waiting
from tests.dialog.senders import Zone, authenticating, deliver, key_record, signed, stranger
from tests.dialog.server import Client, Server, run

MESSAGE = (
    b"From: Alice <alice@example.test>\r\n"
    b"Subject: hi\r\nDate: Sat, 28 Nov 2026 00:00:00 +0000\r\n\r\nhello\r\n"
)
TRUSTED = '"127.0.0.0/8"'
OUTSIDE = "x@elsewhere.test"


def make_keys(folder: Path, *domains: str) -> KeyFolder:
    """Active keys of both kinds."""
    keys = KeyFolder(folder / "dkim")
    for domain in domains:
        now = time.time()
        made = [
            entry
            for kind in ("rsa", "ed25519")
            for entry in keys.create(domain, [kind], selector=kind, bits=1024, now=now)
        ]
        keys.write(domain, [replace(entry, state=KeyState.ACTIVE) for entry in made])
    return keys


async def verified(octets: bytes, keys: KeyFolder) -> list[tuple[str, bool]]:
    """Domain and selector of each signature, and what is thought of it: of RSA by dkimpy too."""
    resolver = FakeResolver()
    records: dict[str, str] = {}
    for domain in keys.domains():
        for key in keys.signing_keys(domain):
            name = f"{key.selector}._domainkey.{domain}"
            records[name] = key_record(key)
            resolver.text(name, records[name])

    def ask(name: bytes, timeout: int = 5) -> bytes:
        return records[name.decode().rstrip(".")].encode()

    found = []
    for number, one in enumerate(await verify(Message(octets), resolver)):
        assert one.signature is not None
        if one.signature.key_type == "rsa":
            assert dkim.DKIM(octets).verify(number, dnsfunc=ask) == one.passed
        found.append((f"{one.domain} {one.signature.selector}", one.passed))
    return found


@asynccontextmanager
async def relaying(
    folder: Path, *, signing: str = 'keys = "dkim"', more: str = "", policy: str = "", trusted: str = TRUSTED,
    queue: str = "enabled = false", zone: Zone | None = None,
) -> AsyncIterator[tuple[Server, ScriptedStore]]:  # fmt: skip
    """A daemon that signs, and the relay behind it."""
    relay = ScriptedStore()
    await relay.start()
    settings = f"""
[signing]
{signing}
[relays.out]
host = "127.0.0.1"
port = {relay.port}
tls = "none"
failure_delay = "0.1s"
{more}
"""
    try:
        async with authenticating(
            folder,
            zone or Zone(),
            trusted=trusted,
            policy=f'relay = "out"\n{policy}',
            more=settings,
            queue=queue,
        ) as server:
            yield server, relay
    finally:
        await relay.stop()


async def user(server: Server) -> Client:
    client = await server.connect()
    await client.hello()
    return client


def test_mail_of_our_own_is_signed_by_both_keys(tmp_path: Path) -> None:
    keys = make_keys(tmp_path, "example.test")

    async def main() -> None:
        async with relaying(tmp_path) as (server, relay):
            client = await user(server)
            for to in (OUTSIDE, "b@example.test"):
                assert (await deliver(client, MESSAGE, sender="alice@example.test", to=to)).startswith("250")
            for store in (relay, server.store):
                (got,) = store.delivered
                assert got.octets.startswith(b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;")
                assert await verified(got.octets, keys) == [
                    ("example.test rsa", True),
                    ("example.test ed25519", True),
                ]
                names = re.search(rb"h=([^;]+);", got.octets)
                assert names is not None
                assert names[1].replace(b"\r\n\t", b"").split(b":").count(b"from") == 2
            assert server.daemon.snapshot()["signatures"] == {"dkim": 4}

    run(main)


def test_a_subdomain_uses_the_keys_above_it_and_a_stranger_those_of_the_sender(tmp_path: Path) -> None:
    keys = make_keys(tmp_path, "example.test", "list.test")

    async def main() -> None:
        async with relaying(tmp_path, signing='keys = "dkim"\ndomain = "list.test"') as (server, relay):
            client = await user(server)
            for author, sender in (
                (b"a@mail.example.test", "x@nowhere.test"),
                (b"a@nowhere.test", "x@list.test"),
                (b"a@nowhere.test", "x@nowhere.test"),
            ):
                message = MESSAGE.replace(b"alice@example.test", author)
                assert (await deliver(client, message, sender=sender, to=OUTSIDE)).startswith("250")
            assert [(await verified(one.octets, keys))[0] for one in relay.delivered] == [
                ("example.test rsa", True),
                ("list.test rsa", True),
                ("list.test rsa", True),
            ]

    run(main)


@pytest.mark.parametrize(
    ("client", "author", "is_signed"),
    [
        ("203.0.113.9", b"somebody@elsewhere.test", False),
        ("203.0.113.9", b"alice@example.test", False),
        ("127.0.0.1", b"alice@example.test", True),
        ("127.0.0.1", b"somebody@elsewhere.test", False),
    ],
)
def test_what_scripts_redirect_is_no_mail_of_our_own(
    tmp_path: Path, client: str, author: bytes, is_signed: bool
) -> None:
    """It comes from this machine, but a stranger may have written it: in our name, too."""
    make_keys(tmp_path, "example.test")
    head = (
        "X-Sieve-Redirected-From: bob@example.test\r\n"
        f"Received: from x ([{client}])\r\n by mx.test (Tamis) with ESMTP id a;\r\n now\r\n"
    )

    async def main() -> None:
        async with relaying(tmp_path) as (server, relay):
            store = await user(server)
            message = head.encode() + MESSAGE.replace(b"alice@example.test", author)
            assert (await deliver(store, message, sender="x@elsewhere.test", to=OUTSIDE)).startswith("250")
            assert (b"DKIM-Signature" in relay.delivered[0].octets) == is_signed

    run(main)


@pytest.mark.parametrize("required", [True, False])
def test_what_cannot_be_signed_is_not_sent(tmp_path: Path, required: bool) -> None:
    make_keys(tmp_path, "other.test")

    async def main() -> None:
        async with relaying(tmp_path, signing=f'keys = "dkim"\nrequired = {str(required).lower()}') as (
            server,
            relay,
        ):
            client = await user(server)
            reply = await deliver(client, MESSAGE, sender="alice@example.test", to=OUTSIDE)
            if required:
                assert reply.startswith("451 4.7.5 the message cannot be signed now")
                assert relay.delivered == []
            else:
                assert reply.startswith("250")
                assert b"DKIM-Signature" not in relay.delivered[0].octets
            # Nobody outside sees this one.
            assert (await deliver(client, MESSAGE, sender="alice@example.test")).startswith("250")

    run(main)


def test_a_key_that_others_can_read_signs_nothing(tmp_path: Path) -> None:
    keys = make_keys(tmp_path, "example.test")

    async def main() -> None:
        async with relaying(tmp_path) as (server, relay):
            client = await user(server)
            os.chmod(keys.key_path("example.test", "rsa"), 0o644)
            reply = await deliver(client, MESSAGE, sender="alice@example.test", to=OUTSIDE)
            assert reply.startswith("451 4.3.5 the message cannot be signed now")
            os.chmod(keys.key_path("example.test", "rsa"), 0o600)
            assert (await deliver(client, MESSAGE, sender="alice@example.test", to=OUTSIDE)).startswith("250")
            assert len(relay.delivered) == 1

    run(main)


def test_a_message_without_from_cannot_be_signed(tmp_path: Path) -> None:
    make_keys(tmp_path, "example.test")

    async def main() -> None:
        async with relaying(tmp_path) as (server, _):
            client = await user(server)
            reply = await deliver(client, b"Subject: x\r\n\r\nx\r\n", sender="a@example.test", to=OUTSIDE)
            assert reply.startswith("550 5.6.0 the message cannot be signed: there is no From to sign")

    run(main)


def test_a_queued_message_is_signed_once_and_sent_as_it_was_signed(tmp_path: Path) -> None:
    keys = make_keys(tmp_path, "example.test")

    async def main() -> None:
        async with relaying(tmp_path, queue="enabled = true") as (server, relay):
            relay.final_reply = lambda address: "451 4.3.0 later"
            client = await user(server)
            assert QUEUED.match(await deliver(client, MESSAGE, sender="a@example.test", to=OUTSIDE))
            (message,) = await waiting(server)
            assert message.header.count(b"DKIM-Signature:") == 2
            relay.final_reply = lambda address: "250 2.0.0 ok"
            await flush(server)
            await eventually(lambda: relay.delivered, "the second try")
            assert [good for _, good in await verified(relay.delivered[0].octets, keys)] == [True, True]

    run(main)


def test_a_large_message_is_signed_beside_the_loop(tmp_path: Path) -> None:
    keys = make_keys(tmp_path, "example.test")

    async def main() -> None:
        async with relaying(tmp_path) as (server, relay):
            client = await user(server)
            message = MESSAGE + (b"y" * 70 + b"\r\n") * 20_000
            assert (await deliver(client, message, sender="a@example.test", to=OUTSIDE)).startswith("250")
            assert [good for _, good in await verified(relay.delivered[0].octets, keys)] == [True, True]

    run(main)


def test_added_date_and_message_id_are_signed(tmp_path: Path) -> None:
    keys = make_keys(tmp_path, "example.test")
    submission = """
[[listener]]
name = "submission"
protocol = "submission"
tls = "none"
auth = "none"
addresses = ["127.0.0.1:2"]
"""

    async def main() -> None:
        async with relaying(tmp_path, more=submission) as (server, relay):
            client = await server.connect("submission")
            await client.hello()
            message = b"From: a@example.test\r\n\r\nx\r\n"
            assert (await deliver(client, message, sender="a@example.test", to=OUTSIDE)).startswith("250")
            (got,) = relay.delivered
            assert b"\r\nDate: " in got.octets
            assert [good for _, good in await verified(got.octets, keys)] == [True, True]
            without = re.sub(rb"\r\nDate: [^\r]*", b"", got.octets)
            assert [good for _, good in await verified(without, keys)] == [False, False]

    run(main)


def test_mail_that_is_passed_on_gets_a_seal_and_no_signature(tmp_path: Path) -> None:
    keys = make_keys(tmp_path, "example.test")
    script = REQUIRE + 'stage "route" { if envelope "to" "b@example.test" { route :to "relay:out"; } }'

    async def main() -> None:
        (tmp_path / "policy.sieve").write_text(script)
        async with relaying(tmp_path, policy='scripts = ["policy.sieve"]', trusted="") as (server, relay):
            client = await stranger(server)
            message = MESSAGE.replace(b"alice@example.test", b"alice@good.test")
            assert (await deliver(client, signed(message, now=time.time()))).startswith("250")
            assert (await deliver(client, message, to="c@example.test")).startswith("250")
            (got,) = relay.delivered
            found = Message(got.octets)
            assert found.count("dkim-signature") == 1  # the author's
            assert got.octets.startswith(b"ARC-Seal: a=rsa-sha256;")
            assert b"i=1; mx.test; iprev=pass" in b" ".join(got.octets.split())
            (key,) = (one for one in keys.signing_keys("example.test") if one.selector == "rsa")
            author = Zone().records["rsa._domainkey.good.test", "TXT"][0].replace('" "', "").strip('"')

            def ask(name: bytes, timeout: int = 5) -> bytes:
                return (author if b"good.test" in name else key_record(key)).encode()

            assert dkim.ARC(got.octets).verify(dnsfunc=ask)[0] == b"pass"
            assert b"ARC-Seal" not in server.store.delivered[0].octets

    run(main)


def test_mail_that_cannot_be_sealed_is_passed_on_without(tmp_path: Path) -> None:
    """It is not ours: whoever wrote it without From may not take it from those who get it here, either."""
    make_keys(tmp_path, "example.test")
    script = REQUIRE + 'stage "route" { if envelope "to" "b@example.test" { route :to "relay:out"; } }'

    async def main() -> None:
        (tmp_path / "policy.sieve").write_text(script)
        async with relaying(tmp_path, policy='scripts = ["policy.sieve"]', trusted="") as (server, relay):
            client = await stranger(server)
            assert (await deliver(client, b"Subject: no From\r\n\r\nhello\r\n")).startswith("250")
            (got,) = relay.delivered
            assert b"ARC-Seal" not in got.octets

    run(main)


def test_keys_from_a_table(tmp_path: Path) -> None:
    keys = make_keys(tmp_path, "example.test")
    (tmp_path / "keytable").write_text("# domain selector file\nexample.test rsa dkim/example.test/rsa.pem\n")

    async def main() -> None:
        async with relaying(tmp_path, signing='key_table = "keytable"') as (server, relay):
            client = await user(server)
            assert (await deliver(client, MESSAGE, sender="a@example.test", to=OUTSIDE)).startswith("250")
            assert await verified(relay.delivered[0].octets, keys) == [("example.test rsa", True)]

    run(main)


def test_our_own_reports_are_signed(tmp_path: Path) -> None:
    keys = make_keys(tmp_path, "mx.test", "example.test")

    async def main() -> None:
        async with relaying(tmp_path, queue="enabled = true") as (server, relay):
            relay.final_reply = lambda address: "451 4.3.0 later" if address == OUTSIDE else "250 2.0.0 ok"
            client = await user(server)
            assert QUEUED.match(await deliver(client, MESSAGE, sender="alice@example.test", to=OUTSIDE))
            relay.final_reply = lambda address: "550 5.1.1 no" if address == OUTSIDE else "250 2.0.0 ok"
            await flush(server)
            await eventually(lambda: server.store.delivered, "the report")
            (got,) = server.store.delivered
            assert got.sender == ""
            assert b"multipart/report" in got.octets
            assert await verified(got.octets, keys) == [("mx.test rsa", True), ("mx.test ed25519", True)]

    run(main)


def test_what_a_milter_puts_on_top_is_signed(tmp_path: Path) -> None:
    keys = make_keys(tmp_path, "example.test")
    top = at("eom", lambda ctx: ctx.insert_header(0, "Reply-To", "<desk@example.test>"))
    milter = '[milters.one]\naddress = "unix:one"\nlisteners = ["smtp"]\n'

    async def main() -> None:
        async with puppet(tmp_path, "one", top), relaying(tmp_path, more=milter) as (server, relay):
            client = await user(server)
            said = await deliver(client, MESSAGE, sender="alice@example.test", to=OUTSIDE)
            assert said.startswith("250")
            (got,) = relay.delivered
            assert got.octets.startswith(b"Reply-To: <desk@example.test>\r\n")
            assert await verified(got.octets, keys) == [
                ("example.test rsa", True),
                ("example.test ed25519", True),
            ]

    run(main)
