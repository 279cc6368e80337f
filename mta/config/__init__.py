"""The configuration: one TOML file in, one frozen `Config` out, or all its mistakes at once.

    try:
        config = load("/etc/tamis/tamis.toml")
    except ConfigError as error:
        for problem in error.problems: ...

The steps, one module each: `read` converts (with `notation`, `units`, `suggest`), `locate` knows the lines,
`settle` fills in what depends on other settings, `rules` checks what belongs together, `files` and
`certificates` look at the machine. The schema is in `inbound`, `outbound`
and `node`, put together in `schema`.
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
from mta.config.load import Report, check, examine, from_json, load, parse, this_machine, to_json
from mta.config.node import Control, Identity, Log, Metrics, Process, Store
from mta.config.notation import Inet, Inherited, RecipientSource, Unix
from mta.config.outbound import Backend, Delivery, Domain, NextHopLimits, Policy, Relay
from mta.config.problems import ConfigError, Problem
from mta.config.schema import Config
from mta.config.secret import read_secret
from mta.config.settle import Machine

__all__ = [
    "Auth",
    "Backend",
    "Certificate",
    "Config",
    "ConfigError",
    "Control",
    "Delivery",
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
    "NextHopLimits",
    "Policy",
    "Problem",
    "Process",
    "RecipientSource",
    "Relay",
    "Report",
    "SessionLimits",
    "Store",
    "Timeouts",
    "Tls",
    "Unix",
    "check",
    "examine",
    "from_json",
    "load",
    "parse",
    "read_secret",
    "this_machine",
    "to_json",
]
