"""Trees as octets, for caches on disk: msgpack, which holds values and nothing that is run.

A tree depends on the text and the grammar alone, on no dialect, setting or included script. So that is what
`key_of` makes a digest of, and everything else is done anew when a script is loaded from a stored tree: words
looked up, arguments checked, included scripts found, closures made. A tree that somebody has written by hand
can therefore be no more than that of another script, which must be valid like any other; `read_tree` refuses
what no script has. No source is copied: the format is msgspec's array form of `sieve_ext.syntax.tree`.
"""

from __future__ import annotations

from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

import msgspec

from sieve_ext.syntax import limits
from sieve_ext.syntax.tree import Call, Text, TextList

FORMAT = 1
"""Of the octets; another number when they mean something else."""

_write = msgspec.msgpack.Encoder().encode
_read = msgspec.msgpack.Decoder(list[Call]).decode


class TreeCache(Protocol):
    """Where trees are kept: octets by key. Nothing of it raises; what cannot be kept is not."""

    def read(self, key: bytes) -> bytes | None:
        """What was kept under the key, None if nothing was."""

    def write(self, key: bytes, octets: bytes) -> None:
        """Keep octets under a key, in place of what was there."""


def key_of(text: bytes) -> bytes:
    """The key of a script's tree: 32 octets."""
    return blake2b(text, digest_size=32, key=_grammar()).digest()


@cache
def _grammar() -> bytes:
    """A digest of the code that makes trees, for a change of it may change them; 32 octets."""
    found = blake2b(b"sieve tree %d" % FORMAT, digest_size=32)
    for path in sorted(Path(__file__).parent.glob("*.py")):
        found.update(b"%d:" % len(octets := path.read_bytes()) + octets)
    return found.digest()


_grammar()  # while the files are those that were imported: an upgrade replaces them under a process that runs


def write_tree(tree: list[Call]) -> bytes:
    """The octets of a tree without errors; taken before it is validated, which rewrites strings in place."""
    return _write(tree)


def read_tree(octets: bytes) -> list[Call] | None:
    """The tree, None where the octets are none that a script can have. Raises nothing."""
    try:
        tree = _read(octets)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    return tree if _left(tree, limits.CALLS, limits.BLOCK_DEPTH) >= 0 else None


def _left(calls: list[Call], left: int, blocks: int, tests: int | None = None) -> int:
    """How many of `left` commands and tests are left after these; less than 0 if no script has them.

    `blocks` and `tests` say how deep those within may be nested; `tests` is None for commands.
    """
    left -= len(calls)
    for call in calls:
        for argument in call.arguments:
            if isinstance(argument, Text):
                if "\0" in argument.value:
                    return -1
            elif isinstance(argument, TextList):
                for item in argument.items:
                    if "\0" in item.value:
                        return -1
        if call.tests:
            deeper = limits.TEST_DEPTH if tests is None else tests
            if not deeper or not (call.is_list or len(call.tests) == 1):
                return -1
            left = _left(call.tests, left, blocks, deeper - 1)
        elif call.is_list:
            return -1
        if call.block is not None:
            if tests is not None or not blocks:
                return -1
            left = _left(call.block, left, blocks - 1)
        if left < 0:
            return -1
    return left
