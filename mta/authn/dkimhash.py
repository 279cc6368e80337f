"""What a signature covers, as digests: header fields picked by name, and the body in one pass for all.

However many signatures a message has, its body is read once and put into each canonical form once, and so is
each of its header fields.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mta.authn.dkimcanon import RelaxedBody, SimpleBody, relaxed_field, simple_field
from mta.authn.dkimsignature import Signature, signed_form
from sieve_ext.message import Field, Message


class HeaderForms:
    """The header fields of a message in canonical form, by name, each computed when first asked for."""

    __slots__ = ("_forms", "_message")

    def __init__(self, message: Message) -> None:
        """Of `message` as it stands."""
        self._message = message
        self._forms: dict[tuple[str, bool], list[bytes]] = {}

    def select(self, names: Iterable[str], relaxed: bool, without: Field | None = None) -> Iterator[bytes]:
        """The fields that `names` mean, the last of a name first (RFC 6376 section 5.4.2), whole lines.

        A name more often than its field gives nothing. `without` is the signature itself, which cannot sign
        itself.
        """
        left: dict[str, Iterator[bytes]] = {}
        for name in names:
            rest = left.get(name)
            if rest is None:
                rest = left[name] = reversed(self._of(name, relaxed, without))
            form = next(rest, None)
            if form is not None:
                yield form

    def digest(self, signature: Signature) -> bytes:
        """The SHA-256 that `signature` is a signature of (section 3.7)."""
        relaxed = signature.relaxed_header
        digest = hashlib.sha256()
        for form in self.select(signature.names, relaxed, signature.field):
            digest.update(form)
        digest.update(signed_form(signature.field, relaxed))
        return digest.digest()

    def _of(self, name: str, relaxed: bool, without: Field | None) -> list[bytes]:
        canonical = relaxed_field if relaxed else simple_field
        if without is not None and name == without.key:
            others = (field for field in self._message.all(name) if field is not without)
            return [canonical(field) for field in others]
        forms = self._forms.get((name, relaxed))
        if forms is None:
            fields = self._message.all(name) if name else []
            forms = self._forms[name, relaxed] = [canonical(field) for field in fields]
        return forms


@dataclass(slots=True, frozen=True)
class BodyDigest:
    """The digest of a body, or of its first octets, in canonical form."""

    digest: bytes
    size: int
    """Octets of the whole canonical body."""


BodyForm = tuple[bool, int | None]
"""Whether the form is relaxed, and how many octets of it are hashed; None for all."""


def body_digests(chunks: Iterable[bytes], forms: Iterable[BodyForm]) -> dict[BodyForm, BodyDigest]:
    """Read a body once and return its SHA-256 in each of `forms`."""
    hashes = {form: hashlib.sha256() for form in forms}
    canonical = []
    for kind in (SimpleBody, RelaxedBody):
        wanted = {length: one for (relaxed, length), one in hashes.items() if relaxed is kind.relaxed}
        if set(wanted) == {None}:
            canonical.append(kind(wanted[None].update))
        elif wanted:
            canonical.append(kind(_Limited(wanted)))
    for chunk in chunks:
        for body in canonical:
            body.update(chunk)
    sizes = {}
    for body in canonical:
        body.finish()
        sizes[body.relaxed] = body.size
    return {form: BodyDigest(one.digest(), sizes[form[0]]) for form, one in hashes.items()}


class _Limited:
    """Gives octets to several hashes, to each as many as it takes."""

    __slots__ = ("_hashes", "_taken")

    def __init__(self, hashes: dict[int | None, hashlib._Hash]) -> None:
        self._hashes = list(hashes.items())
        self._taken = 0

    def __call__(self, octets: bytes) -> None:
        for length, one in self._hashes:
            if length is None:
                one.update(octets)
            elif length > self._taken:
                one.update(octets[: length - self._taken])
        self._taken += len(octets)
