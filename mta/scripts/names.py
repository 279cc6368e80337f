"""Names of scripts (RFC 5804 section 1.6), the files that they are kept in, and where the folders are.

A name is anything that people can write; a file name is made of it so that it leads nowhere else, is never
hidden, and two names never share one: "%" and a leading "." are written as "%25" and "%2E".
"""

from __future__ import annotations

import os.path
import unicodedata

SUFFIX = ".sieve"
MAX_NAME_CHARACTERS = 128
"""Longest name in characters: what RFC 5804 section 1.6 asks for at least."""
MAX_NAME_OCTETS = 240
"""Longest file name made of a name: file systems take 255 octets, the suffix included."""
FOLDER = "sieve"
"""Folder of all scripts in process.state_directory."""
SITE = ".site"
"""Folder of the site's own scripts beside those of the users; no user's folder is called so."""
ACTIVE = ".active"
"""Symbolic link to the script in force, in each folder."""


def parse_script_name(octets: bytes) -> str:
    """A name as a client gives it, in form C. Raises ValueError with a text for people."""
    try:
        name = unicodedata.normalize("NFC", octets.decode())
    except UnicodeDecodeError:
        raise ValueError("the name of the script is no UTF-8") from None
    if not name:
        raise ValueError("the name of the script is empty")
    if len(name) > MAX_NAME_CHARACTERS or len(file_stem(name).encode()) > MAX_NAME_OCTETS:
        raise ValueError("the name of the script is too long")
    for character in name:
        if character == "/":
            raise ValueError('a script cannot have "/" in its name')
        if unicodedata.category(character) in ("Cc", "Zl", "Zp"):
            raise ValueError("a script cannot have control characters in its name")
    return name


def file_stem(name: str) -> str:
    """The file name for a name without "/", but for the suffix; also the name of a user's folder."""
    stem = name.replace("%", "%25")
    return f"%2E{stem[1:]}" if stem.startswith(".") else stem


def name_of(file: str) -> str | None:
    """The name of the script in a file, None for a file that holds none.

    Somebody may have put a file there by hand: what would be no name, or that of another file, is none.
    """
    if not file.endswith(SUFFIX) or file.startswith("."):
        return None
    name = file.removesuffix(SUFFIX).replace("%2E", ".").replace("%25", "%")
    try:
        found = parse_script_name(name.encode())
    except ValueError:
        return None
    return name if file_stem(found) + SUFFIX == file else None


def user_folder(state_directory: str, user: str) -> str:
    """Where the scripts of a user are. Raises ValueError for a name that cannot be that of a folder."""
    stem = file_stem(user)
    if not user or "/" in user or not user.isprintable() or len(stem.encode()) > MAX_NAME_OCTETS:
        raise ValueError("the name of the user cannot be the name of a folder")
    return os.path.join(state_directory, FOLDER, stem)


def site_folder(state_directory: str) -> str:
    """Where the site's policy files are that administrators edit."""
    return os.path.join(state_directory, FOLDER, SITE)


def active_script(folder: str) -> str:
    """The path of the script in force, "" if there is none. Raises OSError."""
    try:
        return os.path.join(folder, os.readlink(os.path.join(folder, ACTIVE)))
    except FileNotFoundError:
        return ""
