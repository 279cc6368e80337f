"""Private keys in PEM, read without delay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes


class DamagedKey(ValueError):
    """The numbers of a key do not belong together."""


def read_private_key(octets: bytes) -> PrivateKeyTypes:
    """A key from PEM.

    To prove the factors of an RSA key prime anew takes 50 ms, of 4096 bits half a second: sessions would
    wait, and a start with thousands of keys for minutes. That its numbers belong together is seen at once.

    Raises TypeError for a key with a pass phrase, DamagedKey, ValueError and UnsupportedAlgorithm.
    """
    key = load_pem_private_key(octets, None, unsafe_skip_rsa_key_validation=True)
    if isinstance(key, RSAPrivateKey) and not _is_whole(key):
        raise DamagedKey("the key is damaged: its numbers do not belong together")
    return key


def _is_whole(key: RSAPrivateKey) -> bool:
    """Whether all numbers of a key follow from its factors (PKCS #1)."""
    own = key.private_numbers()
    p, q, d, public = own.p, own.q, own.d, own.public_numbers
    return (
        p * q == public.n
        and p % 2 == q % 2 == 1 < min(p, q)
        and d * public.e % (p - 1) == d * public.e % (q - 1) == 1
        and (own.dmp1, own.dmq1) == (d % (p - 1), d % (q - 1))
        and own.iqmp * q % p == 1
    )
