"""extlists (RFC 6134): lists that are kept outside of scripts. Status: complete.

:list holds when one of the values is a member of one of the lists that the keys name; ${0} is then that
value. The host looks members up and knows what is the same to a list; the comparator of the test does not
count. What is longer than `sieve_extlists_list_max_lookup_size` is no member. A list that the host does not
know has none. `redirect :list` sends to every member, within the limit for redirects.

Names are URIs; ":name" is short for "urn:ietf:params:sieve:name" (section 2.1).
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from sieve_ext.extend import (
    Capability,
    Checker,
    Comparator,
    Compiler,
    GivenTag,
    Match,
    MatchType,
    Node,
    Redirect,
    Request,
    Run,
    Step,
    Tag,
    TemplateList,
    Test,
    asks,
    normal_address,
    strings,
    texts,
)

KEY = "extlists"
"""Where answers are kept in `Run.state`."""

PREFIX = "urn:ietf:params:sieve:"
"""What a name that begins with ":" is short for the rest of."""

DEFAULT_ADDRESS_BOOK = f"{PREFIX}addrbook:default"
"""The list that every host knows (section 2.1); it may be empty."""

LOOKUP_OCTETS = 1024
"""Longest value that is looked up, if the administrator says nothing else."""

_is_name = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+").fullmatch


@dataclass(frozen=True)
class ListLookup(Request):
    """Which of `values` is a member of one of `lists`? Answered by that value, None if there is none."""

    lists: tuple[str, ...]
    """Names in full."""
    values: tuple[str, ...]
    """In order; the first that is a member is the answer."""


@dataclass(frozen=True)
class ListKnown(Request):
    """Is there such a list? Answered by a bool."""

    name: str

    def unanswered(self) -> Any:
        """The default address book is there everywhere."""
        return self.name == DEFAULT_ADDRESS_BOOK


@dataclass(frozen=True)
class ListMembers(Request):
    """Who is in the list? Answered by a list of strings, None when there is no such list."""

    name: str


def full_name(name: str) -> str | None:
    """The name of a list in full, None if it is none."""
    if name.startswith(":"):
        name = PREFIX + name[1:]
    if not _is_name(name) or name.endswith(":"):
        return None
    scheme, colon, rest = name.partition(":")
    return name.lower() if name.lower().startswith(PREFIX) else f"{scheme.lower()}{colon}{rest}"


def bad_list(name: str) -> str | None:
    """What is wrong with the name of a list."""
    return None if full_name(name) else f"'{name}' is not a valid list name: it is no URI"


def check_list(node: Node, given: GivenTag, comparator: Comparator, checker: Checker) -> None:
    """The keys are names of lists."""
    for name in ("keys", "value-patterns", "value"):
        for text in texts(node.given.get(name)):
            constant = checker.constant(text)
            if constant is not None and (problem := bad_list(constant)) is not None:
                checker.error(text, "bad-list", problem)


def compile_list(compiler: Compiler, node: Node, comparator: Comparator, keys: TemplateList) -> Match:
    """A value is in one of the lists."""
    keeps = compiler.expands

    def match(run: Run, values: Sequence[str]) -> Generator[Request, Any, bool]:
        names = tuple(name for key in keys.expand(run) if (name := full_name(key)) is not None)
        most = run.settings.size("sieve_extlists_list_max_lookup_size", LOOKUP_OCTETS)
        wanted = tuple(value for value in values if len(value.encode("utf-8", "replace")) <= most)
        run.spend(len(values) + 1)
        if not names or not wanted:
            return False
        known = run.state.setdefault(KEY, {})
        request = ListLookup(names, wanted)
        if request not in known:
            known[request] = yield request
        found = known[request]
        if found is None:
            return False
        if keeps:
            run.match_values = [str(found)]
        return True

    return match


class ValidExtListTest(Test):
    """valid_ext_list <ext-list-names: string-list>."""

    word = "valid_ext_list"
    args_definition = (strings("ext-list-names"),)

    def compile(self, compiler: Compiler) -> Step:
        """All of the lists are there (section 2.5)."""
        names = compiler.texts(self.given["ext-list-names"])

        def valid(run: Run) -> Generator[Request, Any, bool]:
            known = run.state.setdefault(KEY, {})
            for key in names.expand(run):
                run.spend(1)
                name = full_name(key)
                if name is None:
                    return False
                request = ListKnown(name)
                if request not in known:
                    known[request] = yield request
                if not known[request]:
                    return False
            return True

        return valid


class ListTag(Tag):
    """:list on redirect: the argument names a list of recipients (section 2.4)."""

    relaxes = ("address",)

    def check(self, node: Node, given: GivenTag, checker: Checker) -> None:
        """The argument is the name of a list."""
        name = checker.constant(node.given["address"])
        if name is not None and (problem := bad_list(name)) is not None:
            checker.error(node.given["address"], "bad-list", problem)

    def compile_command(self, node: Node, given: GivenTag, compiler: Compiler) -> Step:
        """A redirect for each member."""
        template = compiler.text(node.given["address"])
        changes = [
            (change, asks(change))
            for other in node.tags.values()
            if other.spec.owner is not None
            and (change := other.spec.owner.compile_action(node, other, compiler)) is not None
        ]

        def redirect(run: Run) -> Generator[Request, Any, None]:
            key = template.expand(run)
            name = full_name(key)
            members = (yield ListMembers(name)) if name is not None else None
            if members is None:
                run.fail(f"redirect action: '{key[:200]}' is not a known list")
            for member in members:
                run.spend(1)
                address = normal_address(str(member))
                if address is None:
                    run.note(f"redirect action: '{str(member)[:200]}' of list '{key[:200]}' is no address")
                    continue
                action = Redirect(address)
                for change, does_ask in changes:
                    if does_ask:
                        yield from change(run, action)
                    else:
                        change(run, action)
                run.add(action)

        return redirect


CAPABILITIES = (
    Capability(
        "extlists",
        words=(ValidExtListTest,),
        tags=(ListTag(":list", ("redirect",)),),
        match_types=(MatchType(":list", compile_list, check=check_list),),
        specification="RFC 6134",
        settings={"sieve_extlists_list_max_lookup_size": "longest value that is looked up, 1 kB by default"},
    ),
)
