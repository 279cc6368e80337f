"""Compiled scripts by the digest of their text.

Closures cannot be written to a disk, and a compiled form that can would have to be trusted: so the cache is
one of memory, a worker's own, and compiling costs a millisecond for each kilobyte, once. What it keeps is
bounded by the text's octets. Not for threads to share.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b

from sieve_ext.closures.unit import ScriptStore
from sieve_ext.language.dialect import Dialect
from sieve_ext.runtime.script import Script, load
from sieve_ext.runtime.settings import Settings

OCTETS = 2 * 1024 * 1024
"""Text of all scripts that are kept: some thousand of users. A compiled script takes fifty times its text."""


class ScriptCache:
    """Scripts of one dialect, the least recently used forgotten first."""

    def __init__(
        self,
        dialect: Dialect,
        *,
        settings: Settings | None = None,
        store: ScriptStore | None = None,
        octets: int = OCTETS,
    ) -> None:
        """`settings` and `store` are those with which scripts are loaded; `octets` bounds what is kept."""
        self._dialect = dialect
        self._settings = settings
        self._store = store
        self._octets = octets
        self._held = 0
        self._scripts: OrderedDict[tuple[str, bytes], Script] = OrderedDict()
        self.hits = 0
        """How often a script was there."""
        self.misses = 0
        """How often one had to be compiled."""

    def load(self, text: str | bytes, name: str = "") -> Script:
        """The compiled script. Raises InvalidScript, which is not remembered.

        A script that includes others is compiled each time: whether they have changed only their store knows.
        """
        octets = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        key = (name, blake2b(octets, digest_size=32).digest())
        script = self._scripts.get(key)
        if script is not None:
            self._scripts.move_to_end(key)
            self.hits += 1
            return script
        self.misses += 1
        script = load(octets, self._dialect, name=name, settings=self._settings, store=self._store)
        if not script.has_includes and len(octets) <= self._octets:
            self._scripts[key] = script
            self._held += len(octets)
            while self._held > self._octets:
                _, old = self._scripts.popitem(last=False)
                self._held -= len(old.text)
        return script

    def clear(self) -> None:
        """Forget all, as after a change of settings."""
        self._scripts.clear()
        self._held = 0
