"""Signing with DKIM (RFC 6376 section 5): relaxed/relaxed, by several keys at once, as RSA and Ed25519.

Body and header fields are hashed once for all keys. The fields of `OVERSIGNED` are signed once more than
they occur, so nobody can add another Subject or From in front of the signed one; those of `SIGNED` are signed
where they occur, for mailing lists must be able to add theirs. Received, Return-Path and other fields that
are added or changed on the way are not signed (section 5.4.1).

The signature must be the last edit of the message.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Sequence
from functools import lru_cache

from mta.authn.dkim import INLINE_OCTETS
from mta.authn.dkimcanon import relaxed_text
from mta.authn.dkimhash import HeaderForms, body_digests
from mta.authn.dkimkeys import SigningKey
from sieve_ext.message import Message

OVERSIGNED = (
    "from", "to", "cc", "reply-to", "subject", "date", "message-id", "in-reply-to", "references",
    "mime-version", "content-type", "content-transfer-encoding",
)  # fmt: skip
"""Signed as often as they occur, and once more."""
SIGNED = (
    "sender", "content-id", "content-description", "content-disposition", "content-language",
    "resent-date", "resent-from", "resent-sender", "resent-to", "resent-cc", "resent-message-id",
    "list-id", "list-help", "list-unsubscribe", "list-unsubscribe-post", "list-subscribe", "list-post",
    "list-owner", "list-archive", "feedback-id", "autocrypt", "tls-required",
)  # fmt: skip
"""Signed as often as they occur."""
MAX_SIGNED_FIELDS = 200
"""More fields than that to sign are no mail of a user's."""
COLUMNS = 78
"""Columns of a line of the signature field (RFC 5322 section 2.1.1)."""


class SigningError(Exception):
    """This message cannot be signed; the text says why."""


async def sign_message(
    message: Message, keys: Sequence[SigningKey], *, now: float, lifetime: int = 0
) -> bytes:
    """`sign`, in a thread when the message is large."""
    if message.size > INLINE_OCTETS:
        return await asyncio.to_thread(sign, message, keys, now=now, lifetime=lifetime)
    return sign(message, keys, now=now, lifetime=lifetime)


def sign(message: Message, keys: Sequence[SigningKey], *, now: float, lifetime: int = 0) -> bytes:
    """A DKIM-Signature of each key for `message` as it stands, whole fields in the order of `keys`.

    They are put in front of the message (`Message.prepend`). `now` is in seconds of the epoch, `lifetime` in
    seconds, 0 for no `x=`. Raises SigningError, and what reading the body raises.
    """
    names = signed_names(message)
    listed = folded_names(names)
    body = base64.b64encode(body_digests(message.body_chunks(), [(True, None)])[True, None].digest).decode()
    header = hashlib.sha256()
    for form in HeaderForms(message).select(names, True):
        header.update(form)
    seconds = int(now)
    times = f"t={seconds}; x={seconds + lifetime};" if lifetime else f"t={seconds};"
    fields = []
    for key in keys:
        line = (
            f"DKIM-Signature: v=1; a={key.algorithm}; c=relaxed/relaxed;\r\n"
            f"\td={key.domain}; s={key.selector};\r\n"
            f"\t{times}\r\n\t{listed}\r\n\tbh={body};\r\n\tb="
        )
        digest = header.copy()
        digest.update(relaxed_text(line)[:-2].encode("latin-1"))
        fields.append(line + folded_base64(key.sign(digest.digest())) + "\r\n")
    return "".join(fields).encode("latin-1")


def signed_names(message: Message) -> tuple[str, ...]:
    """The names for `h=`. Raises SigningError when the message has no From, or too much to sign."""
    if message.is_header_cut:
        raise SigningError("the header is too long to sign")
    if "from" not in message:
        raise SigningError("there is no From to sign")
    names: list[str] = []
    for name in OVERSIGNED:
        names += [name] * (message.count(name) + 1)
    for name in SIGNED:
        count = message.count(name)
        if count:
            names += [name] * count
    if len(names) > MAX_SIGNED_FIELDS:
        raise SigningError(f"there are more than {MAX_SIGNED_FIELDS} header fields to sign")
    return tuple(names)


@lru_cache(maxsize=256)
def folded_names(names: tuple[str, ...]) -> str:
    """`h=` with its semicolon, folded so that it may stand after a tab."""
    lines = []
    line = "h="
    for name in names:
        if len(line) + len(name) + 8 > COLUMNS:
            lines.append(line)
            line = " "
        line += f"{name}:"
    lines.append(line)
    return "\r\n\t".join(lines)[:-1] + ";"


def folded_base64(octets: bytes) -> str:
    """Base64 in lines of 64 characters."""
    text = base64.b64encode(octets).decode()
    return "\r\n\t ".join(text[start : start + 64] for start in range(0, len(text), 64))
