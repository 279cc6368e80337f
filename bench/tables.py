"""A table file of a million keys: how long it takes to make and to look up in, and what it costs in memory.

    python -m bench.tables

Beside it stands a dict of the same keys in memory, which is what a process would otherwise hold.
"""

from __future__ import annotations

import mmap
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.command import Options, run
from bench.figures import Figure
from mta.tables.text import TextTable

KEYS = 1_000_000
LOOKUPS = 200_000


def _key(number: int) -> str:
    return f"user{number * 7919 % 10**9}@domain{number % 997}.example"


def _resident() -> int:
    """Octets of this process that are its own."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("there is no RssAnon in /proc/self/status")


def _rate(get: object, keys: list[str]) -> float:
    assert callable(get)
    begun = time.perf_counter()
    for key in keys:
        get(key)
    return len(keys) / (time.perf_counter() - begun)


def measure(options: Options) -> list[Figure]:
    """Make a table, and look up in it and in a dict."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        source, index = f"{folder}/table", f"{folder}/index"
        with open(source, "w", encoding="utf-8") as file:
            file.writelines(f"{_key(number)} box{number % 10}.example\n" for number in range(KEYS))
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-m", "mta.tables.index", source, index], check=True)
        built = time.perf_counter() - begun
        table = TextTable(source, index, time.monotonic)
        random.seed(1)
        known = [_key(random.randrange(KEYS)) for _ in range(LOOKUPS)]
        unknown = [f"x{key}" for key in known]
        assert all(table.get(key) is not None for key in known[:1000])
        assert all(table.get(key) is None for key in unknown[:1000])
        before = _resident()
        found, absent = (max(_rate(table.get, keys) for _ in range(3)) for keys in (known, unknown))
        grown = max(_resident() - before, mmap.PAGESIZE)  # what cannot be seen is a page at most
        content = {_key(number): f"box{number % 10}.example" for number in range(KEYS)}
        held = _resident() - before - grown
        plain = max(_rate(lambda key: content.get(key.lower()), known) for _ in range(3))
    return [
        Figure("table_lookup", found, "lookups/s", peer=plain, rate=True),
        Figure("table_lookup_absent", absent, "lookups/s"),
        Figure("table_memory", grown / 1e6, "MB", peer=held / 1e6),
        Figure("table_build", built, "s"),
    ]


measure.peer = "a dict"  # type: ignore[attr-defined]

if __name__ == "__main__":
    run("tables", measure)
