"""The seal: the object that ends a log. Its owner writes it when it closes, a taker when the owner is dead.

It stands in the place of the next entry. Whoever meets it there can commit nothing more: numbers are dense.
"""

from __future__ import annotations

import msgspec

from mailqueue.entry import FormatError
from mailqueue.store.base import SEAL_MARK

SEAL_VERSION = 1


class Seal(msgspec.Struct, array_like=True, frozen=True):
    """What a seal says; all of it is for people."""

    version: int
    stream: bytes
    number: int
    by: bytes
    """Stream of the sealer; its own for a clean close."""
    at: float
    nonce: bytes
    """Makes the seals of two takers different octets, so that each knows whose it was."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Seal).decode


def encode_seal(seal: Seal) -> bytes:
    """The octets of a seal."""
    return SEAL_MARK + _encode(seal)


def decode_seal(data: bytes) -> Seal | None:
    """The seal, None when its text is damaged; it is a seal all the same. Raises FormatError."""
    try:
        seal = _decode(data[len(SEAL_MARK) :])
    except msgspec.DecodeError:
        return None
    if seal.version > SEAL_VERSION:
        raise FormatError(f"a seal of version {seal.version}")
    return seal
