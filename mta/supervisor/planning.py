"""From the configuration to a `Plan`: the one place where the supervisor reads `mta.config`.

Users and groups are looked up, the number of cores is counted, defaults that depend on the machine are
filled in. What the machine does not have is a `PlanError`, like a mistake in the file.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from dataclasses import replace

from mta import config
from mta.net.descriptors import FEWEST, places
from mta.sendmail_server import local_server
from mta.startup.claims import is_local
from mta.supervisor.plan import (
    STORE,
    SUPERVISOR,
    WORKER,
    Checks,
    Crew,
    Endpoint,
    Inet,
    Inherited,
    Listen,
    Plan,
    PlanError,
    UnixPath,
)
from mta.supervisor.privileges import Account, UnknownAccount, find_account
from mta.supervisor.slots import MAX_WORKERS

DAEMON = "mta.daemon:Daemon"
"""What a worker runs."""

STORE_DAEMON = "mta.supervisor.storehost:StoreHost"
"""What the process of the embedded mail store runs."""

CONTROL_MODE = 0o600
"""The control socket is for root, who ignores modes, and for the user of the server."""

LOCAL_MODE = 0o660
"""Unix sockets of store and metrics are for our user and group; the directory decides who gets there."""

STATE_MODE = 0o750
"""The state directory is for our user and group."""

RUNTIME_MODE = 0o755
"""The runtime directory is open to all: sockets have rights of their own, and `sendmail` reads there."""

CONTROL, METRICS, STORE_LISTENER = "control", "metrics", "store"
"""Names of the sockets that are not listeners of the configuration. They are separate per role."""


def reader(path: str, daemon: str = DAEMON) -> Callable[[], Plan]:
    """Return a function that reads the file at `path` anew each time it is called."""

    def read() -> Plan:
        report = config.examine(path)
        if report.config is None:
            raise PlanError([str(problem) for problem in report.errors])
        made = plan(report.config, daemon)
        scarce = _scarce_descriptors(report.config.limits.sessions, made.workers)
        # The check of the set-up says it too, and knows more: it asks the back end.
        told = "" if made.checks is None else "identity.postmaster"
        warnings = (*(str(one) for one in report.warnings if one.key != told), *scarce)
        return replace(made, warnings=warnings, local=local_server(report.config, path))

    return read


def plan(settings: config.Config, daemon: str = DAEMON) -> Plan:
    """Make a plan. Raises `PlanError` when user or group do not exist."""
    account = _account(settings.process)
    workers = settings.process.workers or min(cores(), MAX_WORKERS)
    crews = [Crew(WORKER, daemon, workers)]
    listens = [
        Listen(
            listener.name,
            tuple(_endpoint(address, account, listener.socket_mode) for address in listener.addresses),
            backlog=listener.backlog,
        )
        for listener in settings.listener
    ]
    listens.append(Listen(CONTROL, (_unix(settings.control.socket, account, CONTROL_MODE),), SUPERVISOR))
    if settings.metrics.listen is not None:
        listens.append(
            Listen(METRICS, (_endpoint(settings.metrics.listen, account, LOCAL_MODE),), SUPERVISOR)
        )
    if settings.store.enabled and settings.store.listen is not None:
        crews.append(Crew(STORE, STORE_DAEMON, 1))
        listens.append(
            Listen(STORE_LISTENER, (_endpoint(settings.store.listen, account, LOCAL_MODE),), STORE)
        )
    return Plan(
        configuration=config.to_json(settings),
        listens=tuple(listens),
        crews=tuple(crews),
        log=settings.log,
        drain_timeout=settings.process.drain_timeout,
        restart_delay_max=settings.process.restart_delay_max,
        account=account,
        state_directory=settings.process.state_directory,
        queue_store=_deciding_store(settings),
        # A dictionary: where both are the same, all users can get there.
        directories=tuple(
            {
                settings.process.state_directory: STATE_MODE,
                settings.process.runtime_directory: RUNTIME_MODE,
            }.items()
        ),
        runtime_directory=settings.process.runtime_directory,
        checks=_checks(settings),
    )


def _deciding_store(settings: config.Config) -> str:
    """The first that is no folder, or else the first (docs/queue.md)."""
    if not settings.queue.enabled:
        return ""
    urls = [settings.queue_stores[name].url for name in settings.queue.stores]
    return next((url for url in urls if not url.startswith("file:")), urls[0] if urls else "")


def _scarce_descriptors(sessions: int, workers: int) -> list[str]:
    """What the limit of open files has too little for. Raises `PlanError` when nobody could be served."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    remedy = "LimitNOFILE= of the unit, or ulimit -n"
    if limit < FEWEST:
        raise PlanError([f"the limit of open files is {limit}, expected {FEWEST} at least ({remedy})"])
    room = places(limit, workers)
    if room >= sessions:
        return []
    return [
        f"the limit of open files is {limit} for each of {workers} processes, which is room for about {room}"
        f" sessions; limits.sessions is {sessions} ({remedy})"
    ]


def _checks(settings: config.Config) -> Checks | None:
    if is_local(settings):
        return None
    checks = settings.checks
    return Checks(checks.patience, checks.interval, checks.mail_changes)


def cores() -> int:
    """How many cores this process may use; a container's CPU set counts."""
    return len(os.sched_getaffinity(0))


def _account(process: config.Process) -> Account | None:
    if not process.user:
        return None
    try:
        return find_account(process.user, process.group)
    except UnknownAccount as error:
        raise PlanError([f"[process] {error}"]) from error


def _endpoint(
    address: config.Inet | config.Unix | config.Inherited, account: Account | None, mode: int
) -> Endpoint:
    match address:
        case config.Inet():
            return Inet(address.host, address.port)
        case config.Unix():
            return _unix(address.path, account, mode)
        case config.Inherited():
            return Inherited(address.name)


def _unix(path: str, account: Account | None, mode: int) -> UnixPath:
    if account is None:
        return UnixPath(path, mode)
    return UnixPath(path, mode, account.uid, account.gid)
