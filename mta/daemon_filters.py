"""The programs beside a worker that look at mail, put together from the configuration: part of `mta.daemon`.

Imports what the configuration names, and nothing else.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mta import config
from mta.delivery.fixed import FixedTransport
from mta.delivery.outcome import FILTER
from mta.metrics import Stats
from mta.policy.verdict import Policy
from mta.session import Session
from mta.trace import missing_fields
from sieve_ext.message import Message

if TYPE_CHECKING:
    from mta.policy.external.pending import Pending
    from mta.policy.external.policyservers import PolicyServers
    from mta.policy.external.scanners import Scanners
    from mta.policy.milter.milters import Milters
    from mta.policy.sieve.asking import Services


@dataclass(slots=True)
class Programs:
    """What there is of them."""

    milters: Milters | None = None
    policy_servers: PolicyServers | None = None
    scanners: Scanners | None = None
    pending: dict[str, Pending] = field(default_factory=dict)
    """What policy servers want done with messages, by session."""

    def services(self) -> Services:
        """Who answers what scripts ask of them."""
        found: Services = {}
        if self.milters is not None:
            from mta.policy.sieve.milter import milter_services

            found = {**found, **milter_services(self.milters)}
        if self.policy_servers is not None:
            from mta.policy.sieve.policyserver import policy_server_services

            found = {**found, **policy_server_services(self.policy_servers)}
        if self.scanners is not None:
            from mta.policy.sieve.scan import scan_services

            found = {**found, **scan_services(self.scanners)}
        return found

    def around(self, settings: config.Config, policy: Policy, base: Policy) -> Policy:
        """The policy, with what content filters, policy servers and milters do around it.

        `base` is asked about mail that comes back from a content filter.
        """
        returning = frozenset(content.returns_to for content in settings.filters.values())
        if returning:
            from mta.policy.traced import TracedPolicy

            policy = TracedPolicy(policy, base, lambda session: session.listener in returning)
        if self.policy_servers is not None or returning:
            from mta.assembly_filters import filtered
            from mta.policy.external.pending import PendingPolicy

            policy = PendingPolicy(policy, self.pending, filtered(settings))
        if self.milters is not None:
            from mta.policy.milter.policy import MilterPolicy

            policy = MilterPolicy(policy, self.milters, _missing(settings.identity.hostname))
        return policy

    def measure(self) -> None:
        """Set the numbers of connections in the metrics."""
        for programs in (self.milters, self.policy_servers, self.scanners):
            if programs is not None:
                programs.measure()

    def close(self) -> None:
        """Close idle connections."""
        if self.milters is not None:
            self.milters.close()
        if self.policy_servers is not None:
            self.policy_servers.close()


def build_programs(
    settings: config.Config,
    complain: Callable[[str, str, str], None],
    stats: Stats,
    read_secret: Callable[[str], str],
) -> Programs:
    """All of them. `complain` is told of trouble: what it is, the session, the text.

    Raises ValueError, and what `read_secret` raises for a password file.
    """
    if settings.milters or settings.policy_servers or settings.scanners:
        from mta.policy.external.tally import Tally
    programs = Programs()
    if settings.milters:
        from mta.assembly_filters import milter_settings
        from mta.policy.milter.milters import Milters

        programs.milters = Milters(milter_settings(settings), complain, Tally("milter", stats))
    if settings.policy_servers:
        from mta.assembly_filters import destination, policy_services
        from mta.policy.external.policyservers import PolicyServers

        programs.policy_servers = PolicyServers(
            policy_services(settings),
            programs.pending,
            destination(settings),
            {name: one.authentication for name, one in settings.policy_servers.items()},
            Tally("policy_server", stats),
        )
    if settings.scanners:
        from mta.assembly_filters import scanner_settings
        from mta.policy.external.scanners import Scanners

        programs.scanners = Scanners(scanner_settings(settings, read_secret), Tally("scanner", stats))
    return programs


def filter_transports(settings: config.Config, workers: int) -> dict[str, FixedTransport]:
    """The content filters as next hops, by the names of their transports. Raises CertificateError."""
    if not settings.filters:
        return {}
    from mta.assembly_filters import content_filter

    hostname = settings.identity.hostname
    return {
        f"{FILTER}{name}": FixedTransport(content_filter(name, one, hostname, workers))
        for name, one in settings.filters.items()
    }


def _missing(hostname: str) -> Callable[[Session, Message], bytes]:
    def missing(session: Session, message: Message) -> bytes:
        if session.protocol != "submission":
            return b""
        return missing_fields(message, time.time(), hostname, os.urandom)[0]

    return missing
