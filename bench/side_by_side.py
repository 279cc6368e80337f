"""Tamis and Postfix running beside each other, each with a sink of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench import workplace
from bench.peers.postfix import postfix
from bench.sink import sink
from bench.system import System
from bench.tamis import tamis


class Pair(NamedTuple):
    """Both servers."""

    tamis: System
    postfix: System


@contextlib.contextmanager
def both(parent: Path) -> Iterator[Pair]:
    """Run both in a new folder under `parent`. The peer comes first: without it nothing is measured."""
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(workplace.folder(parent))
        theirs = stack.enter_context(sink(place, "postfix"))
        ours = stack.enter_context(sink(place, "tamis"))
        peer = stack.enter_context(postfix(place / "postfix", theirs))
        yield Pair(stack.enter_context(tamis(place / "tamis", ours)), peer)
