"""The services that policy scripts ask, put together from the configuration; a capability, a few lines.

Imports what the configuration uses, and nothing else: a server pays for nothing that it does not have.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from mta.config.schema import Config
from mta.policy.sieve.asking import Services


def build_services(settings: Config, complain: Callable[[str], None]) -> Services:
    """Who answers what scripts ask.

    `complain` is told when a table cannot be read later on. Raises TableError when it cannot be read now.
    """
    from mta.policy.sieve.tables import Tables

    files = {name: Path(table.file) for name, table in settings.tables.items()}
    return {**Tables(files, time.monotonic, complain).services}
