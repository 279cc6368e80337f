"""The change to a new certificate key, step by step, and its command."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
from typer.testing import CliRunner

from mta.cli_tls import _read, make_app
from mta.net.resolver.base import Answer, Status
from mta.net.resolver.fake import FakeResolver
from mta.startup.rollover import Seen, Step, decide, put_in_place
from mta.startup.tlsa import tlsa_value
from tests.peers.certificates import Authority, authority
from tests.unit.startup_kit import CONFIGURATION, HOST

NAME = f"_25._tcp.{HOST}"
NOW = 1_800_000_000.0
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def pair(tmp_path: Path) -> Authority:
    ca = authority(tmp_path)
    ca.issue("main", HOST)
    ca.issue("next", HOST)
    return ca


def der(folder: Path, name: str) -> bytes:
    end = "-----END CERTIFICATE-----"
    return ssl.PEM_cert_to_DER_cert((folder / f"{name}.pem").read_text().partition(end)[0] + end + "\n")


def answer(*values: str) -> Answer:
    dns = FakeResolver()
    dns.add(NAME, "TLSA", *values)

    async def ask() -> Answer:
        return await dns.query(NAME, "TLSA", asyncio.get_running_loop().time() + 5)

    return asyncio.run(ask())


def test_all_steps(tmp_path: Path, pair: Authority) -> None:
    old, new = der(tmp_path, "main"), der(tmp_path, "next")

    def step(found: Answer, seen: Seen | None, now: float) -> Step:
        return decide([old], [new], {NAME: found}, seen, now)

    first = step(answer(tlsa_value(old)), None, NOW)
    assert first.lines[1:] == (f"{NAME}. 3600 IN TLSA {tlsa_value(new)}",)
    assert not first.switch
    both = answer(tlsa_value(old), tlsa_value(new))
    second = step(both, None, NOW)
    assert second.seen == Seen(tlsa_value(new), NOW)
    assert second.lines[0].endswith("for 120 minutes more")
    third = step(both, second.seen, NOW + 7199)
    assert not third.switch
    assert third.seen == second.seen
    assert step(both, second.seen, NOW + 7200).switch
    gone = step(answer(tlsa_value(old)), second.seen, NOW + 7200)  # somebody took it away again
    assert not gone.switch
    assert gone.seen is None
    other = step(both, Seen("3 1 1 00", NOW - 99999), NOW)  # of another next certificate
    assert not other.switch
    silent = step(Answer(Status.FAIL, reason="SERVFAIL"), second.seen, NOW + 7200)
    assert (silent.switch, silent.problem, silent.seen) == (False, True, second.seen)
    assert silent.lines == (f"TLSA {NAME}: SERVFAIL; try again",)


def test_file_takes_the_place_of_another(tmp_path: Path) -> None:
    whole: list[tuple[str, str]] = []
    (tmp_path / "a").write_text("old")
    (tmp_path / "a").chmod(0o640)
    (tmp_path / "b").write_text("new")
    put_in_place(tmp_path / "b", tmp_path / "a")
    flush = os.fsync

    def noted(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            whole.append((os.readlink(f"/proc/self/fd/{descriptor}"), (tmp_path / "a").read_text()))
        flush(descriptor)

    with patch("os.fsync", noted):
        put_in_place(tmp_path / "b", tmp_path / "a")
    assert whole[0] == (str(tmp_path), "new")
    assert (tmp_path / "a").read_text() == "new"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.old", "b"]


def test_the_old_file_stays_as_it_was_when_the_new_one_cannot_be_written(tmp_path: Path) -> None:
    for name in ("a", "a.old", "b"):
        (tmp_path / name).write_text(name)
    with (
        patch("os.fsync", side_effect=OSError(28, "No space left on device")),
        pytest.raises(OSError, match="space"),
    ):
        put_in_place(tmp_path / "b", tmp_path / "a")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "a": "a",
        "a.old": "a.old",
        "b": "b",
    }


def test_command_says_what_keeps_it(tmp_path: Path, pair: Authority) -> None:
    text = CONFIGURATION.replace('resolvers = ["127.0.0.1"]', 'resolvers = ["127.0.0.1:9"]\ntimeout = "0.2s"')
    (tmp_path / "tamis.toml").write_text(text)
    (tmp_path / "state").mkdir()

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "mta.cli",
            "tls",
            "-c",
            str(tmp_path / "tamis.toml"),
            "rollover",
            *words,
        ]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    files = ("--next", str(tmp_path / "next.pem"), "--next-key", str(tmp_path / "next.key"))
    done = run(*files)
    assert done.returncode == 1
    assert done.stdout.startswith(f"TLSA {NAME}: ")
    assert run(*files, "--certificate", "other").returncode == 2
    done = run("--next", str(tmp_path / "next.pem"), "--next-key", str(tmp_path / "main.key"))
    assert done.returncode == 78
    assert "not the key of the certificate" in done.stderr


def test_what_is_remembered_goes_through_no_link(
    tmp_path: Path, pair: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state directory is the server's, and the command is root's."""
    (tmp_path / "tamis.toml").write_text(CONFIGURATION)
    (tmp_path / "state").mkdir()
    victim, memory = tmp_path / "victim", tmp_path / "state/rollover.json"
    victim.write_text("root's")
    memory.symlink_to(victim)
    seen = Seen("3 1 1 00", NOW)
    monkeypatch.setattr("mta.cli_tls.decide", lambda *facts: Step(("wait",), seen))

    async def nobody(*names: object) -> dict[str, Answer]:
        return {}

    monkeypatch.setattr("mta.cli_tls._ask", nobody)
    words = ["--next", str(tmp_path / "next.pem"), "--next-key", str(tmp_path / "next.key")]
    done = CliRunner().invoke(make_app(lambda: str(tmp_path / "tamis.toml")), words)
    assert done.exit_code == 1, done.output
    assert victim.read_text() == "root's"
    assert not memory.is_symlink()
    assert '"since":1800000000.0' in memory.read_text()


def test_a_damaged_memory_is_none(tmp_path: Path) -> None:
    (tmp_path / "rollover.json").write_bytes(b"{")
    assert _read(tmp_path / "rollover.json") is None
    assert _read(tmp_path / "gone.json") is None
