"""How many files this process may have open. The supervisor raises the limit, and its children inherit it."""

from __future__ import annotations

import resource


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
