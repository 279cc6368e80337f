"""The services that policy scripts ask, put together from the configuration; a capability, a few lines.

Imports what the configuration uses, and nothing else: a server pays for nothing that it does not have.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mta.config.schema import Config
from mta.policy.sieve.asking import Handler, Services
from sieve_ext import Request

if TYPE_CHECKING:
    from mta.policy.milter.milters import Milters


def build_services(
    settings: Config, complain: Callable[[str], None], milters: Milters | None = None
) -> Services:
    """Who answers what scripts ask.

    `milters` are those of the worker, if there are any. `complain` is told when a table cannot be read later
    on. Raises TableError when it cannot be read now.
    """
    from mta.policy.sieve.tables import Tables

    files = {name: Path(table.file) for name, table in settings.tables.items()}
    services: dict[type[Request], Handler] = {**Tables(files, time.monotonic, complain).services}
    if milters is not None:
        from mta.policy.sieve.milter import milter_services

        services |= milter_services(milters)
    return services
