"""Mail addresses as values (RFC 5321 section 4.1.2, RFC 6531, RFC 5891).

`parse_address` reads ``local@domain`` without angle brackets into an `Address`; `mta.smtp.syntax` reads
whole paths of MAIL and RCPT with it. Domains are compared in one form, `domain_key`: lower case, A-labels
by the UTS #46 lookup mapping, no trailing dot, address literals in canonical form.

Strict where a loose reading could be turned against somebody: no control characters, no unquoted special
characters, so neither ``a@b@c`` nor a route hides in a local part; a domain is made of letters, digits,
hyphens and underscores or is a well-formed literal. Lenient where mail really comes from: underscores in
domains, a trailing dot after the domain, and consecutive or final dots in a local part (whole providers
gave such mailboxes out). Such an address is relayed as it was written.

Everything raises `AddressError`, a ValueError whose text says what is wrong and repeats nothing of the
input, so it may stand in a log line.
"""

from __future__ import annotations

import string
import unicodedata
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import idna
from msgspec import Struct

MAX_LOCAL_PART = 128
"""Octets of a local part. RFC 5321 section 4.5.3.1.1 wants 64 to be accepted at the least; bounce addresses
that carry the recipient's address (VERP, SRS) are longer than that every day."""
MAX_DOMAIN = 255
"""Octets of a domain as written (RFC 5321 section 4.5.3.1.2)."""
MAX_DNS_NAME = 253
"""Octets of a domain in A-labels without the final dot: more cannot be looked up (RFC 1035 section 2.3.4)."""
MAX_LABEL = 63
"""Octets of a label (RFC 1035 section 2.3.4)."""
MAX_PATH = 256
"""Octets of a path with its angle brackets and source route (RFC 5321 section 4.5.3.1.3)."""
MAX_ADDRESS = MAX_PATH - 2
"""Octets of an address: a path without its angle brackets."""
DOMAIN_CACHE = 2048
"""Domains whose key is remembered: about 0.5 MB at the usual length, 2 MB if all have the longest."""

_ATEXT_DOT = string.ascii_letters + string.digits + "!#$%&'*+-/=?^_`{|}~."
_LDH = string.ascii_letters + string.digits + "-_."
_BIDI_CONTROLS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u061c")
_CONTROL_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
_UNSPLIT = frozenset({"mailer-daemon", "double-bounce"})


class AddressError(ValueError):
    """An address or a domain that cannot be used (remote or configured; the text repeats no input)."""


class Address(Struct, frozen=True):
    """A mailbox, the null reverse-path, or `postmaster` without a domain.

    `local` is the local part without quoting ("a b" for `"a b"@x`). `domain` is compared and looked up:
    lower case, A-labels, no trailing dot; an address literal is "[192.0.2.1]" or "[IPv6:2001:db8::1]";
    "" for the null path and for a bare `postmaster`. `text` is the address as it was written, without
    angle brackets, source route and trailing dot: what is relayed.
    """

    local: str
    domain: str
    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def is_null(self) -> bool:
        """True for `<>`."""
        return not self.text

    @property
    def is_utf8(self) -> bool:
        """True when the address as written needs SMTPUTF8."""
        return not self.text.isascii()

    @property
    def key(self) -> str:
        """The address for local tables: local part in lower case and NFC, "@", domain.

        Only local tables may use it: other hosts' local parts are case-sensitive (RFC 5321 section 2.4).
        "" for the null path, "postmaster" for the bare one. A quoted local part appears unquoted.
        """
        local = self.local.lower()
        if not local.isascii():
            local = unicodedata.normalize("NFC", local)
        return f"{local}@{self.domain}" if self.domain else local

    @property
    def in_labels(self) -> str:
        """The address as it was written, but for a domain beyond ASCII, which is in A-labels."""
        text = self.text
        if text.isascii() or text.rpartition("@")[2].isascii():
            return text
        return f"{quote_local(self.local)}@{self.domain}"

    def with_local(self, local: str) -> Address:
        """The same domain with another local part (unquoted), quoted where needed. Raises AddressError."""
        check_local(local)
        text = quote_local(local)
        if self.domain:
            text = f"{text}@{self.text.rpartition('@')[2]}"
        return Address(local, self.domain, text)

    def to_ascii(self) -> Address:
        """The address for a next hop without SMTPUTF8: the domain in A-labels (RFC 6531 section 3.2).

        Raises AddressError when the local part needs SMTPUTF8; there is no other spelling of it.
        """
        if self.text.isascii():
            return self
        if not self.local.isascii():
            raise AddressError("the local part is not ASCII")
        return Address(self.local, self.domain, f"{quote_local(self.local)}@{self.domain}")


NULL = Address("", "", "")
"""The null reverse-path, `<>`."""


def parse_address(text: str) -> Address:
    """Read ``local@domain``, without angle brackets.

    Raises AddressError for anything else, the empty string and a bare `postmaster` included.
    """
    local, at, domain = text.rpartition("@")
    if not at:
        raise AddressError("no @ in the address")
    # One pass of `strip` over the allowed characters is the fastest test there is for "only these".
    if local.strip(_ATEXT_DOT) or not local or local[0] == ".":
        local = _read_local(local)
    if len(local) > 32 and len(local.encode("utf-8")) > MAX_LOCAL_PART:
        raise AddressError("the local part is too long")
    key = domain_key(domain)
    if len(text) > 63 and len(text.encode("utf-8")) > MAX_ADDRESS:
        raise AddressError("the address is too long")
    if domain[-1] == ".":
        text = text[:-1]
    return Address(local, key, text)


@lru_cache(maxsize=DOMAIN_CACHE)
def domain_key(text: str) -> str:
    """A domain or address literal in the form in which domains are compared and looked up.

    "Example.ORG." becomes "example.org", "bücher.example" "xn--bcher-kva.example", "[ipv6:2001:DB8:0::1]"
    "[IPv6:2001:db8::1]"; an IPv4-mapped literal becomes the IPv4 literal of the same host. Raises
    AddressError.
    """
    if text.startswith("["):
        return _literal_key(text)
    name = text
    if not name.isascii():
        if len(name.encode("utf-8", "surrogatepass")) > MAX_DOMAIN:
            raise AddressError("the domain is too long")
        name = _to_a_labels(name)
    if name.endswith("."):
        name = name[:-1]
    if not name or name.strip(_LDH):
        raise AddressError("the domain has characters that no domain has" if name else "no domain")
    if len(name) > MAX_DNS_NAME:
        raise AddressError("the domain is too long")
    name = name.lower()
    labels = name.split(".")
    for label in labels:
        if not label:
            raise AddressError("a label of the domain is empty")
        if len(label) > MAX_LABEL:
            raise AddressError("a label of the domain is too long")
        if label[0] == "-" or label[-1] == "-":
            raise AddressError("a label of the domain begins or ends with a hyphen")
    # No top-level domain is a number: this is an IP address that lacks its brackets.
    if labels[-1].isdigit():
        raise AddressError("the domain is a number")
    return name


def check_local(local: str) -> None:
    """Raise AddressError unless `local` (unquoted) can be the local part of an address.

    It is 1 to `MAX_LOCAL_PART` octets without control characters, line and paragraph separators,
    surrogates and the marks that turn the direction of text.
    """
    if not local:
        raise AddressError("the local part is empty")
    if has_controls(local) or not _BIDI_CONTROLS.isdisjoint(local):
        raise AddressError("the local part has a control character")
    if len(local.encode("utf-8")) > MAX_LOCAL_PART:
        raise AddressError("the local part is too long")


def has_controls(text: str) -> bool:
    """True when `text` has a control character (C0, DEL, C1), a line or paragraph separator or a surrogate.

    Format characters and unassigned ones are no controls: the world's scripts need them.
    """
    if text.isprintable():
        return False
    return any(unicodedata.category(c) in _CONTROL_CATEGORIES for c in text)


def quote_local(local: str) -> str:
    """The local part as it is written in a path: as it is if it is a Dot-string, else a Quoted-string.

    RFC 5321 section 4.1.2. `local` is a local part that `check_local` accepts.
    """
    ascii_part = local if local.isascii() else "".join(c for c in local if c < "\x80")
    if ascii_part.strip(_ATEXT_DOT) or local[0] == "." or local[-1] == "." or ".." in local:
        escaped = local.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return local


def split_subaddress(local: str, delimiters: str) -> tuple[str, str | None]:
    """Split "user+detail" at the first of `delimiters`: ("user", "detail") (RFC 5233).

    ("user", "") for "user+", ("user", None) when there is no delimiter, none is wanted ("") or it is the
    first character. With "-" among the delimiters, "mailer-daemon", "owner-..." and "...-request" keep
    their hyphen, since these are names and no subaddresses.
    """
    position = -1
    for delimiter in delimiters:
        found = local.find(delimiter)
        if found >= 0 and (position < 0 or found < position):
            position = found
    if position <= 0:
        return local, None
    if local[position] == "-":
        lower = local.lower()
        if lower in _UNSPLIT or lower.startswith("owner-") or lower.endswith("-request"):
            return local, None
    return local[:position], local[position + 1 :]


def _read_local(text: str) -> str:
    """The local part that `text`, a Dot-string or Quoted-string as written, stands for."""
    if len(text) > 1 and text[0] == '"' and text[-1] == '"':
        local = _unquote(text[1:-1])
    else:
        local = text
        if local.startswith("."):
            raise AddressError("the local part begins with a dot")
        if "".join(c for c in local if c < "\x80").strip(_ATEXT_DOT):
            raise AddressError("the local part has a special character outside quotes")
    check_local(local)
    return local


def _unquote(quoted: str) -> str:
    if "\\" not in quoted:
        if '"' in quoted:
            raise AddressError("the local part has an unescaped quote")
        return quoted
    out: list[str] = []
    escaped = False
    for c in quoted:
        if escaped:
            if not c.isascii():
                raise AddressError("the local part escapes a character that is not ASCII")
            out.append(c)
            escaped = False
        elif c == "\\":
            escaped = True
        elif c == '"':
            raise AddressError("the local part has an unescaped quote")
        else:
            out.append(c)
    if escaped:
        raise AddressError("the local part ends inside an escape")
    return "".join(out)


def _literal_key(text: str) -> str:
    """The canonical form of an address literal (RFC 5321 section 4.1.3, RFC 5952)."""
    if text[-1] != "]":
        raise AddressError("the address literal has no closing bracket")
    inner = text[1:-1]
    try:
        if inner[:5].upper() != "IPV6:":
            return f"[{IPv4Address(inner)}]"
        if "%" in inner:
            raise AddressError("the address literal has a zone")
        address = IPv6Address(inner[5:])
    except AddressValueError as error:
        raise AddressError("the address literal is no IP address") from error
    if address.ipv4_mapped is not None:
        return f"[{address.ipv4_mapped}]"
    return f"[IPv6:{address.compressed}]"


def _to_a_labels(name: str) -> str:
    try:
        mapped = idna.uts46_remap(name, std3_rules=False, transitional=False)
        # `domain_key` judges what is ASCII by itself, for it knows underscores; the rest IDNA judges.
        return ".".join(
            label if label.isascii() else idna.alabel(label).decode("ascii") for label in mapped.split(".")
        )
    except idna.IDNAError as error:
        raise AddressError("the domain is not a valid internationalised name") from error
