"""The section about the senders of mail that is passed on.

Each field is a key; the text under a field is what the reference pages print. Durations are seconds in the
program. Nothing here opens a file.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from mta.config.notation import Duration, Fqdn, Path


class Rewriting(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Senders of mail that is passed on, as addresses of ours that lead back (SRS), see docs/forwarding.md.
    The commands `srs` and `srs_reverse` of policy files do it."""

    secrets_file: Path = ""
    """File with a secret of 16 characters or more a line. The first makes addresses, all are tried when one
    comes back: put a new one on top, and take the old one away after `validity`. It must not be readable by
    everybody, and be the same on all servers of the domain."""
    domain: Fqdn = ""
    """Domain of the addresses, one of [domains], for reports come back to it."""
    separator: Literal["=", "+", "-"] = "="
    """What stands behind SRS0 and SRS1."""
    validity: Annotated[Duration, Meta(ge=86400, le=500 * 86400)] = 21 * 86400.0
    """How long an address leads back: longer than other servers try to deliver. Whole days."""
    hash_length: Annotated[int, Meta(ge=4, le=27)] = 8
    """Characters of the signature in an address. 4 is what other programs make; with less than 8 somebody may
    guess one within a million tries."""
