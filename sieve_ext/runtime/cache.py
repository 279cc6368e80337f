"""Compiled scripts by the digest of their text, and of the texts that they include.

Two caches, one behind the other. Closures stay in memory, a worker's own, bounded by the octets of the texts.
They cannot be written to a disk, and a compiled form that can would have to be trusted; what may be kept
there is what was read of the text, its tree (`sieve_ext.syntax.stored`), in a `DiskCache` that all workers
share and that outlives them. From there a script is compiled with all checks, without reading its text again.
Not for threads to share.
"""

from __future__ import annotations

from collections import OrderedDict

from sieve_ext.closures.unit import ScriptStore, digest_of
from sieve_ext.language.dialect import Dialect
from sieve_ext.runtime.script import Script, load
from sieve_ext.runtime.settings import Settings
from sieve_ext.syntax.stored import TreeCache

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
        trees: TreeCache | None = None,
    ) -> None:
        """`settings` and `store` are those with which scripts are loaded; `octets` bounds what is kept.

        `trees` is asked for what is not in memory, and keeps it: a `DiskCache`.
        """
        self._dialect = dialect
        self._settings = settings
        self._store = store
        self._octets = octets
        self._trees = trees
        self._held = 0
        self._scripts: OrderedDict[tuple[str, bytes | None], Script] = OrderedDict()
        self.hits = 0
        """How often a script was there."""
        self.misses = 0
        """How often one had to be compiled."""

    def load(self, text: str | bytes, name: str = "") -> Script:
        """The compiled script. Raises InvalidScript, which is not remembered.

        The store is asked for the scripts that it includes each time, for they may have changed.
        """
        octets = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        key = (name, digest_of(octets))
        script = self._scripts.get(key)
        if script is not None and self._is_current(script):
            self._scripts.move_to_end(key)
            self.hits += 1
            return script
        self.misses += 1
        if script is not None:
            self._held -= len(self._scripts.pop(key).text)
        script = load(
            octets,
            self._dialect,
            name=name,
            settings=self._settings,
            store=self._store,
            trees=self._trees,
        )
        if len(octets) <= self._octets:
            self._scripts[key] = script
            self._held += len(octets)
            while self._held > self._octets:
                _, old = self._scripts.popitem(last=False)
                self._held -= len(old.text)
        return script

    def _is_current(self, script: Script) -> bool:
        """What it includes is still what it included when it was loaded."""
        store = self._store
        try:
            return store is None or all(
                digest_of(store.load(*where)) == digest for where, digest in script.included.items()
            )
        except OSError:
            return False  # loading it says why

    def clear(self) -> None:
        """Forget all, as after a change of settings."""
        self._scripts.clear()
        self._held = 0
