"""What an administrator may ask of a worker's queue, and what it answers: plain data in both directions.

Every question is a dictionary with "op" and what that needs:

* list: `words` (filter, see `mta.mailq.filters`), `cursor` ("" to begin), `limit`: rows, and the next cursor
* show: `id`: everything about a message but its octets
* read: `id`, `offset`: octets of header and body, in base64, at most `READ` of them
* stats: recipients by next hop, with its site, and what the dispatcher knows of each site
* act: `action`, and `ids`, or `words`, of which none mean all; `to` for redirect: those it was done to
* flush: `site` ("" for all): try now what waits
* trouble: why nothing can be queued now, "" when it can
* takeover: with `look` what dead processes have left that is nobody's yet; whether we are taking some over

What is wrong with a question raises ValueError with a text for whoever asked. Long work gives the loop its
turn and ends after `BUDGET` seconds; a list goes on with its cursor, an act with the next call.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from mailqueue.model import CorruptMessage, QueuedMessage, QueueError, UnknownMessage
from mailqueue.queue import MailQueue
from mailqueue.store.base import Blob
from mailqueue.takeover import LeftBehind
from mta.address import AddressError, parse_address
from mta.mailq.filters import Filter, parse_filter
from mta.mailq.rows import NO_SUCH_MESSAGE, QueueRow
from mta.spool.acts import ACTIONS, log_orders
from mta.spool.facts import message_facts, message_row, unreadable_row
from mta.spool.history import History
from mta.spool.service import QueueService
from mta.spool.walk import walk
from mta.supervisor.messages import ENDED, Refused

READ = 256 * 1024
"""Octets of a message in one answer."""
KEPT = 60.0
"""Seconds for which a body is kept for the next page of it."""
PAGE = 500
"""Rows in one answer, at most."""
TOGETHER = 32
"""Messages that are read from the stores, or changed there, at the same time."""
NOTES = frozenset({"retry", "hold", "release", "delete"})
"""Actions that read and store nothing but a note."""
NOTED_TOGETHER = 512
"""Messages to which these are done at the same time: they wait for the same write."""
BUDGET = 2.0
"""Seconds of looking for rows in one question."""
AGE_EDGES = tuple(60.0 * minutes for minutes in (5, 10, 20, 40, 80, 160, 320, 640, 1280))
"""Upper edges, in seconds, of the classes of age; an edge belongs to the class below it, one more class takes
what is older."""
LISTINGS = 8
"""Lists that are being read at the same time; the oldest is dropped."""


class QueueDesk:
    """Answers questions about the queue of one worker."""

    def __init__(
        self, service: QueueService, node: str, now: Callable[[], float], history: History | None = None
    ) -> None:
        """`node` is the name of this machine; `now` is seconds of the epoch."""
        self._history = History() if history is None else history
        self._service = service
        self._node = node
        self._now = now
        self._listings: dict[str, array[int]] = {}
        self._fetched: tuple[str, Blob, asyncio.TimerHandle] | None = None
        """The message that is being read, its body, and when that is forgotten."""

    async def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answer one question. Raises ValueError."""
        if question.get("op") == "trouble":
            return {"trouble": self._service.trouble}
        queue = self._service.queue
        if queue is None:
            if self._service.is_stopping:
                raise Refused("the queue is being handed over", ENDED)
            raise ValueError(
                "the queue is not open: its store does not answer, or is slow to open; the log has more"
            )
        try:
            match question.get("op"):
                case "list":
                    return await self._list(queue, question)
                case "show":
                    return await self._show(queue, str(question.get("id", "")))
                case "read":
                    return await self._read(queue, str(question.get("id", "")), int(question["offset"]))
                case "stats":
                    return await self._stats(queue)
                case "act":
                    return await self._act(queue, question)
                case "flush":
                    return await self._flush(str(question.get("site", "")))
                case "takeover":
                    return await self._takeover(queue, bool(question.get("look")))
                case other:
                    raise ValueError(f"the queue cannot be asked for {other!r}")
        except UnknownMessage as error:
            raise Refused("there is no such message", NO_SUCH_MESSAGE) from error
        except QueueError as error:
            raise ValueError(f"the queue could not do it: {error}") from error

    async def _list(self, queue: MailQueue, question: dict[str, Any]) -> dict[str, Any]:
        wanted = _filter(question)
        limit = min(int(question.get("limit") or PAGE), PAGE)
        cursor = str(question.get("cursor") or "")
        handles = self._handles(queue, cursor)
        rows: list[dict[str, Any]] = []
        until = time.monotonic() + BUDGET
        looked = 0
        while looked < len(handles) and len(rows) < limit and time.monotonic() < until:
            some = handles[looked : looked + min(TOGETHER, limit - len(rows))]
            looked += len(some)
            rows += [msgspec.to_builtins(row) for row in await self._rows(queue, some, wanted)]
        return {"rows": rows, "cursor": self._keep(cursor, handles[looked:])}

    async def _meant(self, queue: MailQueue, handles: Sequence[int], question: dict[str, Any]) -> list[str]:
        """The ids of those that the question's filter means. Without one nothing has to be read."""
        if not question.get("words"):
            return [queue.live.id_of(handle) for handle in handles if handle in queue.live]
        wanted = _filter(question)
        parts = [handles[start : start + TOGETHER] for start in range(0, len(handles), TOGETHER)]
        return [row.id for part in parts for row in await self._rows(queue, part, wanted)]

    def _handles(self, queue: MailQueue, cursor: str) -> array[int]:
        if not cursor:
            return array("Q", queue.live.handles())
        found = self._listings.pop(cursor, None)
        if found is None:
            raise ValueError("the list was not read on for too long: begin again")
        return found

    def _keep(self, cursor: str, rest: array[int]) -> str:
        if not rest:
            return ""
        while len(self._listings) >= LISTINGS:
            del self._listings[next(iter(self._listings))]
        name = cursor or secrets.token_hex(8)
        self._listings[name] = rest
        return name

    async def _rows(self, queue: MailQueue, handles: Iterable[int], wanted: Filter) -> list[QueueRow]:
        """Of these messages those that a filter means."""
        rows = await asyncio.gather(*(self._row(queue, handle) for handle in handles))
        now = self._now()
        return [row for row in rows if row is not None and wanted.matches(row, now)]

    async def _row(self, queue: MailQueue, handle: int) -> QueueRow | None:
        try:
            message = await queue.load(handle)
        except UnknownMessage:
            return None
        except CorruptMessage as error:
            return unreadable_row(queue.live, handle, str(error), self._node)
        return message_row(message, active=self._is_active(handle), node=self._node)

    def _is_active(self, handle: int) -> bool:
        runner = self._service.runner
        return runner is not None and runner.is_under_way(handle)

    async def _show(self, queue: MailQueue, name: str) -> dict[str, Any]:
        message = await queue.load(name)
        facts = message_facts(message, active=self._is_active(message.handle), node=self._node)
        tries = self._history.of(message.id)
        facts["tries"] = [
            {"at": t.at, "to": t.to, "reply": str(t.reply), "peer": t.peer, "cause": t.reply.cause}
            for t in tries
        ]
        return facts

    async def _read(self, queue: MailQueue, name: str, offset: int) -> dict[str, Any]:
        message = await queue.load(name)
        octets = message.header[offset : offset + READ]
        if len(octets) < READ:
            skip = max(0, offset - len(message.header))
            body = await self._body(message)
            for chunk in body.chunks():
                if skip >= len(chunk):
                    skip -= len(chunk)
                    continue
                octets += chunk[skip : skip + READ - len(octets)]
                skip = 0
                if len(octets) == READ:
                    break
        if offset + len(octets) >= message.size:
            self._forget_body()
        return {"octets": base64.b64encode(octets).decode("ascii"), "size": message.size}

    async def _body(self, message: QueuedMessage) -> Blob:
        """The body, fetched once for all of its pages: it may be large, and the store far away."""
        known = self._fetched
        if known is not None and known[0] == message.id:
            return known[1]
        body = await message.body.fetch()
        self._forget_body()
        forgetting = asyncio.get_running_loop().call_later(KEPT, self._forget_body)
        self._fetched = message.id, body, forgetting
        return body

    def _forget_body(self) -> None:
        if self._fetched is not None:
            self._fetched[2].cancel()
            self._fetched = None

    async def _stats(self, queue: MailQueue) -> dict[str, Any]:
        dispatcher, runner, acts = self._service.dispatcher, self._service.runner, self._service.acts
        now = self._now()
        stats = queue.stats()
        sites: defaultdict[str, _Ages] = defaultdict(_Ages)
        live = queue.live
        async for handle in walk(live):
            row = live.row(handle)
            if row.site:
                sites[row.site].add(now - row.created, row.live)
            else:
                for state in live.recipients(handle):
                    if state.status.is_live:
                        sites[state.site].add(now - row.created, 1)
        known = {} if dispatcher is None else {site.site: site for site in dispatcher.stats()}
        return {
            "stream": queue.stream,
            "messages": stats.messages,
            "recipients": stats.recipients,
            "size": stats.size,
            "latency": stats.latency,
            "under_way": 0 if runner is None else runner.under_way,
            "sites": {
                name: {**found.facts(), "site": name if acts is None else acts.site(name)}
                for name, found in sites.items()
            },
            "hops": {
                name: {
                    "in_flight": site.in_flight,
                    "window": site.window,
                    "dead_until": site.dead_until,
                    "reason": site.reason,
                }
                for name, site in known.items()
            },
        }

    async def _act(self, queue: MailQueue, question: dict[str, Any]) -> dict[str, Any]:
        acts = self._service.acts
        if acts is None:
            raise ValueError("the queue is not open")
        action = str(question.get("action", ""))
        if action not in ACTIONS:
            raise ValueError(f"the queue knows no {action!r}; there are {', '.join(ACTIONS)}")
        to = str(question.get("to", ""))
        if action == "redirect":
            try:
                parse_address(to)
            except AddressError as error:
                raise ValueError(f"{to!r} is no address: {error}") from error
        if "words" not in question and "ids" not in question:
            raise ValueError("messages are named by ids or by words; no words mean all of them")
        if "ids" in question:  # an empty list of a script means none
            here = [str(name) for name in question["ids"] if _is_here(queue, str(name))]
            done = [name for name in here if await acts.act(action, name, to)]
            log_orders(action, done, to)
            return {"done": done, "cursor": ""}
        cursor = str(question.get("cursor") or "")
        handles = self._handles(queue, cursor)
        until = time.monotonic() + BUDGET
        names: list[str] = []
        looked = 0
        while looked < len(handles) and time.monotonic() < until:
            some = handles[looked : looked + (NOTED_TOGETHER if action in NOTES else TOGETHER)]
            looked += len(some)
            meant = await self._meant(queue, some, question)
            # Together they share the writes of the log.
            worked = await asyncio.gather(*(acts.act(action, name, to) for name in meant))
            done = [name for name, did in zip(meant, worked, strict=True) if did]
            log_orders(action, done, to)
            names += done
        return {"done": names, "cursor": self._keep(cursor, handles[looked:])}

    async def _flush(self, site: str) -> dict[str, Any]:
        acts = self._service.acts
        return {"messages": 0 if acts is None else await acts.flush(site)}

    async def _takeover(self, queue: MailQueue, look: bool) -> dict[str, Any]:
        left: list[LeftBehind] = []
        problem = ""
        if look:
            try:
                async with asyncio.timeout(BUDGET):
                    left = await queue.left_behind()
            except (QueueError, TimeoutError) as error:
                reason = str(error) or "the store does not answer"
                problem = f"it is not known whether messages are still to be taken over: {reason}"
        if failing := [one.stream for one in left if one.failing]:
            problem = (
                f"messages that ended processes have left cannot be taken over: see the log about {failing}"
            )
        left = [one for one in left if not one.failing]
        return {
            "adopting": queue.is_adopting,
            "streams": len(left),
            "messages": sum(one.messages for one in left),
            "problem": problem,
        }


def _filter(question: dict[str, Any]) -> Filter:
    return parse_filter([str(word) for word in question.get("words") or ()])


def _is_here(queue: MailQueue, name: str) -> bool:
    try:
        queue.live.handle_of(name)
    except UnknownMessage:
        return False
    return True


class _Ages:
    """Messages and recipients by age, in classes that double from five minutes on (as qshape)."""

    __slots__ = ("_classes", "_messages", "_recipients")

    def __init__(self) -> None:
        self._classes = [0] * (len(AGE_EDGES) + 1)
        self._messages = self._recipients = 0

    def add(self, age: float, recipients: int) -> None:
        self._classes[bisect_left(AGE_EDGES, age)] += 1
        self._messages += 1
        self._recipients += recipients

    def facts(self) -> dict[str, Any]:
        return {"messages": self._messages, "recipients": self._recipients, "ages": self._classes}
