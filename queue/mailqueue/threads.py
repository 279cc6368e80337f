"""Pools that have all their threads from the beginning.

The standard library starts a thread when there is work for it. When the system has none to give then (its
limit of processes counts threads, too), `submit` raises and keeps the work all the same: it is done later,
when whoever wanted it has been told that it was not.
"""

from __future__ import annotations

import errno
import threading
from concurrent.futures import ThreadPoolExecutor


def started_pool(threads: int, name: str) -> ThreadPoolExecutor:
    """A pool whose threads run. Raises OSError when the system does not give so many."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    here = threading.Barrier(threads + 1)
    try:
        # Each is busy until all are there, so that each is another one.
        for _ in range(threads):
            pool.submit(here.wait)
    except RuntimeError as error:
        here.abort()
        pool.shutdown(wait=False, cancel_futures=True)
        raise OSError(errno.EAGAIN, str(error)) from error
    here.wait()
    return pool
