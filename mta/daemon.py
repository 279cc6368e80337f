"""A worker's mail server: everything concrete is put together here and nowhere else.

`prepare` builds, from the innermost to the outermost: limits, transports, policy, transactions, login,
certificates, listeners; only after it `start` accepts clients. `drain` goes the other way. What is wrong
with the set-up (a certificate, the users file, a table) comes out of `prepare` as ValueError or OSError with
a text for the administrator.

What only some configurations need is imported where it is built: it would be a tenth of a worker's start.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from mta import assembly, config, log
from mta.accounts.authenticator import SessionAuthenticator
from mta.daemon_authn import build_evaluator, build_signer, build_stamper, sign_report, wants_dmarc_reports
from mta.daemon_authorities import with_authorities
from mta.daemon_certificates import Refusals, build_tls
from mta.daemon_director import Directors
from mta.daemon_dns import build_resolver
from mta.daemon_filters import build_programs
from mta.daemon_login import build_authenticator
from mta.daemon_policy import NO_TABLES, build_ledger, build_policy, build_tables, networks, tell
from mta.daemon_queue import build_queue
from mta.daemon_scripts import policy_files
from mta.daemon_transports import build_transports
from mta.delivery.fixed import FixedTransport
from mta.delivery.outcome import PooledTransport
from mta.delivery.transact import listening
from mta.etrn import Etrn
from mta.gauges import measure
from mta.identifiers import Identifiers
from mta.journal import LogJournal
from mta.lastgood import KeptFiles, secrets_reader
from mta.metrics import Stats
from mta.net.admission import Factory
from mta.net.arrival import Arrival
from mta.net.connection import Connection, Timeouts
from mta.net.connections import Connections
from mta.net.limits import Limits
from mta.net.listener import Listener
from mta.net.noise import quieten
from mta.net.overload import Level
from mta.net.tls import CertificateError, ServerTls
from mta.policy.verdict import Policy
from mta.policy.watched import TableError
from mta.receiver import Receiver
from mta.reception import Reception
from mta.smtp.server import ServerSession
from mta.spool.addressing import Find
from mta.spool.desk import QueueDesk
from mta.spool.hops import PLAIN
from mta.spool.journal import QueueJournal
from mta.spool.service import QueueService
from mta.supervisor.link import WorkerLink
from mta.transaction import Transactions
from mta.unacknowledged import Unacknowledged

if TYPE_CHECKING:
    from mta.accounts.usersfile import UsersFile
    from mta.daemon_managesieve import ManageSieve
    from mta.daemon_reports import DmarcReports
    from mta.daemon_world import World
    from mta.net.resolver.stub import Stub
    from mta.tables.build import Tables

SWEEP = 1.0
"""Seconds between two looks at the timeouts of all sessions."""
LAST_TRIES = 3.0
"""Seconds for tries of queued messages at the end of a drain; what is given up is tried again later. With the
last answers it stays under the time after which the supervisor kills (`mta.supervisor.child.LEAVE_GRACE`)."""
LAST_ANSWERS = 1.0
"""Seconds for clients to take their 421 at the end of a drain."""


class Daemon:
    """The mail server of one worker (`mta.worker.Daemon`)."""

    def __init__(
        self, settings: config.Config, sockets: dict[str, list[socket.socket]], link: WorkerLink
    ) -> None:
        """Prepare; `sockets` are bound already, by listener name."""
        self._sockets, self._link, self._good = sockets, link, KeptFiles(link)
        settings = self._config = with_authorities(settings, self._good)
        self._secret = secrets_reader(self._good)
        self._log = log.get("mta")
        self._workers = assembly.workers(settings)
        self._usual, self._stressed = assembly.timeouts(settings)
        self._tasks: set[asyncio.Task[None]] = set()
        self._listeners: list[Listener] = []
        self._fixed: Mapping[str, FixedTransport] = {}
        self._transports: Mapping[str, PooledTransport] = {}
        self._world: World | None = None
        self._tls: list[ServerTls] = []
        self._users: UsersFile | None = None
        self._stats = Stats("worker")
        self._noise: Counter[str] = Counter()
        self._journal = LogJournal(log.get("smtp"), self._stats)
        self._resolver: Stub | None = None
        self._directors: Directors | None = None
        self._dmarc_reports: DmarcReports | None = None
        self._tables: Tables | None = None
        self._parts = AsyncExitStack()
        """What is closed at the end: the parts in the order in which they were built, the last one first."""
        self._ledger = build_ledger(settings, self._secret)
        self._parts.push_async_callback(self._ledger.close)
        self._queue: QueueService | None = None
        self._desk: QueueDesk | None = None
        self._programs = build_programs(settings, tell, self._stats, self._secret)
        self._parts.callback(self._programs.close)
        self._queue_journal = QueueJournal(log.get("queue"), self._stats)

    async def prepare(self) -> None:
        """Build everything. Raises ValueError and OSError for what the administrator must mend."""
        quieten(asyncio.get_running_loop(), self._noise, log.get("mta").error)
        try:
            await self._build()
        except (CertificateError, TableError) as error:
            raise ValueError(str(error)) from error
        if self._queue is not None:
            await self._queue.start()
        if self._directors is not None:
            self._spawn(await self._directors.begin(self._queue))

    async def start(self) -> None:
        """Accept from here on. Raises OSError."""
        for listener in self._listeners:
            await listener.start()
        self._spawn(self._sweep())
        self._log.debug("accepting", listeners=[listener.name for listener in self._config.listener])

    async def drain(self, seconds: float) -> None:
        """Stop accepting; let sessions and late next hops end what they are at, then tell the rest 421."""
        for listener in self._listeners:
            listener.stop()
        connections = self._connections
        connections.drain()
        # Who was accepted a moment ago is a connection only in the next turn of the loop.
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds

        # Polled: a drain is rare, and what ends it is spread over sessions, headers and handshakes.
        def busy() -> bool:
            return bool(connections or listening) or any(one.pending for one in self._listeners)

        while busy() and loop.time() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        connections.close()
        until = max(until, loop.time()) + LAST_ANSWERS
        while connections and loop.time() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        connections.abort()
        if self._queue is not None:
            await self._queue.stop(LAST_TRIES)
        for task in tuple(self._tasks):
            task.cancel()
        await self._parts.aclose()

    def snapshot(self) -> dict[str, Any]:
        """The counters of this worker (`mta.metrics`)."""
        measure(self._stats, self._listeners, self._noise, self._transports.values(), self._tls)
        self._programs.measure()
        self._stats.unacknowledged_remembered = len(self._unacknowledged)
        self._queue_journal.measure(self._queue.queue if self._queue is not None else None)
        if self._world is not None:
            self._world.measure(self._stats)
        return self._stats.snapshot()

    async def answer(self, topic: str, data: dict[str, Any]) -> dict[str, Any]:
        """Answer an administrator (`mta.worker.Daemon`)."""
        if topic not in ("queue", "notice"):
            raise ValueError(f"a worker knows nothing of {topic!r}")
        queue = self._queue
        if self._desk is None or queue is None:
            raise ValueError("there is no queue: queue.enabled is off")
        if topic == "queue":
            return await self._desk.answer(data)
        from mta.daemon_notices import send_notice  # rare: not a part of the start

        return await send_notice(
            self._config, lambda: queue.queue, self._policy.route, queue.added, self._sign_report, data
        )

    # --- building ----------------------------------------------------------------------------------

    async def _build(self) -> None:
        settings, parts = self._config, self._parts
        self._limits = Limits(
            assembly.limit_settings(settings), assembly.overload_settings(settings),
            self._link.shared_memory_fd, self._link.slot, tell=self._journal.limited,
        )  # fmt: skip
        parts.callback(self._limits.close)
        self._limits.overload.start()
        loop = asyncio.get_running_loop()
        self._connections = Connections(loop, self._timeouts)
        self._resolver = build_resolver(settings)
        if self._resolver is not None:
            parts.callback(self._resolver.close)
        ways = build_transports(settings, self._workers, self._resolver, parts, self._secret)
        self._fixed, self._transports, self._world = ways.fixed, ways.every, ways.world
        login = await build_authenticator(settings, self._users_file, self._limits)
        authenticator = None if login is None else login.authenticator
        if login is not None:
            parts.push_async_callback(login.backend.close)
        self._tables = build_tables(
            settings, self._resolver, lambda text: self._log.error("table", reason=text), self._good
        )
        if self._tables is not None:
            parts.push_async_callback(self._tables.close)
        if settings.director:
            self._directors = Directors(settings, self._fixed, self._tables, self._good)
            parts.push_async_callback(self._directors.close)
        find = None if self._directors is None else self._directors.finding()
        own_mail: list[Find] = []
        policy = self._policy = self._build_policy(authenticator, own_mail)
        self._unacknowledged = Unacknowledged(
            self._link,
            time.time,
            ttl=settings.delivery.unacknowledged_ttl,
            entries=settings.delivery.unacknowledged_entries,
        )
        signer = build_signer(settings, self._good)
        self._sign_report = sign_report(settings, signer)
        keeper = etrn = None
        if settings.queue.enabled:
            is_trusted = networks(settings.policy.trusted_networks)
            self._queue, keeper = build_queue(
                settings, self._workers, self._transports, policy, is_trusted, self._queue_journal,
                self._connections.__len__, self._sign_report,
                replace(PLAIN if self._world is None else self._world.naming, find=find), own_mail[0],
            )  # fmt: skip
            self._desk = QueueDesk(self._queue, settings.queue.node, time.time, self._queue_journal.history)
            etrn = Etrn(self._link, self._queue, policy.route, is_trusted)
        self._begin_reports()
        transactions = Transactions(
            assembly.transaction_settings(settings),
            policy,
            self._transports,
            self._unacknowledged,
            self._journal,
            now=time.time,
            clock=loop.time,
            spool=keeper,
            gate=self._queue,
            stamps=build_stamper(settings, signer, self._dmarc_reports),
            find=find,
        )
        self._build_listeners(transactions, authenticator, etrn)

    def _begin_reports(self) -> None:
        """Send reports about TLS and DMARC from here on, through the queue."""
        settings, queue = self._config, self._queue
        if self._world is not None:
            self._world.begin(queue, self._policy.route, self._sign_report)
        if self._resolver is not None and queue is not None and wants_dmarc_reports(settings):
            from mta.daemon_reports import DmarcReports  # see the module text

            self._dmarc_reports = DmarcReports(
                settings,
                self._resolver,
                lambda: queue.queue,
                self._policy.route,
                queue.added,
                self._sign_report,
            )
            self._parts.push_async_callback(self._dmarc_reports.close)
            self._dmarc_reports.start()

    def _build_listeners(
        self, transactions: Transactions, authenticator: SessionAuthenticator | None, etrn: Etrn | None
    ) -> None:
        settings = self._config
        evaluator = build_evaluator(settings, self._resolver)
        identifiers = Identifiers(self._link.slot, int(time.time()), secrets.token_bytes(2))
        refusals = Refusals(self._link, self._log, settings.tls.poll_interval)
        managesieve: ManageSieve | None = None
        for listener in settings.listener:
            tls = self._build_tls(listener, refusals)
            if listener.protocol == "managesieve":
                if managesieve is None:
                    from mta.daemon_managesieve import ManageSieve  # see the module text

                    assert authenticator is not None  # mta.config.rules
                    managesieve = ManageSieve(
                        settings, self._connections, authenticator, self._stats, identifiers.new
                    )
                    self._parts.callback(managesieve.close)
                self._add_listener(listener, tls, managesieve.factory(listener, tls))
                continue
            reception = Reception(
                name=listener.name,
                protocol=listener.protocol,
                settings=assembly.server_settings(settings, listener, time.time()),
                policy=self._policy,
                transactions=transactions,
                journal=self._journal,
                new_id=identifiers.new,
                clock=asyncio.get_running_loop().time,
                evaluator=evaluator,
                etrn=etrn,
                authenticator=None if listener.auth == "none" else authenticator,
                trusts_xclient=networks(listener.xclient_from),
                trusts_xforward=networks(listener.xforward_from),
                greet_delay=listener.greet_delay,
                errors_before_delay=listener.limits.errors_before_delay,
                error_delay=listener.limits.error_delay,
            )
            self._add_listener(listener, tls, partial(self._connect, reception, tls))

    def _add_listener(self, listener: config.Listener, tls: ServerTls | None, factory: Factory) -> None:
        self._listeners.append(
            Listener(
                assembly.listener_settings(self._config, listener),
                self._sockets.get(listener.name, []),
                factory,
                log=log.get("listener").info,
                tls=tls,
                limits=self._limits,
            )
        )

    def _connect(self, reception: Reception, tls: ServerTls | None, arrival: Arrival) -> Connection:
        def create(connection: Connection, transport: asyncio.Transport) -> tuple[ServerSession, Receiver]:
            receiver = Receiver(reception, arrival, connection)
            ssl_object = transport.get_extra_info("ssl_object") if arrival.implicit_tls else None
            return receiver.begin(ssl_object), receiver

        return Connection(self._connections, create, None if tls is None else partial(_context, tls))

    def _build_policy(self, authenticator: SessionAuthenticator | None, own_mail: list[Find]) -> Policy:
        with policy_files(self._link, self._log.warning) as read:
            return build_policy(
                self._config, self._fixed, self._users_file,
                None if authenticator is None else authenticator.owns,
                lambda text: self._log.error("recipient table", reason=text),
                programs=self._programs, directors=self._directors or {},
                tables=self._tables or NO_TABLES, ledger=self._ledger, resolver=self._resolver,
                own_mail=own_mail.append if self._config.queue.enabled else None,
                read=read, good=self._good,
            )  # fmt: skip

    def _users_file(self) -> UsersFile:
        if self._users is None:
            from mta.accounts.usersfile import UsersFile, UsersFileError

            try:
                self._users = UsersFile(
                    self._config.auth.users_file, good=self._good,
                    on_error=lambda error: self._log.error("users file", reason=str(error)),
                )  # fmt: skip
            except UsersFileError as error:
                raise ValueError(str(error)) from error
        return self._users

    def _build_tls(self, listener: config.Listener, refusals: Refusals) -> ServerTls | None:
        if listener.tls == "none":
            return None
        tls, watch = build_tls(self._config, listener, self._resolver, self._log, self._link, refusals)
        self._tls.append(tls)
        if watch is not None:
            self._spawn(watch)
        return tls

    # --- running -----------------------------------------------------------------------------------

    def _timeouts(self) -> Timeouts:
        return self._usual if self._limits.overload.level is Level.NORMAL else self._stressed

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            self._connections.sweep()

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("task failed", exc_info=error)


def _context(tls: ServerTls) -> ssl.SSLContext:
    return tls.context
