"""From what was written to nodes that know what it means: words, tags and arguments, looked up and checked.

Every command is bound even if the one before it was wrong, and the block of a broken command is still read;
of one command the first mistake in its arguments is reported, for those behind it are mostly its children.
An unknown word is reported where it first occurs. Blocks that can never run - behind a test that is always
false - are not looked at, so that a script may use what `ihave` says is missing (RFC 5463 section 4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sieve_ext.language.node import GivenTag, Node, Value
from sieve_ext.syntax.suggest import suggest
from sieve_ext.syntax.tree import Argument, Call, Number, TagName, Text, TextList
from sieve_ext.validate.checker import Checker, texts
from sieve_ext.validate.flow import check_flow
from sieve_ext.validate.matching import check_matching
from sieve_ext.validate.stray import meant_by

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sieve_ext.language.capability import TagSpec
    from sieve_ext.language.dialect import Dialect


class Binder:
    """Makes the nodes of one script."""

    def __init__(self, checker: Checker) -> None:
        """What is wrong is reported to `checker`."""
        self._checker = checker
        self._dialect: Dialect = checker.dialect
        self._reported: set[tuple[str, str]] = set()

    def block(self, calls: Sequence[Call], parent: Node | None) -> list[Node]:
        """The commands of a block, those that are none left out."""
        checker = self._checker
        outer = checker.previous
        checker.previous = None
        nodes: list[Node] = []
        for call in calls:
            if not call.name:  # the parser has reported it
                continue
            node = self._command(call, parent)
            if node is not None:
                nodes.append(node)
            checker.previous = node
        checker.previous = outer
        check_flow(nodes, checker)
        return nodes

    def _command(self, call: Call, parent: Node | None) -> Node | None:
        word = self._dialect.commands.get(call.name)
        if word is None or not self._is_enabled(word):
            self._unknown(call, "command", word)
            if call.block:
                self._inner(call, None)
            return None
        node = word(parent, call)
        node.source = self._checker.source
        if node.must_follow is not None and not self._is_in_order(node):
            node.is_sound = False
        elif node.skips(self._checker):
            node.is_skipped = True
            if call.arguments:
                self._arguments(node, call.arguments)
            self._tests_fit(node, call)
            self._block_fits(node, call)
            return node
        if node.only_top and self._checker.depth:
            self._checker.error(
                node, "not-top", f"the {node.name} command can only be placed at top level, not in a block"
            )
        sound = self._bind(node, call)
        if call.block is None:
            self._block_fits(node, call)
        elif not node.accept_children:
            if sound:
                self._checker.error(
                    node, "block",
                    f"the {node.name} command does not accept a command block, but one is specified anyway",
                )  # fmt: skip
        elif not sound or node.enters_block(self._checker):
            node.children = self._inner(call, node)
            node.leaves_block(self._checker)
        else:
            node.is_dead = True
        return node

    def _block_fits(self, node: Node, call: Call) -> None:
        if call.block is None and node.accept_children and (call.tests or not node.takes):
            self._checker.error(
                node, "no-block", f"the {node.name} command requires a command block, but it is missing"
            )

    def _inner(self, call: Call, node: Node | None) -> list[Node]:
        self._checker.depth += 1
        found = self.block(call.block or (), node)
        self._checker.depth -= 1
        return found

    def _is_in_order(self, node: Node) -> bool:
        previous = self._checker.previous
        if previous is None or previous.name not in (node.must_follow or ()):
            wanted = " or ".join(sorted(node.must_follow or (), reverse=True))
            self._checker.error(
                node, "out-of-place", f"the {node.name} command must follow an {wanted} command"
            )
            return False
        return True

    # Tests

    def test(self, call: Call, parent: Node) -> Node | None:
        """A test; None, with an error reported, when there is none of this name."""
        word = self._dialect.tests.get(call.name)
        if word is None or not self._is_enabled(word):
            self._unknown(call, "test", word)
            return None
        node = word(parent, call)
        node.source = self._checker.source
        node.is_sound = self._bind(node, call)
        return node

    def _tests_fit(self, node: Node, call: Call) -> bool:
        """As many tests as there must be, whatever they are."""
        takes = node.takes
        checker = self._checker
        kind = node.kind
        if not takes:
            if not call.is_list and not call.tests:
                return True
            if not call.is_list:
                checker.error(
                    Text(node.name, node.call.start, call.tests[0].start), "tests",
                    f"missing semicolon ';' after {node.name} {kind}", meant_by(node, call, self._dialect),
                )  # fmt: skip
            else:
                checker.error(
                    node, "tests", f"the {node.name} {kind} accepts no sub-tests, but tests are specified"
                )
            return False
        if takes == "test":
            if not call.tests:
                if not call.is_list:
                    checker.error(
                        node,
                        "no-test",
                        f"the {node.name} {kind} requires one sub-test, but none is specified",
                    )
                return False
            if call.is_list:
                checker.error(
                    node, "test-list",
                    f"the {node.name} {kind} requires one sub-test, but a list of sub-tests is specified",
                    "join them by allof or anyof" if len(call.tests) > 1 else "leave the parentheses out",
                )  # fmt: skip
                return False
        elif not call.is_list:
            text = "but a single test is specified" if call.tests else "but none is specified"
            checker.error(
                node, "no-test-list", f"the {node.name} {kind} requires a list of sub-tests, {text}",
                f"write {node.name} (TEST, TEST ...)",
            )  # fmt: skip
            return False
        return True

    def _tests(self, node: Node, call: Call) -> bool:
        if not self._tests_fit(node, call):
            return False
        checker = self._checker
        sound = True
        for sub in call.tests:
            test = self.test(sub, node)
            if test is None:
                sound = False
                continue
            node.tests.append(test)
            sound &= test.is_sound
            if test.is_sound and node.decided_by(test.constant(checker)):
                if sub is not call.tests[-1] and not test.is_probe:
                    checker.warn(
                        test,
                        "constant-test",
                        f"the tests behind this one are never made: it settles {node.name}",
                    )
                break
        return sound

    def _place(self, call: Call) -> Text:
        return Text(call.name, call.start, call.end)

    # Arguments

    def _bind(self, node: Node, call: Call) -> bool:
        """Give `node` its arguments and tests; True when nothing is wrong with them."""
        checker = self._checker
        before = len(checker.diagnostics)
        if call.arguments:
            for reader in checker.readers:
                if not self._rewrite(reader, call.arguments):
                    return False
            if checker.expands:
                checker.check_references(call.arguments)
        sound = self._arguments(node, call.arguments) if call.arguments or node.required else True
        if node.takes or call.is_list or call.tests:
            sound &= self._tests(node, call)
        if sound:
            if node.has_checks:
                self._check_values(node)
            if node.tags:
                check_matching(node, checker)
                for given in node.tags.values():
                    if given.spec.owner is not None:
                        given.spec.owner.check(node, given, checker)
            node.check(checker)
        if not sound or len(checker.diagnostics) == before:
            return sound
        return not any(one.severity.value == "error" for one in checker.diagnostics[before:])

    def _rewrite(self, reader: Any, arguments: list[Argument]) -> bool:
        for argument in arguments:
            for text in texts(argument) if isinstance(argument, Text | TextList) else ():
                if "$" in text.value:
                    try:
                        text.value = reader(text.value)
                    except ValueError as error:
                        self._checker.error(text, "bad-string", str(error))
                        return False
        return True

    def _arguments(self, node: Node, arguments: list[Argument]) -> bool:
        positional: list[Value] = []
        place = 0
        count = len(arguments)
        while place < count:
            argument = arguments[place]
            place += 1
            if not isinstance(argument, TagName):
                positional.append(argument)
                continue
            spec = self._tag(node, argument, bool(positional))
            if spec is None:
                return False
            value: Value | None = None
            end = argument.end
            if spec.value:
                following = arguments[place] if place < count else None
                if not self._fits(following, spec.value):
                    kind = f"the {spec.tag} tag for the {node.name} {node.kind} requires "
                    found = f"but {_a(following)} was found" if following else "but no parameters were found"
                    self._checker.error(
                        following if isinstance(following, Text | TextList | Number) else argument,
                        "bad-tag-value", f"{kind}{_wanted(spec.value)} as parameter, {found}",
                    )  # fmt: skip
                    return False
                place += 1
                value = following  # type: ignore[assignment]
                end = following.end  # type: ignore[union-attr]
            node.tags[spec.name] = GivenTag(spec.tag, value, spec, argument.start, end)
        return self._positionals(node, positional)

    def _tag(self, node: Node, argument: TagName, is_late: bool) -> TagSpec | None:
        checker = self._checker
        spec = node.tag_table.get(argument.value)
        if spec is None or (spec.capability and not checker.has(spec.capability)):
            if (argument.value, node.name) not in self._reported:
                self._reported.add((argument.value, node.name))
                if spec is not None:
                    hint = f'it needs: require "{spec.capability}"'
                else:
                    hint = suggest(argument.value, node.tag_table)
                checker.error(
                    argument, "unknown-tag",
                    f"unknown tagged argument '{argument.value}' for the {node.name} {node.kind}"
                    " (reported only once at first occurrence)", hint,
                )  # fmt: skip
            return None
        if is_late:
            checker.error(
                argument, "late-tag",
                f"encountered an unexpected tagged argument '{argument.value}' while validating positional"
                f" arguments for the {node.name} {node.kind}", "tags stand before other arguments",
            )  # fmt: skip
            return None
        given = node.tags.get(spec.name)
        if given is not None:
            kind = f"{spec.name.upper()} argument ({spec.tag})"
            if spec.tag == ":" + spec.name:
                kind = f"{spec.tag} argument"
            text = f"encountered duplicate {kind} for the {node.name} {node.kind}"
            if given.tag != spec.tag:
                text += f": exactly one of '{given.tag}' and '{spec.tag}' may be specified"
            checker.error(argument, "duplicate-tag", text)
            return None
        return spec

    def _positionals(self, node: Node, found: list[Value]) -> bool:
        definitions = node.slots
        required = node.required
        if not required <= len(found) <= len(definitions):
            wanted = str(required) if required == len(definitions) else f"{required} to {len(definitions)}"
            where = found[len(definitions)] if len(found) > len(definitions) else node
            self._checker.error(
                where, "argument-count",
                f"the {node.name} {node.kind} requires {wanted} positional argument(s), but"
                f" {len(found)} is/are specified",
            )  # fmt: skip
            return False
        spare = len(found) - required
        place = 0
        for name, kind, is_required in definitions:
            if not is_required:
                if not spare:
                    continue
                spare -= 1
            value = found[place]
            place += 1
            if not self._fits(value, kind):
                number = [slot[0] for slot in definitions].index(name) + 1
                self._checker.error(
                    value, "argument-type",
                    f"the {node.name} {node.kind} expects {_wanted(kind)} as argument {number}"
                    f" ({name.replace('-', ' ')}), but {_a(value)} was found",
                )  # fmt: skip
                return False
            node.given[name] = value
        return True

    def _fits(self, value: Argument | None, kind: str) -> bool:
        if isinstance(value, Text):
            return kind != "number"
        return (kind == "strings" and isinstance(value, TextList)) or (
            kind == "number" and isinstance(value, Number)
        )

    def _check_values(self, node: Node) -> None:
        """What the definitions ask of constant strings."""
        relaxed: tuple[str, ...] = ()
        for given in node.tags.values():
            if given.spec.owner is not None:
                relaxed += given.spec.owner.relaxes
        for name, check, warn in node.checks:
            value = node.given.get(name)
            if value is not None and name not in relaxed:
                self._check_value(value, check, warn)
        for given in node.tags.values():
            spec = given.spec
            if given.value is not None and (spec.check is not None or spec.warn is not None):
                self._check_value(given.value, spec.check, spec.warn)

    def _check_value(self, value: Value, check: Any, warn: Any) -> None:
        for text in self._checker.constants(value):
            if check is not None and (problem := check(text.value)) is not None:
                self._checker.error(text, "bad-value", problem)
            elif warn is not None and (problem := warn(text.value)) is not None:
                self._checker.warn(text, "bad-value", problem)

    # Names

    def _is_enabled(self, word: type[Node]) -> bool:
        return not word.extension or self._checker.has(word.extension)

    def _unknown(self, call: Call, kind: str, word: type[Node] | None) -> None:
        if (kind, call.name) in self._reported:
            return
        self._reported.add((kind, call.name))
        where = self._place(call)
        other = self._dialect.tests if kind == "command" else self._dialect.commands
        own = self._dialect.commands if kind == "command" else self._dialect.tests
        other_kind = "test" if kind == "command" else "command"
        if word is None and call.name in other and self._is_enabled(other[call.name]):
            self._checker.error(
                where, f"{other_kind}-as-{kind}", f"attempted to use {other_kind} '{call.name}' as {kind}"
            )
            return
        needs = f'it needs: require "{word.extension}"' if word is not None else ""
        hint = needs or suggest(call.name, own)
        self._checker.error(
            where, f"unknown-{kind}",
            f"unknown {kind} '{call.name}' (only reported once at first occurrence)", hint,
        )  # fmt: skip


def _wanted(kind: str) -> str:
    return {"number": "a number", "string": "a string", "strings": "a string or string list"}[kind]


def _a(value: Argument | None) -> str:
    match value:
        case Text():
            return "a string"
        case TextList():
            return "a string list"
        case Number():
            return "a number"
        case _:
            return "a tag"
