"""Public keys of DKIM: the record (RFC 6376 section 3.6.1), its restrictions, and fetching many at once.

`cryptography` does the arithmetic. RSA keys under 1024 bits are refused (RFC 8301 section 3.2) and those over
4096, which nobody needs and which only cost, as do large public exponents; Ed25519 keys are 32 octets
(RFC 8463 section 4).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import load_der_public_key

from mta.authn.dkimlib import Malformed, tag_list, without_white
from mta.net.resolver.base import Answer, Resolver

MIN_RSA_BITS = 1024
MAX_RSA_BITS = 4096
MAX_EXPONENT_BITS = 64
"""Of a public exponent, which is 65537 nearly everywhere (17 bits). One as long as the key makes verifying
cost a hundred times as much, and a message may have sixty signatures. OpenSSL bounds long keys' so."""
LARGEST_RECORD = 8 * 1024
"""Octets of a key record that are read: RSA-4096 takes 800."""
KEY_CACHE = 1024
"""Parsed records that are kept, about 1 kB each, 10 kB when strangers fill them up."""
PARALLEL = 10
"""Keys of one message that are asked for at the same time."""

PADDING = PKCS1v15()
SHA256 = Prehashed(hashes.SHA256())

PublicKey = RSAPublicKey | Ed25519PublicKey


class Revoked(Malformed):
    """The record says that the key is no longer used (an empty `p=`)."""


@dataclass(slots=True, frozen=True)
class KeyRecord:
    """A key as it is published."""

    key: PublicKey
    type: str
    """ "rsa" or "ed25519"."""
    bits: int
    exact: bool
    """`t=s`: the domain of `i=` must be that of `d=`."""
    testing: bool
    """`t=y`: the domain tries DKIM out; a bad signature is to be treated like none (section 3.6.1)."""

    def verify(self, signature: bytes, digest: bytes) -> bool:
        """Whether `signature` is one of a SHA-256 digest."""
        try:
            if isinstance(self.key, RSAPublicKey):
                self.key.verify(signature, digest, PADDING, SHA256)
            else:
                self.key.verify(signature, digest)
        except (InvalidSignature, ValueError):
            return False
        return True


@lru_cache(maxsize=KEY_CACHE)
def read_record(text: bytes) -> KeyRecord:
    """A key record, its strings joined, for mail signed with SHA-256. Raises Malformed, Revoked."""
    if len(text) > LARGEST_RECORD:
        raise Malformed("the key record is too long")
    try:
        tags = tag_list(text)
    except Malformed as problem:
        raise Malformed(f"the key record is wrong: {problem}") from None
    if b"v" in tags and (tags[b"v"] != b"DKIM1" or next(iter(tags)) != b"v"):
        raise Malformed("the key record is of another version")
    kind = tags.get(b"k", b"rsa")
    if kind not in (b"rsa", b"ed25519"):
        raise Malformed("the key is of an unknown type")
    if b"h" in tags and b"sha256" not in _words(tags[b"h"]):
        raise Malformed("the key is not for SHA-256")
    services = _words(tags.get(b"s", b"*"))
    if b"*" not in services and b"email" not in services:
        raise Malformed("the key is not for mail")
    if b"p" not in tags:
        raise Malformed("the key record has no key")
    octets = without_white(tags[b"p"])
    if not octets:
        raise Revoked("the key is revoked")
    try:
        der = base64.b64decode(octets, validate=True)
    except binascii.Error:
        raise Malformed("the key is not base64") from None
    key = _rsa(der) if kind == b"rsa" else _ed25519(der)
    flags = _words(tags.get(b"t", b""))
    bits = key.key_size if isinstance(key, RSAPublicKey) else 256
    return KeyRecord(key, kind.decode(), bits, b"s" in flags, b"y" in flags)


def choose_record(answer: Answer) -> KeyRecord:
    """The key in an answer of the DNS that is usable: the first record that is one. Raises Malformed.

    More than one record is undefined (section 3.6.2.2); a stray one must not hide the key.
    """
    problem = Malformed("there is no key" if answer.exists else "there is no key: the name does not exist")
    for text in answer.texts[:PARALLEL]:
        try:
            return read_record(text)
        except Malformed as found:
            problem = found
    raise problem


async def fetch_keys(names: Iterable[str], resolver: Resolver, deadline: float) -> dict[str, Answer]:
    """Ask for the records at all `names`, each once, some at a time, until `deadline` of the loop's clock."""
    limit = asyncio.Semaphore(PARALLEL)
    answers: dict[str, Answer] = {}

    async def fetch(name: str) -> None:
        async with limit:
            answers[name] = await resolver.query(name, "TXT", deadline)

    wanted = list(dict.fromkeys(names))
    if len(wanted) == 1:
        await fetch(wanted[0])
        return answers
    async with asyncio.TaskGroup() as group:
        for name in wanted:
            group.create_task(fetch(name))
    return answers


def _words(value: bytes) -> list[bytes]:
    return [word.strip(b" \t\r\n") for word in value.split(b":")]


def _rsa(der: bytes) -> RSAPublicKey:
    try:
        # Also reads a bare RSAPublicKey, which RFC 6376 speaks of and some publish.
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        raise Malformed("the key cannot be read") from None
    if not isinstance(key, RSAPublicKey):
        raise Malformed("the key is not an RSA key")
    if key.key_size < MIN_RSA_BITS:
        raise Malformed(f"the key is too short ({key.key_size} bits)")
    if key.key_size > MAX_RSA_BITS:
        raise Malformed(f"the key is too long ({key.key_size} bits)")
    if key.public_numbers().e.bit_length() > MAX_EXPONENT_BITS:
        raise Malformed("the key has too large a public exponent")
    return key


def _ed25519(octets: bytes) -> Ed25519PublicKey:
    try:
        return Ed25519PublicKey.from_public_bytes(octets)
    except ValueError:
        raise Malformed("the key is not an Ed25519 key") from None
