"""The configuration: one TOML file in, one frozen `Config` out, or all its mistakes at once.

The schema is in `inbound`, `outbound` and `node`, put together in `schema`.
"""

from __future__ import annotations

from mta.config.inbound import (
    Auth,
    Certificate,
    Limits,
    Listener,
    Message,
    SessionLimits,
    Timeouts,
    Tls,
)
from mta.config.node import Control, Identity, Log, Metrics, Process, Store
from mta.config.notation import Inet, Inherited, RecipientSource, Unix
from mta.config.outbound import Backend, Delivery, Domain, NextHopLimits, Policy, Relay
from mta.config.schema import Config

__all__ = [
    "Auth",
    "Backend",
    "Certificate",
    "Config",
    "Control",
    "Delivery",
    "Domain",
    "Identity",
    "Inet",
    "Inherited",
    "Limits",
    "Listener",
    "Log",
    "Message",
    "Metrics",
    "NextHopLimits",
    "Policy",
    "Process",
    "RecipientSource",
    "Relay",
    "SessionLimits",
    "Store",
    "Timeouts",
    "Tls",
    "Unix",
]
