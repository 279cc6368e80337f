"""What takes minutes in life, with shorter limits: processes that hang, that are late, that do not leave.

The supervisor runs in the test's own loop here, its workers are real processes.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mta import config
from mta.supervisor import child, core, generation, planning, slots, staff
from mta.supervisor.core import Supervisor
from mta.supervisor.generation import StartFailed
from tests.peers.ports import free_port
from tests.peers.running import ROOT, Tamis, alive

TOY = "tests.peers.toy_daemon:ToyDaemon"


class Notes:
    """A log that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def note(self, event: str, **facts: object) -> None:
        self.events.append((event, facts))

    debug = info = warning = error = note

    def has(self, event: str) -> bool:
        return any(event == found for found, _ in self.events)


@pytest.fixture(autouse=True)
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    # The process of the tests keeps its privileges: other tests start set-gid programs.
    monkeypatch.setattr(core, "become", lambda account: None)
    monkeypatch.setattr(staff, "BEAT", 0.1)
    monkeypatch.setattr(core, "SWITCH_LIMIT", 0.3)
    monkeypatch.setattr(child, "LEAVE_GRACE", 0.3)


async def patiently(probe: Callable[[], object], what: str) -> None:
    for _ in range(3000):
        if probe():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{what}: not within 60 s")


class Node:
    """A supervisor in this loop."""

    def __init__(self, directory: Path) -> None:
        self.tamis = Tamis(directory)
        self.notes = Notes()
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.supervisor = Supervisor(self.load, self.notes, environment)

    def load(self) -> Any:
        return planning.plan(config.load(str(self.tamis.path)), TOY)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, int]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.tamis.port)
        return reader, writer, int((await reader.readline()).split()[1])

    def run(self, scenario: Callable[[], Awaitable[None]]) -> None:
        async def live() -> None:
            running = asyncio.create_task(self.supervisor.run())
            try:
                await patiently(lambda: self.supervisor.serving or running.done(), "start")
                if not running.done():
                    await scenario()
            finally:
                self.supervisor.stop(now=True)
                await running

        asyncio.run(live())


@pytest.fixture
def node(tmp_path: Path) -> Node:
    made = Node(tmp_path)
    made.tamis.configure(workers=1, drain="200ms")
    return made


def test_worker_that_hangs_shows_where_and_is_replaced(
    node: Node, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "LEAVE_GRACE", 20.0)

    async def scenario() -> None:
        reader, writer, pid = await node.connect()
        monkeypatch.setattr(staff, "HANG_LIMIT", 1.0)
        writer.write(b"hang\n")
        await patiently(lambda: node.notes.has("worker restarts"), "the worker is ended")
        monkeypatch.setattr(staff, "HANG_LIMIT", 60.0)
        assert await reader.read() == b""
        writer.close()
        assert not alive(pid)
        await patiently(lambda: node.supervisor.serving, "another serves")

    node.run(scenario)
    facts = dict(node.notes.events)
    assert facts["worker hangs"]["silent"] >= 1
    assert facts["worker restarts"]["how"] == "killed by SIGABRT"
    assert "in obey" in capfd.readouterr().err


def test_workers_are_not_to_blame_for_a_supervisor_that_stood_still(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with SIGSTOP, in a container that is paused, in a machine that sleeps: it asked nobody."""

    async def scenario() -> None:
        reader, writer, pid = await node.connect()
        monkeypatch.setattr(staff, "HANG_LIMIT", 1.0)
        time.sleep(1.5)  # noqa: ASYNC251 - that the loop stands still is the point
        await asyncio.sleep(0.5)
        writer.write(b"echo a\n")
        assert await reader.readline() == f"a {pid}\n".encode()
        writer.close()

    node.run(scenario)
    assert not node.notes.has("worker hangs")


def test_counters_of_a_worker_that_hangs_are_the_last_known(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staff, "SNAPSHOT_TIMEOUT", 60.0)

    async def scenario() -> None:
        reader, writer, _ = await node.connect()
        writer.write(b"count\n")
        assert await reader.readline() == b"counted\n"
        before = await node.supervisor.staff.metrics()
        assert before["messages"] == {"delivered": 1}
        monkeypatch.setattr(staff, "SNAPSHOT_TIMEOUT", 0.2)
        writer.write(b"hang\n")
        assert (await node.supervisor.staff.metrics())["messages"] == before["messages"]
        writer.close()

    node.run(scenario)


def test_worker_that_does_not_leave_is_killed(node: Node) -> None:
    async def scenario() -> None:
        _, writer, pid = await node.connect()
        writer.write(b"hang\n")
        await writer.drain()
        await asyncio.sleep(0.1)
        result = await node.supervisor.reload()
        assert result.ok, result
        await patiently(lambda: not alive(pid), "the old worker is killed")
        writer.close()

    node.run(scenario)
    assert ("killed by SIGKILL") in [facts.get("how") for _, facts in node.notes.events]


def test_a_bug_when_a_worker_is_replaced_does_not_end_the_server(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = child.Child.spawn

    async def buggy(*about: object) -> None:
        raise KeyError("a bug")

    async def scenario() -> None:
        reader, writer, _ = await node.connect()
        monkeypatch.setattr(child.Child, "spawn", buggy)
        writer.write(b"crash\n")
        await reader.read()
        writer.close()
        restarts = node.supervisor.staff.stats.worker_restarts
        await patiently(lambda: restarts["worker"] > 2, "it is tried again")
        monkeypatch.setattr(child.Child, "spawn", usual)
        await patiently(lambda: node.supervisor.serving, "another serves")
        assert [one.slot for one in node.supervisor.staff.children] == [0]

    node.run(scenario)
    reasons = [facts["how"] for event, facts in node.notes.events if event == "worker restarts"]
    assert reasons[1] == "cannot start: KeyError('a bug')"


def test_generation_that_is_late_is_given_up(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(generation, "READY_TIMEOUT", 0.7)
        node.tamis.configure(workers=1, banner="late")
        result = await node.supervisor.reload()
        assert (result.ok, result.generation) == (False, 1)
        assert "worker-2.1: not ready within 0.7 s" in result.problems[0]
        assert len(node.supervisor.staff.children) == 1

    node.run(scenario)


def test_start_that_is_late_fails(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "READY_TIMEOUT", 0.5)
    node.tamis.configure(workers=2, banner="late")
    with pytest.raises(StartFailed, match=r"worker-1\.1: not ready"):
        asyncio.run(node.supervisor.run())
    assert node.supervisor.staff.children == []


def test_the_first_worker_starts_alone(node: Node) -> None:
    node.tamis.configure(workers=3)

    async def scenario() -> None:
        order = [(event, facts["worker"]) for event, facts in node.notes.events if "worker" in facts]
        assert order[:2] == [("worker started", "worker-1.1"), ("worker ready", "worker-1.1")]
        assert {event for event, _ in order[2:4]} == {"worker started"}
        assert len(order) == 6

    node.run(scenario)


def test_too_many_generations_are_refused(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "LEAST", 2)
    monkeypatch.setattr(slots, "GENERATIONS", 2)
    node.tamis.configure(workers=1, drain="30s")

    async def scenario() -> None:
        _, writer, pid = await node.connect()
        assert (await node.supervisor.reload()).ok
        refused = await node.supervisor.reload()
        assert not refused.ok
        assert "2 workers are alive and 1 more are too many (at most 2)" in refused.problems[0]
        writer.close()
        await patiently(lambda: not alive(pid), "the first generation has drained")
        assert (await node.supervisor.reload()).ok

    node.run(scenario)


def test_bug_in_a_reload_leaves_no_socket_open(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients would connect there and wait for ever."""

    async def start(self: object) -> None:
        raise KeyError("bug")

    async def scenario() -> None:
        added = free_port()
        node.tamis.configure(addresses=[f"127.0.0.1:{node.tamis.port}", f"127.0.0.1:{added}"], workers=1)
        with monkeypatch.context() as patched:
            patched.setattr(generation.Generation, "start", start)
            result = await node.supervisor.reload()
        assert result.problems == ("internal error: KeyError('bug')",)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", added)
        _, writer, _ = await node.connect()
        writer.close()
        assert (await node.supervisor.reload()).ok

    node.run(scenario)


def test_reloads_that_wait_their_turn_are_one(node: Node) -> None:
    async def scenario() -> None:
        results = await asyncio.gather(*(node.supervisor.reload() for _ in range(5)))
        assert {result.generation for result in results} == {2}
        first = asyncio.create_task(node.supervisor.reload())
        await asyncio.sleep(0.05)
        second, third = await asyncio.gather(node.supervisor.reload(), node.supervisor.reload())
        assert (await first).generation == 3
        assert second.generation == third.generation == 4

    node.run(scenario)


def test_stop_during_a_reload_ends_everything(node: Node) -> None:
    async def scenario() -> None:
        node.tamis.configure(workers=1, banner="late")
        reload = asyncio.create_task(node.supervisor.reload())
        await patiently(lambda: len(node.supervisor.staff.children) == 2, "the new worker starts")
        node.supervisor.stop()
        result = await reload
        assert not result.ok

    node.run(scenario)
    assert node.notes.has("stopped")


def test_a_reload_does_not_move_the_state(node: Node, tmp_path: Path) -> None:
    """New workers would have another queue, and what waits in the old one would be nobody's."""

    async def scenario() -> None:
        (tmp_path / "other").mkdir()
        text = node.tamis.path.read_text().replace(f"{tmp_path}/state", f"{tmp_path}/other")
        node.tamis.path.write_text(text)
        result = await node.supervisor.reload()
        assert (result.ok, result.generation, result.configuration_wrong) == (False, 1, False)
        assert result.problems[0].startswith(
            f"process.state_directory: {tmp_path}/other in place of {tmp_path}"
        )

    node.run(scenario)


def test_port_of_a_failed_start_is_free_again(node: Node) -> None:
    node.tamis.configure(workers=1, banner="bad")
    with pytest.raises(StartFailed, match="the toy is bad today"):
        asyncio.run(node.supervisor.run())
    node.tamis.port = free_port()
    again = Node.__new__(Node)
    again.tamis, again.notes = node.tamis, Notes()
    again.supervisor = Supervisor(again.load, again.notes, {**os.environ, "PYTHONPATH": str(ROOT)})
    again.tamis.configure(workers=1)

    async def scenario() -> None:
        _, writer, _ = await again.connect()
        writer.close()

    again.run(scenario)
