"""Option negotiation (SMFIC_OPTNEG): what the MTA offers, what a filter answers, what then holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from mailmilter.constants import (
    CHUNK,
    CHUNK_1M,
    CHUNK_256K,
    VERSIONS,
    Action,
    Protocol,
    Stage,
    actions_of,
    protocol_of,
)
from mailmilter.packets import MilterProtocolError, number

_SIZES = Protocol.SIZE_256K | Protocol.SIZE_1M
_SYMBOLS_MAX = 64 * 1024
"""Octets of symbol lists that are taken."""


@dataclass(slots=True, frozen=True)
class Offer:
    """What one side of the protocol can do: a version with its actions and protocol flags."""

    version: int
    actions: Action
    protocol: Protocol

    def encode(self) -> bytes:
        """The data of the packet."""
        numbers = (self.version, self.actions, self.protocol)
        return b"".join(int(one).to_bytes(4, "big") for one in numbers)


def offer(version: int = 6, *, max_data: int = CHUNK) -> Offer:
    """All that a protocol version (2 to 6) has; `max_data` over 65,535 offers the larger packet sizes too.

    Raises ValueError for another version.
    """
    if version not in VERSIONS:
        raise ValueError(f"milter protocol {version}: versions {VERSIONS[0]} to {VERSIONS[-1]} are known")
    protocol = protocol_of(version)
    if version >= 6 and max_data >= CHUNK_256K:
        protocol |= Protocol.SIZE_1M | Protocol.SIZE_256K if max_data >= CHUNK_1M else Protocol.SIZE_256K
    return Offer(version, actions_of(version), protocol)


@dataclass(slots=True, frozen=True)
class Agreement:
    """What holds for a connection after negotiation."""

    version: int
    actions: Action
    protocol: Protocol
    symbols: Mapping[Stage, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """The macros that the filter asked for, by stage; a stage that is missing keeps the MTA's own list."""

    @property
    def chunk(self) -> int:
        """Octets of body in one packet."""
        if self.protocol & Protocol.SIZE_1M:
            return CHUNK_1M
        return CHUNK_256K if self.protocol & Protocol.SIZE_256K else CHUNK


def parse_offer(data: bytes) -> Offer:
    """The MTA's offer as the filter reads it. Raises MilterProtocolError."""
    version = number(data)
    if version < VERSIONS[0]:
        raise MilterProtocolError(f"the MTA speaks version {version}")
    return Offer(version, Action(number(data, 4) & 0x1FF), Protocol(number(data, 8) & (0x1FFFFF | _SIZES)))


def agree(offered: Offer, data: bytes) -> Agreement:
    """Read a filter's answer to `offered`.

    Raises MilterProtocolError for an answer that asks for more than was offered: the two sides would differ
    about which commands are answered.
    """
    version = number(data)
    actions = number(data, 4)
    protocol = number(data, 8)
    if not VERSIONS[0] <= version <= offered.version:
        raise MilterProtocolError(f"the filter speaks version {version}, offered was {offered.version}")
    extra = actions & ~int(offered.actions)
    if extra:
        raise MilterProtocolError(f"the filter wants actions {extra:#x} that were not offered")
    extra = protocol & ~int(offered.protocol)
    if extra:
        raise MilterProtocolError(f"the filter wants protocol flags {extra:#x} that were not offered")
    return Agreement(version, Action(actions), Protocol(protocol), parse_symbols(data[12:]))


def parse_symbols(data: bytes) -> Mapping[Stage, tuple[str, ...]]:
    """Read symbol lists: a stage number and names separated by spaces, closed by NUL, any number of times.

    Stages that do not exist are passed over, as libmilter may grow some. Raises MilterProtocolError.
    """
    if len(data) > _SYMBOLS_MAX:
        raise MilterProtocolError(f"symbol lists of {len(data)} octets")
    found: dict[Stage, tuple[str, ...]] = {}
    at = 0
    while at < len(data):
        stage = number(data, at)
        end = data.find(b"\0", at + 4)
        if end < 0:
            raise MilterProtocolError("a symbol list that is not closed by NUL")
        names = data[at + 4 : end].decode("ascii", "replace").replace(",", " ").split()
        if stage in Stage._value2member_map_:
            found[Stage(stage)] = tuple(names)
        at = end + 1
    return found


def encode_symbols(symbols: Mapping[Stage, tuple[str, ...]]) -> bytes:
    """Symbol lists as they follow the answer of a filter."""
    return b"".join(
        int(stage).to_bytes(4, "big") + " ".join(names).encode("ascii") + b"\0"
        for stage, names in symbols.items()
    )
