"""All that an extension needs, in one place: see docs/developing-sieve.md.

A module of `sieve_ext.extensions`, or of a host, imports from here (and from `sieve_ext.message`) and defines
`CAPABILITIES`.
"""

from sieve_ext.closures.compiler import Compiler
from sieve_ext.closures.strings import Template, TemplateList
from sieve_ext.closures.unit import Unit
from sieve_ext.closures.variables import Reference, Scope, is_name, split_template
from sieve_ext.core.address import address_part, address_values, warn_of_addresses
from sieve_ext.core.header import decoded
from sieve_ext.core.match_types import warn_of_wildcards
from sieve_ext.diagnostic import Position
from sieve_ext.language.arguments import (
    ADDRESS_PART,
    COMPARATOR,
    MATCH_TYPE,
    MATCHING,
    MODIFIERS,
    NUMBER,
    STRING,
    STRINGS,
    number,
    string,
    strings,
    subtest,
    subtests,
    tag,
)
from sieve_ext.language.capability import (
    ActionStep,
    AddressPart,
    Capability,
    Comparator,
    EnvelopePart,
    FieldSource,
    FieldValues,
    Match,
    MatchType,
    Modifier,
    Namespace,
    Tag,
)
from sieve_ext.language.node import Act, Control, GivenTag, Node, Test, Value
from sieve_ext.runtime.actions import Action, Discard, FileInto, Keep, Redirect, StoreAction
from sieve_ext.runtime.envelope import Envelope
from sieve_ext.runtime.errors import Leave, LimitExceeded, RunFailed, Stopped
from sieve_ext.runtime.glances import glance_of, with_glance
from sieve_ext.runtime.requests import Request
from sieve_ext.runtime.run import Run
from sieve_ext.runtime.settings import Settings
from sieve_ext.runtime.steps import Step, asking, asks, chain, choice, sequence
from sieve_ext.syntax.suggest import suggest
from sieve_ext.syntax.tree import Number, Text, TextList
from sieve_ext.validate.checker import Checker, texts
from sieve_ext.validate.values import header_name, normal_address, read_address

__all__ = [
    "ADDRESS_PART",
    "COMPARATOR",
    "MATCHING",
    "MATCH_TYPE",
    "MODIFIERS",
    "NUMBER",
    "STRING",
    "STRINGS",
    "Act",
    "Action",
    "ActionStep",
    "AddressPart",
    "Capability",
    "Checker",
    "Comparator",
    "Compiler",
    "Control",
    "Discard",
    "Envelope",
    "EnvelopePart",
    "FieldSource",
    "FieldValues",
    "FileInto",
    "GivenTag",
    "Keep",
    "Leave",
    "LimitExceeded",
    "Match",
    "MatchType",
    "Modifier",
    "Namespace",
    "Node",
    "Number",
    "Position",
    "Redirect",
    "Reference",
    "Request",
    "Run",
    "RunFailed",
    "Scope",
    "Settings",
    "Step",
    "Stopped",
    "StoreAction",
    "Tag",
    "Template",
    "TemplateList",
    "Test",
    "Text",
    "TextList",
    "Unit",
    "Value",
    "address_part",
    "address_values",
    "asking",
    "asks",
    "chain",
    "choice",
    "decoded",
    "glance_of",
    "header_name",
    "is_name",
    "normal_address",
    "number",
    "read_address",
    "sequence",
    "split_template",
    "string",
    "strings",
    "subtest",
    "subtests",
    "suggest",
    "tag",
    "texts",
    "warn_of_addresses",
    "warn_of_wildcards",
    "with_glance",
]
