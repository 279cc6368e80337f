"""Files that are gone: what is made anew, when it is tried again, what is told, and what a bug may do."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from mta import config
from mta.sendmail_server import LocalServer
from mta.supervisor.lostfiles import LONGEST_PAUSE, FileWatch, Pauses
from mta.supervisor.plan import SUPERVISOR, WORKER, Listen, Plan, UnixPath
from mta.supervisor.sockets import ListeningSockets, SocketSet
from mta.supervisor.staff import Log

MADE, GONE = "files had been removed, and are made anew", "files are gone and not made anew"
LOOKS = 5.0
"""Seconds between two looks."""


class Notes:
    """A log that remembers reasons and files."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def warning(self, event: str, **facts: Any) -> None:
        self.lines.append(f"{event}: {facts.get('reason') or ' '.join(facts['files'])}")


class Node:
    """A control socket, a listener of workers and a notice for `sendmail`, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.control, self.lmtp, self.notice = folder / "control", folder / "lmtp", folder / "sendmail.json"
        self.plan = Plan(
            configuration=b"",
            listens=(
                Listen("lmtp", (UnixPath(str(self.lmtp)),), WORKER),
                Listen("control", (UnixPath(str(self.control)),), SUPERVISOR),
            ),
            crews=(),
            drain_timeout=1.0,
            restart_delay_max=1.0,
            log=config.Log(),
            directories=((str(folder), 0o755),),
            local=LocalServer("/tamis.toml", "mx.example.org", "example.org", 1000, "127.0.0.1", 25),
            runtime_directory=str(folder),
        )
        self.book = ListeningSockets()
        self.notes = Notes()
        self.now = 1000.0
        self.tries: list[float] = []
        self.why_not: list[str] = []
        self.bug: Exception | None = None
        self.served: list[SocketSet] = []
        self.serve_fails: OSError | None = None
        self.watch = FileWatch(
            self.book, cast(Log, self.notes), self._serve, self._work_anew, clock=lambda: self.now
        )
        folder.mkdir()
        self.opened = self.book.prepare(self.plan.listens)
        self.book.commit(self.opened)
        self.watch.tell_sendmail(self.plan, self.opened)

    async def _serve(self, own: SocketSet) -> None:
        if self.serve_fails is not None:
            raise self.serve_fails
        self.served.append(own)

    async def _work_anew(self, plan: Plan) -> list[str]:
        self.tries.append(self.now)
        if self.bug is not None:
            raise self.bug
        if self.why_not:
            return [reason.format(n=len(self.tries)) for reason in self.why_not]
        self.book.commit(self.book.prepare(plan.listens))
        return []

    def look(self, seconds: float = 0.0) -> None:
        """One look, or as many as there are in so many seconds."""
        for _ in range(int(seconds / LOOKS) or 1):
            asyncio.run(self.watch.look(self.plan, self.opened))
            self.now += LOOKS


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path / "run")
    yield made
    made.book.close()


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def test_nothing_is_done_while_all_is_there(node: Node) -> None:
    node.look(60)
    assert (node.tries, node.served, node.notes.lines) == ([], [], [])


def test_a_removed_folder_comes_back_with_all_that_was_in_it(node: Node) -> None:
    before = node.notice.read_bytes()
    for path in (node.control, node.lmtp, node.notice):
        path.unlink()
    node.folder.rmdir()
    node.look()
    assert connects(node.control)
    assert connects(node.lmtp)
    assert node.notice.read_bytes() == before
    assert node.notice.stat().st_mode & 0o777 == 0o644
    made = f"{node.lmtp} {node.control} sendmail.json"
    assert node.notes.lines == [f"{MADE}: {made}"]
    node.look(60)
    assert (len(node.tries), len(node.notes.lines)) == (1, 1)


def test_what_sendmail_is_told_comes_back_alone(node: Node) -> None:
    node.notice.unlink()
    node.look()
    assert node.notice.exists()
    assert (node.tries, node.served) == ([], [])
    assert node.notes.lines == [f"{MADE}: sendmail.json"]
    node.notice.write_text("of another server")
    node.look()
    assert node.notice.read_text() == "of another server", "two servers must not write it in turn for ever"


def test_the_own_socket_comes_back_where_workers_do_not_start(node: Node) -> None:
    node.why_not = ["worker-{n}.1: policy.sieve:1: broken"]
    node.control.unlink()
    node.lmtp.unlink()
    node.look()
    assert connects(node.control)
    assert not node.lmtp.exists()
    assert node.served[0].of(SUPERVISOR)["control"][0].fileno() != -1
    assert node.opened.of(SUPERVISOR)["control"][0].fileno() == -1, "the old socket stays open"
    assert node.opened.of(WORKER)["lmtp"][0].fileno() != -1, "the workers' socket is not ours to close"
    assert node.notes.lines == [
        f"{MADE}: {node.control}",
        f"{GONE}: worker-1.1: policy.sieve:1: broken",
    ]


def test_new_workers_are_tried_with_growing_pauses_and_problems_told_once(node: Node) -> None:
    node.why_not = ["worker-{n}.1: policy.sieve:1: broken"]
    node.lmtp.unlink()
    began = node.now
    node.look(3600)
    node.look(3600)
    tries = [moment - began for moment in node.tries]
    assert tries[:8] == [0, 5, 15, 35, 75, 155, 315, 615]
    pauses = {later - sooner for sooner, later in itertools.pairwise(tries[7:])}
    assert pauses == {LONGEST_PAUSE}
    assert len(tries) > 20, "it is tried for ever"
    assert node.notes.lines == [f"{GONE}: worker-1.1: policy.sieve:1: broken"]
    node.why_not = ["worker-{n}.1, worker-{n}.2: not ready within 30 s"]
    node.look(LONGEST_PAUSE)
    assert len(node.notes.lines) == 2
    node.why_not = []
    node.look(LONGEST_PAUSE)
    assert connects(node.lmtp)
    assert node.notes.lines[2:] == [f"{MADE}: {node.lmtp}"]
    node.lmtp.unlink()
    node.why_not = ["worker-{n}.1: policy.sieve:1: broken"]
    tried = len(node.tries)
    node.look(10)
    assert len(node.tries) == tried + 2, "what was mended begins anew"
    assert len(node.notes.lines) == 4, "and is told anew"


def test_other_files_that_go_are_a_reason_to_try_at_once() -> None:
    pauses = Pauses()
    for _ in range(5):
        pauses.is_due(frozenset({"a"}), 10.0)
        pauses.failed(10.0)
    assert not pauses.is_due(frozenset({"a"}), 20.0)
    assert pauses.is_due(frozenset({"a", "b"}), 20.0)
    pauses.failed(20.0)
    assert not pauses.is_due(frozenset({"a", "b"}), 24.9)
    assert pauses.is_due(frozenset({"a", "b"}), 25.0)
    assert not pauses.is_due(frozenset(), 25.0)


def test_bug_is_told_and_ends_nothing(node: Node) -> None:
    node.bug = KeyError("x")
    node.lmtp.unlink()
    node.look(60)
    assert node.notes.lines == [f"{GONE}: internal error: KeyError('x')"]
    assert len(node.tries) == 4
    node.bug = None
    node.look(60)
    assert connects(node.lmtp)


def test_own_socket_that_cannot_be_served_is_tried_again(node: Node) -> None:
    node.control.unlink()
    node.serve_fails = OSError(24, "Too many open files")
    node.look(60)
    assert len(node.notes.lines) == 1
    assert "Too many open files" in node.notes.lines[0]
    assert not node.control.exists()
    assert node.opened.of(SUPERVISOR)["control"][0].fileno() != -1
    node.serve_fails = None
    node.look()
    assert connects(node.control)


def test_folder_that_cannot_be_made_is_told_once(node: Node) -> None:
    for path in (node.control, node.lmtp, node.notice):
        path.unlink()
    node.folder.rmdir()
    node.folder.write_text("in the way")
    node.look(60)
    assert node.tries == [], "what is in the way here is in that of new workers"
    assert node.notes.lines == [
        f"{GONE}: {node.notice}: Not a directory",
        f"{GONE}: listener 'control': cannot listen on {node.control}: Not a directory",
    ]
    node.folder.unlink()
    node.look()
    assert connects(node.control)
    assert connects(node.lmtp)
    assert node.notice.exists()
