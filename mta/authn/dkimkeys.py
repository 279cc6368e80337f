"""Private keys for signatures: made, written and read with safe permissions, and kept once read.

A key file is PEM (PKCS #8, as we write it, or PKCS #1), without a pass phrase, and must be of no use to other
users: owned by root or by us, not readable by others, not writable by the group. `load_key` costs one `stat`
while the file does not change.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from mta.address import AddressError, domain_key
from mta.authn.dkimkey import MAX_RSA_BITS, MIN_RSA_BITS, PADDING, SHA256
from mta.folders import Owner
from mta.privatekeys import DamagedKey, read_private_key

ALGORITHMS = ("rsa", "ed25519")
DEFAULT_RSA_BITS = 2048
"""RFC 8301 section 3.2: at least 1024, should be 2048. Few zone editors take a record of a longer key."""
LARGEST_FILE = 64 * 1024
"""Octets of a key file that are read."""
UNSAFE_MODE = 0o027
"""Permissions that a key file must not have."""

PrivateKey = RSAPrivateKey | Ed25519PrivateKey


class KeyFileError(Exception):
    """A key file cannot be used or written (environment); the text names the file and says why."""


@dataclass(slots=True, frozen=True)
class SigningKey:
    """A private key and the name under which its public half is published."""

    domain: str
    """In lower case and A-labels."""
    selector: str
    key: PrivateKey

    @property
    def type(self) -> str:
        """ "rsa" or "ed25519"."""
        return "rsa" if isinstance(self.key, RSAPrivateKey) else "ed25519"

    @property
    def algorithm(self) -> str:
        """What `a=` says."""
        return f"{self.type}-sha256"

    def sign(self, digest: bytes) -> bytes:
        """The signature of a SHA-256 digest (RFC 6376 section 3.3.2, RFC 8463 section 3)."""
        if isinstance(self.key, RSAPrivateKey):
            return self.key.sign(digest, PADDING, SHA256)
        return self.key.sign(digest)


_loaded: dict[str, tuple[tuple[int, ...], PrivateKey]] = {}


def load_key(path: str | Path, domain: str, selector: str, *, trusted: int = 0) -> SigningKey:
    """The key in a file, from memory while the file is the same. Raises KeyFileError.

    It may also belong to the user with the number `trusted`.
    """
    name = os.fspath(path)
    try:
        status = os.stat(name)
    except OSError as error:
        raise KeyFileError(f"{name}: {error.strerror}") from None
    mark = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode, status.st_uid)
    known = _loaded.get(name)
    if known is None or known[0] != mark:
        known = _loaded[name] = (mark, read_key(name, trusted=trusted))
    return SigningKey(domain, selector, known[1])


def read_key(path: str | Path, *, trusted: int = 0) -> PrivateKey:
    """Read a key file, which may also belong to the user with the number `trusted`.

    Raises KeyFileError, also when others may read it.
    """
    try:
        with open(path, "rb", opener=_open_plain) as file:
            status = os.fstat(file.fileno())
            octets = file.read(LARGEST_FILE)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise KeyFileError(f"{path} is not a plain file")
    if status.st_mode & UNSAFE_MODE:
        mode = stat.S_IMODE(status.st_mode)
        raise KeyFileError(f"{path} has mode {mode:04o}: other users could use the key; chmod 0600 {path}")
    owners = {0, os.geteuid(), trusted}
    if os.geteuid() == 0:  # root looks after the keys of the server's user, whose folder they are in
        owners.add(os.stat(os.path.dirname(os.path.abspath(path))).st_uid)
    if status.st_uid not in owners:
        raise KeyFileError(
            f"{path} belongs to user {status.st_uid}, neither to root nor to this server's user"
        )
    return parse_key(octets, str(path))


def parse_key(octets: bytes, name: str) -> PrivateKey:
    """A key from PEM; `name` is for the words of an error. Raises KeyFileError."""
    try:
        key = read_private_key(octets)
    except TypeError:
        raise KeyFileError(f"the key in {name} has a pass phrase") from None
    except DamagedKey as error:
        raise KeyFileError(f"{name}: {error}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFileError(f"{name} holds no private key in PEM form") from None
    if isinstance(key, RSAPrivateKey):
        if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            raise KeyFileError(
                f"the key in {name} has {key.key_size} bits; expected {MIN_RSA_BITS} to {MAX_RSA_BITS}"
            )
        return key
    if isinstance(key, Ed25519PrivateKey):
        return key
    raise KeyFileError(f"the key in {name} is neither an RSA nor an Ed25519 key")


def make_key(kind: str, bits: int = DEFAULT_RSA_BITS) -> PrivateKey:
    """A new key of a kind of `ALGORITHMS`; `bits` is for RSA."""
    if kind == "ed25519":
        return Ed25519PrivateKey.generate()
    return generate_private_key(65537, bits)


def is_shared(owner: Owner | None) -> bool:
    """Whether keys are for the group to read: they are root's, and a server that is not root is in it."""
    return owner is not None and owner[0] == 0 != owner[1]


def write_key(folder: int, path: Path, key: PrivateKey, owner: Owner | None = None) -> None:
    """Write a new key file with mode 0600 (0640: see `is_shared`), whole or not at all, and for `owner`.

    `folder` is the descriptor of the folder of `path`. Raises KeyFileError, also when the file exists: a key
    is never overwritten.
    """
    octets = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    draft = f".{path.name}.{secrets.token_hex(4)}"
    try:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
        try:
            with open(fd, "wb") as file:
                if owner is not None:
                    os.fchown(fd, *owner)
                os.fchmod(fd, 0o640 if is_shared(owner) else 0o600)
                file.write(octets)
                file.flush()
                os.fsync(fd)
            os.link(draft, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            os.unlink(draft, dir_fd=folder)
    except FileExistsError:
        raise KeyFileError(f"{path} exists; a key is never overwritten") from None
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None


def delete_key(folder: int, path: Path) -> None:
    """Remove a key file from the folder with this descriptor, if it is there. Raises KeyFileError."""
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path.name, dir_fd=folder)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None


def public_octets(key: PrivateKey) -> bytes:
    """The public half as `p=` has it: SubjectPublicKeyInfo, for Ed25519 the bare 32 octets (RFC 8463)."""
    if isinstance(key, RSAPrivateKey):
        return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return key.public_key().public_bytes_raw()


def check_selector(selector: str) -> str:
    """A selector in lower case. Raises ValueError when it cannot be part of a domain name."""
    try:
        name = domain_key(f"{selector}.s").removesuffix(".s")
    except AddressError as error:
        raise ValueError(f"{selector!r} cannot be a selector: {error}") from None
    if not selector.isascii():
        raise ValueError(f"{selector!r} cannot be a selector: use ASCII")
    return name


def _open_plain(path: str, flags: int) -> int:
    # A FIFO in the place of the key must not hold us up.
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
