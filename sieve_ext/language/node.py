"""The nodes of a script: what every command and test is a subclass of.

They are sievelib's commands - `args_definition`, `arguments`, `children`, `walk`, `tosieve` - that also know
where they stand, hold typed arguments, check themselves and compile themselves into closures.

A word is a subclass with `word`, `args_definition`, `compile` and, where the definition cannot say
everything, `check`. The dialect derives a class of its own from it, with the tags that other capabilities
add; nothing is registered in the module.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, TextIO

import msgspec
import sievelib.commands  # type: ignore[import-untyped]

from sieve_ext.language.arguments import Check, Definition
from sieve_ext.syntax.tree import Call, Number, Text, TextList

if TYPE_CHECKING:
    from sieve_ext.closures.compiler import Compiler
    from sieve_ext.diagnostic import Source
    from sieve_ext.language.capability import TagSpec
    from sieve_ext.runtime.steps import Step
    from sieve_ext.validate.checker import Checker

Value = Text | TextList | Number


class GivenTag(msgspec.Struct, gc=False):
    """A tag as it stands in a script."""

    tag: str
    """Lower case with its colon: ":days"."""
    value: Value | None
    """What follows it, None where nothing does."""
    spec: TagSpec
    start: int
    end: int


class Node(sievelib.commands.Command):  # type: ignore[misc]
    """A command or a test in a script."""

    word: ClassVar[str] = ""
    """Its name, lower case."""
    extension: ClassVar[str | None] = None
    """The capability that it needs; set by the dialect."""
    args_definition: ClassVar[Sequence[Definition]] = ()
    accept_children: ClassVar[bool] = False
    """It has a block."""
    must_follow: ClassVar[Sequence[str] | None] = None
    """Names of which one must stand right before it."""
    only_top: ClassVar[bool] = False
    """It may not stand in a block."""
    default_comparator: ClassVar[str] = "i;ascii-casemap"
    """How it compares where no comparator is given (RFC 5228 section 2.7.3)."""

    compares_only: ClassVar[bool] = False
    """A test that does nothing but compare what message, envelope or environment hold with its `keys`."""

    orders_text: ClassVar[bool] = False
    """Its numbers have so many digits always that they are in order as texts, too."""

    # Filled in by the dialect.
    tag_table: ClassVar[Mapping[str, TagSpec]] = MappingProxyType({})
    positionals: ClassVar[Sequence[Definition]] = ()
    slots: ClassVar[Sequence[tuple[str, str, bool]]] = ()
    """Of each positional argument its name, what it is (STRING, STRINGS, NUMBER), is it required."""
    required: ClassVar[int] = 0
    """How many of the positional arguments must be there."""
    checks: ClassVar[Sequence[tuple[str, Check | None, Check | None]]] = ()
    """Name, `check` and `warn` of those whose strings are to be checked."""
    has_checks: ClassVar[bool] = False
    """An argument's strings are to be checked."""
    takes: ClassVar[str] = ""
    """ "test" for one sub-test, "testlist" for several in parentheses, "" for none."""

    # Of one node in a script, set where it is not so.
    is_sound = True
    """Nothing is wrong with its arguments."""
    is_skipped = False
    """It can never be done: `skips` said so, nothing of it was looked at."""
    is_dead = False
    """Its block can never be done; it was not looked at."""
    source: Source | None = None
    hash_comments: Sequence[bytes] = ()
    """The comments before it, for sievelib."""

    # What sievelib's parser counts while it reads; this one does not.
    nextargpos = 0
    required_args = -1
    rargs_cnt = 0
    curarg = None

    def __init__(self, parent: Node | None = None, call: Call | None = None) -> None:
        """`call` is what the parser read; None for a node made by hand."""
        # What sievelib's constructor sets is either here or in the class: its parser's state, of which
        # nothing is used. Scripts have thousands of nodes.
        self.parent = parent
        self.children: list[Node] = []
        self.name = self.word
        self.call = call or Call(self.word, 0, 0)
        self.given: dict[str, Value] = {}
        """Positional arguments by the name of their definition."""
        self.tags: dict[str, GivenTag] = {}
        """Tags by the name of their definition: ":days" of a group "period" is under "period"."""
        self.tests: list[Node] = []

    # What stands in the script

    @property
    def start(self) -> int:
        """Octet where its name begins."""
        return self.call.start

    @property
    def end(self) -> int:
        """Octet behind its name."""
        return self.call.end

    @property
    def kind(self) -> str:
        """What to call it in messages: "command" or "test"."""
        return "test" if self.get_type() == "test" else "command"

    def has_tag(self, name: str) -> bool:
        """True when the tag of this definition was given."""
        return name in self.tags

    def text(self, name: str) -> Text | None:
        """The string given under `name`, as positional or behind a tag; None if there is none."""
        value = self.value(name)
        return value if isinstance(value, Text) else None

    def number(self, name: str, default: int | None = None) -> int | None:
        """The number given under `name`, `default` if there is none."""
        value = self.value(name)
        return value.value if isinstance(value, Number) else default

    def value(self, name: str) -> Value | None:
        """The argument given under `name`, as positional or behind a tag."""
        found = self.given.get(name)
        if found is None and name in self.tags:
            return self.tags[name].value
        return found

    @property
    def keys(self) -> Value | None:
        """What a word with a match type compares with: its last positional argument, whatever its name."""
        return self.given.get(self.positionals[-1]["name"]) if self.positionals else None

    # What a word defines

    def check(self, checker: Checker) -> None:
        """Report what is wrong with this node; its arguments have the right types."""

    def skips(self, checker: Checker) -> bool:
        """True when this command can never be done, so that nothing of it is to be checked."""
        return False

    def enters_block(self, checker: Checker) -> bool:
        """False when its block can never be done, so that it is not to be checked; called after `check`."""
        return True

    def leaves_block(self, checker: Checker) -> None:
        """Report what is wrong with its block as a whole; what stands in it has been checked."""

    @property
    def is_probe(self) -> bool:
        """True when this test asks what the engine can do: scripts are written for more than one of them."""
        return any(test.is_probe for test in self.tests)

    def is_plainly_constant(self) -> bool:
        """True when this test is constant by intention, so that nobody has to be warned of it."""
        return False

    def decided_by(self, constant: bool | None) -> bool:
        """True when a sub-test of this constant value settles the test: those behind it are not made."""
        return False

    def constant(self, checker: Checker) -> bool | None:
        """What this test always yields, None when that depends on the message; called after `check`."""
        return None

    def ends_block(self) -> bool:
        """True when nothing behind this command, in its block, is ever reached."""
        return False

    def alternatives(self) -> Sequence[Node]:
        """Tests of which one must hold for this command to do anything; none when that cannot be said."""
        return ()

    def compile(self, compiler: Compiler) -> Step | None:
        """A function that does it: takes the run; a test returns whether it holds.

        A generator function may yield requests and is sent their answers. None for a command that has
        nothing to do when the script runs.
        """
        raise NotImplementedError(self.word)

    # sievelib's side

    def _octets(self, value: Any) -> Any:
        if isinstance(value, TextList):
            return [self._octets(item) for item in value.items]
        source = self.source
        return source.octets[value.start : value.end].decode("utf-8", "replace") if source else value.value

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments as sievelib keeps them: as written, by the name of their definition."""
        found: dict[str, Any] = {name: self._octets(value) for name, value in self.given.items()}
        found.update((name, given.tag) for name, given in self.tags.items())
        for definition in self.args_definition:
            if definition["type"] == ["test"] and self.tests:
                found[definition["name"]] = self.tests[0]
            elif definition["type"] == ["testlist"]:
                found[definition["name"]] = self.tests
        return found

    @arguments.setter
    def arguments(self, value: dict[str, Any]) -> None:
        """Taken from what was read; sievelib's constructor sets an empty one."""

    @property
    def extra_arguments(self) -> dict[str, Any]:
        """What follows the tags, as sievelib keeps it."""
        return {name: self._octets(given.value) for name, given in self.tags.items() if given.value}

    @extra_arguments.setter
    def extra_arguments(self, value: dict[str, Any]) -> None:
        """Taken from what was read."""

    def get_type(self) -> str:
        """sievelib's type: "control", "action" or "test"."""
        kind: str = self._type
        return kind

    def tosieve(self, indentlevel: int = 0, target: TextIO = sys.stdout) -> None:
        """Write it as Sieve, indented by `indentlevel` blanks; a test without line end."""
        if (self.is_skipped or self.is_dead) and self.source is not None:
            # It was not looked at, so it is written as it stands.
            octets = self.source.octets[self.call.start : self.call.stop]
            target.write(" " * indentlevel + octets.decode("utf-8", "replace") + "\n")
            return
        is_test = self.get_type() == "test"
        target.write(("" if is_test else " " * indentlevel) + self.name)
        for given in self.tags.values():
            target.write(f" {given.tag}")
            if given.value is not None:
                target.write(f" {_sieve(self._octets(given.value))}")
        for value in self.given.values():
            target.write(f" {_sieve(self._octets(value))}")
        if any(definition["type"] == ["testlist"] for definition in self.args_definition):
            target.write(" (")
            for place, node in enumerate(self.tests):
                target.write(", " if place else "")
                node.tosieve(indentlevel, target)
            target.write(")")
        elif self.tests:
            target.write(" ")
            self.tests[0].tosieve(indentlevel, target)
        if is_test:
            return
        if not self.accept_children:
            target.write(";\n")
            return
        target.write(" {\n")
        for child in self.children:
            child.tosieve(indentlevel + 4, target)
        target.write(" " * indentlevel + "}\n")


def _sieve(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(value) + "]"
    return str(value)


class Control(Node, sievelib.commands.ControlCommand):  # type: ignore[misc]
    """A command that directs the script: if, stop, set."""


class Act(Node, sievelib.commands.ActionCommand):  # type: ignore[misc]
    """A command that does something with the message."""


class Test(Node, sievelib.commands.TestCommand):  # type: ignore[misc]
    """A test."""

    __test__ = False  # not one of pytest's
