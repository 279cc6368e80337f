"""The clock: signatures, certificates, TOTP and the queue depend on it.

Nobody is asked for the time. The kernel knows whether something keeps the clock (adjtimex(2)), and files
cannot have been written in the future.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Mapping

from mta.startup.claims import Site
from mta.startup.result import Result, ok, unknown, wrong
from mta.startup.world import World

TIME_ERROR = 5
"""State of a clock that nothing keeps (adjtimex(2))."""
_TIMEX_OCTETS = 512
"""More than the struct timex of any architecture has."""
LEEWAY = 300.0
"""Seconds by which a file may be newer than now: another machine wrote it over the network."""
MEND = "run chrony or systemd-timesyncd; `timedatectl` shows what keeps the clock"


async def clock(site: Site, world: World) -> list[Result]:
    """The kernel's state, and the newest of the files that we know."""
    settings = site.settings
    paths = [settings.process.state_directory]
    for certificate in settings.certificates.values():
        paths += [certificate.chain, certificate.key]
    paths.append(__file__)
    times: dict[str, float] = {}
    for path in paths:
        try:
            times[path] = os.stat(path).st_mtime
        except OSError:
            continue  # missing files are for other checks
    return [judge_clock(kernel_state(), world.now(), times)]


def kernel_state() -> int | None:
    """What adjtimex(2) returns, None where there is no such call."""
    try:
        return int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_OCTETS)))
    except (OSError, AttributeError):
        return None


def judge_clock(state: int | None, now: float, written: Mapping[str, float]) -> Result:
    """`state` is the kernel's, `written` has the times of files."""
    asked = "adjtimex, and the times of files"
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    for path, moment in written.items():
        if moment > now + LEEWAY:
            return wrong("clock", asked, f"it is {shown}, but {path} is {moment - now:.0f} s newer", MEND)
    if state is None or state < 0:
        return unknown(
            "clock",
            asked,
            f"it is {shown}; the kernel does not say whether something keeps it",
            MEND,
            settled=True,
        )
    if state == TIME_ERROR:
        return unknown("clock", asked, f"it is {shown}; nothing keeps the clock", MEND, settled=True)
    return ok("clock", asked, f"it is {shown}, kept by something")
