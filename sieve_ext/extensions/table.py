"""The one table of all extensions that come with the engine.

A module belongs here once it exists and defines `CAPABILITIES`; a host adds its own to a dialect.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

from sieve_ext.core import LANGUAGE
from sieve_ext.language.capability import Capability
from sieve_ext.language.dialect import Dialect

MODULES = (
    "body",
    "comparators",
    "convert",
    "copy",
    "date",
    "duplicate",
    "editheader",
    "enclose",
    "encoded_character",
    "enotify",
    "envelope",
    "envelope_deliverby",
    "envelope_dsn",
    "environment",
    "ereject",
    "extlists",
    "extracttext",
    "fcc",
    "fileinto",
    "foreverypart",
    "ihave",
    "imap4flags",
    "include",
    "index",
    "mailbox",
    "mailboxid",
    "mboxmetadata",
    "mime",
    "redirect_deliverby",
    "redirect_dsn",
    "regex",
    "reject",
    "relational",
    "replace",
    "servermetadata",
    "spamtest",
    "special_use",
    "subaddress",
    "vacation",
    "vacation_seconds",
    "variables",
    "virustest",
    "vnd_dovecot_debug",
    "vnd_dovecot_environment",
    "vnd_dovecot_execute",
    "vnd_dovecot_filter",
    "vnd_dovecot_pipe",
    "vnd_dovecot_report",
)
"""Modules of this package, one a line."""


@cache
def all_capabilities() -> tuple[Capability, ...]:
    """The language and all extensions."""
    found = [LANGUAGE]
    for name in MODULES:
        found.extend(import_module(f"sieve_ext.extensions.{name}").CAPABILITIES)
    return tuple(found)


@cache
def standard_dialect() -> Dialect:
    """Everything that comes with the engine and is fit for users' scripts."""
    return Dialect(one for one in all_capabilities() if not one.is_privileged)
