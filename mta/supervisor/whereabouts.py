"""Where the queue was when this node served last: after a change, mail that waits there is nobody's.

Another store in the configuration, or another folder under the same name - a disk that is not mounted, above
all - is an empty queue that looks like one without work. So the store that decides who owns what is noted in
a file of the state directory, and a folder gets a mark that is noted, too (copies of it have the same one);
who serves next compares and says what was left. That is a warning, for the administrator may have meant it;
it comes once, and as long as there is no queue at all at each start.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable

import msgspec

from mta.folders import replacing
from mta.supervisor.plan import Plan

FILE_NAME = "queue-store.json"
MARK = ".mark"
"""File of a folder of the queue; no object of the store has such a name."""
_FOLDER = "file:"


class _Place(msgspec.Struct, frozen=True):
    """A store; `mark` only of a folder."""

    store: str
    mark: str = ""


def left_store(plan: Plan, warn: Callable[..., object]) -> str:
    """Note where the queue is now; return where mail may have been left, "" for nowhere, and `warn` of it.

    What cannot be read or written is only told: the server serves.
    """
    if not plan.state_directory:
        return ""
    path = os.path.join(plan.state_directory, FILE_NAME)
    left = ""
    try:
        now = _place(plan.queue_store)
        left = _left(_read(path), now)
        if now.store:
            with replacing(path) as file:
                file.write(msgspec.json.encode(now))
    except FileNotFoundError:
        return ""  # no worker could open the store yet, and each says so
    except OSError as problem:
        warn("store of the queue not noted", file=path, reason=str(problem))
    if left:
        warn("the queue has another store", left=left)
    return left


def moved_state(old: Plan, new: Plan) -> str:
    """Why a reload cannot do what a plan says of the state directory, "" when it can.

    What the server remembers lies there, and the queue where no other store is named: new workers would work
    in the new folder, and mail that waits in the old one would be nobody's.
    """
    if old.state_directory == new.state_directory:
        return ""
    return (
        f"process.state_directory: {new.state_directory or 'none'} in place of"
        f" {old.state_directory or 'none'} needs a restart: what the server keeps lies there"
    )


def _left(before: _Place | None, now: _Place) -> str:
    if before is None or before == now:
        return ""
    if before.store == now.store:
        return f"{before.store} (another folder is there now: is its disk mounted?)"
    return before.store


def _place(store: str) -> _Place:
    if not store.startswith(_FOLDER):
        return _Place(store)
    path = os.path.join(store.removeprefix(_FOLDER), MARK)
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return _Place(store, file.read())
    except FileNotFoundError:
        mark = secrets.token_hex(8)
        with replacing(path) as new:
            new.write(mark.encode("ascii"))
        return _Place(store, mark)


def _read(path: str) -> _Place | None:
    """None where nothing was noted, or what was noted is damaged: a new note is made."""
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=_Place)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
