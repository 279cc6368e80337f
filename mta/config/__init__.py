"""The configuration: one TOML file in, one frozen `Config` out, or all its mistakes at once.

    try:
        config = load("/etc/tamis/tamis.toml")
    except ConfigError as error:
        for problem in error.problems: ...

The steps, one module each: `read` converts (with `notation`, `units`, `suggest`), `locate` knows the lines,
`settle` fills in what depends on other settings, `rules` checks what belongs together, `files` and
`certificates` look at the machine. The schema is in `inbound`, `dns`, `authentication`,
`outbound`, `security`, `world`, `queueing` and `node`, put together in `schema`.

A worker gets a configuration that is checked already (`from_json`) and starts without all of the former:
names of `loading`, `problems` and `settle` are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mta.config.authentication import Authentication, Signing
from mta.config.checks import Checks
from mta.config.directors import Director
from mta.config.dns import Dns, DnsServer
from mta.config.filtering import ContentFilter, Milter, PolicyServer, Scanner
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
from mta.config.notation import Inet, Inherited, RecipientSource, Unix, near
from mta.config.outbound import Backend, Delivery, Domain, NextHopLimits, Policy, Relay
from mta.config.queueing import Queue, QueueStore
from mta.config.schema import Config, from_json, to_json
from mta.config.secret import read_secret
from mta.config.security import Reports, Security
from mta.config.world import Outbound, OutboundSource

if TYPE_CHECKING:
    from mta.config.loading import Report, check, examine, load, parse, this_machine
    from mta.config.problems import ConfigError, Problem
    from mta.config.settle import Machine

__all__ = [
    "Auth",
    "Authentication",
    "Backend",
    "Certificate",
    "Checks",
    "Config",
    "ConfigError",
    "ContentFilter",
    "Control",
    "Delivery",
    "Director",
    "Dns",
    "DnsServer",
    "Domain",
    "Identity",
    "Inet",
    "Inherited",
    "Limits",
    "Listener",
    "Log",
    "Machine",
    "Message",
    "Metrics",
    "Milter",
    "NextHopLimits",
    "Outbound",
    "OutboundSource",
    "Policy",
    "PolicyServer",
    "Problem",
    "Process",
    "Queue",
    "QueueStore",
    "RecipientSource",
    "Relay",
    "Report",
    "Reports",
    "Scanner",
    "Security",
    "SessionLimits",
    "Signing",
    "Store",
    "Timeouts",
    "Tls",
    "Unix",
    "check",
    "examine",
    "from_json",
    "load",
    "near",
    "parse",
    "read_secret",
    "this_machine",
    "to_json",
]

_READING = {
    **dict.fromkeys(("Report", "check", "examine", "load", "parse", "this_machine"), "mta.config.loading"),
    **dict.fromkeys(("ConfigError", "Problem"), "mta.config.problems"),
    "Machine": "mta.config.settle",
}


def __getattr__(name: str) -> Any:
    """Import what reads files, when it is first asked for (PEP 562)."""
    if name not in _READING:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_READING[name]), name)
