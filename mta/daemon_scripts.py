"""Policy files of workers that come later: the part of `mta.daemon` about them.

A policy comes into force by a reload, which refuses one that is wrong. A worker that is started in the place
of another therefore begins with the files as the others of its generation have them, which the supervisor
keeps in memory for it, and not with what somebody is editing at that moment.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from mta.supervisor.link import WorkerLink

if TYPE_CHECKING:
    from mta.policy.sieve.loading import Read

KEPT = 2 * 1024 * 1024
"""Octets of policy files that are kept for later workers: half of what the supervisor has room for."""
KEY = "policy files"


@contextlib.contextmanager
def policy_files(link: WorkerLink, warn: Callable[..., object]) -> Iterator[Read]:
    """What reads the policy files in the block, each once; later workers are given them when it ends well.

    `warn` logs an event.
    """
    kept = link.kept(KEY)
    files: dict[str, bytes] = dict(kept or {})

    def read(path: str) -> tuple[str, bytes]:
        from mta.policy.sieve.loading import source_of  # it loads the Sieve engine

        if path not in files:
            files[path] = source_of(path)[1]
        return path, files[path]

    yield read
    if kept is not None:
        return
    size = sum(map(len, files.values()))
    if size <= KEPT:
        link.keep(KEY, files)
    else:
        warn("policy files not kept for later workers", octets=size)
