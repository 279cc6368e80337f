"""The benchmarks run, measure both servers, and end with figures."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.needs import needs

pytestmark = pytest.mark.scenario

ROOT = Path(__file__).parents[2]
FIGURE = re.compile(r"figure (\w+) ([0-9.]+) (\S+)(?: peer ([0-9.]+) ratio ([0-9.]+))?")


def run(folder: Path, *arguments: str) -> dict[str, re.Match[str]]:
    needs("postfix", root=True)
    done = subprocess.run(
        [sys.executable, "-m", "bench", *arguments, "--folder", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(folder.iterdir()), "folders are left"
    found = [FIGURE.fullmatch(line) for line in done.stdout.splitlines() if line.startswith("figure ")]
    assert all(found)
    return {match[1]: match for match in found if match}


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that the users of Postfix may enter; pytest's are for us alone."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as path:
        Path(path).chmod(0o755)
        yield Path(path)


def test_throughput_and_cpu(folder: Path) -> None:
    figures = run(folder, "throughput", "cpu", "--quick", "--seconds", "0.2")
    assert figures.keys() == {
        "throughput_4k_s20",
        "throughput_100k_s20",
        "cpu_4k",
        "cpu_100k",
        "cpu_growth",
    }
    for match in figures.values():
        assert float(match[2]) > 0
        assert float(match[4]) > 0
        assert float(match[5]) > 0


def test_memory_drops_no_session(folder: Path) -> None:
    figures = run(folder, "memory", "--quick")
    assert figures["memory_session"][3] == "bytes"
    assert float(figures["memory_session"][5]) > 1
    assert figures["memory_large_message"][4] is None


def test_latency_and_start(folder: Path) -> None:
    figures = run(folder, "latency", "start", "--quick", "--seconds", "0.2")
    assert {"latency_4k_p50", "latency_4k_p99", "start_time"} <= figures.keys()
    assert float(figures["latency_4k_p50"][2]) <= float(figures["latency_4k_p99"][2])
    assert figures["start_time"][3] == "s"


def test_authn(folder: Path) -> None:
    """Shows on the way that the peer's programs and ours think the same of four messages."""
    needs("nsd", "unbound", "opendkim", "opendmarc", "postfix-policyd-spf-python")
    figures = run(folder, "authn", "--quick", "--seconds", "0.2")
    assert figures.keys() == {"authn_throughput", "authn_beside_unchecked"}
    assert all(float(match[4]) > 0 for match in figures.values())
