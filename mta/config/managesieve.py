"""The section about ManageSieve: what users may keep, and how long the server waits for them.

The class is a section of the file, each field a key; the text under a field is what the reference pages
print. Durations are seconds and sizes octets in the program. Nothing here opens a file.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from mta.config.notation import Duration, Size


class ManageSieve(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Scripts that are edited over listeners with protocol = "managesieve" (docs/managesieve.md). They are
    kept in the folder `sieve` of process.state_directory."""

    max_scripts: Annotated[int, Meta(ge=1)] = 32
    """Scripts of one user (QUOTA/MAXSCRIPTS)."""
    max_script_size: Annotated[Size, Meta(ge=1024, le=1024 * 1024)] = 128 * 1024
    """Largest script (QUOTA/MAXSIZE)."""
    max_size: Annotated[Size, Meta(ge=1024)] = 1024 * 1024
    """All scripts of one user together (QUOTA)."""
    idle_timeout: Annotated[Duration, Meta(ge=10)] = 1800.0
    """For the next command of a user who has logged in: RFC 5804 1.2 asks for thirty minutes."""
    login_timeout: Annotated[Duration, Meta(ge=1)] = 60.0
    """From the connection, TLS included, to the end of a login."""
