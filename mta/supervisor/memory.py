"""What the node must not forget while workers come and go: records with an expiry, bounded, saved at stop.

A message that was delivered but whose reply did not reach the client is remembered by its worker, so
that the client's retry is answered without a second copy. The retry may reach any worker, also one
that starts later: the supervisor keeps every record of such a topic and gives all of them to each new
worker with its first message. Over a restart they are kept in a file of the state directory.

A record says in `expires` until when it is worth remembering (seconds since the epoch, the same clock in
all processes); without it, or beyond `LONGEST`, it is kept for `LONGEST`. When `LIMIT` is reached the
oldest goes: then a retry may make a duplicate, which SMTP allows (RFC 5321 section 6.1), but nothing is lost.

The file is replaced atomically (`mta.folders.replacing`). Reading an old state once more does no harm,
for expiry is by the time of day. A file that cannot be read is reported and the memory begins anew: a
duplicate is better than no mail server.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from mta.folders import replacing

REMEMBERED_TOPICS = frozenset({"unacknowledged"})
"""Topics whose records are kept for workers that start later."""

EXPIRY = "expires"
"""Field of a record: until when it counts, in seconds since the epoch."""

LONGEST = 86_400.0
"""Seconds that a record is kept at most: clients give up retrying the same connection state long before."""

LIMIT = 10_000
"""Records kept at most; about 3 MB. A node that loses this many replies a day has another problem."""

FILE_NAME = "unacknowledged.json"


class _Saved(msgspec.Struct):
    topic: str
    expires_at: float
    data: dict[str, Any]


class Memory:
    """The records that a new worker is told."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begin empty; `clock` gives the time of day in seconds, since records outlive the process."""
        self._clock = clock
        self._records: deque[_Saved] = deque(maxlen=LIMIT)

    def remember(self, topic: str, data: dict[str, Any]) -> None:
        """Keep a record of a topic in `REMEMBERED_TOPICS`; others are ignored."""
        if topic not in REMEMBERED_TOPICS:
            return
        longest = self._clock() + LONGEST
        expires = data.get(EXPIRY)
        expires_at = min(float(expires), longest) if isinstance(expires, int | float) else longest
        self._records.append(_Saved(topic, expires_at, data))

    def records(self) -> list[tuple[str, dict[str, Any]]]:
        """Return what still counts, oldest first, as (topic, data)."""
        self._forget_expired()
        return [(saved.topic, saved.data) for saved in self._records]

    def __len__(self) -> int:
        """Count what is kept, expired or not."""
        return len(self._records)

    def save(self, directory: str) -> None:
        """Write the records to `directory`. Raises `OSError`."""
        self._forget_expired()
        with replacing(os.path.join(directory, FILE_NAME)) as file:
            file.write(msgspec.json.encode(list(self._records)))

    def load(self, directory: str) -> None:
        """Read what `save` wrote, if there is any. Raises `OSError`, or `ValueError` for a damaged file."""
        path = os.path.join(directory, FILE_NAME)
        try:
            with open(path, "rb") as file:
                content = file.read()
        except FileNotFoundError:
            return
        try:
            self._records.extend(msgspec.json.decode(content, type=list[_Saved]))
        except msgspec.MsgspecError as problem:
            raise ValueError(f"{path} is damaged and is ignored: {problem}") from problem
        self._forget_expired()

    def _forget_expired(self) -> None:
        now = self._clock()
        self._records = deque((saved for saved in self._records if saved.expires_at > now), maxlen=LIMIT)
