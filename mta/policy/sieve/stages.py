"""vnd.tamis.stage: blocks of commands for a stage of the session, and what is legal in which.

Status: complete for the stages in `STAGES`.

    stage "rcpt" { ... }

At top level stand only `require` and `stage`. Blocks of one stage are done in order. A word knows its stages
by its attribute `stages`, words of the standard by `WORDS`; one that is out of place is an error when the
script is loaded. `${env.item}` is an item of the environment, hyphens and dots written as underscores.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from mta.policy.sieve import references
from mta.policy.sieve.facts import (
    BOUNCE,
    DATA,
    FROM_DATA,
    FROM_MAIL,
    ITEMS,
    PREFIX,
    QUEUED,
    RCPT,
    STAGES,
    item_name,
)
from mta.policy.sieve.lookalikes import check_keys
from mta.policy.sieve.negated import check_negated
from sieve_ext.extend import (
    Capability,
    Checker,
    Compiler,
    Control,
    Namespace,
    Node,
    Position,
    Reference,
    Run,
    Step,
    string,
    suggest,
    texts,
)

KEY = "vnd.tamis.stage"
"""Where a checker's state has the last block of each stage, or the one that ends it, and its unit's their
`Blocks`."""

OF_RECIPIENTS = "tamis_of_recipients"
"""The setting that says that a script speaks of one recipient, in stages rcpt and data."""
RECIPIENT_STAGES = frozenset(("rcpt", "data"))
TOP_LEVEL = frozenset(("require", "stage"))
FOLLOWING = frozenset(("elsif", "else"))
"""Commands that are wrong where the command before them is: one message is enough."""

WITH_MESSAGE = 'the message is there from stage "data" on'
NOWHERE: frozenset[str] = frozenset()

WORDS: dict[str, tuple[frozenset[str], str]] = {
    **dict.fromkeys(("address", "date", "exists", "header"), (FROM_DATA | QUEUED, WITH_MESSAGE)),
    **dict.fromkeys(("body", "foreverypart"), (FROM_DATA, WITH_MESSAGE)),
    **dict.fromkeys(("addheader", "deleteheader"), (DATA, 'the header is edited in stage "data"')),
    "size": (FROM_DATA, f'{WITH_MESSAGE}; before, environment "vnd.tamis.declared-size" is what MAIL said'),
    "discard": (
        DATA | BOUNCE,
        'in stage "data" the message is discarded, in stage "bounce" a report; to refuse, write reply',
    ),
    "envelope": (FROM_MAIL, 'there is an envelope from stage "mail" on'),
    "keep": (NOWHERE, "leave it out: what is not refused goes on; accept ends the scripts of a stage"),
    "redirect": (NOWHERE, 'write rewrite_recipient in stage "rcpt", or add_recipient in stage "data"'),
}
"""Words of the standard that are not legal in every stage: where they are, and what to do elsewhere."""

LATER_PARTS = frozenset(("to", "orig_to"))
"""Parts of the envelope that stage "mail" does not know yet."""


@dataclass(slots=True)
class Blocks:
    """The blocks of one stage in one file, compiled."""

    placed: list[tuple[Position, Step]] = field(default_factory=list)
    """In order, each with its place."""
    ends: bool = False
    """One of them accepts in any case."""


class StageCommand(Control):
    """stage <name: string> { ... }."""

    word = "stage"
    accept_children = True
    only_top = True
    args_definition = (string("name"),)
    stage = ""

    def check(self, checker: Checker) -> None:
        """The name is one of `STAGES`, and no block before has ended the stage."""
        where = self.given["name"]
        name = checker.constant(where)
        if name not in STAGES:
            known = ", ".join(f'"{one}"' for one in STAGES)
            checker.error(
                where, "unknown-stage", f"there is no stage '{name or '${...}'}'",
                suggest(name or "", STAGES) or f"the stages are {known}",
            )  # fmt: skip
            return
        if checker.unit.settings.boolean(OF_RECIPIENTS) and name not in RECIPIENT_STAGES:
            checker.error(
                where, "not-yours", f"stage '{name}' is the site's",
                'scripts of domains and users have stages "rcpt" and "data"',
            )  # fmt: skip
        self.stage = name
        references.begin(name, checker)
        earlier: dict[str, StageCommand] = checker.state.setdefault(KEY, {})
        before = earlier.get(name)
        end = None if before is None else before.last_word()
        if end is not None:
            checker.warn(
                self, "dead-stage",
                f"this block of stage '{name}' is never reached: {end} ends the stage before it",
            )  # fmt: skip
        else:
            earlier[name] = self

    def leaves_block(self, checker: Checker) -> None:
        """No variable in it is one that nothing sets, and no service that is away refuses all mail."""
        if self.stage:
            references.check_references(self.stage, self.children, checker)
            check_negated(self.children, checker)

    def last_word(self) -> str | None:
        """The command that ends the stage in any case, None if none does."""
        return next((node.name for node in self.children if node.ends_block()), None)

    def compile(self, compiler: Compiler) -> None:
        """Put the block with those of its stage; at top level nothing is left to be done."""
        blocks: dict[str, Blocks] = compiler.unit.state.setdefault(KEY, {})
        stage = blocks.setdefault(self.stage, Blocks())
        if self.children:  # the stage is not gone through for a block that only has comments
            stage.placed.append((compiler.position(self), compiler.block(self.children)))
        stage.ends |= self.last_word() == "accept"


def staged(word: type[Node]) -> type[Node]:
    """The word, checked for its place too."""

    class Staged(word):  # type: ignore[valid-type, misc]
        def check(self, checker: Checker) -> None:
            word.check(self, checker)
            check_keys(self, checker)
            _check_place(self, checker)

    Staged.__name__ = word.__name__
    Staged.__doc__ = word.__doc__
    return Staged


def _check_place(node: Node, checker: Checker) -> None:
    if node.parent is None:
        if node.name not in TOP_LEVEL | FOLLOWING:
            checker.error(
                node, "no-stage", f"the {node.name} {node.kind} stands outside of a stage",
                'put it into a block such as stage "rcpt" { ... }',
            )  # fmt: skip
        return
    stage = stage_of(node)
    if not stage:
        return
    legal, hint = WORDS.get(node.name, (None, ""))
    legal = getattr(node, "stages", legal)
    if legal is not None and stage not in legal:
        checker.error(
            node, "wrong-stage", f"the {node.name} {node.kind} is not possible in stage '{stage}'",
            getattr(node, "elsewhere", "") or hint or _places(legal),
        )  # fmt: skip
    elif node.name == "envelope" and stage == "mail":
        for text in texts(node.given["envelope-part"]):
            if text.value.lower() in LATER_PARTS:
                checker.error(
                    text, "wrong-stage", f"envelope part '{text.value}' is not known in stage 'mail'",
                    'recipients are there from stage "rcpt" on',
                )  # fmt: skip
    elif node.name == "environment":
        _check_item(node, stage, checker)


def _check_item(node: Node, stage: str, checker: Checker) -> None:
    where = node.given["name"]
    name = checker.constant(where)
    if name is None:
        return
    item = ITEMS.get(name.lower())
    if item is None:
        if name.lower() not in ("name", "version", "domain"):
            meant = item_name(re.sub(r"[-.]", "_", name.lower().removeprefix(PREFIX)))
            hint = f"did you mean '{meant}'?" if meant else suggest(name, ITEMS)
            checker.error(where, "unknown-item", f"there is no item '{name}' of the environment", hint)
    elif stage not in item.stages:
        checker.error(
            where, "wrong-stage", f"item '{name}' is not known in stage '{stage}'", _places(item.stages)
        )


def _places(legal: frozenset[str]) -> str:
    return "possible in " + ", ".join(f'stage "{one}"' for one in STAGES if one in legal)


def stage_of(node: Node) -> str:
    """The stage whose block a node stands in, "" outside of any, and in one that does not exist."""
    above = node.parent
    while above is not None:
        if isinstance(above, StageCommand):
            return above.stage
        above = above.parent
    return ""


def _variable(scope: Any, name: str) -> Reference | str:
    """How `${env.name}` is read: an item that the session does not have is the empty string."""
    item = item_name(name)
    if item is None:
        return f"there is no item of the environment for '${{env.{name}}}'"

    def read(run: Run) -> str:
        return run.environment.get(item) or ""

    return Reference(read)


CAPABILITIES = (
    Capability(
        KEY,
        words=(StageCommand,),
        namespaces=(Namespace("env", _variable),),
        brings=("environment",),
        specification="docs/policy/stage.md",
    ),
)

__all__ = ["CAPABILITIES", "DATA", "FROM_MAIL", "KEY", "RCPT", "STAGES", "StageCommand", "stage_of", "staged"]
