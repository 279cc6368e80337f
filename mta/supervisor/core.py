"""The supervisor's life: start, run, reload, stop.

`Supervisor` holds one current `Generation` and the older ones that still drain. It opens sockets, becomes
an ordinary user, starts processes, and from then on reacts: to signals, to the control socket, to
processes that end or publish. It never reads a byte of mail.

* Reload (SIGHUP or the control socket): read the configuration, open what is new, start a new generation,
  wait until it is ready, only then drain the old one; close what left the configuration last. Anything
  that fails before the switch leaves everything as it was, and the reason goes to the log and to whoever
  asked. Reloads are done one after the other; any number of requests that come while one is waiting its
  turn are one.
* Stop (SIGTERM, SIGINT or the control socket): processes finish their sessions within the drain timeout,
  then they are killed. Those that still start end at once. A second signal kills at once.
* A process that ends is replaced (`mta.supervisor.generation`), one that hangs is ended first
  (`mta.supervisor.staff`).
* The supervisor itself dying is noticed by each process at its channel: it drains and ends.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import replace
from typing import Protocol

import msgspec

from mta.startup.report import Report
from mta.supervisor.child import State
from mta.supervisor.generation import Generation, StartFailed
from mta.supervisor.lostfiles import FileWatch
from mta.supervisor.notify import Notifier
from mta.supervisor.plan import SUPERVISOR, WORKER, Listen, Plan, fixed_differences
from mta.supervisor.privileges import become, make_directories
from mta.supervisor.reloaded import Reloaded
from mta.supervisor.rereading import at_once, planned
from mta.supervisor.setup import Setup, unless_stopped
from mta.supervisor.slots import Slots
from mta.supervisor.sockets import ListeningSockets, SocketSet, inherited_sockets
from mta.supervisor.staff import Log, Staff
from mta.supervisor.whereabouts import left_store, moved_state

NOTICE_SECONDS = 10.0
"""For a worker to queue a message to the postmaster."""
FILES_PERIOD = 5.0
"""Seconds between looks whether the files of our Unix sockets are still there."""
SWITCH_LIMIT = 5.0
"""Seconds to wait for old processes to leave sockets alone that are about to be closed."""


class Frontend(Protocol):
    """What serves the sockets that are the supervisor's own (control, metrics)."""

    async def serve(self, sockets: SocketSet) -> None:
        """Serve these sockets from now on, and others no more."""

    async def close(self) -> None:
        """End."""


class Supervisor:
    """The one supervisor of a node."""

    def __init__(
        self,
        load: Callable[[], Plan],
        log: Log,
        environment: MutableMapping[str, str],
        *,
        reread: Callable[[], Awaitable[Plan]] | None = None,
        apply: Callable[[Plan], None] = lambda plan: None,
        set_log_level: Callable[[str], None] = lambda level: None,
    ) -> None:
        """Prepare a supervisor; `run` does the rest.

        `load` reads the configuration and raises `PlanError`, `reread` does so for a reload; `apply` is
        called with a plan when it comes into force (for the supervisor's own log). `environment` is what
        processes inherit, once the variables that are meant for us alone have been taken out.
        """
        self._load, self._reread = load, reread or at_once(load)
        self._log = log
        self._apply = apply
        self._set_log_level = set_log_level
        self._environment = environment
        self._notifier = Notifier.from_environment(environment)
        self._frontend: Frontend | None = None
        self._sockets: ListeningSockets
        self._files: FileWatch
        self._slots: Slots
        self.staff: Staff
        self.started_at = time.monotonic()
        self.current: Generation | None = None
        """The one that serves."""
        self._setup = Setup(environment, log, self._write_postmaster)
        self._numbers = 0
        self._reload_lock = asyncio.Lock()
        self._switch = asyncio.Lock()
        """Held while sockets and generations change; never for long once the start is interrupted."""
        self._next_reload: asyncio.Task[Reloaded] | None = None
        self.reloading = False
        self.last_reload: Reloaded | None = None
        self._stop = asyncio.Event()
        self._tasks: asyncio.TaskGroup

    async def run(self, frontend: Callable[[Supervisor], Frontend] | None = None) -> None:
        """Start, serve until stopped, stop.

        Raises `PlanError`, `ListenError`, `OSError` or `StartFailed` when the start fails; then nothing is
        left behind.
        """
        plan = self._load()
        self._sockets = ListeningSockets(inherited_sockets(self._environment))
        self._slots = Slots(plan.workers)
        try:
            make_directories(plan.directories, plan.account)
            await self._setup.at_start(plan)
            wanted = self._sockets.prepare(plan.listens)
            self._sockets.commit(wanted)
            become(plan.account)
            self._files = FileWatch(self._sockets, self._log, self._serve_own, self._work_anew)
            self._in_force(plan)
            self._files.tell_sendmail(plan, wanted)
            async with asyncio.TaskGroup() as self._tasks:
                self.staff = Staff(self._log, self._environment, self._tasks, self._slots)
                self._load_memory(plan)
                self._listen_to_signals()
                self._setup.say(plan)
                self.staff.stats.setup_checks = self._setup.counts
                beat = self._tasks.create_task(self.staff.beat(self._notifier))
                watch = self._tasks.create_task(self._setup.watch(self._served))
                lost = self._tasks.create_task(self._watch_files())
                try:
                    if frontend is not None:
                        self._frontend = frontend(self)
                        await self._frontend.serve(wanted)
                    await self._serve(plan, wanted)
                finally:
                    beat.cancel()
                    watch.cancel()
                    lost.cancel()
                    if self._frontend is not None:
                        await self._frontend.close()
        except BaseExceptionGroup as group:
            raise _first(group) from group
        finally:
            self._report_all("cannot close", self._sockets.close())
            self._slots.close()
            self._notifier.close()

    async def reload(self) -> Reloaded:
        """Read the configuration again and change over to it; the result also says why not."""
        return await asyncio.shield(self._begin_reload())

    def stop(self, now: bool = False) -> None:
        """Begin to stop; a second call, or `now`, kills what still runs. A start under way is broken off."""
        for generation in self.staff.generations:
            if self._stop.is_set() or now:
                generation.kill()
            generation.interrupt()
        self._stop.set()

    def set_log_level(self, level: str) -> None:
        """Change the level of all processes until the next reload; raises `ValueError` for a wrong level."""
        self._set_log_level(level)
        self.staff.set_log_level(level)

    @property
    def stopping(self) -> bool:
        """True from the first request to stop on."""
        return self._stop.is_set()

    @property
    def serving(self) -> bool:
        """True when mail is taken: some worker of the current generation is ready and we do not stop."""
        if self.stopping or self.current is None:
            return False
        return any(child.role == WORKER and child.state is State.READY for child in self.current.children)

    # The life of the node

    async def _serve(self, plan: Plan, wanted: SocketSet) -> None:
        """Start the first generation, wait for the stop, and bring it about."""
        first = self._generation(plan, wanted)
        try:
            if self.stopping:
                raise StartFailed("stopped")
            await first.start()
        except StartFailed:
            if not self.stopping:
                await self._end(plan)  # some may serve already
                raise
        else:
            self.current = first
            self._notifier.ready(f"serving, {len(first.seats)} processes")
            seconds, listening = round(time.monotonic() - self.started_at, 3), wanted.addresses(WORKER)
            self._log.info("ready", generation=1, seconds=seconds, listening=listening)
            left_store(plan, self._log.warning)
        await self._stop.wait()
        await self._end(plan)

    async def _end(self, plan: Plan) -> None:
        self._notifier.stopping()
        seconds = self.current.plan.drain_timeout if self.current is not None else plan.drain_timeout
        self._log.info("stopping", processes=len(self.staff.children), drain=seconds)
        async with self._switch:  # a reload that was about to change over is done with it, or has failed
            await self._drain_all(plan, seconds)
        if plan.state_directory:
            try:
                self.staff.memory.save(plan.state_directory)
            except OSError as problem:
                self._log.error("memory not saved", directory=plan.state_directory, reason=str(problem))
        self._log.info("stopped", uptime=round(time.monotonic() - self.started_at, 3))

    async def _drain_all(self, plan: Plan, seconds: float) -> None:
        for generation in self.staff.generations:
            generation.drain(seconds, WORKER)
        # Clients that come now are refused at once and go to another server, rather than wait in a queue
        # that nobody serves. The control socket answers until the end.
        for generation in self.staff.generations:
            await generation.wait_not_accepting(SWITCH_LIMIT, WORKER)
        listens = (self.current.plan if self.current else plan).listens
        self._keep_open(listen for listen in listens if listen.role != WORKER)
        # The mail store goes last: the sessions that go on deliver to it.
        for generation in list(self.staff.generations):
            await generation.wait_gone(WORKER)
        for generation in self.staff.generations:
            generation.drain(seconds)
        self._keep_open(listen for listen in listens if listen.role == SUPERVISOR)
        for generation in list(self.staff.generations):
            await generation.wait_empty()

    def _keep_open(self, listens: Iterable[Listen]) -> None:
        self._report_all("cannot close", self._sockets.keep(listens))

    def _generation(self, plan: Plan, sockets: SocketSet) -> Generation:
        self._numbers += 1
        generation = Generation(self._numbers, plan, sockets, self.staff)
        self.staff.generations.append(generation)
        return generation

    def _begin_reload(self) -> asyncio.Task[Reloaded]:
        """The reload that has its turn next; any number of requests until then are one."""
        if self._next_reload is None:
            self._next_reload = self._tasks.create_task(self._reload_in_turn())
        return self._next_reload

    async def _reload_in_turn(self) -> Reloaded:
        async with self._reload_lock:
            self._next_reload = None
            began = time.monotonic()
            self.reloading = True
            self._notifier.reloading()
            try:
                result = await self._reload_now()
            except Exception as error:  # noqa: BLE001 - a bug at a reload must not end a server that runs
                number = 0 if self.current is None else self.current.number
                result = Reloaded(False, number, (f"internal error: {error!r}",))
            finally:
                self.reloading = False
            result = replace(result, seconds=round(time.monotonic() - began, 3))
        self.last_reload = result
        kind = "ok" if result.ok else "refused" if result.configuration_wrong else "failed"
        self.staff.stats.reloads[kind] += 1
        if result.ok:
            self._log.info("reloaded", generation=result.generation, seconds=result.seconds)
            self._notifier.ready(f"serving, generation {result.generation}")
        else:
            self._log.error("reload refused", generation=result.generation, problems=list(result.problems))
            self._notifier.ready(
                f"serving, generation {result.generation}; reload refused: {result.problems[0]}"
            )
        for warning in result.warnings:
            self._log.warning("needs a restart", setting=warning)
        return result

    async def _reload_now(self) -> Reloaded:
        current = self.current
        if current is None or self.stopping:
            return Reloaded(False, 0, ("the server is starting or stopping",))
        plan = await unless_stopped(self._stop, planned(self._reread(), current.number))
        if plan is None:
            return Reloaded(False, current.number, ("the server is stopping",))
        if isinstance(plan, Reloaded):
            return plan
        if moved := moved_state(current.plan, plan):
            return Reloaded(False, current.number, (moved,))
        refusals = await unless_stopped(self._stop, self._setup.at_reload(plan))
        if refusals:
            return Reloaded(False, current.number, refusals, configuration_wrong=True)
        if not self._stop.is_set():
            async with self._switch:
                if not self._stop.is_set():
                    return await self._change_over(current, plan)
        return Reloaded(False, current.number, ("the server is stopping",))

    async def _change_over(self, current: Generation, plan: Plan, *, again: bool = False) -> Reloaded:
        """To a plan, or to new processes with the one that is in force `again`."""
        try:
            self._slots.require(plan.workers, current.plan.workers)
            make_directories(plan.directories, plan.account)
            wanted = self._sockets.prepare(plan.listens)
        except OSError as error:
            return Reloaded(False, current.number, tuple(getattr(error, "problems", (str(error),))))
        generation = self._generation(plan, wanted)
        if again:
            generation.log_level = current.log_level
        try:
            await generation.start()
        except Exception as error:  # noqa: BLE001 - a bug must not leave sockets open that nobody serves
            generation.drain(plan.drain_timeout)
            self._tasks.create_task(self._forget_when_empty(generation))
            await generation.wait_not_accepting(SWITCH_LIMIT)
            self._report_all("cannot close", self._sockets.rollback(wanted))
            failed = str(error) if isinstance(error, StartFailed) else f"internal error: {error!r}"
            return Reloaded(False, current.number, (failed,))
        # From here on the new generation serves; nothing below can fail back.
        self.current = generation
        if not again:
            self._files.tell_sendmail(plan, wanted)
            try:
                self._in_force(plan)
            except OSError as problem:
                self._log.error("log not changed", reason=str(problem))
        current.drain(plan.drain_timeout)
        self._tasks.create_task(self._forget_when_empty(current))
        await current.wait_not_accepting(SWITCH_LIMIT)
        await self._serve_own(wanted)
        self._report_all("cannot close", self._sockets.commit(wanted))
        if again:
            return Reloaded(True, generation.number)
        fixed, left = tuple(fixed_differences(current.plan, plan)), left_store(plan, self._log.warning)
        return Reloaded(True, generation.number, warnings=fixed, left=left)

    def _served(self) -> Plan | None:
        return None if self.current is None or self.stopping else self.current.plan

    async def _watch_files(self) -> None:
        """Look whether files of ours are still there, until cancelled."""
        while True:
            await asyncio.sleep(FILES_PERIOD)
            async with self._reload_lock, self._switch:
                if self.current is not None and (plan := self._served()) is not None:
                    await self._files.look(plan, self.current.sockets)

    async def _work_anew(self, plan: Plan) -> tuple[str, ...]:
        """Start workers that listen on all sockets, where files had been removed; why that cannot be done."""
        assert self.current is not None
        if self.stopping:
            return ()
        result = await self._change_over(self.current, plan, again=True)
        return () if self.stopping else result.problems

    async def _serve_own(self, sockets: SocketSet) -> None:
        if self._frontend is not None:
            await self._frontend.serve(sockets)

    async def _write_postmaster(self, subject: str, lines: list[str], report: Report) -> None:
        """Let a worker put a message into its queue. Raises `ValueError` when none can."""
        data = {"subject": subject, "lines": lines, "results": msgspec.to_builtins(report.results)}
        for child in self.current.children if self.current is not None else ():
            if child.role == WORKER and child.state is State.READY:
                await self.staff.ask(child, "notice", data, NOTICE_SECONDS)
                return
        raise ValueError("there is no worker")

    def _in_force(self, plan: Plan) -> None:
        self._apply(plan)
        self._report_all("configuration warning", plan.warnings)
        self._report_all("sockets not served", self._sockets.unwanted())

    async def _forget_when_empty(self, generation: Generation) -> None:
        await generation.wait_empty()
        self.staff.generations.remove(generation)

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        loop.add_signal_handler(signal.SIGINT, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._begin_reload)

    def _load_memory(self, plan: Plan) -> None:
        if not plan.state_directory:
            return
        try:
            self.staff.memory.load(plan.state_directory)
        except (OSError, ValueError) as problem:
            self._log.warning("memory not loaded", reason=str(problem))

    def _report_all(self, event: str, problems: Iterable[str]) -> None:
        for problem in problems:
            self._log.warning(event, reason=problem)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one failure inside nested groups: only the start of the first generation raises."""
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
