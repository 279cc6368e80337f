"""crypt(3) of the system, for hashes in crypt's "$id$salt$hash" form.

The standard library's `crypt` is gone in Python 3.13 and holds the interpreter lock while it hashes; the
packages that replace it either do the same or were last touched years ago. This calls libxcrypt
(``libcrypt.so.1``, on every Debian; ``.so.2`` elsewhere) or musl's own `crypt_r` by ctypes: no dependency,
threads hash in parallel, and what the system knows (bcrypt, SHA-crypt, yescrypt) works here.

`method_of` proves by a hash that the method is there, so that a system without it refuses the file that
needs it when the file is read and not at a login.
"""

from __future__ import annotations

import ctypes
import functools
import hmac
from collections.abc import Callable

PROBES = {
    "$2": "$2y$04$abcdefghijklmnopqrstuu",
    "$5$": "$5$rounds=1000$probe$",
    "$6$": "$6$rounds=1000$probe$",
    "$y$": "$y$j7T$abcdefgh$",
    "$gy$": "$gy$j7T$abcdefgh$",
}
"""Prefix of a method that is taken to its cheapest setting. DES, MD5 and SHA-1 crypt are left out: a
graphics card guesses them faster than they can be typed."""
MAX_PASSWORD = 511
"""Longest password in octets that libxcrypt takes; bcrypt looks at the first 72 only."""
_DATA_SIZE = 160 * 1024
"""Octets for `struct crypt_data`: 32 KiB in libxcrypt, 128 KiB in old glibc."""


class CryptUnavailableError(ValueError):
    """This system has no crypt(3), or its crypt(3) does not know the method (environment)."""


@functools.cache
def _crypt_r() -> Callable[[bytes, bytes, int], bytes | None]:
    for name in ("libcrypt.so.1", "libcrypt.so.2", None):  # None: the C library itself, for musl
        try:
            function = ctypes.CDLL(name).crypt_r
        except (OSError, AttributeError):
            continue
        function.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
        function.restype = ctypes.c_char_p
        return function
    raise CryptUnavailableError("this system has no crypt(3) library (Debian: libcrypt1)")


def crypt(password: str, setting: str) -> str | None:
    """The whole hash of `password` by the method, cost and salt that `setting` begins with.

    None when crypt(3) refuses the setting or the password (NUL, over `MAX_PASSWORD`). Takes as long as the
    setting asks for, without the interpreter lock. Raises CryptUnavailableError.
    """
    octets = password.encode()
    if b"\0" in octets or len(octets) > MAX_PASSWORD or "\0" in setting or not setting.isascii():
        return None
    data = ctypes.create_string_buffer(_DATA_SIZE)
    result = _crypt_r()(octets, setting.encode(), ctypes.addressof(data))
    if result is None or result.startswith(b"*"):
        return None
    return result.decode("ascii")


def verify(password: str, hashed: str) -> bool:
    """True when `hashed` is of `password`. Raises CryptUnavailableError."""
    result = crypt(password, hashed)
    return result is not None and hmac.compare_digest(result.encode(), hashed.encode())


def method_of(hashed: str) -> str:
    """The prefix of the method. Raises ValueError for one that is not taken, CryptUnavailableError."""
    prefix = next((prefix for prefix in PROBES if hashed.startswith(prefix)), "")
    if not prefix:
        raise ValueError("not a hash of bcrypt, SHA-crypt or yescrypt")
    if not _knows(prefix):
        raise CryptUnavailableError(f"the crypt(3) of this system does not know {prefix}")
    return prefix


@functools.cache
def _knows(prefix: str) -> bool:
    return crypt("probe", PROBES[prefix]) is not None
