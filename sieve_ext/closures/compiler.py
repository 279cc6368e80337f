"""Nodes to closures: what a word's `compile` works with.

A word turns its arguments into templates with `text` and `texts`, its tests into steps with `test`, its block
with `block`, and returns a step. A test that compares strings hands a function that finds the values to
`match` and gets the rest - match type, comparator, keys, match values, trace - for nothing. A command that
makes an action hands a function that makes it to `action`, which lets the tags of other capabilities change
it and adds it to the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sieve_ext.closures.guards import LEAST, guarded
from sieve_ext.closures.strings import Template, TemplateList
from sieve_ext.closures.variables import Reference, Scope, split_template
from sieve_ext.diagnostic import Position, Source
from sieve_ext.language.capability import ActionStep, Comparator, FieldSource, FieldValues, Match, Tag
from sieve_ext.runtime.steps import Step, asks, directly, sequence
from sieve_ext.runtime.tracing import Event, shown
from sieve_ext.syntax.tree import Number, Text, TextList

if TYPE_CHECKING:
    from sieve_ext.closures.unit import Unit
    from sieve_ext.language.dialect import Dialect
    from sieve_ext.language.node import GivenTag, Node, Value
    from sieve_ext.message import Field
    from sieve_ext.runtime.actions import Action
    from sieve_ext.runtime.run import Run


class Compiler:
    """Compiles one script, whose nodes are valid."""

    def __init__(
        self,
        dialect: Dialect,
        source: Source,
        enabled: set[str],
        scope: Scope,
        unit: Unit,
        *,
        tracing: bool = False,
    ) -> None:
        """`enabled` are the capabilities that it requires, with those they bring."""
        self.dialect = dialect
        self.source = source
        self.enabled = enabled
        self.scope = scope
        self.unit = unit
        """What the script shares with those that it includes."""
        self._modifiers = dialect.modifiers.keys()
        self.tracing = tracing
        """Steps shall tell the run's trace what they do."""
        self.expands = any(
            dialect.capabilities[name].expands_strings for name in enabled if name in dialect.capabilities
        )
        """Strings may hold variables; tests keep match values."""

    def has(self, capability: str) -> bool:
        """True when the script has the capability."""
        return capability in self.enabled

    def position(self, node: Node) -> Position:
        """Where a node stands."""
        return self.source.position(node.start)

    # Arguments

    def text(self, value: Value | None, default: str = "") -> Template:
        """A string argument; `default` where it is not given."""
        if not isinstance(value, Text):
            return Template([str(value.value) if isinstance(value, Number) else default])
        if not self.expands or "${" not in value.value:
            return Template([value.value])
        parts: list[str | Callable[[Run], str]] = []
        for place, part in enumerate(split_template(value.value)):
            if place % 2 == 0:
                if part:
                    parts.append(part)
                continue
            found = self.scope.resolve(part)
            if isinstance(found, Reference):
                parts.append(found.read)
        return Template(parts)

    def texts(self, value: Value | None, default: Sequence[str] = ()) -> TemplateList:
        """A string list argument, or one string as a list; `default` where it is not given."""
        if isinstance(value, TextList):
            return TemplateList([self.text(item) for item in value.items])
        if value is None:
            return TemplateList([Template([text]) for text in default])
        return TemplateList([self.text(value)])

    def variable(self, value: Value | None) -> Reference:
        """The variable that a constant string names; `Checker.variable` has made sure that there is one."""
        found = self.scope.resolve(value.value) if isinstance(value, Text) else "none"
        if not isinstance(found, Reference):
            raise ValueError(f"no variable: {value}")
        return found

    # Commands and tests

    def block(self, nodes: Sequence[Node]) -> Step:
        """Commands one after the other."""
        placed = []
        for node in nodes:
            step = self._command(node)
            if step is not None:
                placed.append((node, (self.source.position(node.call.start), step)))
        if len(placed) < LEAST or self.tracing:  # a trace shows each rule
            return sequence([one for _, one in placed])
        return sequence(guarded(self, placed))

    def _step(self, node: Node) -> Step | None:
        step = self._compiled(node)
        return None if step is None else self.fitting(step)

    def fitting(self, step: Step) -> Step:
        """A step that a word puts together with others itself: plain where hosts answer at once."""
        return directly(step) if self.unit.direct and asks(step) else step

    def _compiled(self, node: Node) -> Step | None:
        if node.tags:
            for given in node.tags.values():
                if given.spec.owner is not None:
                    step = given.spec.owner.compile_command(node, given, self)
                    if step is not None:
                        return step
        return node.compile(self)

    def _owned(self, node: Node) -> list[tuple[GivenTag, Tag]]:
        """The tags that extensions have added, in the order in which they apply."""
        owned = [(given, given.spec.owner) for given in node.tags.values() if given.spec.owner is not None]
        return sorted(owned, key=lambda one: one[1].order) if len(owned) > 1 else owned

    def _command(self, node: Node) -> Step | None:
        step = self._step(node)
        if step is None or not self.tracing:
            return step
        event = Event("command", node.name, self.position(node), script=self.source.name)

        def tell(run: Run) -> None:
            if run.trace is not None:
                run.trace(event)

        return sequence([(event.position, tell), (event.position, step)])

    def test(self, node: Node) -> Step:
        """A test; yields whether it holds."""
        step = self._step(node)
        if step is None:
            raise ValueError(f"the test {node.name} compiles to nothing")
        if not self.tracing or getattr(step, "traced", False):
            return step
        return self._traced(node, step)

    def _traced(self, node: Node, step: Step) -> Step:
        word, position, script = node.name, self.position(node), self.source.name

        def tell(run: Run, result: Any) -> Any:
            if run.trace is not None:
                run.trace(Event("test", word, position, result=bool(result), script=script))
            return result

        if asks(step):

            def traced_asking(run: Run) -> Any:
                return tell(run, (yield from step(run)))

            return traced_asking
        return lambda run: tell(run, step(run))

    # Matching

    def comparator(self, node: Node) -> Comparator:
        """The comparator given with a test, or the test's default."""
        given = node.tags.get("comparator")
        text = given.value if given is not None else None
        name = text.value if isinstance(text, Text) else node.default_comparator
        return self.dialect.comparators[name][0]

    def matcher(self, node: Node, keys: TemplateList) -> Match:
        """Compares values with `keys` as the tags of `node` say; `:is` by default."""
        given = node.tags.get("match-type")
        match_type = self.dialect.match_types[given.tag if given else ":is"][0]
        return match_type.compile(self, node, self.comparator(node), keys)

    def match(
        self, node: Node, values: Callable[[Run], Any], keys: str = "keys", *, needs_value: bool = False
    ) -> Step:
        """A test whether one of `values` matches one of the strings of the argument `keys`.

        `values` takes the run and returns a list of strings; as a generator function it may ask. With
        `needs_value` an empty list matches nothing, not even by a count of 0.
        """
        templates = self.texts(node.value(keys))
        matcher = self.matcher(node, templates)
        if needs_value:
            matcher = _of_something(matcher)
        if self.tracing:
            return self._traced_match(node, values, matcher, templates)
        values_ask, matcher_asks = asks(values), asks(matcher)
        if values_ask or matcher_asks:

            def match_asking(run: Run) -> Any:
                found = (yield from values(run)) if values_ask else values(run)
                return (yield from matcher(run, found)) if matcher_asks else matcher(run, found)

            return match_asking

        def match_plain(run: Run) -> Any:
            return matcher(run, values(run))

        return match_plain

    def _traced_match(
        self, node: Node, values: Callable[[Run], Any], matcher: Match, keys: TemplateList
    ) -> Step:
        word, position, script = node.name, self.position(node), self.source.name
        values_ask, matcher_asks = asks(values), asks(matcher)

        def tell(run: Run, found: Any, result: Any) -> Any:
            if run.trace is not None:
                against = shown(keys.expand(run))
                run.trace(Event("test", word, position, shown(found), against, bool(result), script))
            return result

        def traced(run: Run) -> Any:
            found = values(run)
            return tell(run, found, matcher(run, found))

        def traced_asking(run: Run) -> Any:
            found = (yield from values(run)) if values_ask else values(run)
            result = (yield from matcher(run, found)) if matcher_asks else matcher(run, found)
            return tell(run, found, result)

        step: Any = traced_asking if values_ask or matcher_asks else traced
        step.traced = True
        return step  # type: ignore[no-any-return]

    def modifier(self, node: Node) -> Callable[[str], str]:
        """What the modifiers given with a command do to a string, the highest precedence first."""
        given = [
            self.dialect.modifiers[one.tag][0] for one in node.tags.values() if one.tag in self._modifiers
        ]
        functions = [one.apply for one in sorted(given, key=lambda one: -one.precedence)]

        def modify(text: str) -> str:
            for function in functions:
                text = function(text)
            return text

        return modify

    # Header fields

    def fields(self, node: Node) -> FieldSource:
        """How this test finds fields by their lower-case name, the tags of extensions considered."""
        source: FieldSource = _message_fields
        for given, owner in self._owned(node) if node.tags else ():
            source = owner.compile_fields(node, given, self, source)
        return source

    def field_values(self, node: Node, values: FieldValues) -> FieldValues:
        """What this test takes of a field, the tags of extensions considered."""
        for given, owner in self._owned(node) if node.tags else ():
            values = owner.compile_values(node, given, self, values)
        return values

    # Actions

    def action(self, node: Node, make: Callable[[Run], Action | None]) -> Step:
        """A command that adds what `make` returns, if anything, to the result."""
        changes = [
            change
            for given, owner in self._owned(node)
            if (change := owner.compile_action(node, given, self)) is not None
        ]
        make_asks = asks(make)
        if make_asks or any(map(asks, changes)):
            marked: list[tuple[ActionStep, bool]] = [(change, asks(change)) for change in changes]

            def act_asking(run: Run) -> Any:
                action = (yield from make(run)) if make_asks else make(run)  # type: ignore[misc]
                if action is None:
                    return
                for change, does_ask in marked:
                    if does_ask:
                        yield from change(run, action)
                    else:
                        change(run, action)
                run.add(action)

            return act_asking

        def act(run: Run) -> None:
            action = make(run)
            if action is None:
                return
            for change in changes:
                change(run, action)
            run.add(action)

        return act


def _message_fields(run: Run, name: str) -> list[Field]:
    return run.message.all(name)


def _of_something(matcher: Match) -> Match:
    """False where there is no value to compare, whatever `matcher` makes of that."""

    def match(run: Run, values: Sequence[str]) -> Any:
        return bool(values) and matcher(run, values)

    def match_asking(run: Run, values: Sequence[str]) -> Any:
        return bool(values) and (yield from matcher(run, values))

    return match_asking if asks(matcher) else match
