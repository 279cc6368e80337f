"""opendkim against the running daemon: it verifies what leaves, and what it signs passes on the way in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dialog.senders import RSA, Zone, authenticating, deliver, stranger
from tests.dialog.server import run
from tests.dialog.test_authn_inbound import PLAIN, words
from tests.dialog.test_authn_signing import MESSAGE, OUTSIDE, make_keys, relaying, user
from tests.peers.opendkim import Opendkim

pytestmark = pytest.mark.scenario


@pytest.mark.parametrize("lines", [1, 20_000])
def test_it_verifies_what_the_daemon_sends(tmp_path: Path, lines: int) -> None:
    opendkim = Opendkim(tmp_path)
    keys = make_keys(tmp_path, "example.test")

    async def main() -> None:
        async with relaying(tmp_path) as (server, relay):
            client = await user(server)
            message = MESSAGE + b"a line  with blanks \t\r\n" * lines + b"\r\n\r\n"
            assert (await deliver(client, message, sender="alice@example.test", to=OUTSIDE)).startswith("250")
            (got,) = relay.delivered
            found = opendkim.results(got.octets, *keys.signing_keys("example.test"))
            assert found == [("pass", "rsa"), ("pass", "ed25519")]
            changed = got.octets.replace(b"Subject: hi", b"Subject: ho")
            found = opendkim.results(changed, *keys.signing_keys("example.test"))
            assert [result for result, _ in found] == ["fail", "fail"]

    run(main)


@pytest.mark.parametrize("canonicalization", ["relaxed/relaxed", "simple/simple"])
def test_the_daemon_verifies_what_it_signs(tmp_path: Path, canonicalization: str) -> None:
    signature = Opendkim(tmp_path).signature(PLAIN, RSA, "rsa-sha256", canonicalization)

    async def main() -> None:
        async with authenticating(tmp_path, Zone()) as server:
            client = await stranger(server)
            assert (await deliver(client, signature + PLAIN)).startswith("250")
            assert "dkim=pass" in words(server.store.delivered[0].octets)
            assert (await deliver(client, signature + PLAIN + b"more\r\n")).startswith("250")
            assert "dkim=fail" in words(server.store.delivered[1].octets)

    run(main)
