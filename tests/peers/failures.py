"""A counter of failed logins for tests of one process, in place of the node's shared memory."""

from __future__ import annotations

from collections import Counter


class CountedFailures:
    """`mta.accounts.limiter.FailureCounter` that counts each address and forgets nothing."""

    def __init__(self) -> None:
        """Nobody has failed yet."""
        self._failures: Counter[str] = Counter()

    def add(self, client_address: str) -> None:
        """One more failure."""
        self._failures[client_address] += 1

    def count(self, client_address: str) -> int:
        """All failures of this address."""
        return self._failures[client_address]

    def counts(self, client_address: str) -> bool:
        """Those of everybody."""
        return True
