"""The store as a server: listening sockets, sessions, writing threads, a clean stop.

`StoreServer` has the life cycle that the supervisor gives every process: `start`, `drain`, `snapshot`.
`run` is the whole process for those who start it by hand: it serves until SIGTERM or SIGINT.

Messages are written by a pool of threads; the event loop never waits for a disk. What waits for a thread is
bounded by the number of sessions, for a session has one message at a time.

Stopping: the sockets are closed first; sessions between two messages are told 421 at once, the others after
their current message; what is left after the drain time-out is cut off. Writing that has begun is always
finished, whether or not anybody waits for the answer.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import uvloop

from mailqueue.threads import started_pool
from mta import log as logs
from mta.address import Address
from mta.content import Content
from mta.lastgood import NOBODY, LastGood
from mta.reply import Reply
from mta.socketfile import KEEP
from mta.store.deliver import Deliverer, Done
from mta.store.lmtp import Accepted, StoreSession, Transaction, stopping
from mta.store.mailboxes import Destination, Mailboxes, destination
from mta.store.maildir import UniqueNames, sweep
from mta.store.quota import Ledger, Quota
from mta.store.settings import StoreSettings
from mta.store.turns import PATIENCE, Turns
from mta.store.users import UsersFileMailboxes

if TYPE_CHECKING:
    from mta.store.scripts import UserScripts
    from mta.store.submission import Submission

log = logs.get("store")

UNKNOWN_USER = Reply(550, "5.1.1", "User unknown")
DISABLED_USER = Reply(550, "5.2.1", "Mailbox disabled")
BUSY = Reply(451, "4.3.2", "Too many messages are being sent on", cause="no thread to send mail of a script")
SENDERS = 16
"""Threads of deliveries whose script sends mail. Not those that store: what is sent may come back to be
stored, and the server waits for that."""
ANSWERERS = 8
"""Threads that send answers, which nobody waits for: what is slow is most often a forged sender's server."""
TURN = 5.0
"""Seconds that such a delivery waits for one of them. Less than `mta.store.submission.TIMEOUT`: where all
send mail that comes back to be sent on again, those that wait for a turn give way."""


class StoreServer:
    """An LMTP server over a set of mailboxes."""

    def __init__(
        self,
        settings: StoreSettings,
        sockets: Sequence[socket.socket],
        mailboxes: Mailboxes,
        *,
        spill_directory: str | None = None,
    ) -> None:
        """Serve `mailboxes` on listening sockets, which the server owns from now on.

        `spill_directory` is for messages over 1 MiB while they arrive; None for the system's. Raises OSError
        when the system has no threads to give.
        """
        self.hostname = settings.hostname
        self.size_limit = settings.size_limit
        self.recipient_limit = settings.recipient_limit
        self.spill_directory = spill_directory
        self.stopping = False
        self._settings = settings
        self._sockets = list(sockets)
        self._mailboxes = mailboxes
        self._allowed = [ip_network(network) for network in settings.allow]
        self._deliverer = Deliverer(
            Path(settings.root),
            UniqueNames(settings.hostname),
            Ledger(),
            settings.over_quota,
            settings.detail_folders,
            *self._scripts(settings),
        )
        self._pool = started_pool(settings.writers, "store")
        self._senders = Turns(SENDERS if settings.state_directory else 1, "send")
        self._answerers = Turns(ANSWERERS if settings.state_directory else 1, "answer")
        self._deliveries: set[asyncio.Task[Any]] = set()
        self._servers: list[asyncio.AbstractServer] = []
        self._sessions: set[StoreSession] = set()
        self._none_left = asyncio.Event()
        self._recipients: Counter[str] = Counter()
        self._octets = 0
        self._sweep: asyncio.Future[int] | None = None
        self._refused_connections: Counter[str] = Counter()

    def _scripts(self, settings: StoreSettings) -> tuple[UserScripts, Submission] | tuple[()]:
        state, name = settings.state_directory, settings.hostname
        if not state:
            return ()
        from mta.store.scripts import UserScripts
        from mta.store.submission import Submission

        def tell(user: str, text: str) -> None:
            log.warning("user script", user=user, reason=text)

        return (
            UserScripts(state, name, tell, settings.recipient_delimiters, settings.trusted),
            Submission(settings.submit, name, settings.submit_deadline, settings.trusted),
        )

    async def start(self) -> None:
        """Accept connections from here on. Raises OSError when the root folder cannot be made."""
        self._loop = asyncio.get_running_loop()
        # aiosmtpd logs each command at level "info".
        logging.getLogger("mail.log").setLevel(logging.WARNING)
        root = Path(self._settings.root)
        await self._loop.run_in_executor(
            self._pool, partial(root.mkdir, mode=0o700, parents=True, exist_ok=True)
        )
        self._sweep = self._loop.run_in_executor(self._pool, sweep, root, time.time())
        for listening in self._sockets:
            if listening.family == socket.AF_UNIX:
                server = await self._loop.create_unix_server(lambda: _Gate(self), sock=listening, **KEEP)
            else:
                server = await self._loop.create_server(lambda: _Gate(self), sock=listening)
            self._servers.append(server)

    async def drain(self, seconds: float) -> None:
        """Stop: accept nothing more, let sessions end their message within `seconds`, then cut them off."""
        self.stopping = True
        for server in self._servers:
            server.close()
        farewell = stopping(self.hostname)
        for session in list(self._sessions):
            if session.is_idle:
                session.leave(farewell)
        if self._sessions:
            try:
                async with asyncio.timeout(seconds):
                    await self._none_left.wait()
            except TimeoutError:
                for session in list(self._sessions):
                    session.leave(farewell)
        # Not in the loop's thread: the last flush may take its time.
        for pool in (self._pool, self._senders, self._answerers):
            await asyncio.to_thread(pool.shutdown)

    def snapshot(self) -> dict[str, Any]:
        """Counters since the start: recipients by class of reply, octets stored, sessions open."""
        return {
            "sessions": len(self._sessions),
            "recipients": dict(self._recipients),
            "octets": self._octets,
            "refused_connections": dict(self._refused_connections),
        }

    # -- what a session asks (`mta.store.lmtp.Host`)

    def find(self, address: Address) -> Destination | Reply:
        """Where mail for an address goes, or why it does not."""
        try:
            found = destination(self._mailboxes, address, self._settings.recipient_delimiters)
        except OSError as error:
            log.error("users file cannot be read", error=str(error))
            return Reply(451, "4.3.0", "Mail store failure", cause=str(error))
        if found is None:
            self._recipients["unknown"] += 1
            return UNKNOWN_USER
        if found.mailbox.disabled:
            self._recipients["disabled"] += 1
            return DISABLED_USER
        return found

    async def room(self, target: Destination, size: int) -> Reply | None:
        """The refusal of a full mailbox, None when there is room."""
        if self._deliverer.is_roomy(target, size):
            return None
        reply = await self._loop.run_in_executor(self._pool, self._deliverer.room, target, size)
        if reply is not None:
            self._count(reply)
            if reply.cause:
                log.error("mailbox cannot be checked", mailbox=str(target.mailbox.path), error=reply.cause)
        return reply

    def deliver(
        self, accepted: list[Accepted], content: Content, sender: Address
    ) -> list[asyncio.Future[Reply]]:
        """Begin to store a message; one reply for each of `accepted`, in this order.

        A recipient that was named twice gets one copy and two replies.
        """
        first: dict[tuple[Path, str], Accepted] = {}
        for one in accepted:
            first.setdefault((one.destination.mailbox.path, one.address.key), one)
        if self._settings.share_copies and len(first) > 1 and self._deliverer.scripts is None:
            futures = self._deliver_shared(list(first.values()), content, sender)
        else:
            futures = [self._begin(one, content, sender) for one in first.values()]
        by_key = dict(zip(first, futures, strict=True))
        return [by_key[(one.destination.mailbox.path, one.address.key)] for one in accepted]

    def _begin(self, one: Accepted, content: Content, sender: Address) -> asyncio.Future[Reply]:
        task = self._keep(self._deliver_one(one, content, sender))
        return asyncio.shield(task)  # it goes on when the client has gone

    def _keep(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self._loop.create_task(work)
        self._deliveries.add(task)
        task.add_done_callback(self._deliveries.discard)
        return task

    async def _deliver_one(self, one: Accepted, content: Content, sender: Address) -> Reply:
        """Store a message for one recipient. Raises nothing: the others of the message have their replies."""
        deliver = partial(self._deliverer.deliver, one.destination, content, sender, one.address.text)
        try:
            found = await self._loop.run_in_executor(self._pool, deliver)
            if isinstance(found, Done):
                self._keep(self._answer(found.answers))
                return found.reply
            return found if isinstance(found, Reply) else await self._senders.take(found, TURN)
        except TimeoutError:
            return BUSY
        except Exception as error:  # noqa: BLE001 - an error of our own making
            self.failed(error)
            return Reply(451, "4.3.0", "Mail store failure", cause=repr(error))

    async def _answer(self, answers: Callable[[], None]) -> None:
        """Send what answers a stored message. Nobody waits for it, nor does mail that is sent on."""
        try:
            await self._answerers.take(answers, PATIENCE)
        except TimeoutError:
            log.warning("an answer is not sent", reason=BUSY.cause)
        except Exception as error:  # noqa: BLE001 - an error of our own making
            self.failed(error)

    def _deliver_shared(
        self, accepted: list[Accepted], content: Content, sender: Address
    ) -> list[asyncio.Future[Reply]]:
        targets = [one.destination for one in accepted]
        job = self._loop.run_in_executor(self._pool, self._deliverer.deliver_shared, targets, content, sender)

        async def one_of(number: int) -> Reply:
            return (await asyncio.shield(job))[number]

        return [self._loop.create_task(one_of(number)) for number in range(len(targets))]

    def failed(self, error: Exception) -> None:
        """Log an error of our own making."""
        log.error("internal error", exc_info=error)

    def stored(
        self, peer: str, transaction: Transaction, size: int, replies: list[Reply], seconds: float
    ) -> None:
        """Log and count a message that has been answered."""
        for reply in replies:
            self._count(reply)
            if reply.code == 250:
                self._octets += size
        sender = transaction.sender
        log.info(
            "stored" if all(reply.code == 250 for reply in replies) else "not stored for all",
            peer=peer,
            sender="" if sender is None else sender.text,
            size=size,
            seconds=round(seconds, 4),
            recipients={
                one.address.text: f"{reply} ({reply.cause})" if reply.cause else str(reply)
                for one, reply in zip(transaction.accepted, replies, strict=True)
            },
        )

    def ended(self, session: StoreSession) -> None:
        """The connection is closed."""
        self._sessions.discard(session)
        if not self._sessions:
            self._none_left.set()

    # -- connections

    def admit(self, transport: asyncio.Transport) -> StoreSession | Reply:
        """A session for a new connection, or why it is refused."""
        peer = transport.get_extra_info("peername")
        name = peer[0] if isinstance(peer, tuple) else "unix"
        if isinstance(peer, tuple) and not self._may_connect(peer[0]):
            self._refused_connections["network"] += 1
            return Reply(554, "5.7.1", "You may not deliver here", close=True)
        if self.stopping:
            return stopping(self.hostname)
        if len(self._sessions) >= self._settings.max_sessions:
            self._refused_connections["busy"] += 1
            return Reply(421, "4.3.2", "Too many sessions", close=True)
        session = StoreSession(self, name, self._settings.timeout, self._loop)
        self._sessions.add(session)
        self._none_left.clear()
        return session

    def _may_connect(self, host: str) -> bool:
        address = ip_address(host.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._allowed)

    def _count(self, reply: Reply) -> None:
        if reply.is_positive:
            self._recipients["stored"] += 1
        elif reply.enhanced in ("5.2.2", "4.2.2"):
            self._recipients["over_quota"] += 1
        else:
            self._recipients["failed"] += 1


class _Gate(asyncio.Protocol):
    """The first protocol of a connection: refuses it, or hands it to a session, which is dear to make."""

    def __init__(self, server: StoreServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of asyncio.Transport but do not descend from it.
        stream = cast(asyncio.Transport, transport)
        match self._server.admit(stream):
            case Reply() as refusal:
                stream.write(refusal.encode())
                stream.close()
            case session:
                stream.set_protocol(session)
                session.connection_made(stream)


def mailboxes_of(settings: StoreSettings, good: LastGood = NOBODY) -> UsersFileMailboxes:
    """The mailboxes that `settings` describe. `good` has what others have read. Raises UsersFileError."""
    quota = Quota(settings.quota_octets, settings.quota_messages)
    wrong = "users file is wrong, the users stay as they were"
    return UsersFileMailboxes(
        settings.users_file, Path(settings.root), quota,
        on_error=lambda error: log.error(wrong, error=str(error)), good=good,
    )  # fmt: skip


def bind(listen: Sequence[str]) -> list[socket.socket]:
    """Listening sockets for "host:port", "[host]:port" and "unix:path"; an old socket file is replaced.

    Raises OSError, and ValueError for anything else.
    """
    sockets: list[socket.socket] = []
    try:
        for text in listen:
            if text.startswith("unix:"):
                path = Path(text.removeprefix("unix:"))
                unix = socket.socket(socket.AF_UNIX)
                sockets.append(unix)
                if path.is_socket():
                    path.unlink()
                unix.bind(str(path))
                path.chmod(0o660)
                unix.listen()
            else:
                host, _, port = text.rpartition(":")
                host = host.strip("[]")
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                sockets.append(socket.create_server((host, int(port)), family=family))
    except BaseException:
        for bound in sockets:
            bound.close()
        raise
    return sockets


def run(settings: StoreSettings, sockets: Sequence[socket.socket], mailboxes: Mailboxes) -> None:
    """Serve in this process until SIGTERM or SIGINT, then finish what is being delivered and return."""

    async def serve() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        server = StoreServer(settings, sockets, mailboxes)
        await server.start()
        log.info("store is open", addresses=[str(s.getsockname()) for s in sockets], root=settings.root)
        await stop.wait()
        await server.drain(settings.drain_timeout)
        log.info("store is closed")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
