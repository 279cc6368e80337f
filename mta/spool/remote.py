"""The queue of a running server, for the command line: every worker is asked over the control socket.

Messages change hands between workers: those of a worker that has ended are taken over by the others within
some seconds. An answer that is asked for meanwhile would lack them, so it is waited for that first
(`PATIENCE`), and when workers end while others are asked, all are asked once more. What an answer lacks all
the same, because a worker does not answer or a takeover lasts, is in `RemoteQueue.missing`.
"""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import msgspec

from mta.admin.client import ask
from mta.admin.control import Request
from mta.mailq.rows import NO_SUCH_MESSAGE, QueueRow
from mta.supervisor.messages import ENDED, SILENT

PATIENCE = 15.0
"""Seconds to wait until workers have taken over what others have left; mostly it takes two."""
LOOK = 0.2
"""Seconds between two looks at that."""
QUIET = 1.0
"""Seconds of waiting of which nothing is said."""
TOGETHER = 8
"""Workers asked at the same time: other administrators need some of the server's connections."""
TAKEOVER = "takeover"
"""The name in `missing` for messages that are nobody's at the moment."""

Question = dict[str, Any]


class QueueProblem(Exception):
    """The queue could not be asked, or refused; the text is for the administrator."""

    def __init__(self, text: str, code: str = "") -> None:
        """`code` is that of the worker's answer (`mta.supervisor.messages.Refused`)."""
        super().__init__(text)
        self.code = code


class RemoteQueue:
    """`mta.cli_queue_common.Access` of a running server. Raises `NotRunning` when there is none."""

    def __init__(self, socket: str) -> None:
        """`socket` is the path of the control socket."""
        self._socket = socket
        self.missing: dict[str, str] = {}
        """What the last answer lacks: why, by worker, or under `TAKEOVER`. Empty when it is whole."""
        self._workers: dict[str, int] = {}
        """The process of each, those first who may hand over to the ones behind them."""
        self._starting: list[str] = []
        self._has_ended = False
        """A worker has ended that was to be asked."""
        self._has_answered = False
        self._look_who_is_there()

    def reading(self) -> AbstractContextManager[None]:
        """Nothing has to be opened for it."""
        return nullcontext()

    def rows(self, words: Sequence[str]) -> Iterator[QueueRow]:
        """The messages that a filter means."""
        seen: set[str] = set()
        for workers in self._rounds():
            for worker in workers:
                for page in self._pages(worker, {"op": "list", "words": list(words)}):
                    rows = msgspec.convert(page["rows"], list[QueueRow])
                    yield from (row for row in rows if row.id not in seen)
                    seen.update(row.id for row in rows)

    def show(self, name: str) -> dict[str, Any]:
        """Everything about a message."""
        return self._first(lambda worker: self._ask(worker, {"op": "show", "id": name}), name)

    def octets(self, name: str) -> Iterator[bytes]:
        """Header and body of a message."""
        worker = self._first(lambda worker: {"worker": worker, **self._read(worker, name, 0)}, name)["worker"]
        offset = 0
        while True:
            page = self._read(worker, name, offset)
            octets = base64.b64decode(page["octets"])
            if not octets:
                return
            yield octets
            offset += len(octets)
            if offset >= page["size"]:
                return

    def act(self, action: str, ids: Sequence[str], words: Sequence[str], to: str = "") -> Iterator[str]:
        """Do something to messages by ids, or to all that a filter means; the ids of those it was done to."""
        question: Question = {"op": "act", "action": action, "to": to}
        question |= {"ids": list(ids)} if ids else {"words": list(words)}
        done: set[str] = set()
        for number, workers in enumerate(self._rounds()):
            if number and action == "redirect" and not ids:
                # What a filter means may be what was redirected before.
                self.missing[TAKEOVER] = "a worker has ended meanwhile: look for messages that it has left"
                return
            for worker in workers:
                for page in self._pages(worker, question):
                    yield from (name for name in page["done"] if name not in done)
                    done.update(page["done"])
                if ids and done.issuperset(ids):
                    self.missing.clear()
                    return

    def stats(self) -> dict[str, dict[str, Any]]:
        """What each worker knows of next hops."""
        found = {}
        for workers in self._rounds():
            found = self._together(workers, {"op": "stats"})
        return found

    def flush(self, site: str) -> int:
        """Try now what waits; how many messages. All workers begin at once: each has answered only when it
        has been through its messages, while it delivers them already."""
        number = 0
        for workers in self._rounds():
            answers = self._together(workers, {"op": "flush", "site": site})
            number = sum(int(answer["messages"]) for answer in answers.values())
        return number

    # --- who is asked ------------------------------------------------------------------------------

    def _rounds(self) -> Iterator[list[str]]:
        """The workers to be asked, again when some have ended before they had answered.

        Raises QueueProblem when not one of them has.
        """
        until = time.monotonic() + PATIENCE
        self._has_answered = False
        while True:
            self._settle(until)
            asked, self._has_ended = self._workers, False
            yield [worker for worker in asked if worker not in self.missing]
            self._look_who_is_there()
            # A seat has the same name when another process has taken it.
            if not self._has_ended and all(self._workers.get(name) == pid for name, pid in asked.items()):
                break
            if time.monotonic() >= until:
                self.missing[TAKEOVER] = "workers have ended meanwhile: their messages may be missing"
                break
        if self.missing and not self._has_answered:
            worker, problem = next(iter(self.missing.items()))
            raise QueueProblem(f"{worker}: {problem}")

    def _settle(self, until: float) -> None:
        """Wait until every message is some worker's, or say that not all are."""
        loud = time.monotonic() + QUIET
        self.missing.pop(TAKEOVER, None)
        while pending := self._pending():
            now = time.monotonic()
            if now >= until:
                self.missing[TAKEOVER] = pending
                return
            if now >= loud:
                loud = until
                print(f"tamis: waiting: {pending}", file=sys.stderr)
            time.sleep(LOOK)

    def _pending(self) -> str:
        """Why messages may be nobody's that it can be asked for, "" when all are somebody's."""
        self._look_who_is_there()
        if self._starting:
            return f"{', '.join(self._starting)}: still starting"
        self._has_ended = False
        for worker in reversed(self._workers):
            looked = self._asked(worker, {"op": "takeover", "look": True}, (SILENT,))
            if looked:
                break
        else:
            looked = {}  # nobody can tell; the question itself will say why
        # Only now: who has entered what was his by the stores a moment ago has it in memory.
        answers = self._together(list(self._workers), {"op": "takeover"}, (SILENT,))
        if looked.get("streams") or self._has_ended or any(one["adopting"] for one in answers.values()):
            number = looked.get("messages", 0)
            some = f"about {number} messages" if number else "messages"
            return f"{some} of workers that have ended are still being taken over"
        if problem := looked.get("problem"):
            self.missing[TAKEOVER] = problem
        return ""

    def _look_who_is_there(self) -> None:
        answer = ask(self._socket, Request("queue"))
        if not answer.ok or answer.result is None:
            raise QueueProblem(answer.error)
        names = answer.result["workers"]
        # A supervisor of before an update says less.
        self._workers = answer.result.get("pids") or dict.fromkeys(names, 0)
        self._starting = answer.result.get("starting", [])
        if not names and not self._starting:
            raise QueueProblem("no worker of the server runs at the moment; `tamis status` has more")

    # --- how they are asked ------------------------------------------------------------------------

    def _read(self, worker: str, name: str, offset: int) -> dict[str, Any]:
        return self._ask(worker, {"op": "read", "id": name, "offset": offset})

    def _pages(self, worker: str, question: Question) -> Iterator[dict[str, Any]]:
        cursor = ""
        while True:
            page = self._asked(worker, {**question, "cursor": cursor})
            if page is None:
                return
            yield page
            cursor = page["cursor"]
            if not cursor:
                return

    def _together(
        self, workers: Sequence[str], question: Question, codes: Sequence[str] | None = None
    ) -> dict[str, dict[str, Any]]:
        """The answers of those who have answered; all are asked at the same time."""
        wanted = [worker for worker in workers if worker not in self.missing]
        with ThreadPoolExecutor(TOGETHER) as threads:
            answers = threads.map(lambda worker: self._asked(worker, question, codes), wanted)
            return {worker: found for worker, found in zip(wanted, answers, strict=True) if found is not None}

    def _asked(
        self, worker: str, question: Question, codes: Sequence[str] | None = None
    ) -> dict[str, Any] | None:
        """The answer; None when there is none. Why is in `missing` then, with `codes` only for these."""
        if worker in self.missing:
            return None
        try:
            return self._ask(worker, question)
        except QueueProblem as problem:
            if problem.code == ENDED:
                self._has_ended = True
            elif codes is None or problem.code in codes:
                self.missing[worker] = str(problem)
            return None

    def _first(self, call: Callable[[str], dict[str, Any]], name: str) -> dict[str, Any]:
        """The answer of the worker that has a message."""
        problem = ""
        for again in (False, True):
            if again:
                self._settle(time.monotonic() + PATIENCE)
            for worker in self._workers:
                try:
                    return call(worker)
                except QueueProblem as error:
                    if error.code not in (NO_SUCH_MESSAGE, ENDED):
                        problem = problem or f"{worker}: {error}"
        problem = problem or next((f"{where}: {why}" for where, why in self.missing.items()), "")
        if problem:
            raise QueueProblem(f"{problem}; no other worker has message {name}")
        raise QueueProblem(f"there is no message {name} in the queue")

    def _ask(self, worker: str, question: Question) -> dict[str, Any]:
        answer = ask(self._socket, Request("queue", worker=worker, data=question))
        if not answer.ok or answer.result is None:
            raise QueueProblem(answer.error or "no answer", answer.code)
        self._has_answered = True
        return answer.result
