"""What an administrator probably meant: guesses for values that miss a unit or a port.

A guess is only shown, never used. Each function returns TOML text, or "" when it has no idea; guesses
for values are checked by the parser of the value before they are shown.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from mta.config.units import format_size

_TIME_WORDS = {
    "msec": "ms", "sec": "s", "secs": "s", "second": "s", "seconds": "s", "min": "m", "mins": "m",
    "minute": "m", "minutes": "m", "hour": "h", "hours": "h", "hr": "h", "day": "d", "days": "d",
    "week": "w", "weeks": "w",
}  # fmt: skip
_SIZE_WORDS = {
    "": "B", "b": "B", "k": "KiB", "kb": "kB", "kib": "KiB", "m": "MiB", "mb": "MB", "mib": "MiB",
    "g": "GiB", "gb": "GB", "gib": "GiB", "t": "TiB", "tb": "TB", "tib": "TiB",
}  # fmt: skip

MEANT = {
    "": {"users": "auth.users_file", "smtp": "[[listener]]", "lmtp": "[backends.NAME]"},
    "listener": {"host": "addresses", "port": "addresses", "listen": "addresses", "bind": "addresses"},
    "backends": {"host": "addresses", "port": "addresses", "socket": "addresses", "server": "addresses"},
    "relays": {"server": "host", "username": "user"},
    "tls": {"certificate": "certificates.NAME.chain", "key": "certificates.NAME.key"},
    "store": {"quota": "default_quota", "maildir": "path", "folder": "path", "directory": "path"},
    "log": {"file": "target", "path": "target", "folder": "target"},
    "metrics": {"port": "listen", "host": "listen", "address": "listen", "addresses": "listen"},
}
"""What other programs call what has another name here, by section ("" for sections themselves)."""


def duration(found: object) -> str:
    """A duration for a bare number (taken as seconds) or a long unit name."""
    if isinstance(found, (int, float)):
        return f"{found}s"
    number, word = _split(found)
    if not word:
        return f"{number}s" if number else ""
    return number + _TIME_WORDS.get(word, word)


def size(found: object) -> str:
    """A size for a bare number (taken as octets) or a unit written otherwise."""
    if isinstance(found, int):
        return format_size(found) if found >= 0 else ""
    number, word = _split(found)
    if number and not word:
        return format_size(int(number)) if number.isdigit() else ""
    return number + _SIZE_WORDS.get(word, "")


def listen(found: object) -> str:
    """An address to listen on for a bare port, a path, `*` or `localhost`."""
    text = str(found)
    if text.isdigit():
        return f"0.0.0.0:{text}"
    if text.startswith("/"):
        return f"unix:{text}"
    host, _, port = text.rpartition(":")
    match host.lower().removeprefix("[::ffff:").removesuffix("]"):
        case mapped if len(mapped) < len(host) - 1 and "." in mapped:
            return f"{mapped}:{port}"
        case "" | "*" | "any":
            return f"0.0.0.0:{port}"
        case "localhost":
            return f"127.0.0.1:{port}"
    return f"[{host}]:{port}" if ":" in host else ""


def connect(found: object) -> str:
    """An address to connect to for a bare path or an IPv6 address without brackets; LMTP's usual port."""
    text = str(found)
    if text.startswith("/"):
        return f"unix:{text}"
    if text.startswith(("inet:", "lmtp:", "smtp:")):
        return text[5:]
    if ":" not in text:
        return f"{text}:24"
    host, _, port = text.rpartition(":")
    return f"[{host}]:{port}"


def host(found: object) -> str:
    """The host of a relayhost of Postfix, "[mail.example]:587"."""
    text, colon, port = str(found).rpartition(":")
    text = text if colon and port.isdigit() else str(found)
    return text.removeprefix("[").removesuffix("]")


def network(found: object) -> str:
    """The network of an address with host bits set."""
    try:
        return str(ipaddress.ip_network(str(found), strict=False))
    except ValueError:
        return ""


def mode(found: object) -> str:
    """Permissions for a number: 0o660 of TOML, whose value is 432, or 660."""
    if not isinstance(found, int) or found < 0:
        return ""
    octal = f"{found:04o}"
    return octal if octal.endswith("0") or octal in ("0666", "0777") else f"{found:04d}"


def recipients(found: object) -> str:
    """A source of recipients for a path or a slip."""
    text = str(found)
    if "/" in text or text.startswith(("file:", "hash:", "lmdb:", "texthash:")):
        return "table:" + text.rpartition(":")[2]
    return ""


def checked(guess: str, parse: Callable[[str, str], object], folder: str) -> str:
    """The guess in quotes if `parse` takes it, else ""."""
    if not guess:
        return ""
    try:
        parse(guess, folder)
    except ValueError:
        return ""
    return f'"{guess}"'


def _split(found: object) -> tuple[str, str]:
    text = str(found).replace(" ", "").lower()
    end = 0
    while end < len(text) and (text[end].isdigit() or text[end] == "."):
        end += 1
    return text[:end], text[end:]
