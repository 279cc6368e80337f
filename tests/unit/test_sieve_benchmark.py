"""What a Sieve script costs, by pytest-benchmark: `pytest tests/unit/test_sieve_benchmark.py` prints a table.

The bounds are those that the engine is built for, times `PATIENCE`: machines of tests are slow and shared,
and a cost that grows by itself - linear work turned quadratic, something compiled anew for each message - is
found all the same. `python -m bench sieve` measures beside Pigeonhole.
"""

from __future__ import annotations

from functools import partial

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.sieve import BODY, HEAD, RECIPIENT, SENDER, SIZE, message
from sieve_ext import Envelope, Message, compile, execute, standard_dialect

PATIENCE = 8
ENVELOPE = Envelope(sender=SENDER, recipient=RECIPIENT)

pytestmark = pytest.mark.benchmark(max_time=0.3, min_rounds=20, warmup=False)


def check(benchmark: BenchmarkFixture, seconds: float) -> None:
    """The best round is within what is asked, times `PATIENCE`."""
    if benchmark.enabled:
        assert benchmark.stats is not None
        assert benchmark.stats["min"] < seconds * PATIENCE


def test_a_script_of_twenty_lines_on_a_message_not_seen_before(benchmark: BenchmarkFixture) -> None:
    script, octets = compile(HEAD + BODY, standard_dialect()), message()
    result = benchmark(lambda: execute(script, Message(octets), ENVELOPE))
    assert [one.describe() for one in result.actions] == ["store into 'Junk'"]
    check(benchmark, 60e-6)


def test_the_same_on_a_message_that_is_indexed(benchmark: BenchmarkFixture) -> None:
    script, indexed = compile(HEAD + BODY, standard_dialect()), Message(message())
    result = benchmark(execute, script, indexed, ENVELOPE)
    assert [one.describe() for one in result.actions] == ["store into 'Junk'"]
    check(benchmark, 15e-6)


def test_compiling_five_kilobytes(benchmark: BenchmarkFixture) -> None:
    text = (HEAD + BODY * 20)[:SIZE].rpartition("#")[0]
    script = benchmark(partial(compile, text, standard_dialect()))
    assert not script.warnings
    check(benchmark, 6e-3)
