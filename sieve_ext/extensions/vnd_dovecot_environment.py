"""vnd.dovecot.environment (Pigeonhole's specification): more items, and `${env.item}`. Status: complete.

Items are vnd.dovecot.default-mailbox, vnd.dovecot.username and vnd.dovecot.config.KEY, KEY being set by the
administrator. With `variables`, all items of the environment can be read as variables of the namespace env, a
hyphen written as an underscore; what is not known is the empty string.
"""

from __future__ import annotations

from typing import Any

from sieve_ext.extend import Capability, Namespace, Reference, Run
from sieve_ext.surroundings import environment_item


def resolve(scope: Any, name: str) -> Reference:
    """How `${env.name}` is read: as it is spelt, or with hyphens where underscores stand."""
    other = name.replace("_", "-")

    def read(run: Run) -> str:
        value = environment_item(run, name, True)
        if value is None and other != name:
            value = environment_item(run, other, True)
        return value or ""

    return Reference(read)


CAPABILITIES = (
    Capability(
        "vnd.dovecot.environment",
        namespaces=(Namespace("env", resolve),),
        brings=("environment",),
        specification="Pigeonhole: spec-bosch-sieve-dovecot-environment",
        settings={"sieve_environment/KEY": "the item vnd.dovecot.config.KEY"},
    ),
)
