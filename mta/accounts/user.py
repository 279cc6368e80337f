"""One user: the value, and its line in the users file.

Two forms are read. Ours::

    address:{SCHEME}hash+{SCRAM-SHA-256}keys+{SCRAM-SHA-1}keys:key=value key=value ...

and Dovecot's passwd-file, which has at least four fields, the third and fourth (uid, gid) empty or numbers::

    address:{SCHEME}hash:uid:gid:gecos:home:shell:key=value key=value ...

Keys of ours: `quota` (octets or 500M, 2G; 0 is no limit), `addresses` (what the user may send as besides its
own: local@domain or @domain, separated by commas), `home` (absolute path), `disabled` (a word without value);
an unknown key is an error. In Dovecot's form `nologin` is `disabled`, keys that restrict a login in ways
not known here are errors, others are kept and ignored. Values have neither blanks nor quoting. A line is
written in the form in which it was read. A user without a password ("", "*" or "!") receives mail, but
cannot log in with one.
"""

from __future__ import annotations

import difflib
import string
from dataclasses import dataclass, replace

from mta.accounts import passwords
from mta.accounts.passwords import StoredPassword
from mta.address import domain_key, parse_address
from mta.smtp.saslprep import saslprep
from mta.smtp.scram import SCRAM_HASHES, ScramKeys

FIELDS = ("addresses", "disabled", "home", "quota")
"""Keys of our form."""
MAX_LINE = 16384
"""Longest line in octets: a user with some 400 addresses."""
_RESTRICTIONS = frozenset({"allow_nets", "allow_real_nets", "deny", "host", "proxy", "proxy_maybe"})
"""Fields of Dovecot that narrow or move a login; to ignore one would let somebody in."""
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
"""Those that are written."""
_READ: dict[str, int] = {
    **_UNITS,
    **{f"{unit}IB": factor for unit, factor in _UNITS.items() if unit},
    **{f"{unit}B": 1000**power for power, unit in enumerate(_UNITS)},
}
"""Those that are read, in capitals."""
_NO_PASSWORD = ("", "*", "!")


@dataclass(slots=True, frozen=True)
class User:
    """One user of the file. `name` is canonical (see `user_key`)."""

    name: str
    password: StoredPassword | None = None
    verifiers: tuple[StoredPassword, ...] = ()
    """SCRAM keys beside the password."""
    quota: int | None = None
    """Octets, 0 for no limit, None when the line does not say."""
    addresses: tuple[str, ...] = ()
    """What it may send as besides its name: "local@domain" or "@domain", lower case."""
    home: str = ""
    disabled: bool = False
    columns: tuple[str, str, str, str] | None = None
    """uid, gid, gecos and shell of a line in Dovecot's form, None for ours."""
    ignored: tuple[str, ...] = ()
    """Fields of a line in Dovecot's form that mean nothing here."""

    def scram_keys(self, mechanism: str) -> ScramKeys | None:
        """The stored keys for "SCRAM-SHA-1" or "SCRAM-SHA-256", None if there are none."""
        for stored in (*self.verifiers, self.password):
            if stored is not None and stored.scheme == mechanism:
                return stored.scram_keys
        return None

    def with_password(self, password: str, *, scram: bool = True) -> User:
        """The user with new hashes. Takes some 100 ms. `scram` stores SCRAM keys too, in our form only."""
        verifiers: tuple[StoredPassword, ...] = ()
        if scram and self.columns is None:
            verifiers = tuple(
                passwords.scram_password(name, password) for name in ("SCRAM-SHA-256", "SCRAM-SHA-1")
            )
        return replace(self, password=passwords.hash_password(password), verifiers=verifiers)


def user_key(name: str) -> str:
    """The canonical form of a login name: lower case, domain in A-labels, SASLprep. Raises ValueError."""
    if not name.isascii() or not name.isprintable():
        name = saslprep(name)
    if "@" in name:
        return parse_address(name).key
    if not name or any(c in name for c in " :#{}"):
        raise ValueError("not a user name")
    return name.lower()


def address_key(text: str) -> str:
    """The canonical form of an entry of `addresses`. Raises ValueError."""
    if text.startswith("@"):
        return "@" + domain_key(text[1:])
    return parse_address(text).key


def parse_user(line: str) -> User:
    """Read one line, without its line end. Raises ValueError with what is wrong; never quotes a hash."""
    if len(line) > MAX_LINE:
        raise ValueError(f"line is longer than {MAX_LINE} characters")
    if not line.isprintable():
        raise ValueError("control characters")
    parts = line.split(":")
    if len(parts) < 2:
        raise ValueError("expected address:{SCHEME}hash:fields")
    try:
        name = user_key(parts[0])
    except ValueError as error:
        raise ValueError(f"{parts[0]!r}: {error}") from None
    password, verifiers = _parse_passwords(parts[1])
    user = User(name, password, verifiers)
    if len(parts) >= 4 and _is_number(parts[2]) and _is_number(parts[3]):
        uid, gid, gecos, home, shell = (*parts[2:7], *[""] * 5)[:5]
        user = replace(user, columns=(uid, gid, gecos, shell), home=home)
        return _dovecot_fields(user, ":".join(parts[7:]).split())
    return _own_fields(user, ":".join(parts[2:]).split())


def format_user(user: User) -> str:
    """The line that `parse_user` reads. Raises ValueError for values that no line can hold."""
    secret = "+".join(str(stored) for stored in (user.password, *user.verifiers) if stored is not None)
    fields: list[str] = []
    if user.addresses:
        fields.append("addresses=" + ",".join(user.addresses))
    if user.quota is not None:
        fields.append("quota=" + format_size(user.quota))
    if user.columns is None:
        if user.home:
            fields.append("home=" + user.home)
        if user.disabled:
            fields.append("disabled")
        line = f"{user.name}:{secret}:{' '.join(fields)}"
    else:
        if user.disabled:
            fields.append("nologin")
        uid, gid, gecos, shell = user.columns
        fields.extend(user.ignored)
        line = ":".join((user.name, secret, uid, gid, gecos, user.home, shell, " ".join(fields)))
    if line.startswith("#"):
        raise ValueError(f"{user.name}: a line that begins with # is a comment")
    try:
        if parse_user(line) == user:
            return line
    except ValueError as error:
        raise ValueError(f"{user.name}: a value cannot be written: {error}") from None
    raise ValueError(f"{user.name}: a value cannot be written (blank or colon in it?)")


def parse_size(text: str) -> int:
    """Octets of "1234", "500M", "2G", "2GiB" (powers of 1024) or "2GB" (of 1000). Raises ValueError."""
    number = text.rstrip(string.ascii_letters)
    factor = _READ.get(text[len(number) :].upper())
    if not (number.isascii() and number.isdigit()) or len(number) > 18 or factor is None:
        raise ValueError(f"{text!r} is not a size such as 500M or 2G")
    return int(number) * factor


def format_size(octets: int) -> str:
    """The shortest text that `parse_size` reads back exactly."""
    for unit, factor in reversed(_UNITS.items()):
        if octets and octets % factor == 0:
            return f"{octets // factor}{unit}"
    return str(octets)


def _is_number(text: str) -> bool:
    return not text or (text.isascii() and text.isdigit())


def _parse_passwords(text: str) -> tuple[StoredPassword | None, tuple[StoredPassword, ...]]:
    if text in _NO_PASSWORD:
        return None, ()
    first, *rest = text.split("+{SCRAM-")  # "+" is a digit of base64, but never before a brace
    stored = passwords.parse(first)
    verifiers = tuple(passwords.parse("{SCRAM-" + verifier) for verifier in rest)
    schemes = [verifier.scheme for verifier in (stored, *verifiers) if verifier.scheme in SCRAM_HASHES]
    if len(schemes) != len(set(schemes)):
        raise ValueError("the same SCRAM scheme twice")
    return stored, verifiers


def _own_fields(user: User, words: list[str]) -> User:
    seen: set[str] = set()
    for word in words:
        key, equals, value = word.partition("=")
        if key not in FIELDS:
            near = difflib.get_close_matches(key, FIELDS, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(FIELDS)}"
            raise ValueError(f"unknown field {key!r}{hint}")
        if key in seen:
            raise ValueError(f"field {key} twice")
        seen.add(key)
        if key == "disabled":
            if equals:
                raise ValueError("disabled has no value")
            user = replace(user, disabled=True)
        elif key == "home":
            if not value.startswith("/"):
                raise ValueError("home is an absolute path")
            user = replace(user, home=value)
        else:
            user = _common_field(user, key, value)
    return user


def _dovecot_fields(user: User, words: list[str]) -> User:
    ignored: list[str] = []
    for word in words:
        key, _, value = word.partition("=")
        if key in _RESTRICTIONS:
            raise ValueError(f"field {key} restricts the login in a way that is not known here")
        if key == "nologin":
            user = replace(user, disabled=True)
        elif key in ("addresses", "quota"):
            user = _common_field(user, key, value)
        else:
            ignored.append(word)
    return replace(user, ignored=tuple(ignored))


def _common_field(user: User, key: str, value: str) -> User:
    if key == "quota":
        return replace(user, quota=parse_size(value))
    try:
        addresses = tuple(address_key(text) for text in value.split(",") if text)
    except ValueError as error:
        raise ValueError(f"addresses: {error}") from None
    return replace(user, addresses=tuple(dict.fromkeys(addresses)))
