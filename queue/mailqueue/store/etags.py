"""Is an answer to a PUT the store's own? Told by its ETag, where that is a digest of what was written.

A gateway whose server is away may answer for it: with a page for people and status 200, or with 303 (See
Other), after which the client fetches such a page and takes that for the answer. If it has an ETag, it looks
as if the object were stored. Most servers of S3's protocol, and Google, name an object that came in one PUT
by the MD5 of its octets. Where one has done so before, another ETag says that something is wrong, or that
the bucket has begun to encrypt: which of the two, only reading the object tells.
"""

from __future__ import annotations

import hashlib


class Receipts:
    """What the ETags of one store have been so far."""

    __slots__ = ("_are_digests",)

    def __init__(self) -> None:
        """Nothing was written yet."""
        self._are_digests = False

    def is_doubtful(self, octets: bytes, e_tag: str | None) -> bool:
        """True when the answer to a PUT of these octets need not be the store's: look at what is there."""
        if _opaque(e_tag) == hashlib.md5(octets, usedforsecurity=False).hexdigest():
            self._are_digests = True
            return False
        return self._are_digests


def _opaque(e_tag: str | None) -> str:
    """The ETag without what marks it as weak, and without quotes (RFC 9110 section 8.8.3)."""
    return (e_tag or "").removeprefix("W/").strip('"').lower()
