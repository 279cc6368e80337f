"""`tamis dns` against BIND: print, compare, publish by an update with a key, and begin a rollover."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mta.startup.tlsa import tlsa_value
from tests.peers.certificates import Authority, authority
from tests.peers.checkedsite import certificate
from tests.peers.named import Named, running_named
from tests.unit.startup_kit import CONFIGURATION

pytestmark = pytest.mark.scenario
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def named(tmp_path: Path) -> Iterator[Named]:
    place = tmp_path / "named"
    place.mkdir()
    text = '@ 300 IN TXT "something else"\n@ 300 IN TXT "v=spf1 -all"\nmx 300 IN A 127.0.0.1\n'
    with running_named(place, ["good.test"], text) as running:
        yield running


def tamis(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mta.cli", "dns", "-c", str(folder / "tamis.toml"), *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_records_are_printed_compared_and_published(tmp_path: Path, named: Named, ca: Authority) -> None:
    here = Authority(tmp_path, ca.ca)
    here.issue("main", "mx.good.test")
    text = CONFIGURATION.replace('resolvers = ["127.0.0.1"]', f'resolvers = ["127.0.0.1:{named.port}"]')
    (tmp_path / "tamis.toml").write_text(text)
    server = ("--update", f"127.0.0.1:{named.port}", "--key", str(named.key))

    printed = tamis(tmp_path)
    assert printed.returncode == 0, printed.stderr
    value = tlsa_value(certificate(tmp_path))
    lines = printed.stdout.splitlines()
    assert "mx.good.test. 3600 IN A 127.0.0.1" in lines
    assert f"_25._tcp.mx.good.test. 3600 IN TLSA {value}" in lines
    assert f"_465._tcp.mx.good.test. 3600 IN TLSA {value}" in lines
    assert 'good.test. 3600 IN TXT "v=spf1 mx -all"' in lines
    assert "_submissions._tcp.good.test. 3600 IN SRV 0 1 465 mx.good.test." in lines
    assert any(line.startswith("; mx.good.test. 3600 IN CAA") for line in lines)
    assert any(line.startswith("; SELECTOR._domainkey.good.test.") for line in lines)

    compared = tamis(tmp_path, "--compare", "--json")
    states = {(one["name"], one["type"]): one["state"] for one in json.loads(compared.stdout)}
    assert compared.returncode == 1
    assert states["good.test", "MX"] == "missing"
    assert states["mx.good.test", "A"] == "same"
    assert states["good.test", "TXT"] == "different"

    wrong = tmp_path / "wrong.key"
    wrong.write_text(named.key.read_text().replace('key "update"', 'key "other"'))
    refused = tamis(tmp_path, "--update", f"127.0.0.1:{named.port}", "--key", str(wrong))
    assert refused.returncode == 1
    assert named.ask("good.test", "MX") == []

    published = tamis(tmp_path, *server)
    assert published.returncode == 0, published.stderr
    assert "good.test: published MX good.test" in published.stdout
    assert named.ask("good.test", "MX") == ["10 mx.good.test."]
    assert named.ask("_25._tcp.mx.good.test", "TLSA") == [value]
    assert named.ask("good.test", "TXT") == ['"something else"', '"v=spf1 mx -all"']
    assert named.ask("_25._smtp.mx.good.test", "SVCB")[0].startswith('1 . key65280="1.2"')
    assert tamis(tmp_path, "--compare").returncode == 0
    assert tamis(tmp_path, *server).stdout == "nothing to do: all is published\n"

    here.issue("next", "mx.good.test")
    rolled = tamis(tmp_path, "--next", str(tmp_path / "next.pem"), *server)
    assert rolled.returncode == 0, rolled.stderr
    assert len(named.ask("_25._tcp.mx.good.test", "TLSA")) == 2
    back = tamis(tmp_path, *server)
    assert back.returncode == 0
    assert named.ask("_25._tcp.mx.good.test", "TLSA") == [value]


def test_silent_dns_changes_nothing(tmp_path: Path, ca: Authority) -> None:
    Authority(tmp_path, ca.ca).issue("main", "mx.good.test")
    text = CONFIGURATION.replace('resolvers = ["127.0.0.1"]', 'resolvers = ["127.0.0.1:9"]\ntimeout = "0.2s"')
    (tmp_path / "tamis.toml").write_text(text)
    (tmp_path / "key").write_text('key "update" { algorithm hmac-sha256; secret "c2VjcmV0"; };')
    done = tamis(tmp_path, "--update", "127.0.0.1:9", "--key", str(tmp_path / "key"))
    assert done.returncode == 2
    assert done.stderr.endswith("nothing is changed\n")
    assert tamis(tmp_path, "--update", "127.0.0.1:9").returncode == 2
    assert tamis(tmp_path, "--compare").returncode == 2
