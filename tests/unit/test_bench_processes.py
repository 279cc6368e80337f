"""CPU and memory of a tree of real processes."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from bench.processes import (
    cpu_seconds,
    kilobytes,
    peak_resident_bytes,
    pss_bytes,
    reset_peak,
    resident_bytes,
    stat_fields,
    tree,
)

SPIN = 0.15
SPINNER = f"import time\nend = time.process_time() + {SPIN}\nwhile time.process_time() < end: pass"
PARENT = """
import subprocess, sys
for line in sys.stdin:
    match line.strip():
        case "spin": exec(sys.argv[1])
        case "spin in a child": subprocess.run([sys.executable, "-S", "-c", sys.argv[1]], check=True)
        case "child": child = subprocess.Popen(["sleep", "60"])
        case "end child": child.kill(); child.wait()
        case "grow": kept = bytearray(b"x" * 20_000_000)
        case "shrink": del kept
    print("done", flush=True)
"""


class Program:
    """A child that does what it is told."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-c", PARENT, SPINNER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.tell("nothing")

    def tell(self, what: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"


@pytest.fixture
def program() -> Iterator[Program]:
    running = Program()
    try:
        yield running
    finally:
        running.process.communicate()


@pytest.mark.parametrize("what", ["spin", "spin in a child"])
def test_cpu_of_a_process_and_of_ended_children(program: Program, what: str) -> None:
    before = cpu_seconds(program.process.pid)
    program.tell(what)
    used = cpu_seconds(program.process.pid) - before
    assert SPIN * 0.9 < used < SPIN + 2
    assert cpu_seconds(program.process.pid) - before < used + 0.02


def test_tree_has_all_descendants(program: Program) -> None:
    root = program.process.pid
    assert tree(root) == [root]
    program.tell("child")
    assert len(tree(root)) == 2
    assert root in tree(os.getpid())
    program.tell("end child")
    assert tree(root) == [root]


def test_memory_and_its_peak(program: Program) -> None:
    root = program.process.pid
    pss, resident = pss_bytes(root), resident_bytes(root)
    assert 1_000_000 < pss <= resident + 4096
    program.tell("grow")
    assert pss_bytes(root) - pss > 15_000_000
    program.tell("shrink")
    assert peak_resident_bytes(root) - resident > 15_000_000
    reset_peak(root)
    assert peak_resident_bytes(root) - resident < 10_000_000


def test_name_of_a_process_may_look_like_fields() -> None:
    assert stat_fields("12 (a ) R 1 (x)) S 34 56\n") == ["S", "34", "56"]


def test_field_is_found_by_its_whole_name() -> None:
    assert kilobytes("SwapPss:  7 kB\nPss:     12 kB\nPss_Dirty: 3 kB\n", "Pss:") == 12 * 1024
    assert kilobytes("", "Pss:") == 0
