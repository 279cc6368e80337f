"""Stored passwords in the form "{SCHEME}hash", as Dovecot, LDAP and crypt(3) write them.

`parse` reads and checks the form when a file is loaded, so that a login meets no surprise; `verify` takes
the time that the scheme was made to take and belongs into a thread when `is_slow`. New passwords are
argon2id. Comparisons are in constant time.

Schemes: ARGON2ID ARGON2I, BLF-CRYPT SHA512-CRYPT SHA256-CRYPT CRYPT (bcrypt, SHA-crypt, yescrypt), PBKDF2,
SCRAM-SHA-1 SCRAM-SHA-256, SSHA SSHA256 SSHA512, SHA SHA1 SHA256 SHA512, PLAIN CLEAR CLEARTEXT. An encoding
may follow the name: ".b64", ".base64" or ".hex". A hash that begins with "$" needs no scheme. What is weaker
than SHA-1 (MD5, DES, CRAM-MD5 ...) is refused by name.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
from base64 import b64decode
from dataclasses import dataclass, field

import argon2

from mta.accounts import libcrypt
from mta.smtp.saslprep import saslprep
from mta.smtp.scram import SCRAM_HASHES, ScramKeys

ARGON2_MEMORY = 19456
"""KiB of memory of a new argon2id hash, with two passes and one lane: OWASP's minimum. About 40 ms and, at
the two hashes at once of a worker, 38 MiB while users log in."""
ARGON2_PASSES = 2
MAX_ARGON2_MEMORY = 1024 * 1024
"""KiB that a hash in a file may ask for: 1 GiB; more would let one line of the file starve the host."""

_DIGESTS = {
    "SHA": ("sha1", False),
    "SHA1": ("sha1", False),
    "SHA256": ("sha256", False),
    "SHA512": ("sha512", False),
    "SSHA": ("sha1", True),
    "SSHA256": ("sha256", True),
    "SSHA512": ("sha512", True),
}
_CRYPT = {"CRYPT": ("$",), "BLF-CRYPT": ("$2",), "SHA512-CRYPT": ("$6$",), "SHA256-CRYPT": ("$5$",)}
_ARGON2 = {"ARGON2ID": argon2.Type.ID, "ARGON2I": argon2.Type.I}
_PLAIN = frozenset({"PLAIN", "CLEAR", "CLEARTEXT"})
_WEAK = {
    "CRAM-MD5", "DES-CRYPT", "DIGEST-MD5", "HMAC-MD5", "LANMAN", "LDAP-MD5", "MD5", "MD5-CRYPT", "NTLM",
    "OTP", "PLAIN-MD4", "PLAIN-MD5", "PLAIN-TRUNC", "SMD5",
}  # fmt: skip
SCHEMES = (*_ARGON2, *_CRYPT, "PBKDF2", *SCRAM_HASHES, *_DIGESTS, *sorted(_PLAIN))
"""All schemes that are read."""
SLOW_SCHEMES = frozenset((*_ARGON2, *_CRYPT, "PBKDF2", *SCRAM_HASHES))
"""Schemes that take milliseconds by design."""


class HashingError(Exception):
    """A hash could not be computed, for instance for lack of memory (environment)."""


@dataclass(slots=True, frozen=True)
class StoredPassword:
    """One checked hash. `text` is as written, without "{SCHEME}"; `encoding` is "", "b64" or "hex"."""

    scheme: str
    text: str = field(repr=False)
    encoding: str = ""
    cost: str = ""
    """What a verification costs, as a word: equal words, equal work."""

    @property
    def is_slow(self) -> bool:
        """True when `verify` takes milliseconds."""
        return self.scheme in SLOW_SCHEMES

    @property
    def scram_keys(self) -> ScramKeys | None:
        """The keys, of a SCRAM scheme."""
        hash_name = SCRAM_HASHES.get(self.scheme)
        return ScramKeys.parse(hash_name, self.text) if hash_name else None

    @property
    def clear(self) -> str | None:
        """The password itself, of a scheme that does not hide it."""
        return _plain_octets(self).decode() if self.scheme in _PLAIN else None

    def __str__(self) -> str:
        suffix = f".{self.encoding}" if self.encoding else ""
        return f"{{{self.scheme}{suffix}}}{self.text}"


def parse(text: str) -> StoredPassword:
    """Read "{SCHEME}hash" or "$id$...". Raises ValueError with what is wrong, without the hash."""
    if text.startswith("{"):
        name, brace, rest = text[1:].partition("}")
        if not brace:
            raise ValueError("password scheme without }")
    elif text.startswith("$argon2"):
        name, rest = ("ARGON2ID" if text.startswith("$argon2id$") else "ARGON2I"), text
    elif text.startswith("$"):
        name, rest = "CRYPT", text
    else:
        raise ValueError("password without {SCHEME}; write {PLAIN} in front if it is a password in clear")
    scheme, _, encoding = name.upper().partition(".")
    encoding = {"BASE64": "b64", "B64": "b64", "HEX": "hex", "": ""}.get(encoding, "?")
    if scheme in _WEAK:
        raise ValueError(f"password scheme {scheme} is too weak; set the password anew")
    if scheme not in SCHEMES or encoding == "?":
        raise ValueError(f"unknown password scheme {{{name}}}; known are {' '.join(SCHEMES)}")
    stored = StoredPassword(scheme, rest, encoding)
    if not rest:
        raise ValueError("empty password")
    if encoding and scheme not in _DIGESTS and scheme not in _PLAIN:
        raise ValueError(f"scheme {scheme} has no .{encoding} form")
    return StoredPassword(scheme, rest, encoding, _check(stored))


def _check(stored: StoredPassword) -> str:
    """The cost of a hash whose form is right. Raises ValueError."""
    scheme, text = stored.scheme, stored.text
    if scheme in _DIGESTS:
        _digest_parts(stored)
        return scheme
    if scheme in _PLAIN:
        _plain_octets(stored).decode()
        return "PLAIN"
    if scheme in _CRYPT:
        if not text.startswith(_CRYPT[scheme]):
            raise ValueError(f"a hash of {scheme} begins with {_CRYPT[scheme][0]}")
        prefix = libcrypt.method_of(text)
        parts = text[len(prefix) :].split("$")
        if prefix in ("$5$", "$6$"):
            return prefix + (parts[0] if parts[0].startswith("rounds=") else "")
        return prefix + parts[1 if prefix == "$2" and len(parts) > 1 else 0]
    if scheme == "PBKDF2":
        return f"PBKDF2 {_pbkdf2_parts(text)[1]}"
    if scheme in SCRAM_HASHES:
        keys = ScramKeys.parse(SCRAM_HASHES[scheme], text)
        return f"{scheme} {keys.iterations} {len(keys.salt)}"
    try:
        parameters = argon2.extract_parameters(text)
    except argon2.exceptions.InvalidHashError:
        raise ValueError(f"not a hash of {scheme}") from None
    if parameters.type != _ARGON2[scheme]:
        raise ValueError(f"not a hash of {scheme}")
    if parameters.memory_cost > MAX_ARGON2_MEMORY:
        raise ValueError(f"the hash asks for more than {MAX_ARGON2_MEMORY} KiB of memory")
    return f"{scheme} {parameters.memory_cost} {parameters.time_cost} {parameters.parallelism}"


def verify(stored: StoredPassword, password: str) -> bool:
    """True when the hash is of `password`, as typed or after SASLprep (RFC 4013).

    Both forms are tried, for other tools hash what was typed. Runs as long as the scheme takes. Raises
    HashingError.
    """
    if _verify(stored, password):
        return True
    prepared = _prepared(password)
    return prepared != password and _verify(stored, prepared)


def _prepared(password: str) -> str:
    try:
        return saslprep(password)
    except ValueError:
        return password


def _verify(stored: StoredPassword, password: str) -> bool:
    scheme, text = stored.scheme, stored.text
    octets = password.encode()
    if scheme in _ARGON2:
        try:
            return argon2.low_level.verify_secret(text.encode(), octets, _ARGON2[scheme])
        except argon2.exceptions.VerifyMismatchError:
            return False
        except argon2.exceptions.VerificationError as error:
            raise HashingError(f"{scheme}: {error}") from error
    if scheme in _CRYPT:
        return libcrypt.verify(password, text)
    if scheme in _DIGESTS:
        digest, salt = _digest_parts(stored)
        return hmac.compare_digest(hashlib.new(_DIGESTS[scheme][0], octets + salt).digest(), digest)
    if scheme == "PBKDF2":
        salt, rounds, digest = _pbkdf2_parts(text)
        return hmac.compare_digest(hashlib.pbkdf2_hmac("sha1", octets, salt, rounds), digest)
    if scheme in SCRAM_HASHES:
        try:
            return ScramKeys.parse(SCRAM_HASHES[scheme], text).matches(password)
        except ValueError:  # SASLprep forbids the password: it cannot have been stored this way
            return False
    return hmac.compare_digest(octets, _plain_octets(stored))


def hash_password(password: str) -> StoredPassword:
    """A new argon2id hash of a password, which is prepared first where SASLprep allows it."""
    hasher = argon2.PasswordHasher(time_cost=ARGON2_PASSES, memory_cost=ARGON2_MEMORY, parallelism=1)
    return parse("{ARGON2ID}" + hasher.hash(_prepared(password)))


def scram_password(mechanism: str, password: str) -> StoredPassword:
    """New SCRAM keys of a password for "SCRAM-SHA-1" or "SCRAM-SHA-256". Raises ValueError (SASLprep)."""
    keys = ScramKeys.derive(SCRAM_HASHES[mechanism], password)
    return parse(f"{{{mechanism}}}{keys.format()}")


def _digest_parts(stored: StoredPassword) -> tuple[bytes, bytes]:
    """Digest and salt of a digest scheme. Raises ValueError."""
    hash_name, salted = _DIGESTS[stored.scheme]
    size = hashlib.new(hash_name).digest_size
    is_hex = stored.encoding == "hex" or (not stored.encoding and len(stored.text) == 2 * size)
    octets = _decode(stored.text, "hex" if is_hex else "b64")
    if len(octets) <= size if salted else len(octets) != size:
        raise ValueError(f"a hash of {stored.scheme} has {size} octets{' and a salt' if salted else ''}")
    return octets[:size], octets[size:]


def _plain_octets(stored: StoredPassword) -> bytes:
    return _decode(stored.text, stored.encoding) if stored.encoding else stored.text.encode()


def _pbkdf2_parts(text: str) -> tuple[bytes, int, bytes]:
    """Salt, rounds and digest of Dovecot's "$1$salt$rounds$hex". Raises ValueError."""
    parts = text.split("$")
    if len(parts) != 5 or parts[0] or parts[1] != "1" or not parts[3].isdecimal() or not parts[3].isascii():
        raise ValueError("a PBKDF2 hash is $1$salt$rounds$hex")
    rounds, digest = int(parts[3]), _decode(parts[4], "hex")
    if not 1 <= rounds <= 10_000_000 or len(digest) != 20:
        raise ValueError("a PBKDF2 hash has 20 octets and at most 10,000,000 rounds")
    return parts[2].encode(), rounds, digest


def _decode(text: str, encoding: str) -> bytes:
    try:
        return bytes.fromhex(text) if encoding == "hex" else b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"not {'hexadecimal' if encoding == 'hex' else 'base64'}") from None


DECOY = parse(
    "{ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$5Bf6T8Nru/wcMvJmVQ7fgg$"
    "ptqvjotUDEvCL8NoBzSSWXqolyjVFG07HeCNPmJHJCg"
)
"""A hash of a password that nobody ever saw, made as `hash_password` makes them: work for unknown users."""
