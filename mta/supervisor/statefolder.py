"""The state directory belongs to one server at a time."""

from __future__ import annotations

import fcntl
import os


class StateFolder:
    """Held until this process ends, however it ends: the kernel gives it free."""

    def __init__(self) -> None:
        """Nothing is held yet."""
        self._descriptor = -1

    def hold(self, directory: str) -> None:
        """Keep other servers out of `directory`, "" for none; a second call changes nothing.

        The lock (flock) is on the folder itself, so no file has to be written. Raises OSError when another
        server has it, or it cannot be opened.
        """
        if self._descriptor >= 0 or not directory:
            return
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise OSError(
                f"another server works with {directory}: stop it, or give this one a process.state_directory"
                " of its own"
            ) from None
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
