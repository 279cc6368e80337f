"""`Config`: the whole configuration as one frozen value.

It is what `tamis.toml` says, with all defaults filled in: paths are absolute, durations are seconds, names
that refer to other sections exist. It is plain data: `msgspec.json` encodes it, and `mta.config.from_json`
decodes it in a worker.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from mta.config.authentication import Authentication, Signing
from mta.config.checks import Checks
from mta.config.directors import Director
from mta.config.dns import Dns
from mta.config.filtering import ContentFilter, Milter, PolicyServer, Scanner
from mta.config.forwarding import Rewriting
from mta.config.inbound import Auth, Certificate, Limits, Listener, Message, Timeouts, Tls
from mta.config.managesieve import ManageSieve
from mta.config.node import Control, Identity, Log, Metrics, Process, Store
from mta.config.notation import DomainName, Name
from mta.config.outbound import Backend, Delivery, Domain, Policy, Relay
from mta.config.queueing import Queue, QueueStore
from mta.config.security import Reports, Security
from mta.config.tables import PolicyTable
from mta.config.world import Outbound, OutboundSource


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """All sections, in the order in which a newcomer reads them."""

    identity: Identity = Identity()
    listener: tuple[Listener, ...] = ()
    certificates: dict[Name, Certificate] = {}
    tls: Tls = Tls()
    auth: Auth = Auth()
    dns: Dns = Dns()
    authentication: Authentication = Authentication()
    signing: Signing = Signing()
    checks: Checks = Checks()
    domains: dict[DomainName, Domain] = {}
    backends: dict[Name, Backend] = {}
    director: dict[Name, Director] = {}
    relays: dict[Name, Relay] = {}
    outbound: Outbound = Outbound()
    sources: dict[Name, OutboundSource] = {}
    security: Security = Security()
    reports: Reports = Reports()
    policy: Policy = Policy()
    srs: Rewriting = Rewriting()
    tables: dict[Name, PolicyTable] = {}
    milters: dict[Name, Milter] = {}
    policy_servers: dict[Name, PolicyServer] = {}
    scanners: dict[Name, Scanner] = {}
    filters: dict[Name, ContentFilter] = {}
    managesieve: ManageSieve = ManageSieve()
    message: Message = Message()
    delivery: Delivery = Delivery()
    queue: Queue = Queue()
    queue_stores: dict[Name, QueueStore] = {}
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()
    process: Process = Process()
    log: Log = Log()
    metrics: Metrics = Metrics()
    control: Control = Control()
    store: Store = Store()


def to_json(config: Config) -> bytes:
    """The configuration for another process, without what is as it is by default.

    After an up- or downgrade that process may be of another version: it need only know the options in use.
    """
    return msgspec.json.encode(config)


def from_json(octets: bytes) -> Config:
    """The inverse of `to_json`. Raises ValueError for the options of another version."""
    try:
        return msgspec.json.decode(octets, type=Config)
    except msgspec.ValidationError as error:
        raise ValueError(
            f"the running server is of another version than what is installed, restart it: {error}"
        ) from error
