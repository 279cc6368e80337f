"""The language that is always there (RFC 5228), one file a word or a kind of words."""

from sieve_ext.core import address, conditional, header, keep, logic, size
from sieve_ext.core.address import ADDRESS_PARTS
from sieve_ext.core.comparators import COMPARATORS
from sieve_ext.core.match_types import MATCH_TYPES
from sieve_ext.core.redirect import RedirectCommand
from sieve_ext.core.require import RequireCommand
from sieve_ext.core.stop import StopCommand
from sieve_ext.language.capability import Capability

LANGUAGE = Capability(
    "",
    words=(
        RequireCommand,
        *conditional.WORDS,
        StopCommand,
        *keep.WORDS,
        RedirectCommand,
        *logic.WORDS,
        *header.WORDS,
        *address.WORDS,
        *size.WORDS,
    ),
    comparators=COMPARATORS,
    match_types=MATCH_TYPES,
    address_parts=ADDRESS_PARTS,
    specification="RFC 5228",
)
"""What no script needs to require."""

__all__ = ["LANGUAGE"]
