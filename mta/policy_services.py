"""The services that policy scripts ask, put together from the configuration; a capability, a few lines.

Imports what the configuration uses, and nothing else: a server pays for nothing that it does not have.
"""

from __future__ import annotations

from collections.abc import Mapping

from mta.config.schema import Config
from mta.policy.sieve.asking import Handler, Services
from mta.tables.table import Table
from sieve_ext import Request


def build_services(settings: Config, tables: Mapping[str, Table]) -> Services:
    """Who answers what scripts ask.

    `tables` are those of the worker.
    """
    from mta.policy.sieve import auth
    from mta.policy.sieve.tables import Lists

    services: dict[type[Request], Handler] = {**Lists(tables).services, **auth.services()}
    return services
