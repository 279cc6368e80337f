"""A milter that hears whole messages and changes nothing: `python -m bench.noop_milter ENDPOINT`."""

from __future__ import annotations

import sys

import uvloop

from mailmilter.filter import Answer, Context, Milter, run


class Noop(Milter):
    """Asked at each stage and for the whole message; says continue."""

    async def end_of_message(self, ctx: Context) -> Answer | None:
        return None

    async def body(self, ctx: Context, piece: bytes) -> Answer | None:
        return None


if __name__ == "__main__":
    uvloop.install()
    run(Noop, sys.argv[1], mode=0o666)
