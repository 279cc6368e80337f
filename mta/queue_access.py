"""Where the commands about the queue find it: in a running server, or in its stores."""

from __future__ import annotations

import time

from mta.admin.client import NotRunning
from mta.cli_queue_common import Access
from mta.spool.remote import RemoteQueue


def open_queue(configuration: str) -> Access:
    """The queue of a configuration. Raises Unreachable, ConfigError, QueueProblem."""
    from mta.configured import control_socket

    try:
        where = control_socket(configuration)
    except OSError:
        return _offline(configuration)  # which says what is wrong with the file
    try:
        return RemoteQueue(where)
    except NotRunning:
        return _offline(configuration)


def _offline(configuration: str) -> Access:
    # Imported here: a running server is asked without all of this.
    from mta.queue_offline import OfflineQueue
    from mta.queue_stores import read_configuration

    return OfflineQueue(read_configuration(configuration), time.time)
