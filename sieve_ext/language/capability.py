"""A capability: everything that one `require` string brings, as one value.

The core has no list of what capabilities do; it asks those of the dialect. Each part below is a small class
with functions, so that an extension is a module with one `CAPABILITIES` tuple. See docs/developing-sieve.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sieve_ext.language.arguments import Check

if TYPE_CHECKING:
    from sieve_ext.closures.compiler import Compiler
    from sieve_ext.closures.strings import TemplateList
    from sieve_ext.closures.variables import Reference
    from sieve_ext.language.node import GivenTag, Node
    from sieve_ext.message import Field
    from sieve_ext.runtime.actions import Action
    from sieve_ext.runtime.envelope import Envelope
    from sieve_ext.runtime.run import Run
    from sieve_ext.runtime.steps import Step
    from sieve_ext.validate.checker import Checker


class Tag:
    """A tag that a capability adds to words, its own or others'.

    As it stands it is only accepted; the word's own `compile` looks for it in `node.tags`. A subclass that
    changes what other words do overrides one of the methods.
    """

    order = 0
    """Of several tags, those of the lowest order change fields, values and actions first."""
    relaxes: tuple[str, ...] = ()
    """Positional arguments that mean something else with it, so that their `check` does not apply."""

    def __init__(
        self,
        tag: str,
        on: tuple[str, ...],
        *,
        value: str = "",
        name: str = "",
        check: Check | None = None,
        warn: Check | None = None,
    ) -> None:
        """`tag` with its colon, `on` the words that take it ("header", "fileinto").

        `value` is STRING, STRINGS, NUMBER or "". Tags of one `name` exclude each other, whichever
        capability they come from; it defaults to the tag without its colon.
        """
        self.tag = tag
        self.on = on
        self.value = value
        self.name = name or tag.removeprefix(":")
        self.check_value = check
        self.warn_value = warn

    def check(self, node: Node, given: GivenTag, checker: Checker) -> None:
        """Report what is wrong with the tag as given."""

    def compile_action(self, node: Node, given: GivenTag, compiler: Compiler) -> ActionStep | None:
        """A function that changes the action before it is added to the result; may be a generator."""
        return None

    def compile_command(self, node: Node, given: GivenTag, compiler: Compiler) -> Step | None:
        """A step that takes the place of the whole command or test; None to leave it as it is."""
        return None

    def compile_fields(
        self, node: Node, given: GivenTag, compiler: Compiler, fields: FieldSource
    ) -> FieldSource:
        """Change where a test of header fields finds them; `fields` is how it would without this tag."""
        return fields

    def compile_values(
        self, node: Node, given: GivenTag, compiler: Compiler, values: FieldValues
    ) -> FieldValues:
        """Change which strings a test of header fields takes of one field."""
        return values


ActionStep = Callable[["Run", "Action"], Any]
"""Changes an action; a generator function may ask."""

FieldSource = Callable[["Run", str], "list[Field]"]
"""The fields of a lower-case name."""

FieldValues = Callable[["Run", "Field"], "list[str]"]
"""The strings of one field that are compared."""

Match = Callable[["Run", Any], Any]
"""Takes the run and the values (a list of strings), returns whether one matches; a generator may ask."""


@dataclass(slots=True, frozen=True)
class TagSpec:
    """A tag as one word takes it; made by the dialect."""

    tag: str
    name: str
    value: str
    capability: str
    """What must be required for it; "" when the word itself is enough."""
    check: Check | None
    warn: Check | None
    owner: Tag | None


@dataclass(slots=True, frozen=True)
class Comparator:
    """A comparator (RFC 4790)."""

    name: str
    fold: Callable[[str], str]
    """Strings that are equal under it get the same result."""
    has_substring: bool = True
    """False when :contains and :matches are not defined with it."""
    order: Callable[[str], Any] | None = None
    """What is compared by :value; `fold` if None."""
    keeps_length: bool = True
    """`fold` maps each character to one character, so places in its result are places in its argument."""


@dataclass(slots=True, frozen=True)
class MatchType:
    """A match type (RFC 5228 section 2.7.1)."""

    tag: str
    compile: Callable[[Compiler, Node, Comparator, TemplateList], Match]
    """Makes the match function: compiler, the test, the comparator, the keys."""
    value: str = ""
    """STRING when the tag is followed by a string, as in `:count "ge"`."""
    check: Callable[[Node, GivenTag, Comparator, Checker], None] | None = None
    needs_substring: bool = False
    """It cannot be used with a comparator without `has_substring`."""


@dataclass(slots=True, frozen=True)
class AddressPart:
    """A part of an address (RFC 5228 section 2.7.4)."""

    tag: str
    of: Callable[[Run, str, str], str | None]
    """Takes the run, local part and domain; None when the address has no such part."""


@dataclass(slots=True, frozen=True)
class EnvelopePart:
    """What the envelope test may name (RFC 5228 section 5.4)."""

    name: str
    """Lower case."""
    of: Callable[[Envelope], list[str]]
    """Its values; none when the envelope does not have it."""
    is_address: bool = False
    """Address parts apply to it."""


@dataclass(slots=True, frozen=True)
class Modifier:
    """A modifier of `set` (RFC 5229 section 4.1)."""

    tag: str
    precedence: int
    """The higher ones are applied first; two of the same exclude each other."""
    apply: Callable[[str], str]


@dataclass(slots=True, frozen=True)
class Namespace:
    """Variables with a prefix, `${name.variable}` (RFC 5229 section 3)."""

    name: str
    resolve: Callable[[Any, str], Reference | str]
    """Takes the scope and what stands behind the first dot; returns how to read (and perhaps set) it, or
    what is wrong as text."""
    needs_capability: bool = True
    """False when the namespace is there without a `require` for it."""


@dataclass(slots=True, frozen=True)
class Capability:
    """What one string of `require` brings."""

    name: str
    """The string; "" for the language that is always there."""
    words: tuple[type[Node], ...] = ()
    tags: tuple[Tag, ...] = ()
    comparators: tuple[Comparator, ...] = ()
    match_types: tuple[MatchType, ...] = ()
    address_parts: tuple[AddressPart, ...] = ()
    envelope_parts: tuple[EnvelopePart, ...] = ()
    modifiers: tuple[Modifier, ...] = ()
    namespaces: tuple[Namespace, ...] = ()
    needs: tuple[str, ...] = ()
    """Capabilities that a script must require too; else an error says so."""
    brings: tuple[str, ...] = ()
    """Capabilities that are there with it."""
    excludes: tuple[str, ...] = ()
    """Capabilities that may not be required beside it."""
    read_string: Callable[[str], str] | None = None
    """Rewrites every string of the script before anything else sees it. Raises ValueError with a text."""
    expands_strings: bool = False
    """Strings may hold variables (RFC 5229)."""
    on_action: Callable[[Run, Action], None] | None = None
    """Called with each action, the implicit keep too, before it is added, in scripts that require it."""
    is_privileged: bool = False
    """Only for scripts of administrators, or of tests: not part of the standard dialect."""
    specification: str = ""
    """Where it is specified: "RFC 3894"."""
    status: str = "complete"
    """What is there of it, for the list of extensions."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Its configuration keys with what they mean."""
