"""Passwords that the configuration names by file, read when they are needed and never kept in a `Config`."""

from __future__ import annotations

LARGEST_SECRET = 4096
"""Octets of a password file that are read; a longer one is another file."""


def read_secret(file: str) -> str:
    """The password in a file: its first line without the line end. Raises OSError, ValueError if empty."""
    with open(file, "rb") as stream:
        octets = stream.read(LARGEST_SECRET)
    secret = octets.partition(b"\n")[0].rstrip(b"\r").decode("utf-8")
    if not secret:
        raise ValueError("the first line of the file is empty")
    return secret
