"""The queue of a node whose workers come and go: answers are whole, or say what is missing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mta.admin.client import Unreachable
from mta.admin.control import Answer, Request
from mta.cli_queue import make_app
from mta.cli_queue_common import Access
from mta.config import ConfigError
from mta.config.problems import unreadable
from mta.mailq.rows import NO_SUCH_MESSAGE, QueueRecipient, QueueRow
from mta.sendmail_queue import QueueOptions, run_queue
from mta.spool import remote
from mta.spool.remote import QueueProblem, RemoteQueue
from mta.supervisor.messages import ENDED, SILENT


def row(name: str) -> QueueRow:
    return QueueRow(name, 100, 0.0, "a@sender.test", (QueueRecipient("b@back.test"),))


@dataclass
class Node:
    """A supervisor and its workers: what each has, and what happens at the next questions of a kind."""

    workers: dict[str, list[str]]
    pids: dict[str, int] = field(default_factory=dict)
    starting: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    """Messages that are nobody's at the moment."""
    looks: int = 0
    """Looks at them until somebody has them."""
    faults: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Text and code of refusals, by worker."""
    before: dict[tuple[str, str], Callable[[], None]] = field(default_factory=dict)
    """Called once before a worker answers such a question."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    now: float = 0.0

    def ask(self, path: str, request: Request) -> Answer:
        worker = request.worker
        if not worker:
            pids = {name: self.pids.get(name, 1) for name in self.workers}
            return Answer(
                True, {"workers": list(self.workers), "pids": pids, "starting": list(self.starting)}
            )
        op = request.data["op"]
        self.before.pop((worker, op), lambda: None)()
        self.asked.append((worker, op))
        if worker not in self.workers:
            return Answer(False, error=f"there is no worker {worker} any more", code=ENDED)
        if worker in self.faults:
            text, code = self.faults[worker]
            return Answer(False, error=text, code=code)
        return self.answer(worker, op, request.data)

    def answer(self, worker: str, op: str, data: dict[str, Any]) -> Answer:
        has = self.workers[worker]
        match op:
            case "takeover":
                if data.get("look") and self.orphans:
                    self.looks -= 1
                    if self.looks < 0:
                        self.adopt(worker)
                left = len(self.orphans)
                return Answer(True, {"adopting": False, "streams": left and 1, "messages": left})
            case "list":
                return Answer(True, {"rows": [asdict(row(name)) for name in has], "cursor": ""})
            case "act":
                done = [name for name in data.get("ids") or has if name in has]
                return Answer(True, {"done": done, "cursor": ""})
            case "flush":
                return Answer(True, {"messages": len(has)})
            case "stats":
                return Answer(True, {"sites": {}, "hops": {}})
            case "show" if data["id"] in has:
                return Answer(True, {"row": data["id"]})
        return Answer(False, error="there is no such message", code=NO_SUCH_MESSAGE)

    def end(self, worker: str) -> None:
        """A worker ends; what it had is nobody's."""
        self.orphans += self.workers.pop(worker)

    def adopt(self, worker: str) -> None:
        """What is nobody's is this one's."""
        self.workers[worker] += self.orphans
        self.orphans.clear()


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    made = Node({"worker-1.1": ["A", "B"], "worker-2.1": ["C"]})
    monkeypatch.setattr(remote, "ask", made.ask)
    monkeypatch.setattr(time, "monotonic", lambda: made.now)

    def sleep(seconds: float) -> None:
        made.now += seconds

    monkeypatch.setattr(time, "sleep", sleep)
    return made


def names(queue: RemoteQueue) -> list[str]:
    return [one.id for one in queue.rows(())]


def test_who_is_whole_is_asked_once(node: Node) -> None:
    queue = RemoteQueue("")
    assert names(queue) == ["A", "B", "C"]
    assert queue.missing == {}
    assert [worker for worker, op in node.asked if op == "list"] == ["worker-1.1", "worker-2.1"]
    assert node.now == 0.0


def test_what_is_being_taken_over_is_waited_for(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.end("worker-1.1")
    node.looks = 10
    queue = RemoteQueue("")
    assert sorted(names(queue)) == ["A", "B", "C"]
    assert queue.missing == {}
    said = capsys.readouterr().err
    assert said == (
        "tamis: waiting: about 2 messages of workers that have ended are still being taken over\n"
    )


@pytest.mark.parametrize("change", ["starting", "nobody takes it", "a worker adopts"])
def test_what_is_not_taken_over_in_time_is_said_to_be_missing(
    node: Node, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    match change:
        case "starting":
            node.starting = ["worker-3.1"]
        case "nobody takes it":
            node.end("worker-1.1")
            node.looks = 10_000
        case _:
            answer = node.answer

            def adopting(worker: str, op: str, data: dict[str, Any]) -> Answer:
                if op == "takeover" and worker == "worker-1.1":
                    return Answer(True, {"adopting": True, "streams": 0, "messages": 0})
                return answer(worker, op, data)

            monkeypatch.setattr(node, "answer", adopting)
    queue = RemoteQueue("")
    assert "C" in names(queue)
    assert list(queue.missing) == [remote.TAKEOVER]
    assert remote.PATIENCE <= node.now < remote.PATIENCE + 1
    node.starting, node.looks, node.asked = [], 0, []
    monkeypatch.undo()
    monkeypatch.setattr(remote, "ask", node.ask)
    assert sorted(names(queue)) == ["A", "B", "C"]
    assert queue.missing == {}, "what is there in the end is missed no longer"


def test_a_worker_that_ends_before_it_is_asked(node: Node) -> None:
    node.before["worker-1.1", "list"] = lambda: node.end("worker-1.1")
    queue = RemoteQueue("")
    assert sorted(names(queue)) == ["A", "B", "C"]
    assert queue.missing == {}


def test_a_worker_that_ends_between_two_pages_gives_no_message_twice(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = node.answer

    def paged(worker: str, op: str, data: dict[str, Any]) -> Answer:
        if op == "list" and worker == "worker-1.1":
            assert not data["cursor"]
            node.before["worker-1.1", "list"] = lambda: node.end("worker-1.1")
            return Answer(True, {"rows": [asdict(row("A"))], "cursor": "more"})
        return answer(worker, op, data)

    monkeypatch.setattr(node, "answer", paged)
    queue = RemoteQueue("")
    assert sorted(names(queue)) == ["A", "B", "C"]


def test_a_seat_that_another_process_has_taken(node: Node) -> None:
    """Nobody is missed by his name, but the one who answers is another one."""

    def replace() -> None:
        node.end("worker-2.1")
        node.adopt("worker-1.1")
        node.workers["worker-2.1"] = []
        node.pids["worker-2.1"] = 2

    node.before["worker-2.1", "list"] = replace
    assert names(RemoteQueue("")) == ["A", "B", "C"]


def test_one_that_does_not_answer_is_named_and_the_others_are_shown(node: Node) -> None:
    node.faults["worker-1.1"] = "has given no sign of life for 5 s", SILENT
    queue = RemoteQueue("")
    assert names(queue) == ["C"]
    assert queue.missing == {"worker-1.1": "has given no sign of life for 5 s"}
    assert queue.flush("") == 1
    assert list(queue.act("retry", (), ())) == ["C"]
    assert set(queue.stats()) == {"worker-2.1"}
    assert [worker for worker, _ in node.asked].count("worker-1.1") == 1, "and it is not waited for again"
    assert queue.show("C") == {"row": "C"}
    with pytest.raises(QueueProblem, match=r"^worker-1.1: has given no .*; no other worker has message A$"):
        queue.show("A")


def test_nobody_answers(node: Node) -> None:
    node.faults = dict.fromkeys(node.workers, ("there is no queue: queue.enabled is off", ""))
    with pytest.raises(QueueProblem, match=r"^worker-1.1: there is no queue"):
        names(RemoteQueue(""))
    node.workers = {}
    with pytest.raises(QueueProblem, match="no worker of the server runs"):
        RemoteQueue("")


def test_a_server_of_before_this_was_asked(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands are new at once, processes after a reload and a restart."""

    def ask(path: str, request: Request) -> Answer:
        if request.data.get("op") == "takeover":
            return Answer(False, error="the queue cannot be asked for 'takeover'")
        answer = node.ask(path, request)
        return answer if request.worker else Answer(True, {"workers": list(node.workers)})

    monkeypatch.setattr(remote, "ask", ask)
    queue = RemoteQueue("")
    assert names(queue) == ["A", "B", "C"]
    assert queue.missing == {}


def test_a_message_that_no_worker_has(node: Node) -> None:
    with pytest.raises(QueueProblem, match=r"^there is no message 01X in the queue$"):
        RemoteQueue("").show("01X")
    node.end("worker-1.1")
    node.looks = 2
    assert RemoteQueue("").show("A") == {"row": "A"}, "somebody has it soon"
    node.faults["worker-2.1"] = "the queue is not open: there is no such message", ""
    with pytest.raises(QueueProblem, match=r"^worker-2.1: the queue is not open"):
        RemoteQueue("").show("01X")  # it may be there


def test_ids_are_looked_for_until_all_are_done(node: Node) -> None:
    node.before["worker-1.1", "act"] = lambda: node.end("worker-1.1")
    queue = RemoteQueue("")
    assert list(queue.act("delete", ["A", "C"], ())) == ["C", "A"]
    assert queue.missing == {}


def test_what_was_redirected_is_not_redirected_again(node: Node) -> None:
    node.before["worker-1.1", "act"] = lambda: node.end("worker-1.1")
    queue = RemoteQueue("")
    assert list(queue.act("redirect", (), (), "new@back.test")) == ["C"]
    assert list(queue.missing) == [remote.TAKEOVER]


# --- the commands ----------------------------------------------------------------------------------


def tamis(*words: str) -> Result:
    return CliRunner().invoke(make_app(lambda path: RemoteQueue("")), [words[0], "-c", "x", *words[1:]])


@pytest.mark.parametrize(
    "words",
    [["list"], ["list", "--mailq"], ["flush"], ["stats"], ["delete", "--all"], ["delete", "C", "A"]],
    ids=" ".join,
)
def test_commands_say_what_is_missing(node: Node, words: list[str]) -> None:
    node.faults["worker-1.1"] = "has given no sign of life for 5 s", SILENT
    result = tamis(*words)
    assert result.exit_code == 1
    assert result.stderr == "tamis: incomplete: worker-1.1: has given no sign of life for 5 s\n"
    assert result.stdout
    assert "empty" not in result.stdout


@pytest.mark.parametrize("words", [["list"], ["stats"], ["delete", "--all"]], ids=" ".join)
def test_programs_read_what_is_missing(node: Node, words: list[str]) -> None:
    node.faults["worker-1.1"] = "has given no sign of life for 5 s", SILENT
    lines = tamis(*words, "--json").stdout.splitlines()
    assert json.loads(lines[-1])["missing"] == {"worker-1.1": "has given no sign of life for 5 s"}
    node.faults.clear()
    lines = tamis(*words, "--json").stdout.splitlines()
    assert not json.loads(lines[-1]).get("missing")


@pytest.mark.parametrize(
    ("problem", "status"),
    [
        (Unreachable("cannot reach /run/tamis/control: Permission denied"), 1),
        (QueueProblem("file:/var/lib/tamis/queue: Permission denied"), 1),
        (ConfigError((unreadable("/etc/tamis/tamis.toml", PermissionError(13, "Permission denied")),)), 78),
    ],
    ids=lambda one: type(one).__name__,
)
def test_who_may_not_is_told_who_may(problem: Exception, status: int) -> None:
    def refuse(configuration: str) -> Access:
        raise problem from cause

    cause: Exception | None = PermissionError(13, "Permission denied")
    for words in (["list"], ["flush"], ["retry", "--all"], ["export", "--all", "--to", "."]):
        result = CliRunner().invoke(make_app(refuse), words)
        who = "only root and the user of the server may see and change the queue"
        assert (result.exit_code, result.stderr) == (status, f"tamis: {who} ({problem})\n")
    cause = None
    result = CliRunner().invoke(make_app(refuse), ["list"])
    assert result.exit_code == status
    assert "only root" not in result.stderr


@pytest.mark.parametrize("words", [["list"], ["list", "--mailq"]], ids=" ".join)
def test_a_queue_that_is_not_known_is_not_called_empty(node: Node, words: list[str]) -> None:
    node.workers["worker-2.1"] = []
    node.faults["worker-1.1"] = "has given no sign of life for 5 s", SILENT
    assert tamis(*words).stdout == ""
    node.faults.clear()
    node.workers["worker-1.1"] = []
    assert "empty" in tamis(*words).stdout


@pytest.mark.parametrize("action", ["text", "json", "flush"])
def test_the_names_of_postfix_say_it_too(
    node: Node, action: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mta.sendmail_queue.open_queue", lambda path: RemoteQueue(""))
    assert run_queue(QueueOptions(action), "x") == 0
    capsys.readouterr()
    node.workers["worker-2.1"] = []
    node.faults["worker-1.1"] = "has given no sign of life for 5 s", SILENT
    assert run_queue(QueueOptions(action), "x") != 0
    assert capsys.readouterr() == (
        "",
        "postqueue: incomplete: worker-1.1: has given no sign of life for 5 s\n",
    )
