"""The file of a Unix socket outlives a server that listens on it.

Sockets belong to the supervisor's book (mta.supervisor.sockets): at a reload the next generation listens on
the same socket, behind the same file. From Python 3.13 on asyncio, and uvloop with it, removes the file when
the first of the servers is closed, and nobody reaches the next one any more.
"""

from __future__ import annotations

import sys
from typing import Any

KEEP: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
"""Arguments for `create_unix_server` and `start_unix_server`."""
