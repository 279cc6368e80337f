"""The configuration for a reload: another process reads it, of the version that is installed by then."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

import mta
from mta.supervisor import aside, rereading
from mta.supervisor.aside import NoAnswer, answer_of
from mta.supervisor.plan import Inherited, Plan, PlanError, UnixPath
from mta.supervisor.planning import reader
from mta.supervisor.privileges import Account
from mta.supervisor.rereading import Said, planned, rereader
from tests.peers.running import ROOT

DAEMON = "module:Class"


def written(folder: Path, more: str = "") -> str:
    path = folder / "tamis.toml"
    path.write_text(
        f'[process]\nstate_directory = "{folder}"\nruntime_directory = "{folder}"\n'
        f'spill_directory = "{folder}"\n[identity]\nhostname = "mail.example.org"\n'
        '[[listener]]\naddresses = ["[::1]:2525", "unix:lmtp", "fd:mail"]\n'
        f'[store]\nenabled = true\npath = "mail"\n[log]\nlevel = "debug"\n{more}'
    )
    (folder / "users").touch(0o640)
    return str(path)


def environment(*paths: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*paths, ROOT)))}


def test_another_process_reads_the_same(tmp_path: Path) -> None:
    path = written(tmp_path, '[checks]\nmode = "production"\n')
    plan = asyncio.run(rereader(path, DAEMON, environment())())
    assert plan == reader(path, DAEMON)()
    whole = Said(replace(plan, account=Account("tamis", 1, 2, (2, 3))))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(whole), type=Said) == whole
    kinds = {type(endpoint) for listen in plan.listens for endpoint in listen.endpoints}
    assert {UnixPath, Inherited} < kinds


def test_it_tells_all_mistakes(tmp_path: Path) -> None:
    path = written(tmp_path, "[limits]\nsesions = 5\n[process2]\n")
    with pytest.raises(PlanError) as raised:
        asyncio.run(rereader(path, DAEMON, environment())())
    assert [problem.partition(" unknown")[0] for problem in raised.value.problems] == [
        f"{path}:15: limits.sesions:",
        f"{path}:16: process2:",
    ]


def test_options_of_the_version_that_is_installed_by_now(tmp_path: Path) -> None:
    """As after an upgrade: this process does not know them."""
    newer = tmp_path / "newer"
    shutil.copytree(Path(mta.__file__).parent, newer / "mta", ignore=shutil.ignore_patterns("__pycache__"))
    node = newer / "mta/config/node.py"
    text = node.read_text()
    at = text.index("    user: ")
    node.write_text(text[:at] + '    newest: str = ""\n    """New."""\n' + text[at:])
    path = written(tmp_path)
    Path(path).write_text(Path(path).read_text().replace("[process]", '[process]\nnewest = "x"'))
    with pytest.raises(PlanError, match=r"process\.newest: unknown key"):
        reader(path, DAEMON)()
    plan = asyncio.run(rereader(path, DAEMON, environment(newer))())
    assert msgspec.json.decode(plan.configuration)["process"]["newest"] == "x"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "another version than what is installed, restart it"),
        (msgspec.msgpack.encode({"plan": {"log": 5}}), "another version than what is installed, restart it"),
    ],
    ids=["nothing", "another plan"],
)
def test_what_is_no_plan_of_ours(monkeypatch: pytest.MonkeyPatch, answer: bytes, reason: str) -> None:
    async def answered(*asked: object) -> bytes:
        return answer

    monkeypatch.setattr(rereading, "answer_of", answered)
    result = asyncio.run(planned(rereader("/x.toml", DAEMON, {})(), 7))
    assert not isinstance(result, Plan)
    assert (result.ok, result.generation, result.configuration_wrong) == (False, 7, False)
    assert reason in result.problems[0]


def test_what_a_newer_plan_has_besides_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plan = reader(written(tmp_path), DAEMON)()
    said = msgspec.to_builtins(Said(plan), builtin_types=(bytes,))
    said["plan"]["newest"] = said["newest"] = 1

    async def answered(*asked: object) -> bytes:
        return msgspec.msgpack.encode(said)

    monkeypatch.setattr(rereading, "answer_of", answered)
    assert asyncio.run(rereader("/x.toml", DAEMON, {})()) == plan


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise ImportError('half of it')", "^ImportError: half of it$"),
        ("raise SystemExit(3)", "^exit status 3$"),
        ("import time; time.sleep(60)", r"^not done within 0\.5 s$"),
    ],
    ids=["fault", "status", "time"],
)
def test_no_answer(code: str, reason: str) -> None:
    with pytest.raises(NoAnswer, match=reason):
        asyncio.run(answer_of([sys.executable, "-c", code], b"", 0.5 if "sleep" in code else 60, os.environ))


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(aside.NoAnswer, match="No such file"):
        asyncio.run(answer_of(["/no/such/program"], b"", 1, {}))
