"""type = "cidr": networks and what they mean, a line each; a key is an IP address.

    192.0.2.7       the one
    192.0.2.0/24    inside
    2001:db8::/32   inside

The first line that an address is in counts, whatever its prefix length, as in Postfix's cidr_table. The
cost of a look-up grows with the number of different prefix lengths, not with that of lines.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path

from mta.net.limits import mask, pack
from mta.policy.tablefile import Mistakes, read_lines
from mta.tables.table import Found

_MAPPED = bytes(10) + b"\xff\xff"


class Networks:
    """Networks with values; made once."""

    __slots__ = ("_by_length",)

    def __init__(self) -> None:
        """Empty."""
        self._by_length: dict[tuple[int, int], dict[bytes, tuple[int, str]]] = {}

    def add(self, line: int, network: str, value: str) -> None:
        """A line of the table. Raises ValueError for what is no network."""
        found = ipaddress.ip_network(network)
        packed = found.network_address.packed
        self._by_length.setdefault((len(packed), found.prefixlen), {}).setdefault(packed, (line, value))

    def get(self, address: str) -> Found:
        """What the first line that has the address says."""
        packed = pack(address)
        if packed is None:
            return None
        if packed.startswith(_MAPPED):
            packed = packed[12:]
        best: tuple[int, str] | None = None
        for (size, bits), found in self._by_length.items():
            if size == len(packed):
                entry = found.get(mask(packed, bits))
                if entry is not None and (best is None or entry[0] < best[0]):
                    best = entry
        return None if best is None else best[1]


def read_networks(path: Path, octets: bytes | None = None) -> Networks:
    """The content of a table of networks. Raises TableError with file and line."""
    networks, mistakes = Networks(), Mistakes(path)
    for number, raw in enumerate(read_lines(path, octets), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        word, *rest = line.split(None, 1)
        value = rest[0] if rest else ""
        try:
            networks.add(number, word, value)
        except ValueError as error:
            mistakes.add(number, error)
    mistakes.check()
    return networks
