"""The resolver of a worker: one object, which everybody in the worker that asks the DNS is given.

dnspython is a tenth of a worker's start, so it is imported only where a resolver is configured.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from mta import config

if TYPE_CHECKING:
    from mta.net.resolver.stub import Stub


def build_resolver(settings: config.Config) -> Stub | None:
    """The resolver that `[dns]` describes, None when it names none: then nothing may be asked.

    Needs a running loop; opens no socket yet. `close` it at the end.
    """
    dns = settings.dns
    if not dns.resolvers:
        return None
    from mta.net.resolver.cache import CacheSettings
    from mta.net.resolver.server import Address
    from mta.net.resolver.stub import Stub, StubSettings
    from mta.net.resolver.system import system_resolvers

    servers: list[Address] = []
    keys = frozenset(base64.b64decode(key) for key in dns.tls_keys)
    for resolver in dns.resolvers:
        if not resolver.host:
            servers += system_resolvers()
        else:
            servers.append(Address(resolver.host, resolver.port, keys if resolver.tls else frozenset()))
    return Stub(servers, StubSettings(CacheSettings(entries=dns.cache_entries)))
