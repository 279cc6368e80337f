"""How many files this process may have open. The supervisor raises the limit, and its children inherit it."""

from __future__ import annotations

import resource

FEWEST = 128
"""Open files that a process must be allowed for a start: a worker keeps 64 descriptors free
(`mta.net.listener.FD_RESERVE`) and has about 25 before the first client comes."""
A_SESSION = 2
"""Descriptors of a session whose mail is delivered."""


def raise_fd_limit(wanted: int = 0) -> int:
    """Raise the soft limit of open files to the hard one (and the hard one to `wanted`, if we may).

    Returns the limit that holds now. A session needs one descriptor, its delivery another, a large message a
    third; the usual soft limit of 1,024 would be used up by a few hundred clients.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if wanted > hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
        except (ValueError, OSError):
            pass  # not privileged: the hard limit is what we get, and the caller sees it
        else:
            return wanted
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def places(limit: int, workers: int) -> int:
    """How many sessions `workers` with `limit` open files each have room for, with their deliveries."""
    return max(limit - FEWEST, 0) * workers // A_SESSION
