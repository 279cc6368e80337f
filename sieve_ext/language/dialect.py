"""A dialect: the capabilities that one kind of script may use, and the tables made of them.

A host composes its dialects: user scripts, administrators' scripts, test files each have one. A dialect is
made once and never changes; two of them share nothing but the definitions. Making one is where contradictions
between capabilities show, as ValueError: that is a mistake of the program, not of a script.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sieve_ext.language.arguments import (
    ADDRESS_PART,
    COMPARATOR,
    MATCH_TYPE,
    MODIFIERS,
    STRING,
    Definition,
    sievelib_types,
)
from sieve_ext.language.capability import (
    AddressPart,
    Capability,
    Comparator,
    EnvelopePart,
    MatchType,
    Modifier,
    Namespace,
    TagSpec,
)
from sieve_ext.language.node import Node


class Dialect:
    """What scripts of one kind may say."""

    def __init__(self, capabilities: Iterable[Capability], *, assumed: Iterable[str] = ()) -> None:
        """`capabilities` in any order; that of the name "" is the language itself.

        `assumed` are names that scripts need not require. Raises ValueError when two capabilities of one
        name, or two words, tags, comparators of one name are given.
        """
        self.capabilities: dict[str, Capability] = {}
        self.comparators: dict[str, tuple[Comparator, str]] = {}
        self.match_types: dict[str, tuple[MatchType, str]] = {}
        self.address_parts: dict[str, tuple[AddressPart, str]] = {}
        self.envelope_parts: dict[str, tuple[EnvelopePart, str]] = {}
        self.modifiers: dict[str, tuple[Modifier, str]] = {}
        self.namespaces: dict[str, tuple[Namespace, str]] = {}
        for capability in capabilities:
            name = capability.name
            _add(self.capabilities, name, capability)
            for comparator in capability.comparators:
                _add(self.comparators, comparator.name, (comparator, name))
            for match_type in capability.match_types:
                _add(self.match_types, match_type.tag, (match_type, name))
            for address_part in capability.address_parts:
                _add(self.address_parts, address_part.tag, (address_part, name))
            for envelope_part in capability.envelope_parts:
                _add(self.envelope_parts, envelope_part.name, (envelope_part, name))
            for modifier in capability.modifiers:
                _add(self.modifiers, modifier.tag, (modifier, name))
            for namespace in capability.namespaces:
                _add(self.namespaces, namespace.name, (namespace, name))
        self.assumed = frozenset(assumed)
        self.commands: dict[str, type[Node]] = {}
        self.tests: dict[str, type[Node]] = {}
        for capability in self.capabilities.values():
            for word in capability.words:
                table = self.tests if getattr(word, "_type", "") == "test" else self.commands
                _add(table, word.word, self._bind(word, capability.name))

    @property
    def names(self) -> list[str]:
        """The capabilities that a script may require, sorted."""
        return sorted(name for name in self.capabilities if name)

    def with_capabilities(self, *more: Capability, without: Iterable[str] = ()) -> Dialect:
        """A dialect with `more` and without the names in `without`; one of the same name is replaced."""
        kept = {name: one for name, one in self.capabilities.items() if name not in set(without)}
        kept.update((one.name, one) for one in more)
        return Dialect(kept.values(), assumed=self.assumed)

    def _bind(self, word: type[Node], capability: str) -> type[Node]:
        """The word as this dialect has it: with the tags that other capabilities add."""
        table: dict[str, TagSpec] = {}
        definitions: list[Definition] = []
        for definition in word.args_definition:
            if definition["type"] != ["tag"]:
                definitions.append(definition)
                continue
            specs = self._family(definition)
            for spec in specs:
                _add(table, spec.tag, spec)
        for other in self.capabilities.values():
            needed = other.name if other.name != capability else ""
            for tag in other.tags:
                if word.word in tag.on:
                    spec = TagSpec(tag.tag, tag.name, tag.value, needed, tag.check_value, tag.warn_value, tag)
                    _add(table, tag.tag, spec)
        merged = _tag_definitions(table) + definitions
        positionals = [one for one in definitions if one["type"] not in (["test"], ["testlist"])]
        slots = [
            (one["name"], "strings" if "stringlist" in one["type"] else one["type"][0], bool(one["required"]))
            for one in positionals
        ]
        takes = next((one["type"][0] for one in definitions if one not in positionals), "")
        checks = [
            (one["name"], one.get("check"), one.get("warn"))
            for one in positionals
            if one.get("check") or one.get("warn")
        ]
        return type(
            word.__name__,
            (word,),
            {
                "args_definition": merged,
                "extension": capability or None,
                "tag_table": table,
                "positionals": positionals,
                "slots": slots,
                "required": sum(is_required for _, _, is_required in slots),
                "checks": checks,
                "has_checks": bool(checks) or any(one.check or one.warn for one in table.values()),
                "takes": takes,
                "__doc__": word.__doc__,
                "__module__": word.__module__,
            },
        )

    def _family(self, definition: Definition) -> list[TagSpec]:
        name = definition["name"]
        if definition is COMPARATOR:
            return [TagSpec(":comparator", name, STRING, "", None, None, None)]
        if definition is MATCH_TYPE:
            return [
                TagSpec(tag, name, one.value, capability, None, None, None)
                for tag, (one, capability) in self.match_types.items()
            ]
        if definition is ADDRESS_PART:
            return [
                TagSpec(tag, name, "", capability, None, None, None)
                for tag, (_, capability) in self.address_parts.items()
            ]
        if definition is MODIFIERS:
            return [
                TagSpec(tag, f"modifier of precedence {one.precedence}", "", capability, None, None, None)
                for tag, (one, capability) in self.modifiers.items()
            ]
        value = definition.get("extra_arg", {}).get("type", "")
        kind = "" if not value else "strings" if len(value) > 1 else value[0]
        check, warn = definition.get("check"), definition.get("warn")
        return [TagSpec(tag, name, kind, "", check, warn, None) for tag in definition["values"]]


def _tag_definitions(table: dict[str, TagSpec]) -> list[Definition]:
    """The tags of a word in sievelib's form, one definition a name."""
    merged: dict[str, Definition] = {}
    for spec in table.values():
        definition = merged.setdefault(
            spec.name, {"name": spec.name, "type": ["tag"], "values": [], "required": False}
        )
        if spec.capability:
            definition.setdefault("extension_values", {})[spec.tag] = spec.capability
        else:
            definition["values"].append(spec.tag)
        if spec.value:
            extra = definition.setdefault("extra_arg", {"type": [], "valid_for": []})
            extra["type"] = sorted({*extra["type"], *sievelib_types(spec.value)})
            extra["valid_for"].append(spec.tag)
    return list(merged.values())


def _add(table: dict[str, Any], name: str, value: Any) -> None:
    if name in table:
        raise ValueError(f"defined twice: {name!r}")
    table[name] = value
