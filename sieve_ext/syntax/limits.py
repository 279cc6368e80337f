"""The limits of the front end, in one place, each with its reason. Beyond one there is a located error."""

from __future__ import annotations

SCRIPT_OCTETS = 4 * 1024 * 1024
"""Largest script. ManageSieve servers take 1 MiB or less; one string may be as long as that."""

CALLS = 30_000
"""Commands and tests of one script, which take some two seconds to compile; those that people write have
hundreds."""

STRING_OCTETS = 1024 * 1024
"""Longest string, as the reference implementation allows."""

IDENTIFIER = 32
"""Longest command, test or tag name; the longest in use has 22 characters."""

NUMBER = 2**64 - 1
"""Largest number after its K, M or G (RFC 5228 section 2.4.1 asks for 2^31 - 1 at least)."""

ARGUMENTS = 32
"""Arguments of one command or test."""

BLOCK_DEPTH = 32
"""Blocks within blocks. RFC 5228 section 2.10.5 asks for 15 at least."""

TEST_DEPTH = 32
"""Tests within tests. RFC 5228 section 2.10.5 asks for 15 at least."""

LIST_STRINGS = 65_536
"""Strings of one list; address books in a script reach some thousands."""

DIAGNOSTICS = 1000
"""Errors reported of one script: a megabyte of garbage must not become a gigabyte of texts."""
