"""Import a library without what it only takes when it is there.

structlog imports rich, with pygments and attrs behind it, when they are installed, to colour the tracebacks
of its own console renderer, which we do not use. Tamis installs rich for its terminal commands, so each
process of the server would pay for it: 90 ms of CPU at every start, and 6 MB.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def absent(name: str) -> Iterator[None]:
    """Let `import name` raise ModuleNotFoundError within the block, as if it was not installed.

    A module that is loaded already stays: then nothing can be saved. Not for code that runs beside other
    threads: they would miss the module too.
    """
    if name in sys.modules:
        yield
        return
    # None is how the import system spells "known to be missing" (language reference, section 5.3.1).
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
