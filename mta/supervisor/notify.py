"""Tell systemd about our state: the sd_notify(3) protocol, in the few lines that it takes.

Messages are newline-separated assignments in one datagram to the Unix socket named by
`NOTIFY_SOCKET` (a leading "@" means the abstract name space). Without that variable every call is a
no-op, so the caller does not ask whether it runs under systemd. A service manager that is gone or busy
must not take the mail server down or hold it up: what cannot be sent is counted in `failed` and sent with the
next sign of life, in order, for a READY=1 that never came would end the service.

For `Type=notify-reload` a reload is bracketed by `RELOADING=1` with `MONOTONIC_USEC` and `READY=1`.
The watchdog (`WATCHDOG_USEC`, only when `WATCHDOG_PID` is ours) is fed at half its period.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable, MutableMapping

MAX_UNSENT = 8
"""Messages kept for a manager that does not take them: the newest, of which the last says how it is."""


class Notifier:
    """The connection to the service manager, if there is one."""

    def __init__(self, address: str = "", watchdog_seconds: float = 0.0) -> None:
        """Speak to the socket at `address`; "" for nobody. `watchdog_seconds`: 0 when no watchdog waits."""
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_seconds = watchdog_seconds
        self.failed = 0
        self._unsent: deque[bytes] = deque(maxlen=MAX_UNSENT)
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> Notifier:
        """Take (and remove, so that no child speaks in our name) what systemd put into the environment."""
        address = environment.pop("NOTIFY_SOCKET", "")
        microseconds = environment.pop("WATCHDOG_USEC", "")
        pid = environment.pop("WATCHDOG_PID", "")
        watched = microseconds.isascii() and microseconds.isdigit() and pid in ("", str(os.getpid()))
        return cls(address, int(microseconds) / 1e6 if watched else 0.0)

    def send(self, *assignments: str) -> None:
        """Send assignments such as "READY=1" in one datagram, as soon as the manager takes it."""
        if self._socket is None:
            return
        lines = (" ".join(assignment.splitlines()) for assignment in assignments)
        self._unsent.append("\n".join(lines).encode())
        self._send_all()

    def _send_all(self) -> bool:
        """Send what waits; False when it goes on waiting."""
        try:
            while self._unsent and self._socket is not None:
                self._socket.sendto(self._unsent[0], self._address)
                self._unsent.popleft()
        except OSError:
            self.failed += 1
            return False
        return True

    def ready(self, status: str) -> None:
        """Start or reload is complete."""
        self.send("READY=1", f"STATUS={status}", f"MAINPID={os.getpid()}")

    def reloading(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """A reload begins; `clock` gives CLOCK_MONOTONIC in nanoseconds."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={clock() // 1000}", "STATUS=reloading")

    def stopping(self) -> None:
        """The service ends."""
        self.send("STOPPING=1", "STATUS=stopping")

    def status(self, text: str) -> None:
        """One line that `systemctl status` shows."""
        self.send(f"STATUS={text}")

    def watchdog(self) -> None:
        """Feed the watchdog; a manager that does not even take what came before gets no more."""
        if self._send_all():
            self.send("WATCHDOG=1")

    def close(self) -> None:
        """Close the socket; later calls are no-ops."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
