"""Keys of tests that look like something else than the text that they are compared as."""

from __future__ import annotations

import contextlib

from mta.address import AddressError, domain_key
from sieve_ext.extend import Checker, Node

SCHEME = "table:"
LIST = ":list"
LOCAL_PARTS = (":localpart", ":user", ":detail")


def check_keys(node: Node, checker: Checker) -> None:
    """Warn of names of tables that are not looked up, and of domains that the envelope has in A-labels."""
    given = node.tags.get("match-type")
    if LIST not in node.tag_table or (given is not None and given.tag == LIST):
        return
    part = node.tags.get("address-part")
    is_domain = node.name == "envelope" and (part is None or part.tag not in LOCAL_PARTS)
    for text in checker.constants(node.keys):
        if text.value.startswith(SCHEME):
            checker.warn(
                text, "no-lookup", f"'{text.value}' is compared as it is",
                f'{LIST} looks up in tables (require "extlists")',
            )  # fmt: skip
        elif is_domain and not text.value.isascii():
            local, at, domain = text.value.rpartition("@")
            with contextlib.suppress(AddressError):
                if (key := domain_key(domain)) != domain:
                    checker.warn(
                        text, "no-label", f"domains of the envelope are A-labels, never '{domain}'",
                        f'write "{local}{at}{key}"',
                    )  # fmt: skip
