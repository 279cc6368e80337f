"""What supervisor and worker say to each other: one struct a message, tagged by its name.

Messages travel as msgpack over a Unix socket pair (see `mta.supervisor.channel`). Both ends are
started from the same installation, but not always from the same version of it: after an upgrade
and a reload an old worker still drains under the new supervisor's code path, or the other way
round. Unknown fields are therefore ignored and new fields have defaults; an unknown message is a
`ValueError` for the reader, who reports it and goes on.

Direction is part of the type: `ToWorker` and `ToSupervisor` are the two unions that are decoded.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Topic(msgspec.Struct, tag=True, frozen=True):
    """Something that one worker tells all others; the same message in both directions."""

    topic: str
    data: dict[str, Any]


class Keep(msgspec.Struct, tag=True, frozen=True):
    """Something that later workers of the same generation begin with; it replaces an earlier one of its key.

    It may be secret: it is kept in memory only, and told to nobody else.
    """

    key: str
    data: dict[str, Any]


class Start(msgspec.Struct, tag=True, frozen=True):
    """First message to a worker: all that it needs to run."""

    name: str
    """Name of the process in logs: "worker-2.1" is the first worker of generation 2."""
    slot: int
    """Number of this worker among all living ones, 0 .. slots-1: its row in the memory; -1 for none."""
    slots: int
    """How many slots the shared memory has room for."""
    configuration: bytes
    """The configuration as `mta.supervisor.plan.Plan.configuration` carries it (JSON)."""
    sockets: dict[str, list[int]]
    """Listening sockets by listener name, as file descriptors of this process."""
    shared_memory_fd: int
    """Anonymous memory shared by all workers of the node."""
    drain_timeout: float
    """Seconds for open sessions when the supervisor is gone and nobody sends `Drain` any more."""
    remembered: list[Topic] = []
    """What other workers told before this one lived; part of this message, so that no client is answered
    by a worker that does not know it yet."""
    kept: list[Keep] = []
    """What workers of this generation gave to keep."""
    log_level: str = ""
    """What an administrator has set in place of the configuration's."""


class Drain(msgspec.Struct, tag=True, frozen=True):
    """Stop accepting; end what is open within `seconds`; then leave."""

    seconds: float


class SnapshotRequest(msgspec.Struct, tag=True, frozen=True):
    """Ask for the metrics snapshot; also the proof of life: a worker that does not answer is hung."""

    number: int


class Question(msgspec.Struct, tag=True, frozen=True):
    """Something that an administrator wants of this process, such as a page of its queue."""

    number: int
    topic: str
    data: dict[str, Any]


ENDED = "ended"
"""The code of `Refused` for a process that has ended, or has handed over what it is asked about."""
SILENT = "silent"
"""The code of `Refused` for a process that has not answered."""


class Refused(ValueError):
    """A question cannot be answered. The text is for the administrator, `code` ("" for any) for programs."""

    def __init__(self, text: str, code: str = "") -> None:
        """`code` is a word that the asking side knows."""
        super().__init__(text)
        self.code = code


class Finding(msgspec.Struct, tag=True, frozen=True):
    """Answer to the `Question` of that number; `error` is "" unless it could not be answered."""

    number: int
    data: dict[str, Any]
    error: str = ""
    code: str = ""
    """What kind of error, for programs: that of `Refused`."""


class LogLevel(msgspec.Struct, tag=True, frozen=True):
    """Change the level of the worker's log: "debug" "info" "warning" or "error"."""

    level: str


class Hello(msgspec.Struct, tag=True, frozen=True):
    """First message of a worker: it runs and waits for `Start`."""

    pid: int
    version: str


class Ready(msgspec.Struct, tag=True, frozen=True):
    """The worker accepts connections."""


class Drained(msgspec.Struct, tag=True, frozen=True):
    """The worker accepts nothing more: its copies of the listening sockets are out of use.

    Sent when draining begins, not when it ends: the end of the process is the end.
    """


class Snapshot(msgspec.Struct, tag=True, frozen=True):
    """Answer to `SnapshotRequest`; number 0 is the last one before the worker leaves, sent unasked."""

    number: int
    data: dict[str, Any]


class Fault(msgspec.Struct, tag=True, frozen=True):
    """Why the worker cannot start or must end, in words for the administrator."""

    text: str


ToWorker = Start | Drain | SnapshotRequest | Question | LogLevel | Topic
"""What a worker reads."""

ToSupervisor = Hello | Ready | Drained | Snapshot | Finding | Fault | Topic | Keep
"""What the supervisor reads."""
