"""Sites whose queue matters: what waits in it, and books that must balance in the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from mailqueue.inspect import Inspection
from mailqueue.store.file import FileStore
from mta.admin.client import NotRunning
from mta.mailq.rows import QueueRow
from mta.spool.remote import QueueProblem, RemoteQueue
from tests.dialog.backend import ScriptedStore
from tests.peers.load import Books, Load, copies, sink_backend
from tests.peers.objectservers import ObjectServer
from tests.peers.running import PATIENCE, children_of, until
from tests.peers.site import Site, site

QUICK = 'retry = ["1s"]\n'
"""Tries every second."""
NEVER = 'takeover = "1h"\n'
"""Whoever waited for the silence of another process would wait too long for any test."""
SHORT = 'takeover = "3s"\n'
SHORT_GOOGLE = 'takeover = "5s"\n'
"""With less, heartbeats would be too many for Google."""
BUCKET = "queue"
CONNECTIONS = 10
"""Of a node to the back end, at most."""


def bucket(folder: Path, server: ObjectServer, space: str, more: str = "", credentials: bool = True) -> str:
    """The section of a store `shared`: a place of its own in the bucket `BUCKET`.

    Without `credentials` they have to be in the environment (`server.environment()`).
    """
    return f"""[queue_stores.shared]
url = "{server.scheme}://{BUCKET}/{space}"
endpoints = ["{server.endpoint}"]
allow_http = true
{server.configured(folder) if credentials else ""}{more}"""


def rows(server: Site, *words: str) -> list[QueueRow]:
    """The messages in the queues of all workers that a filter means; empty as long as nobody answers."""
    try:
        return list(RemoteQueue(str(server.control)).rows(words))
    except (QueueProblem, NotRunning, OSError):
        return []


def waiting(server: Site) -> int | None:
    """How many messages the queues of all workers have; None while one of them cannot tell."""
    try:
        queue = RemoteQueue(str(server.control))
        number = sum(1 for _ in queue.rows(()))
        return None if queue.missing else number
    except (QueueProblem, NotRunning, OSError):
        return None


@contextlib.contextmanager
def queue_site(
    directory: Path, environment: Mapping[str, str] | None = None, /, **settings: str | int
) -> Iterator[Site]:
    """A site (`tests.peers.site.site`) that can queue: workers take mail, and deliver it, before they can."""
    with site(directory, environment, **settings) as server:
        until(lambda: waiting(server) is not None, "an open queue")
        yield server


@contextlib.contextmanager
def node(
    folder: Path,
    name: str,
    shared: str,
    sink: ScriptedStore,
    queue: str = QUICK,
    *,
    disk: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Site]:
    """One of several nodes on the store that the section `shared` describes, with one worker to spare the
    machine; `disk`: and a folder of its own."""
    (folder / name).mkdir()
    stores = '"disk", "shared"' if disk else '"shared"'
    short = SHORT_GOOGLE if '"gs:' in shared else SHORT
    words = f'{queue}{short}node = "{name}"\nstores = [{stores}]\n'
    if disk:
        shared += f'[queue_stores.disk]\nurl = "file:{folder}/{name}/disk"\n'
    with queue_site(
        folder / name,
        environment,
        queue=words,
        backend=f"{sink_backend(sink)}max_connections = {CONNECTIONS}\n",
        recipients="all",
        workers=1,
        more=shared,
    ) as server:
        yield server


def flush(server: Site) -> None:
    """Try now what waits, as far as somebody answers."""
    try:
        RemoteQueue(str(server.control)).flush("")
    except (QueueProblem, NotRunning, OSError):
        return


async def drained(
    *servers: Site, books: Sequence[Books], sink: ScriptedStore, seconds: float = 2 * PATIENCE
) -> None:
    """Wait until all that was accepted has arrived and nothing waits anywhere, with a push now and then.

    An empty queue alone says little: what a dead process had may not have been adopted yet.
    """
    wanted = set().union(*(each.accepted for each in books))

    def empty() -> bool:
        for server in servers:
            flush(server)
        return copies(sink).keys() >= wanted and all(waiting(server) == 0 for server in servers)

    def what() -> str:
        missing = sorted(wanted - copies(sink).keys())
        here = "\n".join(f"{[row.id for row in rows(s)][:20]}\n{s.log()[-3000:]}" for s in servers)
        return f"{len(missing)} missing: {missing[:20]}\n{here}"

    try:
        await asyncio.to_thread(until, empty, "an empty queue", seconds)
    except AssertionError as error:
        raise AssertionError(f"{error}; {what()}") from error


async def noted(folder: Path) -> None:
    """Wait until the store itself says that nothing waits: that all is delivered is written down, so that not
    even a kill makes anything come twice."""

    async def left() -> int:
        store = FileStore(str(folder))
        try:
            return len(await Inspection.open(store))
        finally:
            await store.close()

    await asyncio.to_thread(until, lambda: asyncio.run(left()) == 0, "the notes that all is delivered")


def kill_all(server: Site) -> None:
    """kill -9 of the supervisor and all its children, as by a power cut."""
    process = server.process
    assert process is not None
    # The supervisor must not see its children die.
    process.send_signal(signal.SIGSTOP)
    for pid in children_of(process.pid):
        os.kill(pid, signal.SIGKILL)
    process.kill()
    process.wait()


def send_all(server: Site, number: signal.Signals) -> None:
    """A signal to the supervisor and all its children: to stop them, the supervisor first."""
    process = server.process
    assert process is not None
    pids = [process.pid, *children_of(process.pid)]
    for pid in pids if number is signal.SIGSTOP else reversed(pids):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def kill_worker(server: Site, turn: int) -> None:
    """kill -9 of one worker, another one each turn."""
    mine = sorted(pid for name, pid in server.workers().items() if name.startswith("worker"))
    os.kill(mine[turn % len(mine)], signal.SIGKILL)


def balance(
    books: Books, sink: ScriptedStore, may_be_double: Callable[[str], bool] = lambda name: False
) -> int:
    """All that was answered 250 is in the sink, once; returns how many are there more than once.

    Twice may be what the client itself had to repeat without knowing, and what `may_be_double` says.
    """
    assert books.pending == [], books.results
    stored = copies(sink)
    assert books.accepted - stored.keys() == set(), f"{len(books.accepted - stored.keys())} lost"
    double = Counter({name: number - 1 for name, number in stored.items() if number > 1})
    wrong = [name for name in double if not books.may_be_double(name) and not may_be_double(name)]
    assert wrong == [], f"{len(wrong)} twice without reason: {[(n, books.tries[n]) for n in wrong[:5]]}"
    return sum(double.values())


async def burns(
    a: Site, b: Site, sink: ScriptedStore, count: int, with_it: Callable[[], None] = lambda: None
) -> None:
    """`a` accepts mail while nobody takes it, is killed, and what burns `with_it` is gone, too; `b` delivers
    all of the mail, once."""
    port = sink.port
    await sink.stop()
    load = Load(a.smtp, clients=6, messages_per_session=5)
    async with load:
        await load.grow(count)
    await asyncio.to_thread(kill_all, a)
    with_it()
    accepted = len(load.books.accepted)
    await asyncio.to_thread(until, lambda: waiting(b) == accepted, "the mail of the other node")
    await sink.start(port)
    await drained(b, books=[load.books], sink=sink)
    assert balance(load.books, sink) == 0
    await asyncio.to_thread(b.stop)
