"""`tamis serve`: from a configuration file to a running supervisor, and from its end to an exit status.

    0   stopped as asked
    1   could not start: an address in use, a worker that does not get ready, ...
    78  the configuration is wrong (EX_CONFIG of sysexits.h): restarting does not help, systemd is told so

What an administrator must mend is one line each on standard error, without a traceback.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Iterator

from mta import log
from mta.admin.desk import Desk
from mta.folders import in_words, whole_path
from mta.log.sink import take_stderr
from mta.net.descriptors import raise_fd_limit
from mta.processname import name_process
from mta.supervisor.core import Supervisor
from mta.supervisor.generation import StartFailed
from mta.supervisor.plan import Plan, PlanError
from mta.supervisor.planning import DAEMON, reader
from mta.supervisor.rereading import rereader
from mta.supervisor.statefolder import StateFolder

EX_CONFIG = 78
"""The configuration is wrong."""


def serve(configuration: str, pid_file: str = "", daemon: str = DAEMON) -> int:
    """Run until stopped; return the exit status."""
    # Relative paths and the next reload mean the same file, wherever we were started.
    configuration = whole_path(configuration)
    raise_fd_limit()
    if os.geteuid() == 0:
        take_stderr()
    # Until the supervisor listens to signals, a request to reload would end it.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        name_process("tamis")
        with _pid_file(pid_file):
            asyncio.run(_live(configuration, daemon))
    except PlanError as error:
        return _explain(error.problems, EX_CONFIG)
    except (OSError, StartFailed) as error:
        return _explain(
            [f"tamis: cannot start: {line}" for line in getattr(error, "problems", [in_words(error)])], 1
        )
    finally:
        log.flush()
    return 0


async def _live(configuration: str, daemon: str) -> None:
    # `mta.cli` has stopped the collector. What is imported lives as long as the process.
    gc.freeze()
    gc.enable()
    logger = log.get("supervisor")
    state = StateFolder()

    def apply(plan: Plan) -> None:
        state.hold(plan.state_directory)
        log.configure(plan.log)

    environment = dict(os.environ)
    supervisor = Supervisor(
        reader(configuration, daemon),
        logger,
        environment,
        reread=rereader(configuration, daemon, environment),
        apply=apply,
        set_log_level=log.set_level,
    )
    await supervisor.run(lambda running: Desk(running, logger))


def _explain(lines: list[str], status: int) -> int:
    with contextlib.suppress(OSError):  # nobody reads it, or nobody reads on
        for line in lines:
            print(line, file=sys.stderr)
    return status


@contextlib.contextmanager
def _pid_file(path: str) -> Iterator[None]:
    """Write our process id to `path` while we run. Raises `OSError`."""
    if not path:
        yield
        return
    with open(path, "w") as file:
        file.write(f"{os.getpid()}\n")
    try:
        yield
    finally:
        # As an ordinary user we may not be allowed to remove it from /run; a stale one does no harm.
        with contextlib.suppress(OSError):
            os.unlink(path)
