"""vnd.tamis.testsuite: tests of policy files, in the language of test files. Status: complete.

    test_policy [:file] <script: string>                 load it; as a command a mistake fails the test
    test_stage <stage: string>                           do its blocks; true unless the script fails
    test_decision [MATCH-TYPE] [COMPARATOR] <part: string> <keys: string-list>
    test_note [MATCH-TYPE] [COMPARATOR] <keys: string-list>
    test_session <item: string> <value: string>          an item of the environment
    test_recipients <addresses: string-list>             in place of envelope.to
    test_domain [:delimiter <string>] [:catch_all <address>] <name: string>
    test_people <addresses: string-list>                 who exists; their domains are ours
    test_table [:away] <name: string> <key: string> <value: string>
    test_answer [:away] <kind: string> <name: string> <answer: string-list>
    test_wait <seconds: number>
    test_policy_reset

Sender, recipient and message are those of `test_set`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from mta.address import AddressError
from mta.policy.sieve.facts import ITEMS, STAGES
from mta.policytest.answers import AWAY, KINDS, AnswerError, TestTable
from mta.policytest.parts import PARTS
from mta.policytest.world import World
from sieve_ext.extend import (
    MATCHING,
    STRING,
    Capability,
    Checker,
    Compiler,
    Control,
    Node,
    Run,
    Step,
    Test,
    number,
    string,
    strings,
    suggest,
    tag,
)
from sieve_ext.language.dialect import Dialect
from sieve_ext.testsuite import testsuite_dialect
from sieve_ext.testsuite.session import session_of

KEY = "vnd.tamis.testsuite"


def world_of(run: Run) -> World:
    """What the test file has said so far."""
    found = run.state.get(KEY)
    if not isinstance(found, World):
        found = run.state[KEY] = World()
    return found


def _trying(run: Run, work: Callable[[], Any]) -> Any:
    """What `work` comes to; what is no address, or no answer, ends the test file. Its time does not count."""
    before = time.thread_time()
    try:
        return work()
    except (AddressError, AnswerError) as error:
        run.fail(str(error))
    finally:
        run.waited(time.thread_time() - before)


def _known(node: Node, checker: Checker, name: str, known: Any, what: str) -> None:
    given = node.given[name]
    constant = checker.constant(given)
    if constant is None or constant.lower() not in known:
        hint = suggest(constant or "", known) or "there are: " + ", ".join(known)
        checker.error(given, "unknown-name", f"'{constant or '${...}'}' is no {what}", hint)


def _loading(node: Node, compiler: Compiler) -> Callable[[Run], list[str]]:
    text = compiler.text(node.given["script"])
    from_file = node.has_tag("file")

    def load(run: Run) -> list[str]:
        session, name, octets = session_of(run), "policy.sieve", b""
        if from_file:
            path = session.directory / text.expand(run)
            name = path.name
            try:
                octets = path.read_bytes()
            except OSError as error:
                run.fail(f"failed to open policy file '{path.name}': {error.strerror}")
        else:
            octets = text.expand(run).encode()
        found: list[str] = _trying(run, lambda: world_of(run).load(name, octets, session.settings))
        session.errors[:] = found
        return found

    return load


SCRIPT = (tag("file", ":file"), string("script"))


class TestPolicyTest(Test):
    """test_policy [:file] <script: string>: false, with errors, if it has mistakes."""

    __test__ = False
    word = "test_policy"
    args_definition = SCRIPT

    def compile(self, compiler: Compiler) -> Step:
        """Load it."""
        load = _loading(self, compiler)
        return lambda run: not load(run)


class TestPolicyCommand(Control):
    """test_policy [:file] <script: string>: a mistake fails the test."""

    __test__ = False
    word = "test_policy"
    args_definition = SCRIPT

    def compile(self, compiler: Compiler) -> Step:
        """Load it."""
        load = _loading(self, compiler)

        def act(run: Run) -> None:
            found = load(run)
            if found:
                session_of(run).fail(f"the policy has mistakes: {'; '.join(found)}")

        return act


class TestStageTest(Test):
    """test_stage <stage: string>."""

    __test__ = False
    word = "test_stage"
    args_definition = (string("stage"),)

    def check(self, checker: Checker) -> None:
        """There is such a stage."""
        _known(self, checker, "stage", STAGES, "stage")

    def compile(self, compiler: Compiler) -> Step:
        """Do its blocks."""
        stage = compiler.text(self.given["stage"]).constant or ""

        def test(run: Run) -> bool:
            world, session, envelope = world_of(run), session_of(run), run.envelope
            if world.program is None:
                run.fail("no policy has been loaded yet")
            fault: str = _trying(
                run,
                lambda: world.run(
                    stage, envelope.sender, envelope.recipient or "", "", run.message.snapshot()
                ),
            )
            session.errors[:] = [fault] if fault else []
            return not fault

        return test


class TestDecisionTest(Test):
    """test_decision [MATCH-TYPE] [COMPARATOR] <part: string> <keys: string-list>."""

    __test__ = False
    word = "test_decision"
    args_definition = (*MATCHING, string("part"), strings("keys"))

    def check(self, checker: Checker) -> None:
        """There is such a part."""
        _known(self, checker, "part", PARTS, "part of a decision")

    def compile(self, compiler: Compiler) -> Step:
        """Compare it."""
        part = PARTS[(compiler.text(self.given["part"]).constant or "").lower()]
        return compiler.match(self, lambda run: part(world_of(run).decision))


class TestNoteTest(Test):
    """test_note [MATCH-TYPE] [COMPARATOR] <keys: string-list>."""

    __test__ = False
    word = "test_note"
    args_definition = (*MATCHING, strings("keys"))

    def compile(self, compiler: Compiler) -> Step:
        """Compare what the last stage had for the log."""
        return compiler.match(self, lambda run: world_of(run).notes)


class TestSessionCommand(Control):
    """test_session <item: string> <value: string>."""

    __test__ = False
    word = "test_session"
    args_definition = (string("item"), string("value"))

    def check(self, checker: Checker) -> None:
        """There is such an item."""
        _known(self, checker, "item", ITEMS, "item of the environment")

    def compile(self, compiler: Compiler) -> Step:
        """Set it."""
        item = (compiler.text(self.given["item"]).constant or "").lower()
        value = compiler.text(self.given["value"])

        def act(run: Run) -> None:
            world_of(run).items[item] = value.expand(run)

        return act


class TestRecipientsCommand(Control):
    """test_recipients <addresses: string-list>."""

    __test__ = False
    word = "test_recipients"
    args_definition = (strings("addresses"),)

    def compile(self, compiler: Compiler) -> Step:
        """Set them."""
        addresses = compiler.texts(self.given["addresses"])

        def act(run: Run) -> None:
            world_of(run).recipients = tuple(filter(None, addresses.expand(run)))

        return act


class TestDomainCommand(Control):
    """test_domain [:delimiter <string>] [:catch_all <address: string>] <name: string>."""

    __test__ = False
    word = "test_domain"
    args_definition = (
        tag("delimiter", ":delimiter", value=STRING), tag("catch_all", ":catch_all", value=STRING),
        string("name"),
    )  # fmt: skip

    def compile(self, compiler: Compiler) -> Step:
        """Make it ours."""
        name = compiler.text(self.given["name"])
        delimiter = compiler.text(self.text("delimiter"), "+")
        catch_all = compiler.text(self.text("catch_all"), "")
        return lambda run: _trying(
            run,
            lambda: world_of(run).add_domain(name.expand(run), delimiter.expand(run), catch_all.expand(run)),
        )


class TestPeopleCommand(Control):
    """test_people <addresses: string-list>."""

    __test__ = False
    word = "test_people"
    args_definition = (strings("addresses"),)

    def compile(self, compiler: Compiler) -> Step:
        """Let them exist."""
        addresses = compiler.texts(self.given["addresses"])

        def act(run: Run) -> None:
            for text in addresses.expand(run):
                _trying(run, partial(world_of(run).add_person, text))

        return act


class TestTableCommand(Control):
    """test_table [:away] <name: string> <key: string> <value: string>."""

    __test__ = False
    word = "test_table"
    args_definition = (tag("away", ":away"), string("name"), string("key"), string("value"))

    def compile(self, compiler: Compiler) -> Step:
        """Set the value of a key; without a key the table is there."""
        name, key, value = (compiler.text(self.given[one]) for one in ("name", "key", "value"))
        away = self.has_tag("away")

        def act(run: Run) -> None:
            table = world_of(run).tables.setdefault(name.expand(run), TestTable())
            table.is_away = away
            if key.expand(run):
                table.entries[key.expand(run).lower()] = value.expand(run)

        return act


class TestAnswerCommand(Control):
    """test_answer [:away] <kind: string> <name: string> <answer: string-list>."""

    __test__ = False
    word = "test_answer"
    args_definition = (tag("away", ":away"), string("kind"), string("name"), strings("answer"))

    def check(self, checker: Checker) -> None:
        """There is such a service."""
        _known(self, checker, "kind", KINDS, "service")

    def compile(self, compiler: Compiler) -> Step:
        """Set it."""
        kind = (compiler.text(self.given["kind"]).constant or "").lower()
        name, answer = compiler.text(self.given["name"]), compiler.texts(self.given["answer"])
        away = self.has_tag("away")

        def act(run: Run) -> None:
            said = [AWAY] if away else list(answer.expand(run))
            _trying(run, lambda: world_of(run).answers.say(kind, name.expand(run), said))

        return act


class TestWaitCommand(Control):
    """test_wait <seconds: number>."""

    __test__ = False
    word = "test_wait"
    args_definition = (number("seconds"),)

    def compile(self, compiler: Compiler) -> Step:
        """Let time pass."""
        seconds = self.number("seconds", 0) or 0

        def act(run: Run) -> None:
            world_of(run).ledger.now += seconds

        return act


class TestPolicyResetCommand(Control):
    """test_policy_reset."""

    __test__ = False
    word = "test_policy_reset"

    def compile(self, compiler: Compiler) -> Step:
        """Begin anew, with a server for nobody."""

        def act(run: Run) -> None:
            run.state[KEY] = World()

        return act


POLICY_TESTSUITE = Capability(
    KEY,
    words=(
        TestPolicyTest, TestPolicyCommand, TestStageTest, TestDecisionTest, TestNoteTest, TestSessionCommand,
        TestRecipientsCommand, TestDomainCommand, TestPeopleCommand, TestTableCommand, TestAnswerCommand,
        TestWaitCommand, TestPolicyResetCommand,
    ),
    needs=("vnd.dovecot.testsuite",),
    is_privileged=True,
    specification="docs/developing-sieve.md",
)  # fmt: skip


@cache
def policytest_dialect() -> Dialect:
    """The language of test files, with tests of policy files."""
    return testsuite_dialect().with_capabilities(POLICY_TESTSUITE)
