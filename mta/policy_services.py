"""The services that policy scripts ask, put together from the configuration; a capability, a few lines.

Imports what the configuration uses, and nothing else: a server pays for nothing that it does not have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mta.config.schema import Config
from mta.policy.sieve.asking import Handler, Services
from mta.tables.table import Table
from sieve_ext import Request

if TYPE_CHECKING:
    from mta.policy.milter.milters import Milters


def build_services(settings: Config, tables: Mapping[str, Table], milters: Milters | None = None) -> Services:
    """Who answers what scripts ask.

    `tables` are those of the worker, `milters` too, if there are any.
    """
    from mta.policy.sieve.tables import Lists

    services: dict[type[Request], Handler] = {**Lists(tables).services}
    if milters is not None:
        from mta.policy.sieve.milter import milter_services

        services |= milter_services(milters)
    return services
