"""An administrator who works on the queue at random, and notes what that means for the books."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from mta.admin.client import NotRunning
from mta.mailq.rows import QueueRow
from mta.spool.remote import QueueProblem, RemoteQueue
from tests.peers.chaosbooks import WishLedger
from tests.peers.load import name_in
from tests.peers.site import Site

ACTS = ("hold", "release", "retry", "flush", "delete", "bounce", "redirect", "save", "list")


class Desk:
    """The administrator."""

    def __init__(self, server: Site, ledger: WishLedger, chance: random.Random, folder: Path) -> None:
        self.done: Counter[str] = Counter()
        self.problems: list[str] = []
        """What commands had to say that should have done their work."""
        self._server = server
        self._ledger = ledger
        self._chance = chance
        self._folder = folder
        self._numbers = itertools.count()

    async def work(self) -> None:
        """Do something."""
        act = self._chance.choice(ACTS)
        try:
            await asyncio.to_thread(self._do, act)
        except (QueueProblem, NotRunning, OSError) as problem:
            self.done[f"{act}: {problem}"[:60]] += 1
        else:
            self.done[act] += 1

    def release(self, *, flush: bool = False) -> None:
        """Let everything go that is on hold, and `flush` all, as far as somebody answers."""
        try:
            queue = RemoteQueue(str(self._server.control))
            if self.done:  # it may have been tried before it was put on hold
                self._ledger.order()
            list(queue.act("release", (), ()))
            if flush:
                queue.flush("")
        except (QueueProblem, NotRunning, OSError):
            return

    def look_offline(self) -> None:
        """Commands while no server runs."""
        for words in (("list", "--json"), ("hold", "--all"), ("release", "--all"), ("list", "--json")):
            done = self._server.run("queue", *words)
            self.done[f"offline {words[0]} {done.returncode}"] += 1
            if done.returncode:
                self.problems.append(f"{words}: {done.stdout}{done.stderr}")

    def _do(self, act: str) -> None:
        queue = RemoteQueue(str(self._server.control))
        if act in ("flush", "release", "retry"):
            self._ledger.order()
        match act:
            case "flush":
                queue.flush("")
            case "list":
                list(queue.rows(()))
                queue.stats()
            case "save":
                self._save(queue)
            case "hold" | "release" | "retry":
                some = self._some(queue)
                if some:
                    list(queue.act(act, [row.id for row in some], ()))
                elif act == "release":
                    list(queue.act(act, (), ()))
            case _:
                for row in self._some(queue)[:2]:
                    self._change(queue, act, row)

    def _some(self, queue: RemoteQueue) -> list[QueueRow]:
        """Some messages of users."""
        rows = [row for row in queue.rows(()) if row.sender]
        return self._chance.sample(rows, min(len(rows), self._chance.choice((1, 2, 5))))

    def _change(self, queue: RemoteQueue, act: str, row: QueueRow) -> None:
        facts = self._facts(queue, row.id)
        if facts is None:
            return
        name = name_in(facts["header"].encode())
        # Before it is done: a report may be there at once.
        self._ledger.touched.add(name)
        to = f"kept-{next(self._numbers)}@example.test" if act == "redirect" else ""
        addresses = {(name, one["address"]) for one in facts["row"]["recipients"]}
        self._ledger.may_be_instead.add((name, to))
        try:
            done = list(queue.act(act, [row.id], (), to))
        except (QueueProblem, NotRunning, OSError):  # it may have been done all the same
            self._ledger.gone |= addresses
            raise
        if done:
            self._ledger.gone |= addresses
        if done and to:
            self._ledger.instead.add((name, to))

    def _facts(self, queue: RemoteQueue, name: str) -> dict[str, Any] | None:
        try:
            return queue.show(name)
        except QueueProblem:
            return None  # delivered meanwhile

    def _save(self, queue: RemoteQueue) -> None:
        """Export, wait, and import: what was delivered since comes again."""
        folder = self._folder / f"export-{next(self._numbers)}"
        done = self._server.run("queue", "export", "--all", "--to", str(folder))
        if not folder.exists():
            raise QueueProblem(f"export: {done.stderr}")
        for path in folder.glob("*.json"):
            facts = json.loads(path.read_text())
            name = name_in(path.with_suffix(".eml").read_bytes())
            self._ledger.touched.add(name)
            self._ledger.unsure.update({(name, one["address"]): 1 for one in facts["recipients"]})
        done = self._server.run("queue", "import", str(folder))
        shutil.rmtree(folder)
        if done.returncode:
            raise QueueProblem(f"import: {done.stderr}")
