"""Sealing: adding a set to the Authenticated Received Chain of mail that is passed on (RFC 8617 section 5.1).

`seal` writes the three fields for what was found out about the message when it came. The message signature
covers the message as it stands now, after all edits; it is relaxed/relaxed. Tags are sorted and `b=` is not
folded: blanks inside it would be part of what later seals cover, and the public suite wants it so.

Nothing is added to a chain that has ended with `cv=fail` or has 50 sets, and nothing while the DNS cannot say
whether the chain is good.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Iterable, Sequence

from mta.authn.arc import Chain
from mta.authn.arcset import MAX_INSTANCE
from mta.authn.dkim import INLINE_OCTETS, MAX_SIGNATURES
from mta.authn.dkimcanon import relaxed_field, relaxed_text
from mta.authn.dkimhash import HeaderForms, body_digests
from mta.authn.dkimkeys import SigningKey
from mta.authn.dkimsign import COLUMNS, folded_names, signed_names
from mta.authn.results import Result
from sieve_ext.message import Message

_folding = re.compile(r"[ \t]*\r?\n[ \t]*").sub


async def seal_message(
    message: Message, chain: Chain, payload: str, key: SigningKey, *, now: float, names: Sequence[str] = ()
) -> bytes:
    """`seal`, in a thread when the message is large."""
    if message.size > INLINE_OCTETS:
        return await asyncio.to_thread(seal, message, chain, payload, key, now=now, names=names)
    return seal(message, chain, payload, key, now=now, names=names)


def seal(
    message: Message, chain: Chain, payload: str, key: SigningKey, *, now: float, names: Sequence[str] = ()
) -> bytes:
    """The set for `message` as it stands, whole fields, to be put in front of it; empty if none may be added.

    `chain` is what `validate` found in the message as it came, `payload` the value of our
    Authentication-Results for it (RFC 8601), with its identifier, `names` what the message signature covers,
    by default what DKIM signs and its signatures. Raises SigningError of `mta.authn.dkimsign`, and what
    reading the body raises.
    """
    if chain.result is Result.TEMPERROR or chain.ended or len(chain.sets) >= MAX_INSTANCE:
        return b""
    if chain.result is Result.FAIL and not chain.sets:
        # Without knowing the numbers that are used there is none that we could take.
        return b""
    instance = len(chain.sets) + 1
    status = {Result.NONE: "none", Result.PASS: "pass"}.get(chain.result, "fail")
    seconds = int(now)
    results = _line("ARC-Authentication-Results", f"i={instance}; {_octets(one_line(payload))}")

    body = body_digests(message.body_chunks(), [(True, None)])[True, None]
    covered = tuple(names) or (*signed_names(message), *_signatures(message))
    listed = ":".join(covered)
    if len(listed) > COLUMNS:
        listed = folded_names(covered)[2:-1]
    tags = {
        "a": key.algorithm, "b": "", "bh": base64.b64encode(body.digest).decode(), "c": "relaxed/relaxed",
        "d": key.domain, "h": listed, "i": str(instance), "s": key.selector, "t": str(seconds),
    }  # fmt: skip
    digest = hashlib.sha256()
    for form in HeaderForms(message).select(covered, True):
        digest.update(form)
    signature = _signed("ARC-Message-Signature", tags, key, digest)

    tags = {
        "a": key.algorithm, "b": "", "cv": status, "d": key.domain, "i": str(instance), "s": key.selector,
        "t": str(seconds),
    }  # fmt: skip
    digest = hashlib.sha256()
    if status != "fail":
        # A seal that ends the chain covers its own set alone (section 5.1.2).
        for form in _earlier(chain):
            digest.update(form)
    digest.update(relaxed_text(results).encode("latin-1"))
    digest.update(relaxed_text(signature).encode("latin-1"))
    return (_signed("ARC-Seal", tags, key, digest) + signature + results).encode("latin-1")


def one_line(text: str) -> str:
    """A value without its folding, and without line ends that are none."""
    return _folding(" ", text).replace("\r", " ").strip()


def _octets(text: str) -> str:
    """The octets of a text, one character an octet."""
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


def _signatures(message: Message) -> tuple[str, ...]:
    """The signatures that came with the message: who comes after us sees with which it reached us."""
    return ("dkim-signature",) * min(message.count("dkim-signature"), MAX_SIGNATURES)


def _earlier(chain: Chain) -> Iterable[bytes]:
    for one in chain.sets:
        yield relaxed_field(one.results)
        yield relaxed_field(one.message_signature.field)
        yield relaxed_field(one.seal.field)


def _line(name: str, value: str) -> str:
    """A field folded after semicolons, which relaxed canonicalisation does not see.

    The lines go on with a blank: dkimpy looks for " i=1;" and would not find it after a tab.
    """
    folded = value.replace("; ", ";\r\n ")
    return f"{name}: {folded}\r\n"


def _signed(name: str, tags: dict[str, str], key: SigningKey, digest: hashlib._Hash) -> str:
    """The field with its signature over `digest` and itself."""
    unsigned = _line(name, "; ".join(f"{tag}={value}" for tag, value in sorted(tags.items())))
    digest.update(relaxed_text(unsigned)[:-2].encode("latin-1"))
    tags = {**tags, "b": base64.b64encode(key.sign(digest.digest())).decode()}
    return _line(name, "; ".join(f"{tag}={value}" for tag, value in sorted(tags.items())))
