"""Log lines: what they look like, when they are written, what happens when they cannot be."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pty
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import Mock

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from mta import log
from mta.log import sink as sinks
from mta.log.render import TimeStamp, as_json, as_text
from mta.log.sink import BACKLOG, DELAY, Sink, Target, open_target


@dataclass
class Settings:
    format: str = "json"
    level: str = "info"
    target: str = "stderr"


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "log"
    log.configure(Settings(target=str(path)))
    yield path
    log.configure(Settings(format="text", target="stderr"))


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# --- what a line looks like


def test_a_json_line(file: Path) -> None:
    log.get("smtp").info("message", session="4fTx", recipients=["a@b"], size=3, seconds=0.25, user=None)
    (line,) = lines(file)
    stamp = line.pop("time")
    assert isinstance(stamp, str)
    assert len(stamp) == len("2026-11-22T10:21:46.123Z")
    assert stamp[10] == "T"
    assert stamp[-5] == "."
    assert stamp[-1] == "Z"
    assert list(line) == ["level", "logger", "event", "session", "recipients", "size", "seconds", "user"]
    assert line["recipients"] == ["a@b"]


TEXTS: list[tuple[dict[str, object], str]] = [
    ({}, ""),
    ({"a": "b", "n": 1}, "  a=b n=1"),
    ({"a": "b c", "q": 'say "x"', "e": "", "eq": "a=b"}, '  a="b c" q="say \\"x\\"" e="" eq="a=b"'),
    ({"a": "x\ny", "b": "\x1b[31m", "u": "\u202e", "nul": "\0"},
     '  a="x\\ny" b="\\u001b[31m" u="\\u202e" nul="\\u0000"'),
    ({"a": None, "t": True, "f": False, "x": 0.123456789}, "  a=- t=yes f=no x=0.123457"),
    ({"l": ["a@b", "c d", "e,f"], "t": (1, 2.5), "s": set()}, '  l=[a@b, "c d", "e,f"] t=[1, 2.5] s=[]'),
    ({"m": {"a b": [1], "c": "}"}}, '  m={"a b"=[1], c="}"}'),
    ({"p": Path("/x"), "b": b"\xff"}, "  p=/x b=b'\\xff'"),
    ({"a": "jörg@bücher.example"}, "  a=jörg@bücher.example"),
    ({"a": "\ud800"}, '  a="\\ud800"'),
    ({"a": "x\ny", "b": "plain", "c": "d e"}, '  a="x\\ny" b=plain c="d e"'),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "text"), TEXTS)
def test_text_lines(fields: dict[str, object], text: str) -> None:
    line = as_text("2026-11-22T10:21:46.123Z", "info", "smtp", {"event": "it happened", **fields})
    assert line.decode() == f"2026-11-22T10:21:46.123Z info    smtp: it happened{text}\n"


def test_text_with_colours_says_the_same() -> None:
    line = as_text("T", "error", "smtp", {"event": "e", "a": "b c", "x": "\x1b"}, colour=True).decode()
    for code in ("\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m"):
        line = line.replace(code, "")
    assert line == 'T error   smtp: e  a="b c" x="\\u001b"\n'


def test_json_holds_nothing_that_moves_a_terminal_or_ends_a_line_for_some() -> None:
    fields = {"id": "<\u202e\x9b31m@x>", "to": ["j\u00f6rg\u2028\U000e0001"], "\x85": "\U0001f600"}
    line = as_json("T", "info", "n", {"event": "e", **fields})
    assert json.loads(line) == {"time": "T", "level": "info", "logger": "n", "event": "e", **fields}
    text = line.decode()
    assert len(text.splitlines()) == 1
    assert text[:-1].isprintable()
    assert "j\u00f6rg" in text
    assert "\U0001f600" in text


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no")


anything = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.builds(Hostile)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(), inner, max_size=3),
        st.frozensets(st.text(), max_size=2),
        st.tuples(inner),
    ),
    max_leaves=5,
)


@given(st.dictionaries(st.text("abc_", min_size=1), anything, max_size=4), st.text())
def test_any_fields_make_one_line(fields: dict[str, object], event: str) -> None:
    for write in (as_json, as_text):
        line = write("T", "info", "n", {**fields, "event": event})
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
    assert isinstance(json.loads(as_json("T", "info", "n", {**fields, "event": event})), dict)


@given(st.dictionaries(st.text("abc_", min_size=1), anything, max_size=4))
def test_the_quick_way_to_text_writes_the_same(fields: dict[str, object]) -> None:
    """With colours each value is looked at by itself."""
    slow = as_text("T", "info", "n", {"event": "e", **fields}, colour=True).decode()
    for code in ("\x1b[0m", "\x1b[1m", "\x1b[2m"):
        slow = slow.replace(code, "")
    assert as_text("T", "info", "n", {"event": "e", **fields}).decode() == slow


def test_a_traceback_is_a_field_or_stands_under_the_line(file: Path) -> None:
    try:
        raise ValueError("bad\x1b thing")
    except ValueError as error:
        log.get("x").exception("failed", a=1)
        text = as_text("T", "error", "x", {"event": "failed", "exc_info": error}).decode()
    (line,) = lines(file)
    assert line["level"] == "error"
    assert "ValueError: bad" in str(line["exception"])
    assert text.startswith("T error   x: failed\n    Traceback")
    assert text.endswith("\n    ValueError: bad\\x1b thing\n")
    assert as_json("T", "error", "x", {"event": "e", "exc_info": None}).endswith(b'"event":"e"}\n')


@pytest.mark.parametrize(
    ("now", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1.9999, "1970-01-01T00:00:01.999Z"),
        (1.8e9, "2027-01-15T08:00:00.000Z"),
    ],
)
def test_time_stamps(now: float, text: str) -> None:
    stamp = TimeStamp()
    assert stamp(now) == text
    assert stamp(now) == text


# --- loggers


def test_levels(file: Path) -> None:
    logger = log.get("x")
    logger.debug("one")
    log.set_level("debug")
    logger.debug("two")
    log.set_level("error")
    logger.info("three")
    logger.warning("four")
    logger.error("five")
    logger.critical("six")
    log.flush()
    assert [line["event"] for line in lines(file)] == ["two", "five", "six"]
    with pytest.raises(ValueError, match="verbose"):
        log.set_level("verbose")


def test_bound_fields_and_loggers_by_structlog(file: Path) -> None:
    log.get("x").bind(session="s").info("a", n=1)
    structlog.get_logger("store").warning("b")
    log.flush()
    first, second = lines(file)
    assert (first["session"], first["n"]) == ("s", 1)
    assert second["logger"] == "store"


def test_lines_can_be_captured_in_tests(file: Path) -> None:
    logger = log.get("x")
    with structlog.testing.capture_logs() as captured:
        logger.info("seen", a=1)
    logger.info("written")
    log.flush()
    assert captured == [{"a": 1, "event": "seen", "log_level": "info"}]
    assert [line["event"] for line in lines(file)] == ["written"]


def test_the_standard_logging_comes_here_from_warnings_up(file: Path) -> None:
    logging.getLogger("mail.log").info("not this")
    logging.getLogger("mail.log").warning("%s is odd", "this")
    (line,) = lines(file)
    assert (line["logger"], line["level"], line["event"]) == ("mail.log", "warning", "this is odd")


def test_a_line_of_twelve_fields_is_cheap(file: Path) -> None:
    fields: dict[str, object] = {f"field_{number}": f"value.{number}@example.org" for number in range(10)}
    fields |= {"size": 4096, "seconds": 0.0123}
    logger = log.get("smtp")

    async def measure() -> float:
        best = float("inf")
        for _ in range(30):
            begin = time.perf_counter()
            for _ in range(100):
                logger.info("message", **fields)
            best = min(best, (time.perf_counter() - begin) / 100)
            await asyncio.sleep(0)
        return best

    # 5 (JSON) and 10 (text) microseconds on an idle core; the bound leaves room for a slow and busy machine.
    for style in ("json", "text"):
        log.configure(Settings(format=style, target=str(file)))
        assert asyncio.run(measure()) < 100e-6
    log.flush()
    assert len(file.read_bytes().splitlines()) == 2 * 30 * 100


# --- when lines are written


def counted(target: Target, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    writes: list[int] = []
    original = Target.write

    def write(self: Target, octets: bytes) -> int:
        writes.append(len(octets))
        return original(self, octets)

    monkeypatch.setattr(Target, "write", write)
    return writes


def make_sink(path: Path) -> Sink:
    return Sink(open_target(str(path)), lambda count: b"%d lines dropped\n" % count)


def test_lines_of_a_moment_are_written_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = make_sink(tmp_path / "log")
    writes = counted(sink.target, monkeypatch)

    async def run() -> None:
        for number in range(20):
            sink.put(b"%d\n" % number, False)
            await asyncio.sleep(0)
        assert writes == []
        await asyncio.sleep(DELAY * 1.5)
        assert len(writes) == 1
        sink.put(b"a\n", False)
        sink.put(b"urgent\n", True)
        assert len(writes) == 2

    asyncio.run(run())
    assert (tmp_path / "log").read_bytes().endswith(b"19\na\nurgent\n")
    sink.target.close()


def test_a_line_is_made_when_it_is_written_and_keeps_its_place_and_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "_sink", make_sink(tmp_path / "log"))
    monkeypatch.setattr("mta.log.time.time", Mock(side_effect=[1.25, 2.5, 3.0]))
    render = Mock(wraps=as_text)
    monkeypatch.setattr("mta.log.as_text", render)

    async def run() -> None:
        log.get("x").info("first", number=1)
        log.get("x").info("second", number=2)
        assert not render.called
        log.get("x").warning("third", number=3)

    asyncio.run(run())
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines == [
        "1970-01-01T00:00:01.250Z info    x: first  number=1",
        "1970-01-01T00:00:02.500Z info    x: second  number=2",
        "1970-01-01T00:00:03.000Z warning x: third  number=3",
    ]
    log._sink.target.close()


def test_without_a_loop_a_line_is_written_at_once(tmp_path: Path) -> None:
    sink = make_sink(tmp_path / "log")
    sink.put(b"a\n", False)
    assert (tmp_path / "log").read_bytes() == b"a\n"

    async def leave_one() -> None:
        sink.put(b"b\n", False)

    asyncio.run(leave_one())  # the loop ends before the line is due
    asyncio.run(leave_one())
    sink.flush()
    assert (tmp_path / "log").read_bytes() == b"a\nb\nb\n"
    sink.target.close()


def test_what_waits_is_written_when_the_process_ends(tmp_path: Path) -> None:
    program = (
        "import asyncio\nfrom mta import log\n"
        "async def main():\n    log.get('x').info('last words')\n"
        "asyncio.run(main())\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert b"x: last words\n" in ended.stderr


def test_who_logs_while_lines_are_written_waits_for_nobody(tmp_path: Path) -> None:
    """The garbage collector may run while a line is made, and what it finds is told at once."""
    sink = make_sink(tmp_path / "log")

    def found_garbage() -> bytes:
        sink.put(b"never retrieved\n", True)
        sink.flush()
        return b"a\n"

    async def run() -> None:
        sink.put(found_garbage, False)
        sink.put(b"b\n", False)
        await asyncio.sleep(DELAY * 1.5)

    asyncio.run(run())
    assert (tmp_path / "log").read_bytes() == b"a\nb\nnever retrieved\n"
    sink.target.close()


def test_what_is_said_during_the_last_write_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = make_sink(tmp_path / "log")
    original = Target.write

    def write(self: Target, octets: bytes) -> int:
        if octets == b"a\n":
            sink.put(b"b\n", True)
        return original(self, octets)

    monkeypatch.setattr(Target, "write", write)
    sink.put(b"a\n", True)
    assert (tmp_path / "log").read_bytes() == b"a\nb\n"
    sink.target.close()


def test_a_line_that_cannot_be_made_takes_no_others_along(tmp_path: Path) -> None:
    sink = make_sink(tmp_path / "log")

    def broken() -> bytes:
        raise MemoryError

    async def run() -> None:
        sink.put(b"a\n", False)
        sink.put(broken, False)
        sink.put(b"b\n", False)
        await asyncio.sleep(DELAY * 1.5)

    asyncio.run(run())
    assert sink.dropped == 1
    assert (tmp_path / "log").read_bytes() == b"1 lines dropped\na\nb\n"
    sink.target.close()


KNOT: list[object] = []
KNOT.append(KNOT)


@pytest.mark.parametrize(
    ("format", "field"),
    [("text", KNOT), ("text", 10**5000), ("json", 10**5000)],
    ids=["text-knot", "text-number", "json-number"],
)
def test_a_field_that_nobody_can_write_costs_the_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, field: object
) -> None:
    monkeypatch.setattr(log, "_sink", make_sink(tmp_path / "log"))
    monkeypatch.setattr(log, "_json", format == "json")
    log.get("x").warning("it happened", field=field)
    text = (tmp_path / "log").read_text()
    assert "it happened" in text
    assert "fields_lost" in text
    assert text.count("\n") == 1
    log._sink.target.close()


# --- when lines cannot be written


def test_a_pipe_that_is_full_does_not_block_and_loses_nothing() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.set_blocking(reader, False)
    sink = Sink(Target(writer, ""), lambda count: b"%d lines dropped\n" % count)
    sent = [b"%06d " % number + b"x" * 92 + b"\n" for number in range(3000)]
    received = b""

    async def run() -> None:
        nonlocal received
        for line in sent:
            sink.put(line, True)
        while received.count(b"\n") < len(sent):
            try:
                received += os.read(reader, 1 << 20)
            except BlockingIOError:
                await asyncio.sleep(DELAY)

    asyncio.run(asyncio.wait_for(run(), 20))
    assert received == b"".join(sent)
    assert sink.dropped == 0
    os.close(reader)
    os.close(writer)


def test_a_reader_that_stands_still_costs_lines_not_memory() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.set_blocking(reader, False)
    sink = Sink(Target(writer, ""), lambda count: b"%d lines dropped\n" % count)
    line = b"x" * 1023 + b"\n"
    total = BACKLOG // len(line) + 1000
    for _ in range(total):
        sink.put(line, True)
    assert sink.dropped > 0
    received = b""
    while b"dropped" not in received:
        try:
            received += os.read(reader, 1 << 20)
        except BlockingIOError:
            sink.put(b"new\n", True)
    *old, report = received.split(b"\n")[: received[: received.index(b" lines")].count(b"\n") + 1]
    assert set(old) <= {line[:-1], b"new"}
    assert int(report.split()[0]) == sink.dropped
    assert sum(one == line[:-1] for one in old) + sink.dropped >= total
    os.close(reader)
    os.close(writer)


def test_a_closed_pipe_is_counted() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    sink = Sink(Target(writer, ""), lambda count: b"")
    sink.put(b"a\nb\n", True)
    assert sink.dropped == 2
    os.close(writer)


def test_a_full_disk_is_told_of_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Target(os.open("/dev/full", os.O_WRONLY), "/dev/full")
    sink = Sink(full, lambda count: b"%d lines dropped\n" % count)
    sink.put(b"a\n", True)
    assert sink.dropped == 0  # kept: the disk may have room again
    sink.change_target(open_target(str(tmp_path / "log")))
    sink.put(b"b\n", True)
    assert (tmp_path / "log").read_bytes() == b"a\nb\n"
    monkeypatch.setattr(sinks, "BACKLOG", 50)
    sink.change_target(Target(os.open("/dev/full", os.O_WRONLY), "/dev/full"))
    for letter in (b"c", b"C", b"C"):
        sink.put(letter * 30 + b"\n", True)
    assert sink.dropped == 2
    sink.change_target(open_target(str(tmp_path / "log")))
    sink.put(b"d\n", True)
    sink.put(b"e\n", True)
    assert (tmp_path / "log").read_bytes() == b"a\nb\n" + b"c" * 30 + b"\n2 lines dropped\nd\ne\n"
    sink.target.close()


def test_the_last_flush_waits_but_not_for_ever() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    sink = Sink(Target(writer, ""), lambda count: b"")
    for _ in range(200):
        sink.put(b"x" * 1023 + b"\n", True)
    begin = time.monotonic()
    sink.flush()
    assert 0.5 < time.monotonic() - begin < 5
    os.close(reader)
    os.close(writer)


def test_a_socket_is_written_without_blocking() -> None:
    ours, theirs = socket.socketpair()
    sink = Sink(Target(os.dup(ours.fileno()), ""), lambda count: b"")
    ours.close()
    for _ in range(2000):
        sink.put(b"x" * 1023 + b"\n", True)  # more than a socket takes, and nobody reads
    assert theirs.recv(1024) == b"x" * 1023 + b"\n"
    sink.target.close()
    theirs.close()


def test_lines_of_several_writers_do_not_run_into_each_other() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    one, two = (Sink(Target(os.dup(writer), ""), lambda count: b"") for _ in range(2))
    os.close(writer)
    for number in range(100):
        for name, sink in ((b"1", one), (b"2", two)):
            sink._collected.extend(name * 50 + b"\n" for _ in range(20))
            sink.write()
        if number % 10 == 9:
            received = os.read(reader, 1 << 20).splitlines()
            assert set(received) <= {b"1" * 50, b"2" * 50}
    for sink in (one, two):
        sink.target.close()
    os.close(reader)


# --- targets


def test_a_file_that_was_renamed_or_removed_is_let_go_without_being_told(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who rotates logs asks for a reload, and that may be refused."""
    monkeypatch.setattr(sinks, "LOOK", 0.0)
    logger = log.get("x")
    logger.warning("one")
    file.rename(file.with_suffix(".1"))
    logger.warning("two")
    assert [line["event"] for line in lines(file.with_suffix(".1"))] == ["one"]
    assert [line["event"] for line in lines(file)] == ["two"]
    assert file.stat().st_mode & 0o777 == 0o640
    file.unlink()
    file.touch()  # by who rotates
    logger.warning("three")
    assert [line["event"] for line in lines(file)] == ["three"]
    os.truncate(file, 0)
    logger.warning("four")
    assert [line["event"] for line in lines(file)] == ["four"]


def test_a_file_whose_place_takes_no_other_goes_on_to_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "LOOK", 0.0)
    folder, moved = tmp_path / "logs", tmp_path / "moved"
    folder.mkdir()
    log.configure(Settings(target=str(folder / "log")))
    logger = log.get("x")
    try:
        logger.warning("one")
        folder.rename(moved)
        logger.warning("two")
        folder.mkdir()
        logger.warning("three")
    finally:
        log.configure(Settings(format="text", target="stderr"))
    assert [line["event"] for line in lines(moved / "log")] == ["one", "two"]
    assert [line["event"] for line in lines(folder / "log")] == ["three"]


def test_who_rotates_for_another_user_is_told_once(
    file: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sinks, "LOOK", 0.0)
    logger = log.get("x")
    rotated = file.with_suffix(".1")
    for event in ("one", "two"):
        logger.warning(event)
        if event == "one":
            file.rename(rotated)
            file.mkdir()  # to be opened by nobody, root neither
    logger.warning("three")
    assert [line["event"] for line in lines(rotated)] == ["one", "two", "three"]
    told = f"tamis: {file}: Is a directory: log lines go on in the file that had this name\n"
    assert capfd.readouterr().err == told
    file.rmdir()
    logger.warning("four")
    assert [line["event"] for line in lines(file)] == ["four"]
    file.rename(rotated)
    file.mkdir()
    logger.warning("five")
    assert capfd.readouterr().err == told  # it is another time


def test_a_target_that_cannot_be_opened_changes_nothing(file: Path) -> None:
    with pytest.raises(OSError, match="Not a directory"):
        log.configure(Settings(level="error", target=str(file / "x" / "y")))
    log.get("x").info("still here")
    log.flush()
    assert [line["event"] for line in lines(file)] == ["still here"]


def test_a_terminal_gets_colours() -> None:
    ours, theirs = pty.openpty()
    target = Target(theirs, "")
    assert target.terminal
    assert not target.whole
    target.write(b"x\n")
    assert os.read(ours, 10) == b"x\r\n"
    target.close()
    os.close(ours)
    assert log.dropped() >= 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_a_pipe_that_nobody_reads_does_not_hold_up_another_user_than_opened_it() -> None:
    script = """
import os
from types import SimpleNamespace
from mta import log
from mta.log.sink import take_stderr
take_stderr()
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
log.configure(SimpleNamespace(format="text", level="info", target="stderr"))
for _ in range(2000):
    log.get("test").warning("told", filler="x" * 100)
print("went on")
"""
    reader, writer = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=writer, timeout=20, check=False
        )
        assert os.get_blocking(writer), "who else writes to the pipe is left as it is"
    finally:
        os.close(reader)
        os.close(writer)
    assert done.stdout == b"went on\n"
