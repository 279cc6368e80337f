"""The checks as a process of their own, for the supervisor: it stays small, and nothing can hang it.

    python -m mta.startup SECONDS [live] < configuration as JSON > results as JSON

SECONDS is the patience. With `live` the server runs, and its own ports are looked at too. The process ends
when the one that started it does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

import msgspec

from mta import config
from mta.startup.claims import site_of
from mta.startup.look import look
from mta.startup.render import facts
from mta.startup.report import Report, ReportedResult
from mta.startup.verdict import judge

ORPHAN_POLL = 0.5
"""Seconds between two looks whether the supervisor lives."""


async def _orphaned(parent: int) -> None:
    while os.getppid() == parent:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(ORPHAN_POLL)


async def _main(settings: config.Config, patience: float, live: bool) -> bytes | None:
    looking = asyncio.ensure_future(look(site_of(settings), (), local=False, patience=patience, live=live))
    watching = asyncio.ensure_future(_orphaned(os.getppid()))
    await asyncio.wait((looking, watching), return_when=asyncio.FIRST_COMPLETED)
    watching.cancel()
    if not looking.done():
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking
        return None
    findings = looking.result()
    verdict = judge(settings.checks, findings)
    results = [ReportedResult(**facts(result)) for several in findings.values() for result in several]
    return msgspec.json.encode(Report(verdict.wrong, verdict.refused, verdict.warnings, tuple(results)))


def main(arguments: list[str]) -> int:
    """Run; returns the exit status."""
    settings = config.from_json(sys.stdin.buffer.read())
    answer = asyncio.run(_main(settings, float(arguments[0]), "live" in arguments[1:]))
    if answer is None:
        return 1
    sys.stdout.buffer.write(answer)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
