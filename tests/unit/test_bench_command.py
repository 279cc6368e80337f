"""Command line, turns, loads and what a missing peer does."""

import os
import re
import threading
from pathlib import Path

import pytest

from bench import __main__ as program
from bench import command, workplace
from bench.command import Options, parse, run_all
from bench.figures import Figure
from bench.load import Load, send
from bench.rounds import Round, in_turns, middle
from bench.sink import Sink, last_count
from bench.system import Failure, System
from bench.workplace import Missing


def test_no_name_and_all_mean_all() -> None:
    names = list(program.BENCHMARKS)
    assert parse([], names)[0] == names
    assert parse(["all"], names)[0] == names
    assert parse(["cpu", "start"], names)[0] == ["cpu", "start"]


def test_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse(["trhoughput"], ["throughput"])
    assert end.value.code == 2
    assert "throughput" in capsys.readouterr().err


def test_options() -> None:
    assert parse([])[1] == Options(False, command.ROUNDS, command.SECONDS, workplace.DEFAULT_PARENT)
    assert parse(["--quick"])[1].rounds == 1
    chosen = parse(["--rounds", "7", "--seconds", "2.5", "--folder", "/srv"])[1]
    assert chosen == Options(False, 7, 2.5, Path("/srv"))


def test_figures_come_last(capsys: pytest.CaptureFixture[str]) -> None:
    options = parse(["--quick"])[1]
    run_all(
        {"one": lambda _: [Figure("a", 1, "s", 2)], "two": lambda _: [Figure("b", 3, "us")]},
        options,
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == ["figure a 1.000 s peer 2.000 ratio 2.00", "figure b 3.000 us"]
    assert "cores" in lines[0]


def test_missing_peer_is_said_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    def measure(options: Options) -> list[Figure]:
        workplace.program("no-such-program", "postfix")
        return []

    with pytest.raises(SystemExit) as end:
        run_all({"cpu": measure}, parse([])[1])
    assert end.value.code == 1
    printed = capsys.readouterr()
    assert printed.err == "cpu: no-such-program is not installed: apt install postfix\n"
    assert not re.search("^figure", printed.out, re.MULTILINE)


def test_programs_of_the_administrator_are_found_without_his_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "smtp-source"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    monkeypatch.setattr(workplace, "_SBIN", (str(tmp_path),))
    monkeypatch.setenv("PATH", "/nonexistent")
    assert workplace.program("smtp-source", "postfix") == str(tool)
    with pytest.raises(Missing):
        workplace.program("smtp-sink", "postfix")


def test_folder_is_for_all_users_and_removed() -> None:
    with workplace.folder() as place:
        assert place.parent == workplace.DEFAULT_PARENT
        assert place.stat().st_mode & 0o777 == 0o755
        (place / "file").touch()
    assert not place.exists()


def test_folder_that_others_cannot_enter_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(Missing, match="--folder"), workplace.folder(tmp_path):
        pytest.fail("made a folder there")
    assert not list(tmp_path.iterdir())


def test_systems_take_turns_and_the_middle_ratio_counts() -> None:
    order: list[str] = []
    values = {"a": iter([1.0, 100.0, 4.0]), "b": iter([10.0, 10.0, 20.0])}

    def measure(name: str) -> float:
        order.append(name)
        return next(values[name])

    rounds = in_turns(lambda: measure("a"), lambda: measure("b"), 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert rounds == [Round(1.0, 10.0), Round(4.0, 20.0), Round(100.0, 10.0)]
    assert middle(rounds) == Round(4.0, 20.0)
    assert middle(rounds[:2]) == Round(1.0, 10.0)


@pytest.mark.parametrize(
    ("load", "name"),
    [
        (Load(4096, 20), "4k_s20"),
        (Load(100_000, 100), "100k_s100"),
        (Load(4096, 1, reuse=True), "4k_s1_reused"),
    ],
)
def test_names_of_loads(load: Load, name: str) -> None:
    assert load.name == name


@pytest.mark.parametrize(
    ("load", "rate", "seconds", "messages"),
    [
        (Load(4096, 20), 1000.0, 1.0, 1000),
        (Load(4096, 20), 1005.0, 1.0, 1000),
        (Load(4096, 100), 10.0, 1.0, 100),
        (Load(4096, 1), 5000.0, 1.0, 5000),
        (Load(4096, 1, reuse=True), 5000.0, 1.0, 5000),
    ],
)
def test_messages_of_a_load(load: Load, rate: float, seconds: float, messages: int) -> None:
    assert load.count(rate, seconds) == messages


def test_a_load_ends_when_the_sink_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not when the client has been told that it is accepted."""
    counters = os.memfd_create("counters")
    os.write(counters, b"sess=1 quit=0 mesg=5\r")
    late = threading.Timer(0.3, os.write, (counters, b"sess=1 quit=0 mesg=25\r"))
    monkeypatch.setattr("bench.load.program", lambda name, package: "/bin/true")
    system = System("it", 1, os.getpid(), Sink(1, counters), tmp_path / "log")
    late.start()
    try:
        assert 0.2 < send(system, Load(4096, 20), 20) < 5
        monkeypatch.setattr("bench.load.PATIENCE", 0.01)
        with pytest.raises(Failure, match="20 messages did not arrive"):
            send(system, Load(4096, 20), 20)
    finally:
        late.join()
        os.close(counters)


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (b"", 0),
        (b"sess=1 quit=0 mesg=0\r", 0),
        (b"sess=1 quit=0 mesg=9\rsess=1 quit=0 mesg=10\r", 10),
        (b"=0 mesg=9\rsess=1 quit=0 mesg=10\rsess=1 quit=0 mesg=1", 10),
    ],
)
def test_counter_of_the_sink(text: bytes, messages: int) -> None:
    assert last_count(text) == messages
