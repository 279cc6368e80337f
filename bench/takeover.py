"""A node dies with its queue full, and another one goes on with its mail.

Both share a folder. `takeover_first`: seconds from the kill until the other node has delivered the first of
the dead one's messages; `takeover_all`: until it holds or has delivered all of them. There is no peer here:
Postfix keeps its queue for itself.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from bench import workplace
from bench.command import Options, run
from bench.figures import Figure
from bench.sink import sink
from bench.system import Failure
from bench.tamis import Tamis

MESSAGES = 100_000
QUICK_MESSAGES = 5000
PATIENCE = 300.0
POLL = 0.25

_QUEUE = """
[queue]
stores = ["shared"]
node = "survivor"
[queue_stores.shared]
url = "file:{folder}"
"""


def measure(options: Options) -> list[Figure]:
    """Fill a queue, kill its owner, watch the other node."""
    count = QUICK_MESSAGES if options.quick else MESSAGES
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(workplace.folder(options.folder))
        target = stack.enter_context(sink("survivor"))
        shared = place / "shared"
        shared.mkdir()
        filler = stack.enter_context(filling(f"file:{shared}", count))
        tamis = Tamis(place / "tamis", target, _QUEUE.format(folder=shared))
        tamis.start()
        stack.callback(tamis.stop)
        tamis.wait()
        filler.send_signal(signal.SIGKILL)
        begin = time.monotonic()
        first = _until(lambda: target.count() > 0, begin)
        everything = _until(lambda: target.count() + _waiting(tamis) >= count, begin)
    return [Figure("takeover_first", first, "s"), Figure("takeover_all", everything, "s")]


@contextlib.contextmanager
def filling(url: str, count: int) -> Iterator[subprocess.Popen[str]]:
    """A node that has taken so many messages; it is killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.filler", url, str(count)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "filled\n":
                raise Failure("the queue could not be filled")
            yield process
        finally:
            process.kill()


def _waiting(tamis: Tamis) -> int:
    """Messages in the queue of a node."""
    return int(tamis.status()["metrics"]["queue_messages"][""])


def _until(is_there: Callable[[], bool], begin: float) -> float:
    while not is_there():
        if time.monotonic() - begin > PATIENCE:
            raise Failure(f"nothing has come of it in {PATIENCE:g} s")
        time.sleep(POLL)
    return time.monotonic() - begin


if __name__ == "__main__":
    run("takeover", measure)
