"""address (RFC 5228 section 5.1), with the parts :all, :localpart and :domain (2.7.4). Status: complete.

All addresses of a field are compared, those in groups too; display names and comments never. An address
without a domain is none. A field without any is compared as it stands by :all; it has no parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sieve_ext.closures.compiler import Compiler
from sieve_ext.core.match_types import warn_of_wildcards
from sieve_ext.language.arguments import ADDRESS_PART, MATCHING, strings
from sieve_ext.language.capability import AddressPart, FieldValues
from sieve_ext.language.node import Node, Test
from sieve_ext.message import Mailbox
from sieve_ext.runtime.run import Run
from sieve_ext.runtime.steps import Step
from sieve_ext.validate.checker import Checker
from sieve_ext.validate.values import address_header

if TYPE_CHECKING:
    from sieve_ext.message import Field


def all_of_it(run: Run, local: str, domain: str) -> str | None:
    """The whole address, its local part quoted where it must be."""
    if not local.isalnum():
        return Mailbox("", local, domain).address
    return f"{local}@{domain}" if domain else local


def local_part(run: Run, local: str, domain: str) -> str | None:
    """What stands before the "@", without quotation marks."""
    return local


def domain_part(run: Run, local: str, domain: str) -> str | None:
    """What stands behind it; None in an address that has none."""
    return domain or None


ADDRESS_PARTS = (
    AddressPart(":all", all_of_it),
    AddressPart(":localpart", local_part),
    AddressPart(":domain", domain_part),
)


def address_part(compiler: Compiler, node: Node) -> AddressPart:
    """The address part that a test asks for, :all by default."""
    given = node.tags.get("address-part")
    return compiler.dialect.address_parts[given.tag if given else ":all"][0]


WHOLE, DOMAIN = ":all", ":domain"


def warn_of_addresses(node: Node, checker: Checker) -> None:
    """Warn of keys that are never the part of an address that they are compared with."""
    given = node.tags.get("match-type")
    if given is not None and given.tag != ":is":
        return
    part = node.tags.get("address-part")
    tag = part.tag if part else WHOLE
    for text in checker.constants(node.keys):
        local, at, domain = text.value.rpartition("@")
        if not at:
            continue
        if tag != WHOLE and not local.startswith('"'):
            meant = domain if tag == DOMAIN else local
            checker.warn(
                text,
                "never-part",
                f"'{text.value}' is never what {tag} compares",
                f'write "{meant or "..."}"',
            )
        elif tag == WHOLE and not local:
            checker.warn(
                text, "never-address", f"'{text.value}' is never a whole address", f'write :domain "{domain}"'
            )


def address_values(part: AddressPart) -> FieldValues:
    """What a test compares of a field of addresses."""
    of = part.of

    def values(run: Run, field: Field) -> list[str]:
        mailboxes, _ = field.addresses
        run.left -= len(mailboxes)
        found = [
            value
            for mailbox in mailboxes
            if mailbox.domain and (value := of(run, mailbox.local, mailbox.domain)) is not None
        ]
        if not found and part.tag == ":all" and (octets := field.unfolded):
            found.append(octets.decode("utf-8", "replace"))
        return found

    return values


class AddressTest(Test):
    """A field has an address."""

    word = "address"
    compares_only = True
    args_definition = (
        ADDRESS_PART,
        *MATCHING,
        strings("header-list", check=address_header),
        strings("keys"),
    )

    def check(self, checker: Checker) -> None:
        """Keys are what they look like."""
        warn_of_wildcards(self, checker)
        warn_of_addresses(self, checker)

    def compile(self, compiler: Compiler) -> Step:
        """Compare the parts of all addresses of all fields of the names."""
        names = compiler.texts(self.given["header-list"])
        find = compiler.fields(self)
        part = address_part(compiler, self)
        if "match-type" in self.tags and self.tags["match-type"].tag == ":count":
            part = ADDRESS_PARTS[0]  # addresses are counted, whether or not they have the part
        read = compiler.field_values(self, address_values(part))
        constant = None if names.constant is None else tuple(name.lower() for name in names.constant)

        def values(run: Run) -> list[str]:
            keys = constant if constant is not None else tuple(name.lower() for name in names.expand(run))
            return [value for key in keys for field in find(run, key) for value in read(run, field)]

        return compiler.match(self, values)


WORDS = (AddressTest,)
