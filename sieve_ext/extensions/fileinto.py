"""fileinto (RFC 5228 section 4.1). Status: complete.

The mailbox's name is what the script says; whether there is such a mailbox is for the host to find out when
it carries the result out.
"""

from __future__ import annotations

import re

from sieve_ext.closures.compiler import Compiler
from sieve_ext.language.arguments import string
from sieve_ext.language.capability import Capability
from sieve_ext.language.node import Act
from sieve_ext.runtime.actions import FileInto
from sieve_ext.runtime.run import Run
from sieve_ext.runtime.steps import Step

MAILBOX_OCTETS = 1024
"""Longest name of a mailbox. IMAP has no limit; no server takes more."""

_has_control = re.compile("[\x00-\x1f\x7f]").search


def mailbox_name(text: str) -> str | None:
    """What is wrong with a mailbox name."""
    if not text.strip():
        return "mailbox name is empty"
    if len(text.encode("utf-8", "replace")) > MAILBOX_OCTETS:
        return f"mailbox name is too long (max {MAILBOX_OCTETS} bytes)"
    if _has_control(text):
        return f"invalid mailbox name '{text}': it has control characters"
    return None


class FileintoCommand(Act):
    """Puts the message into a mailbox."""

    word = "fileinto"
    args_definition = (string("mailbox", check=mailbox_name),)

    def compile(self, compiler: Compiler) -> Step:
        """Add the action."""
        mailbox = compiler.text(self.given["mailbox"])

        def make(run: Run) -> FileInto:
            name = mailbox.expand(run)
            problem = mailbox_name(name)
            if problem is not None:
                run.fail(problem)
            return FileInto(name)

        return compiler.action(self, make)


CAPABILITIES = (Capability("fileinto", words=(FileintoCommand,), specification="RFC 5228 section 4.1"),)
