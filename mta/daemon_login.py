"""Logins of the node: the part of `mta.daemon` about what all workers count together."""

from __future__ import annotations

from mta.net.limits import Limits


class NodeFailures:
    """Failed logins of the node (`mta.accounts.limiter.FailureCounter`) in the shared memory."""

    def __init__(self, limits: Limits) -> None:
        """`limits` has the shared memory."""
        self._limits = limits

    def add(self, client_address: str) -> None:
        """One more failure."""
        self._limits.auth_failed(self._limits.client(client_address))

    def count(self, client_address: str) -> int:
        """Failures within the window."""
        return self._limits.auth_failures(self._limits.client(client_address))
