"""Defaults that depend on other settings or on the machine: after this nothing in a `Config` is "auto".

Standard ports of listeners, their TLS level and AUTH, names of certificates, limits taken over from
[limits], the only back end, the embedded store as the back end "store", paths of sockets. Pure: what
depends on the machine comes in as a `Machine`. Never raises; contradictions are left for `rules`.
"""

from __future__ import annotations

import os.path
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from msgspec.structs import fields, replace

from mta.config.inbound import Limits, Listener, SessionLimits, standard_addresses
from mta.config.notation import Inet, Inherited, RecipientSource, Unix
from mta.config.outbound import Backend, Domain
from mta.config.queueing import QueueStore
from mta.config.schema import Config

STORE = "store"
"""Name of the embedded store among the back ends."""
LOCAL = "local"
"""Name of the folder that the queue is kept in if nothing else is said."""


@dataclass(slots=True, frozen=True)
class Machine:
    """What the defaults need to know about the machine."""

    hostname: str
    """Fully qualified name of the machine."""
    temporary_directory: str = "/var/tmp"
    """Folder for large temporary files."""
    qualified: bool = True
    """False when the name had to be completed with "localdomain"."""
    has_ipv6: bool = True
    """Without it nothing can listen on "[::]", so that by default nothing does."""


def settle(config: Config, machine: Machine, document: Mapping[str, Any], folder: str) -> Config:
    """The same configuration with every default in place.

    `document` is the TOML document as `tomllib` read it: it tells which limits a listener sets itself.
    `folder` is the configuration file's.
    """
    runtime = config.process.runtime_directory
    identity = replace(config.identity, hostname=config.identity.hostname or machine.hostname)
    if not identity.postmaster:
        domain = next(iter(config.domains), identity.hostname)
        identity = replace(identity, postmaster=f"postmaster@{domain}")
    store = replace(
        config.store,
        path=config.store.path or f"{config.process.state_directory}/mail",
        listen=config.store.listen or Unix(f"{runtime}/store"),
    )
    backends = dict(config.backends)
    if store.enabled and STORE not in backends and not isinstance(store.listen, Inherited | None):
        backends[STORE] = Backend(addresses=(store.listen,))
    only = next(iter(backends)) if len(backends) == 1 else ""
    queue_stores = dict(config.queue_stores)
    if not config.queue.stores and LOCAL not in queue_stores:
        queue_stores[LOCAL] = QueueStore(url=f"file:{config.process.state_directory}/queue")
    queue = replace(
        config.queue,
        stores=config.queue.stores or (LOCAL,),
        copies=config.queue.copies or len(config.queue.stores or (LOCAL,)),
        node=config.queue.node or identity.hostname,
    )
    return replace(
        config,
        identity=identity,
        listener=_listeners(config, document, machine),
        authentication=replace(
            config.authentication, authserv_id=config.authentication.authserv_id or identity.hostname
        ),
        auth=replace(config.auth, users_file=os.path.join(folder, config.auth.users_file)),
        domains={
            name: replace(d, backend=d.backend or only, recipients=_recipients(config, d))
            for name, d in config.domains.items()
        },
        backends=backends,
        queue=queue,
        queue_stores=queue_stores,
        process=replace(
            config.process,
            spill_directory=config.process.spill_directory or machine.temporary_directory,
        ),
        control=replace(config.control, socket=config.control.socket or f"{runtime}/control"),
        store=store,
    )


def _recipients(config: Config, domain: Domain) -> RecipientSource:
    """Of what may be a table or a file, the table if there is one of that name."""
    source = domain.recipients
    if source.name in config.tables:
        return RecipientSource("table", name=source.name)
    return RecipientSource(source.kind, source.file)


def _listeners(config: Config, document: Mapping[str, Any], machine: Machine) -> tuple[Listener, ...]:
    written = document.get("listener")
    if config.listener or written:
        tables = written if isinstance(written, list) else []
        return tuple(
            _listener(config, listener, tables[index] if index < len(tables) else {}, machine)
            for index, listener in enumerate(config.listener)
        )
    listeners = [Listener()]
    if config.certificates and config.auth.backend != "none":
        listeners += [Listener(protocol="submission"), Listener(protocol="submission", tls="implicit")]
    return tuple(_listener(config, listener, {}, machine) for listener in listeners)


def _listener(config: Config, listener: Listener, table: Any, machine: Machine) -> Listener:
    tls = listener.tls if listener.tls != "auto" else _tls(config, listener)
    auth = listener.auth
    if auth == "auto":
        auth = "required" if listener.protocol in ("submission", "managesieve") else "none"
    service = "submissions" if (listener.protocol, tls) == ("submission", "implicit") else listener.protocol
    return replace(
        listener,
        name=listener.name or service,
        addresses=listener.addresses or _addresses(config, service, machine),
        tls=tls,
        auth=auth,
        certificates=() if tls == "none" else listener.certificates or tuple(config.certificates),
        limits=_limits(listener.limits, table, config.limits),
    )


def _tls(config: Config, listener: Listener) -> Literal["none", "starttls", "required"]:
    if listener.protocol in ("submission", "managesieve"):
        return "required"
    return "starttls" if listener.protocol == "smtp" and config.certificates else "none"


def _addresses(config: Config, service: str, machine: Machine) -> tuple[Inet | Unix, ...]:
    if service == "lmtp":
        return (Unix(f"{config.process.runtime_directory}/lmtp"),)
    ports = {"submission": 587, "submissions": 465, "managesieve": 4190}
    four, six = standard_addresses(ports.get(service, 25))
    return (four, six) if machine.has_ipv6 else (four,)


def _limits(own: SessionLimits, table: Any, common: Limits) -> SessionLimits:
    overrides = table.get("limits") if isinstance(table, dict) else None
    names = overrides if isinstance(overrides, dict) else {}
    return SessionLimits(
        **{f.name: getattr(own if f.name in names else common, f.name) for f in fields(SessionLimits)}
    )
