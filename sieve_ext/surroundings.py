"""Items of the environment (RFC 5183), for the test and for variables."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from sieve_ext.runtime.run import Run

DOVECOT = "vnd.dovecot."
CONFIGURED = "vnd.dovecot.config."
"""Prefixes of items that need vnd.dovecot.environment."""


def environment_item(run: Run, name: str, knows_dovecot: bool) -> str | None:
    """The value of an item, None where it is not known."""
    name = name.lower()
    if name.startswith(DOVECOT) and not knows_dovecot:
        return None
    found = run.environment.get(name)
    if found is not None:
        return found
    if name.startswith(CONFIGURED):
        key = f"sieve_environment/{name.removeprefix(CONFIGURED)}"
        return run.settings.text(key) if key in run.settings.keys() else None  # noqa: SIM118 - not a mapping
    match name:
        case "name":
            return "Tamis Sieve"
        case "version":
            return _version()
        case "domain":
            return run.environment.get("host", "").partition(".")[2] or None
        case "vnd.dovecot.default-mailbox":
            return "INBOX"
    return None


def _version() -> str | None:
    try:
        return version("tamis")
    except PackageNotFoundError:
        return None
