"""The configuration for a reload, read by a process of its own: by the version that is installed.

    python -m mta.supervisor.rereading FILE DAEMON > the plan, or what is wrong, as MessagePack

After an upgrade the files of our own code are those of another version. Much of what reads a configuration is
loaded where it is first needed; from there it would come into a process that runs the version before, and not
fit. And new processes take the options of their version. The supervisor has time for others meanwhile.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import msgspec

from mta.supervisor.aside import NoAnswer, answer_of
from mta.supervisor.plan import Plan, PlanError
from mta.supervisor.reloaded import Reloaded

READ_SECONDS = 60.0
"""For the largest configuration, and a name server that is asked for our name."""


class Said(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the process says: a plan, or why there is none. Unknown fields are ignored, as in messages."""

    plan: Plan | None = None
    problems: tuple[str, ...] = ()


def rereader(
    path: str, daemon: str, environment: Mapping[str, str]
) -> Callable[[], Coroutine[Any, Any, Plan]]:
    """Return a function that reads the file at `path`; it raises `PlanError`, and `NoAnswer` for all else."""

    async def reread() -> Plan:
        command = [sys.executable, "-P", "-m", "mta.supervisor.rereading", path, daemon]
        try:
            said = msgspec.msgpack.decode(await answer_of(command, b"", READ_SECONDS, environment), type=Said)
        except NoAnswer as error:
            raise NoAnswer(f"{path} could not be read by what is installed: {error}") from error
        except msgspec.MsgspecError as error:
            raise NoAnswer(
                f"the running server is of another version than what is installed, restart it: {error}"
            ) from error
        if said.plan is None:
            raise PlanError(list(said.problems))
        return said.plan

    return reread


async def planned(reading: Awaitable[Plan], generation: int) -> Plan | Reloaded:
    """The plan, or the reload that has failed without one."""
    try:
        return await reading
    except PlanError as error:
        return Reloaded(False, generation, tuple(error.problems), configuration_wrong=True)
    except NoAnswer as error:
        return Reloaded(False, generation, (str(error),))


def at_once(load: Callable[[], Plan]) -> Callable[[], Coroutine[Any, Any, Plan]]:
    """Read in this process."""

    async def reread() -> Plan:
        return load()

    return reread


def main(arguments: list[str]) -> int:
    """Run; returns the exit status."""
    from mta.supervisor.planning import reader

    path, daemon = arguments
    try:
        said = Said(reader(path, daemon)())
    except PlanError as error:
        said = Said(problems=tuple(error.problems))
    sys.stdout.buffer.write(msgspec.msgpack.encode(said))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
