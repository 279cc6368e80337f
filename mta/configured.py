"""What commands need of a configuration that may be wrong: single values, each by itself.

A server must be stopped and asked for its state while somebody edits its configuration, so nothing but the
section that is asked for need be right.
"""

from __future__ import annotations

import contextlib
import os
import re
import tomllib
from typing import Any

from mta.cli import DEFAULT_CONFIGURATION
from mta.folders import whole_path

LARGEST_CONFIGURATION = 4 * 1024 * 1024
"""Characters: a larger file is refused by those who need all of it."""
DEFAULT_SOCKET = "/run/tamis/control"
"""The control socket when the configuration cannot be read or does not say."""


def control_socket(configuration: str) -> str:
    """Find the control socket that a configuration names, also when the rest of it is wrong.

    Raises OSError when the file cannot be read and is not the one that servers read by default: the server
    that would be asked then is hardly the one that is meant.
    """
    if whole_path(configuration) != DEFAULT_CONFIGURATION:
        open(configuration, "rb").close()
    return configured_path(
        configuration,
        ("control", "socket", ""),
        ("process", "runtime_directory", "control"),
        default=DEFAULT_SOCKET,
    )


def configured_path(configuration: str, *places: tuple[str, str, str], default: str) -> str:
    """Return the first path that is set at one of `places`: (section, key, what to append to it).

    Nothing else of the configuration is looked at, and what is unreadable counts as not set: what is wrong in
    one section hides no other. Relative paths, `default` too, begin in the folder of the configuration.
    """
    folder = os.path.dirname(whole_path(configuration))
    text = _text(configuration)
    for section, key, suffix in places:
        value = _section(text, section).get(key)
        if isinstance(value, str) and value:
            return os.path.normpath(os.path.join(folder, os.path.expanduser(value), suffix))
    return os.path.join(folder, default)


def configured_owner(configuration: str) -> tuple[int, int] | None:
    """Return user and group of the server, None when the configuration names no user.

    As in `configured_path` nothing else is looked at. Raises ValueError for a user or group that is unknown.
    """
    from mta.supervisor.privileges import UnknownAccount, find_account

    process = _section(_text(configuration), "process")
    user, group = (value if isinstance(value := process.get(key), str) else "" for key in ("user", "group"))
    try:
        account = find_account(user, group) if user else None
    except UnknownAccount as error:
        raise ValueError(f"{configuration}: [process]: {error}") from None
    return None if account is None else (account.uid, account.gid)


def configured_domains(configuration: str) -> frozenset[str]:
    """Return the domains of a configuration as it names them, empty when it cannot be read or has none."""
    return frozenset(_section(_text(configuration), "domains"))


def is_without_users_file(configuration: str) -> bool:
    """Return True for a configuration that can be read and asks others who its users are, such as Dovecot."""
    with contextlib.suppress(ValueError, RecursionError):
        table = tomllib.loads(_text(configuration))
        auth, store, domains = (table.get(section) for section in ("auth", "store", "domains"))
        return (
            isinstance(auth, dict)
            and auth.get("backend", "") not in ("", "users")
            and not (isinstance(store, dict) and store.get("enabled"))
            and not (
                isinstance(domains, dict)
                and any(
                    isinstance(one, dict) and one.get("recipients") == "users" for one in domains.values()
                )
            )
        )
    return False


def _text(configuration: str) -> str:
    """What the file holds, nothing when it cannot be read."""
    with contextlib.suppress(OSError, ValueError), open(configuration, encoding="utf-8-sig") as file:
        return file.read(LARGEST_CONFIGURATION)
    return ""


def _section(text: str, name: str) -> dict[str, Any]:
    """One section of a configuration that may be no TOML elsewhere; empty when it cannot be read."""
    with contextlib.suppress(ValueError, RecursionError):
        table = tomllib.loads(text).get(name)
        return table if isinstance(table, dict) else {}
    found = re.search(rf"^[ \t]*\[{name}\][^\n]*\n(.*?)(?=^[ \t]*\[|\Z)", text, re.MULTILINE | re.DOTALL)
    with contextlib.suppress(ValueError, RecursionError):
        return {} if found is None else tomllib.loads(found[1])
    return {}
