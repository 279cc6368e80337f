"""Where the commands about the queue find it: in a running server, or in its stores."""

from __future__ import annotations

from mta.cli_queue import Access
from mta.spool.remote import RemoteQueue


def open_queue(configuration: str) -> Access:
    """The queue of a configuration. Raises NotRunning."""
    from mta.commands import control_socket

    return RemoteQueue(control_socket(configuration))
