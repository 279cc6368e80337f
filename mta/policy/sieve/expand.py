"""vnd.tamis.envelope: `expand`, aliases and virtual maps. Status: complete for what is listed.

    expand [:on_error <way>] [:keep_extension / :drop_extension] <tables: string-list>

In stage rcpt the recipient, in stage data every recipient, is looked for in the tables as
`mta.policy.aliases` says, and who is found there gets the mail in its place. What follows for the envelope
is the business of `mta.policy.sieve.expanding`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from dataclasses import dataclass, replace
from typing import Any

from mta.address import Address, AddressError, parse_address
from mta.policy.aliases import AliasError, Member, expand
from mta.policy.ground import Ground
from mta.policy.sieve.asking import Services, Unavailable
from mta.policy.sieve.facts import DATA, RCPT, Facts
from mta.policy.sieve.onerror import ON_ERROR, check_on_error, end_stage, unavailable, way_of
from mta.policy.sieve.reply import PolicyAction
from mta.policy.sieve.tables import SCHEME, SEARCHED, Lists, check_table
from mta.reply import Reply
from sieve_ext.extend import Act, Checker, Compiler, Request, Run, Step, strings, tag

Targets = tuple[Member, ...]


@dataclass(frozen=True)
class Expand(Request):
    """Who gets the mail of an address? Answered by `Targets`, None when it is no alias, `Broken` or
    Unavailable."""

    address: Address
    tables: tuple[str, ...]
    """With their scheme, in the order in which they are asked."""
    keep_extension: bool = True

    def unanswered(self) -> Any:
        """No table says anything: that is no "not there"."""
        return Unavailable("nobody looks up aliases")


@dataclass(slots=True, frozen=True)
class Broken:
    """Aliases that are not in order."""

    reason: str
    reply: Reply


@dataclass(eq=False)
class Expansion(PolicyAction):
    """Others in place of recipients."""

    asked: list[Expand]
    """What has been looked for."""
    found: dict[str, Targets]
    """Who gets the mail of what is an alias, by `Address.key`."""
    is_proved: bool = False
    """Whoever named the address may reach who is behind it."""
    name = "expand"

    def merged(self, later: Expansion) -> Expansion:
        """Both; who is found in the first one is not looked for any more."""
        asked = {one.address.key: one for one in self.asked}
        for one in later.asked:
            before = asked.get(one.address.key)
            asked[one.address.key] = (
                one if before is None else replace(one, tables=(*before.tables, *one.tables))
            )
        found = {**later.found, **self.found}
        return Expansion(list(asked.values()), found, self.is_proved or later.is_proved)

    def describe(self) -> str:
        """One line for people."""
        shown = (f"{key} to {', '.join(map(str, targets))}" for key, targets in self.found.items())
        return f"expand {'; '.join(shown)}" if self.found else "expand: no alias"


class Aliases:
    """Answers `Expand`."""

    def __init__(self, lists: Lists, ground: Ground) -> None:
        """With the tables of the worker, and what is said of domains."""
        self._lists = lists
        self._domains = ground.settings.domains

    @property
    def services(self) -> Services:
        """Who answers what."""
        return {Expand: self._answer}

    def _delimiters(self, domain: str) -> str | None:
        rule = self._domains.get(domain)
        return None if rule is None else rule.subaddress_delimiters

    def _answer(self, request: Expand, facts: Facts) -> Any:
        going = expand(request.address, self._delimiters, keep_extension=request.keep_extension)
        try:
            key = next(going)
            while True:
                value = self._value(request.tables, key)
                if isinstance(value, Awaitable):
                    return self._answer_later(request, going, value)
                if isinstance(value, Unavailable):
                    return value
                key = going.send(value)
        except StopIteration as end:
            return end.value
        except AliasError as error:
            return Broken(str(error), error.reply)

    async def _answer_later(
        self, request: Expand, going: Generator[str, str | None, Targets | None], value: Awaitable[Any]
    ) -> Any:
        try:
            while True:
                said = await value if isinstance(value, Awaitable) else value
                if isinstance(said, Unavailable):
                    return said
                value = self._value(request.tables, going.send(said))
        except StopIteration as end:
            return end.value
        except AliasError as error:
            return Broken(str(error), error.reply)

    def _value(self, tables: tuple[str, ...], key: str) -> Any:
        """What the first table that has the key says; may be an awaitable."""
        for number, name in enumerate(tables):
            found = self._lists.get(name, key)
            if isinstance(found, Awaitable):
                return self._value_later(found, tables[number + 1 :], key)
            if found is not None:
                return found
        return None

    async def _value_later(self, found: Awaitable[Any], tables: tuple[str, ...], key: str) -> Any:
        said = await found
        if said is not None or not tables:
            return said
        rest = self._value(tables, key)
        return await rest if isinstance(rest, Awaitable) else rest


class ExpandCommand(Act):
    """expand [:on_error <way>] [:keep_extension / :drop_extension] <tables: string-list>."""

    word = "expand"
    stages = RCPT | DATA
    args_definition = (ON_ERROR, tag("extension", ":keep_extension", ":drop_extension"), strings("tables"))

    def check(self, checker: Checker) -> None:
        """The tables are there."""
        check_on_error(self, checker)
        check_table(self.given["tables"], checker)
        searched = checker.unit.settings.text(SEARCHED).split()
        for text in checker.constants(self.given["tables"]):
            name = text.value.removeprefix(SCHEME)
            if name in searched:
                checker.warn(
                    text, "searched-table",
                    f"expand looks for the forms of an address by itself, and table '{name}' has a search",
                    f"take it out of [tables.{name}], else details of addresses get lost",
                )  # fmt: skip

    def compile(self, compiler: Compiler) -> Step:
        """Ask about each recipient, and add what was found."""
        tables = compiler.texts(self.given["tables"])
        given = self.tags.get("extension")
        keep = given is None or given.tag != ":drop_extension"
        way = way_of(self)

        def look(run: Run) -> Generator[Request, Any, None]:
            names = tuple(tables.expand(run))
            asked, found = [], {}
            before = {key for one in run.result.actions if isinstance(one, Expansion) for key in one.found}
            for address in _recipients(run):
                if address.key in before:
                    continue
                run.spend(1)
                request = Expand(address, names, keep)
                if not address.domain:
                    asked.append(request)  # no table has it; who stands in for it is looked for in them
                    continue
                answer = yield request
                if isinstance(answer, Unavailable):
                    unavailable(run, way, "expand", answer)
                elif isinstance(answer, Broken):
                    run.note(f"expand: {answer.reason}")
                    end_stage(run, answer.reply)
                else:
                    asked.append(request)
                    if answer is not None:
                        found[address.key] = answer
            if asked:
                run.add(Expansion(asked, found))

        return look


def _recipients(run: Run) -> list[Address]:
    """The recipients of the envelope as the script has left them."""
    from mta.policy.sieve.envelope import RewriteRecipient

    for action in reversed(run.result.actions):
        if isinstance(action, RewriteRecipient):
            return [action.address]
    found = []
    for text in run.envelope.extra.get("to", ()):
        try:
            found.append(parse_address(text))
        except AddressError:  # "postmaster", which has no domain
            found.append(Address(text.lower(), "", text))
    return found
