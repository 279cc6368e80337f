"""The queue of a running server, for the command line: every worker is asked over the control socket."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import msgspec

from mta.admin.client import ask
from mta.admin.control import Request
from mta.mailq.rows import NO_SUCH_MESSAGE, QueueRow

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
        answer = ask(socket, Request("queue"))
        if not answer.ok or answer.result is None:
            raise QueueProblem(answer.error)
        self._workers: list[str] = answer.result["workers"]

    def reading(self) -> AbstractContextManager[None]:
        """Nothing has to be opened for it."""
        return nullcontext()

    def rows(self, words: Sequence[str]) -> Iterator[QueueRow]:
        """The messages that a filter means."""
        for worker in self._workers:
            for page in self._pages(worker, {"op": "list", "words": list(words)}):
                yield from msgspec.convert(page["rows"], list[QueueRow])

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
        for worker in self._workers:
            for page in self._pages(worker, question):
                yield from page["done"]

    def stats(self) -> dict[str, dict[str, Any]]:
        """What each worker knows of next hops."""
        return {worker: self._ask(worker, {"op": "stats"}) for worker in self._workers}

    def flush(self, site: str) -> int:
        """Try now what waits; how many messages. All workers begin at once: each has answered only when it
        has been through its messages, while it delivers them already."""
        question: Question = {"op": "flush", "site": site}
        with ThreadPoolExecutor(max(1, len(self._workers))) as threads:
            answers = list(threads.map(lambda worker: self._ask(worker, question), self._workers))
        return sum(int(answer["messages"]) for answer in answers)

    def _read(self, worker: str, name: str, offset: int) -> dict[str, Any]:
        return self._ask(worker, {"op": "read", "id": name, "offset": offset})

    def _pages(self, worker: str, question: Question) -> Iterator[dict[str, Any]]:
        cursor = ""
        while True:
            page = self._ask(worker, {**question, "cursor": cursor})
            yield page
            cursor = page["cursor"]
            if not cursor:
                return

    def _first(self, call: Callable[[str], dict[str, Any]], name: str) -> dict[str, Any]:
        """The answer of the worker that has a message."""
        problem = f"there is no message {name} in the queue"
        for worker in self._workers:
            try:
                return call(worker)
            except QueueProblem as error:
                if error.code != NO_SUCH_MESSAGE:
                    problem = str(error)
        raise QueueProblem(problem)

    def _ask(self, worker: str, question: Question) -> dict[str, Any]:
        answer = ask(self._socket, Request("queue", worker=worker, data=question))
        if not answer.ok or answer.result is None:
            raise QueueProblem(f"{worker}: {answer.error}" if answer.error else "no answer", answer.code)
        return answer.result
