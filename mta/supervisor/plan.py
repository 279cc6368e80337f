"""What the supervisor has to run: the part of the configuration that concerns processes, as plain values.

`mta.supervisor.planning` makes a `Plan` from the configuration; the rest of the supervisor knows only
this module. Everything is resolved here: a plan has numbers of users, not names, and addresses, not
words. A plan is compared with the one before it at a reload; `fixed_differences` names what cannot
change in a running supervisor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from msgspec import Struct

from mta import config
from mta.hostport import host_port
from mta.sendmail_server import LocalServer
from mta.supervisor.privileges import Account


class PlanError(ValueError):
    """The configuration cannot be run; `problems` are lines for the administrator, all of them."""

    def __init__(self, problems: list[str]) -> None:
        """Keep the lines."""
        super().__init__("\n".join(problems))
        self.problems = problems


class Inet(Struct, frozen=True, tag=True):
    """A TCP endpoint: an IP address literal (with scope, if it has one) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return host_port(self.host, self.port)


class UnixPath(Struct, frozen=True, tag=True):
    """A Unix stream socket in the file system. Two of the same path are the same endpoint."""

    path: str
    mode: int = 0o660
    uid: int = -1
    """Owner, -1 for the user of the process."""
    gid: int = -1

    def __str__(self) -> str:
        return self.path


class Inherited(Struct, frozen=True, tag=True):
    """Sockets that the service manager opened and passes under a name (sd_listen_fds(3))."""

    name: str

    def __str__(self) -> str:
        return f"fd:{self.name}"


Endpoint: TypeAlias = Inet | UnixPath | Inherited

SUPERVISOR, WORKER, STORE = "supervisor", "worker", "store"
"""Who serves a listener."""


@dataclass(frozen=True, slots=True)
class Listen:
    """One name and what is listened on under it."""

    name: str
    endpoints: tuple[Endpoint, ...]
    role: str = WORKER
    backlog: int = 1024
    """Connections that may wait to be accepted; the kernel caps it at net.core.somaxconn."""


@dataclass(frozen=True, slots=True)
class Crew:
    """A kind of process and how many of it run."""

    role: str
    daemon: str
    """The class that the process runs, as "module:Class"."""
    count: int


@dataclass(frozen=True, slots=True)
class Checks:
    """When the set-up is checked, and who hears of it; what follows from it the configuration says."""

    patience: float
    """Seconds that a start asks again for what it could not find out."""
    interval: float
    """Seconds between two looks in a running server, 0 for none."""
    mail_changes: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """All that the supervisor runs."""

    configuration: bytes
    """What the processes are given: the configuration as JSON."""
    listens: tuple[Listen, ...]
    crews: tuple[Crew, ...]
    drain_timeout: float
    """Seconds that sessions may go on after a stop, or in an old generation after a reload."""
    restart_delay_max: float
    """Seconds between the restarts of a process that keeps dying, at most."""
    log: config.Log
    """Where and how the supervisor writes its log."""
    warnings: tuple[str, ...] = ()
    """What the configuration's author should know; logged when the plan comes into force."""
    account: Account | None = None
    """Whom to become after binding, when started as root; None to stay who we are."""
    state_directory: str = ""
    """Where the memory of unacknowledged deliveries is kept over a restart, "" for nowhere."""
    queue_store: str = ""
    """URL of the store that decides who owns what waits in the queue, "" without a queue."""
    directories: tuple[tuple[str, int], ...] = ()
    """Directories that are made, for `account`, when they are missing, each with its mode."""
    local: LocalServer | None = None
    """What `sendmail` is told, in `runtime_directory`."""
    runtime_directory: str = ""
    """Where files are that other programs of this machine look for."""
    checks: Checks | None = None
    """How the set-up is checked (`mta.supervisor.setup`); None: not at all."""

    @property
    def workers(self) -> int:
        """How many workers a generation has."""
        return sum(crew.count for crew in self.crews if crew.role == WORKER)


def fixed_differences(old: Plan, new: Plan) -> list[str]:
    """Name the settings that differ and need a restart to take effect."""
    differences = []
    if old.account != new.account:
        differences.append("process.user, process.group")
    return differences
