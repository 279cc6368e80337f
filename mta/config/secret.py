"""Passwords that the configuration names by file, read when they are needed and never kept in a `Config`."""

from __future__ import annotations

LARGEST_SECRET = 4096
"""Octets of a password file that are read; a longer one is another file."""


def read_secret(file: str) -> str:
    """The password in a file: its first line without the line end.

    Raises OSError, and ValueError, which names the file, if there is none.
    """
    return secret_in(secret_octets(file), file)


def secret_octets(file: str) -> bytes:
    """What a password file holds, as far as it is read. Raises OSError."""
    with open(file, "rb") as stream:
        return stream.read(LARGEST_SECRET)


def secret_in(octets: bytes, file: str) -> str:
    """The password in what was read of a file. Raises ValueError, which names the file, if there is none."""
    try:
        secret = octets.partition(b"\n")[0].rstrip(b"\r").decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{file}: the first line is no UTF-8") from None
    if not secret:
        raise ValueError(f"{file}: the first line is empty")
    return secret
