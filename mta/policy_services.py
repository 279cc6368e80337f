"""The services that policy scripts ask, put together from the configuration; a capability, a few lines.

Imports what the configuration uses, and nothing else: a server pays for nothing that it does not have.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mta.config.schema import Config
from mta.policy.sieve.asking import Handler, Services
from mta.tables.table import Table
from sieve_ext import Request

if TYPE_CHECKING:
    from mta.net.resolver.base import Resolver
    from mta.policy.ledger import Ledger


def build_services(
    settings: Config,
    tables: Mapping[str, Table],
    ledger: Ledger | None = None,
    resolver: Resolver | None = None,
) -> Services:
    """Who answers what scripts ask.

    `tables` are those of the worker, `ledger` and `resolver` too, if there are any.
    """
    from mta.policy.sieve import auth
    from mta.policy.sieve.tables import Lists

    services: dict[type[Request], Handler] = {**Lists(tables).services, **auth.services()}
    if ledger is not None:
        from mta.policy.sieve.greylist import greylist_services
        from mta.policy.sieve.rate import rate_services

        services |= {**rate_services(ledger, time.time), **greylist_services(ledger, time.time)}
    if resolver is not None:
        from mta.policy.sieve.dnsnet import dns_services

        services |= dns_services(resolver, settings.dns.timeout)
    return services
