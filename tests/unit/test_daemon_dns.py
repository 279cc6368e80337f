"""The resolver that a worker builds from `[dns]`; without one nothing is built, and dnspython not loaded."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mta.config import DnsServer, from_json, parse, to_json
from mta.daemon_dns import build_resolver
from mta.net.resolver import system
from mta.net.resolver.stub import Stub

FILE = "/etc/tamis/tamis.toml"


def build(text: str) -> Stub | None:
    settings = from_json(to_json(parse(text, FILE)))

    async def run() -> Stub | None:
        return build_resolver(settings)

    return asyncio.run(run())


def test_without_a_resolver_nothing_is_asked() -> None:
    assert build("") is None


@pytest.mark.parametrize(
    ("written", "server"),
    [
        ("127.0.0.1", DnsServer("127.0.0.1")),
        ("127.0.0.1:5353", DnsServer("127.0.0.1", 5353)),
        ("::1", DnsServer("::1")),
        ("[::1]", DnsServer("::1")),
        ("[::1]:5353", DnsServer("::1", 5353)),
        ("0:0:0:0:0:0:0:1", DnsServer("::1")),
        ("system", DnsServer("")),
        ("tls://192.0.2.1", DnsServer("192.0.2.1", 853, True)),
        ("tls://[2001:db8::1]:8853", DnsServer("2001:db8::1", 8853, True)),
    ],
)
def test_how_a_resolver_is_written(written: str, server: DnsServer) -> None:
    keys = f'tls_keys = ["{"A" * 43}="]'
    (found,) = parse(f'[dns]\nresolvers = ["{written}"]\n{keys}', FILE).dns.resolvers
    assert found == server
    assert parse(f'[dns]\nresolvers = ["{found}"]\n{keys}', FILE).dns.resolvers == (server,)


def test_the_resolvers_are_asked_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 192.0.2.53\n")
    monkeypatch.setattr(system, "RESOLV_CONF", str(path))
    stub = build('[dns]\nresolvers = ["127.0.0.1:5353", "system"]\ncache_entries = 7')
    assert stub is not None
    assert stub.servers == ("127.0.0.1:5353", "192.0.2.53:53")
    assert stub.cache.settings.entries == 7
