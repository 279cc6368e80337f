"""Authorities of next hops, tables and stores, for workers that come later: that part of `mta.daemon`.

They come into force by a reload, which refuses a file that is wrong. A worker reads each file once, when it
starts, and one that is started in the place of another has what the others of its generation have read, which
the supervisor keeps in memory for it, whatever the file holds by then.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from msgspec import structs

from mta import config
from mta.config.tables import PolicyTable
from mta.lastgood import LARGEST, LastGood

T = TypeVar("T", config.Backend, config.Relay, PolicyTable)


def with_authorities(settings: config.Config, good: LastGood) -> config.Config:
    """The configuration with copies in memory in place of the files of authorities, for as long as we live.

    A file that nobody has found right stays where it is: who uses it says what is wrong with it.
    """
    copies: dict[str, str] = {"": ""}

    def copy(path: str) -> str:
        if path not in copies:
            copies[path] = _copy(path, good)
        return copies[path]

    def each(sections: Mapping[str, T]) -> dict[str, T]:
        return {
            name: structs.replace(one, tls_ca=copy(one.tls_ca)) if one.tls_ca else one
            for name, one in sections.items()
        }

    return structs.replace(
        settings,
        backends=each(settings.backends),
        relays=each(settings.relays),
        tables=each(settings.tables),
        security=structs.replace(settings.security, ca_file=copy(settings.security.ca_file)),
        queue_stores={
            name: structs.replace(one, ca_file=copy(one.ca_file))
            for name, one in settings.queue_stores.items()
        },
    )


def _copy(path: str, good: LastGood) -> str:
    octets = good.content(path)
    if octets is not None:
        return _in_memory(octets)
    try:
        octets = Path(path).read_bytes()
        if len(octets) > LARGEST:
            return path
        copy = _in_memory(octets)
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=copy)
    except OSError:  # the library's own error is one, too
        return path
    good.note(path, octets)
    return copy


def _in_memory(octets: bytes) -> str:
    """The path of a file that nobody else writes. Raises OSError."""
    descriptor = os.memfd_create("authorities", os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(octets)
    return f"/proc/self/fd/{descriptor}"
