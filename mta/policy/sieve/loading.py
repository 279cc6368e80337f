"""From the configuration to a program: which files there are, and what they may refer to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

import mta
from mta.address import domain_key
from mta.config.schema import Config
from mta.delivery.outcome import BACKEND, FILTER, RELAY
from mta.policy.sieve.dnsnet import DNS
from mta.policy.sieve.milter import MILTERS
from mta.policy.sieve.policyserver import POLICY_SERVERS
from mta.policy.sieve.program import SCRIPT_OCTETS, FileDiagnostic, Program, load, settings_for
from mta.policy.sieve.route import SOURCES, WORLD
from mta.policy.sieve.sandbox import load_sandboxed
from mta.policy.sieve.scan import SCANNERS
from mta.policy.sieve.sign import KEYS
from mta.policy.sieve.srs import SRS
from mta.policy.sieve.tables import SEARCHED

Read = Callable[[str], tuple[str, bytes]]
"""Gives a policy file, by its path, as `load` takes it. Raises OSError."""


def source_of(path: str) -> tuple[str, bytes]:
    """A file as `load` takes it; one that is too large is read a little further only. Raises OSError."""
    with open(path, "rb") as file:
        return path, file.read(SCRIPT_OCTETS + 1)


def load_for(
    config: Config, sources: Sequence[tuple[str, bytes]], *, tracing: bool = False
) -> tuple[Program | None, list[FileDiagnostic]]:
    """The program that `sources` are for this configuration, None if there is an error; and all mistakes."""
    routes = [f"{BACKEND}{name}" for name in config.backends]
    routes += [f"{RELAY}{name}" for name in config.relays]
    routes += [f"{FILTER}{name}" for name in config.filters]
    if config.outbound.enabled:
        routes.append(WORLD)
    names: dict[str, Iterable[str]] = {
        MILTERS: config.milters,
        DNS: () if config.dns.resolvers else ("no",),
        POLICY_SERVERS: config.policy_servers,
        SCANNERS: config.scanners,
        SEARCHED: [name for name, table in config.tables.items() if table.search != "key"],
        SOURCES: config.sources,
        SRS: ["yes" if config.srs.secrets_file else "no"],
        KEYS: ["yes" if config.signing.keys or config.signing.key_table else "no"],
    }
    settings = settings_for(routes, config.tables, has_queue=config.queue.enabled, names=names)
    return load(sources, settings, tracing=tracing)


def load_policy(
    config: Config, paths: Sequence[str], *, tracing: bool = False, read: Read = source_of
) -> Program:
    """The program of some of the site's files. Raises ValueError, with a line a mistake, and OSError."""
    return _made(load_for(config, [read(path) for path in paths], tracing=tracing))


def load_domains(config: Config, *, tracing: bool = False, read: Read = source_of) -> dict[str, Program]:
    """The scripts of domains, by `Address.domain`. Raises ValueError, with a line a mistake, and OSError."""
    own = {domain_key(name): domain.script for name, domain in config.domains.items() if domain.script}
    paths = dict.fromkeys(own.values())  # many domains may share one
    programs = {path: _made(load_sandboxed(*read(path), tracing=tracing)) for path in paths}
    return {name: programs[path] for name, path in own.items()}


def load_base(config: Config, *, tracing: bool = False, read: Read = source_of) -> Program:
    """The program of policy.base. Raises ValueError, with a line a mistake, and OSError."""
    return load_policy(config, [base_path(config)], tracing=tracing, read=read)


def base_path(config: Config) -> str:
    """The file of the base policy: the one that comes with Tamis if the configuration names none."""
    return config.policy.base or str(default_base())


@cache
def default_base() -> Path:
    """conf/policy.sieve of this installation: in the package, or beside it in a checkout."""
    package = Path(mta.__file__).parent
    inside = package / "conf" / "policy.sieve"
    return inside if inside.exists() else package.parent / "conf" / "policy.sieve"


def _made(loaded: tuple[Program | None, list[FileDiagnostic]]) -> Program:
    program, found = loaded
    if program is None:
        raise ValueError("\n".join(str(one) for one in found if not one.is_warning))
    return program
