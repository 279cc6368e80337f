"""editheader (RFC 5293): addheader and deleteheader. Status: complete.

Tests and actions behind an edit see the message as edited; actions before it keep it as it was. Received and
Auto-Submitted are never deleted (section 5). An administrator protects more fields:

    sieve_editheader_header = X-Verified X-Seen
    sieve_editheader_header/X-Verified/forbid_add = yes
    sieve_editheader_header/X-Verified/forbid_delete = yes

What is forbidden is not done; that is no error. Values of :count are the fields of the name, all of which are
deleted when their number fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sieve_ext.extend import (
    MATCHING,
    NUMBER,
    Act,
    Capability,
    Checker,
    Compiler,
    Control,
    Run,
    Settings,
    Step,
    asks,
    header_name,
    string,
    strings,
    tag,
)

if TYPE_CHECKING:
    from sieve_ext.message import Field

NEVER_DELETED = frozenset(["received", "auto-submitted"])
"""Fields that no script may delete (section 5), lower case."""

NEVER_ADDED = frozenset(["x-sieve-redirected-from"])
"""Fields that no script may add: with this one loops of redirects are found."""

LEAST_SIZE = 1024
"""What the limit for a value is at least, in octets."""


def is_forbidden(settings: Settings, name: str, what: str) -> bool:
    """True when the administrator forbids `what` ("add", "delete") of a field."""
    name = name.lower()
    if name in (NEVER_DELETED if what == "delete" else NEVER_ADDED):
        return True
    if name in settings.text(f"sieve_editheader_forbid_{what}").lower().split():
        return True
    for label in settings.text("sieve_editheader_header").split():
        prefix = f"sieve_editheader_header/{label}/"
        if settings.text(f"{prefix}name", label).lower() == name:
            return settings.boolean(f"{prefix}forbid_{what}")
    return False


def bad_name(text: str) -> str | None:
    """What is wrong with the name of a field to be edited."""
    return f"specified field name '{text}' is invalid" if header_name(text) else None


def bad_value(text: str) -> str | None:
    """What is wrong with a value to be added."""
    if all(character >= " " or character in "\t\r\n" for character in text) and "\x7f" not in text:
        return None
    return f"specified value '{text[:80]}' is invalid: it has control characters"


def _of(word: str, problem: str | None) -> str | None:
    return None if problem is None else f"{word} command: {problem}"


def _warn(checker: Checker, word: Control | Act, what: str) -> None:
    name = checker.constant(word.given["field-name"])
    if name is not None and is_forbidden(checker.unit.settings, name, what):
        verb = "adding" if what == "add" else "deleting"
        checker.warn(
            word.given["field-name"], "protected-field",
            f"{word.name} command: {verb} specified header field '{name}' is forbidden;"
            " modification will be denied",
        )  # fmt: skip


class AddheaderCommand(Act):
    """addheader [":last"] <field-name: string> <value: string>."""

    word = "addheader"
    args_definition = (
        tag("last", ":last"),
        string("field-name", check=lambda text: _of("addheader", bad_name(text))),
        string("value", check=lambda text: _of("addheader", bad_value(text))),
    )

    def check(self, checker: Checker) -> None:
        """Warn of what will not be done."""
        _warn(checker, self, "add")

    def compile(self, compiler: Compiler) -> Step:
        """Add the field, above all others unless :last is given."""
        names, values = compiler.text(self.given["field-name"]), compiler.text(self.given["value"])
        position = None if self.has_tag("last") else 0

        def add(run: Run) -> None:
            name, value = names.expand(run), values.expand(run).strip()
            # Control characters in a value become blanks: a value may come out of the message, whose sender
            # must not be able to make the script fail.
            problem = bad_name(name)
            if problem is not None:
                run.fail(f"addheader action: {problem}")
            most = max(run.settings.size("sieve_editheader_max_header_size", 2048), LEAST_SIZE)
            if len(value.encode("utf-8", "replace")) > most:
                run.fail(
                    f"addheader action: specified value for header field '{name}' is too long"
                    f" (max {most} bytes)"
                )
            if is_forbidden(run.settings, name, "add"):
                run.note(f"addheader action: adding header field '{name}' is forbidden")
                return
            run.spend(1)
            run.edit().add(name, value, position)

        return add


class DeleteheaderCommand(Act):
    """deleteheader [":index" <n> [":last"]] [COMPARATOR] [MATCH-TYPE] <field-name> [<value-patterns>]."""

    word = "deleteheader"
    args_definition = (
        tag("index", ":index", value=NUMBER),
        tag("last", ":last"),
        *MATCHING,
        string("field-name", check=lambda text: _of("deleteheader", bad_name(text))),
        strings("value-patterns", required=False),
    )

    def check(self, checker: Checker) -> None:
        """:last says something about :index."""
        if self.has_tag("last") and not self.has_tag("index"):
            checker.error(
                self.tags["last"], "missing-tag",
                "the :last tag for the deleteheader command cannot be specified without the :index tag",
            )  # fmt: skip
        _warn(checker, self, "delete")

    def compile(self, compiler: Compiler) -> Step:
        """Delete the fields of the name whose values match."""
        names = compiler.text(self.given["field-name"])
        index, from_end = self.number("index"), self.has_tag("last")

        def find(run: Run) -> Sequence[Field]:
            name = names.expand(run)
            problem = bad_name(name)
            if problem is not None:
                run.fail(f"deleteheader action: {problem}")
            if is_forbidden(run.settings, name, "delete"):
                run.note(f"deleteheader action: deleting header field '{name}' is forbidden")
                return ()
            found = run.message.all(name.lower())
            run.spend(len(found) + 1)
            if index is None:
                return found
            if not 0 < index <= len(found):
                return ()
            return (found[-index if from_end else index - 1],)

        def remove(run: Run, fields: Sequence[Field]) -> None:
            if fields:
                run.edit().remove(fields)

        patterns = self.given.get("value-patterns")
        if patterns is None:
            return lambda run: remove(run, find(run))
        given = self.tags.get("match-type")
        counts = given is not None and given.tag == ":count"
        matcher = compiler.matcher(self, compiler.texts(patterns))

        if asks(matcher):

            def delete_asking(run: Run) -> Any:
                doomed: list[Field] = []
                for field in find(run):
                    if (yield from matcher(run, [field.text])):
                        doomed.append(field)
                remove(run, doomed)

            return delete_asking

        def delete(run: Run) -> None:
            fields = find(run)
            if counts:
                remove(run, fields if matcher(run, [field.text for field in fields]) else ())
                return
            remove(run, [field for field in fields if matcher(run, [field.text])])

        return delete


CAPABILITIES = (
    Capability(
        "editheader",
        words=(AddheaderCommand, DeleteheaderCommand),
        specification="RFC 5293",
        settings={
            "sieve_editheader_max_header_size": "longest value that is added, 2048 octets by default",
            "sieve_editheader_header": "fields that are protected, see above",
        },
    ),
)
