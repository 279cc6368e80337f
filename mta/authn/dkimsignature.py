"""One signature as it is written in a header field: DKIM-Signature (RFC 6376 section 3.5) and its kin of ARC.

`read_signature` takes the field apart and refuses what cannot be valid whatever the key says, with the words
that go into the result. Nothing is looked up or computed here.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

from mta.address import AddressError, domain_key
from mta.authn.dkimcanon import relaxed_text
from mta.authn.dkimlib import (
    MESSAGE_TAGS,
    SEAL_TAGS,
    SIGNATURE_TAGS,
    Malformed,
    check_signature,
    tag_list,
    without_white,
)
from sieve_ext.message import Field

MAX_NAMES = 500
"""Names in h=: a message has some dozens of fields."""
_CANONICALISATION = {b"simple": False, b"relaxed": True}


@dataclass(slots=True, frozen=True)
class Signature:
    """What one signature says."""

    field: Field
    algorithm: str
    """ "rsa-sha256", "rsa-sha1" or "ed25519-sha256"."""
    domain: str
    """The signing domain, `d=`, in lower case and A-labels."""
    selector: str
    identity: str
    """`i=`; "@" and the domain where it is missing."""
    names: tuple[str, ...]
    """`h=` in lower case, as often as it is written there."""
    relaxed_header: bool
    relaxed_body: bool
    body_hash: bytes
    signature: bytes
    length: int | None
    """`l=`: octets of the canonical body that are signed; None for all."""
    time: int | None
    """`t=`: when it was made, in seconds of the epoch."""
    expires: int | None
    """`x=`: until when it is valid."""
    chain: str = ""
    """`cv=` of an ARC-Seal."""
    is_below: bool = False
    """The domain of `i=` is a subdomain of `d=`."""

    @property
    def key_name(self) -> str:
        """Where in the DNS its key is (section 3.6.2.1)."""
        return f"{self.selector}._domainkey.{self.domain}"

    @property
    def key_type(self) -> str:
        """ "rsa" or "ed25519"."""
        return self.algorithm.partition("-")[0]


def read_signature(field: Field) -> Signature:
    """A DKIM-Signature. Raises Malformed."""
    tags = tag_list(field.unfolded)
    # i= is compared with d= in A-labels (RFC 8616 section 5), which dkimpy does not know of.
    check_signature({name: tags[name] for name in tags if name != b"i"}, SIGNATURE_TAGS, arc=False)
    methods = tags.get(b"q", b"dns/txt").lower().split(b":")
    if b"dns/txt" not in [method.strip(b" \t") for method in methods]:
        raise Malformed("its key is not in the DNS")
    return _signature(field, tags, b"simple/simple")


def read_message_signature(field: Field, tags: Mapping[bytes, bytes]) -> Signature:
    """An ARC-Message-Signature (RFC 8617 section 4.1.2). Raises Malformed."""
    check_signature(tags, MESSAGE_TAGS, arc=True)
    # Nobody writes other signatures than relaxed ones; where c= is missing, the whole world reads it so.
    signature = _signature(field, tags, b"relaxed/relaxed")
    if "arc-seal" in signature.names:
        raise Malformed("it signs an ARC-Seal")
    return signature


def read_seal(field: Field, tags: Mapping[bytes, bytes]) -> Signature:
    """An ARC-Seal (RFC 8617 section 4.1.3). Raises Malformed."""
    if b"h" in tags:
        raise Malformed("it has h=")
    check_signature(tags, SEAL_TAGS, arc=True)
    return _signature(field, {**tags, b"bh": b"", b"h": b"", b"c": b"relaxed"}, b"")


def unsigned_line(field: Field) -> str:
    """The field in Latin-1 without the value of `b=` and without its line end (RFC 6376 section 3.7)."""
    line = field.line.removesuffix("\r")
    name, colon, value = line.partition(":")
    specs = value.split(";")
    for place, spec in enumerate(specs):
        tag, equals, _ = spec.partition("=")
        if equals and tag.strip(" \t\r\n") == "b":
            specs[place] = tag + equals
            break
    return name + colon + ";".join(specs)


def signed_form(field: Field, relaxed: bool) -> bytes:
    """The signature field itself as it is hashed: without `b=` and without its final CRLF."""
    line = unsigned_line(field)
    return relaxed_text(line)[:-2].encode("latin-1") if relaxed else line.encode("latin-1")


def _signature(field: Field, tags: Mapping[bytes, bytes], canonicalisation: bytes) -> Signature:
    header, _, body = tags.get(b"c", canonicalisation).lower().partition(b"/")
    try:
        relaxed_header, relaxed_body = _CANONICALISATION[header], _CANONICALISATION[body or b"simple"]
    except KeyError:
        raise Malformed("c= is no canonicalisation") from None
    names = tuple(name.strip(" \t\r\n").lower() for name in tags[b"h"].decode("latin-1").split(":"))
    if len(names) > MAX_NAMES:
        raise Malformed("h= has too many names")
    domain = _domain(tags[b"d"])
    selector = _domain(tags[b"s"], "s=")
    identity = tags.get(b"i", b"@" + tags[b"d"]) if b"v" in tags else b"@" + tags[b"d"]
    below = _identity_domain(identity)
    if b"@" not in identity or (below != domain and not below.endswith(f".{domain}")):
        raise Malformed("i= domain is not a subdomain of d=")
    return Signature(
        field=field,
        algorithm=tags[b"a"].decode("ascii"),
        domain=domain,
        selector=selector,
        identity=identity.decode("utf-8", "replace"),
        names=names,
        relaxed_header=relaxed_header,
        relaxed_body=relaxed_body,
        body_hash=_base64(tags[b"bh"]),
        signature=_base64(tags[b"b"]),
        length=_number(tags, b"l"),
        time=_number(tags, b"t"),
        expires=_number(tags, b"x"),
        chain=tags.get(b"cv", b"").decode("latin-1"),
        is_below=below != domain,
    )


def _identity_domain(identity: bytes) -> str:
    """The domain of `i=` in the form of `d=`; in lower case only when it is none that could be asked for."""
    text = identity.rpartition(b"@")[2].decode("utf-8", "replace")
    try:
        return domain_key(text)
    except AddressError:
        return text.lower()


def _domain(value: bytes, tag: str = "d=") -> str:
    try:
        # A selector may be a number, and it may begin with an underscore: it is part of a longer name.
        text = value.decode("utf-8")
        if tag == "s=":
            return domain_key(f"{text}.s").removesuffix(".s")
        return domain_key(text) if not text.startswith("[") else _no_domain(tag)
    except (AddressError, UnicodeDecodeError):
        return _no_domain(tag)


def _no_domain(tag: str) -> str:
    raise Malformed(f"{tag} is no domain name")


def _base64(value: bytes) -> bytes:
    try:
        return base64.b64decode(without_white(value), validate=True)
    except binascii.Error:
        raise Malformed("b= or bh= is not base64") from None


def _number(tags: Mapping[bytes, bytes], name: bytes) -> int | None:
    value = tags.get(name)
    if value is None:
        return None
    if not value.isdigit() or len(value) > 19:
        raise Malformed(f"{name.decode()}= is not a number")
    return int(value)
