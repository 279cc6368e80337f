"""A compiled script, and running it.

`load` turns text into a `Script` or raises `InvalidScript` with everything that is wrong. A script is
immutable and may run many times, in several threads at once; all that a run changes is in its `Run`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sieve_ext.closures.compiler import Compiler
from sieve_ext.closures.unit import ScriptStore, Unit
from sieve_ext.diagnostic import Diagnostic, InvalidScript, Severity, Source
from sieve_ext.message import Message
from sieve_ext.runtime.envelope import Envelope
from sieve_ext.runtime.errors import Leave, RunFailed
from sieve_ext.runtime.glances import Glance, glance_of
from sieve_ext.runtime.requests import Request
from sieve_ext.runtime.result import Fault, Result
from sieve_ext.runtime.run import SLICE, Run
from sieve_ext.runtime.settings import Settings
from sieve_ext.runtime.steps import Step, asks
from sieve_ext.runtime.tracing import Trace
from sieve_ext.syntax.parser import Parser
from sieve_ext.syntax.stored import TreeCache, key_of, read_tree, write_tree
from sieve_ext.validate.check import validate

if TYPE_CHECKING:
    from sieve_ext.language.dialect import Dialect
    from sieve_ext.language.node import Node
    from sieve_ext.runtime.actions import Action
    from sieve_ext.syntax.tree import Call

Running = Generator[Request, Any, Result]
"""A run: yields requests, is sent their answers, returns the result."""

DirectHost = Callable[[Request], Any]
"""Answers a request at once: the host of a script that was loaded for such (`Unit.direct`)."""


def _nobody(request: Request) -> Any:
    return request.unanswered()


HOOKS = "on_action"
"""Where the state that goes from script to script has the functions that see each action."""


class Script:
    """A valid script of a dialect."""

    __slots__ = (
        "_hooks",
        "_step",
        "_traced",
        "asks",
        "dialect",
        "enabled",
        "glance",
        "included",
        "name",
        "text",
        "variables",
        "warnings",
    )

    def __init__(
        self,
        step: Step,
        *,
        text: bytes,
        name: str,
        dialect: Dialect,
        enabled: frozenset[str],
        variables: int,
        warnings: tuple[Diagnostic, ...],
        included: Mapping[tuple[str, str], bytes | None] | None = None,
        traced: Callable[[], Script] | None,
    ) -> None:
        """Made by `load`."""
        self._step = step
        self.text = text
        self.name = name
        self.dialect = dialect
        self.enabled = enabled
        """The capabilities that it requires, with those they bring."""
        self.variables = variables
        """How many values its variables need."""
        self.warnings = warnings
        """What is most likely a mistake in it."""
        self.included = included or {}
        """Digests of the scripts that it asked for when it was loaded, by location and name: they may change
        without it. None for what was not there."""
        self.asks = asks(step)
        """A run may yield requests; False: it never does."""
        self._traced: Script | Callable[[], Script] | None = traced
        self._hooks: tuple[Callable[[Run, Action], None], ...] = tuple(
            hook for one in sorted(enabled) if (hook := dialect.capabilities[one].on_action) is not None
        )
        self.glance: Glance | None = None if self._hooks or self.asks else glance_of(step)
        """Says True when a run would do nothing; None where only a run shows it."""

    @property
    def step(self) -> Step:
        """The compiled commands, for those who include the script."""
        return self._step

    @property
    def hooks(self) -> tuple[Callable[[Run, Action], None], ...]:
        """What its capabilities do with each action, for those who include the script."""
        return self._hooks

    def run(
        self,
        message: Message,
        envelope: Envelope | Callable[[], Envelope] | None = None,
        *,
        settings: Settings | None = None,
        environment: Mapping[str, str] | None = None,
        now: datetime | None = None,
        result: Result | None = None,
        state: dict[str, Any] | None = None,
        trace: Trace | None = None,
    ) -> Running:
        """Run it for a message: a generator of requests that returns the result.

        `envelope` may be what makes it, called when it is first asked for.
        `environment` are the items that the host knows without being asked, by lower-case name. `now` is the
        time, by default that of the clock. `result` is that of the script before, in a sequence; its actions
        count for conflicts and limits, and stay if this run fails. `state` is what extensions keep from one
        script to the next. `message` is not changed; the edited one is the result's. `trace` is told of every
        test and action. No exception comes out of it.
        """
        script = self if trace is None else self._traced_script()
        begun = script.begin(message, envelope, settings, environment, now, result, state, trace)
        return script.finish(begun)

    def run_plain(
        self,
        message: Message,
        envelope: Envelope | Callable[[], Envelope] | None = None,
        *,
        settings: Settings | None = None,
        environment: Mapping[str, str] | None = None,
        now: datetime | None = None,
        result: Result | None = None,
        state: dict[str, Any] | None = None,
        host: DirectHost | None = None,
    ) -> Result:
        """`run` of a script that asks nothing, at once. Raises ValueError if `asks`.

        A script that was loaded for hosts that answer at once (`Unit.direct`) asks `host`. What that raises
        goes through the script as an error of its own; what is no Exception ends the run and comes out.
        """
        if self.asks:
            raise ValueError("this script asks its host")
        run = self.begin(message, envelope, settings, environment, now, result, state, None, host or _nobody)
        try:
            self._step(run)
        except Leave:
            pass
        except Exception as error:  # noqa: BLE001 - whatever it is, the message is kept and it is reported
            _fail(run, error)
        run.end()
        return run.result

    def begin(
        self,
        message: Message,
        envelope: Envelope | Callable[[], Envelope] | None,
        settings: Settings | None,
        environment: Mapping[str, str] | None,
        now: datetime | None,
        result: Result | None,
        state: dict[str, Any] | None,
        trace: Trace | None,
        host: DirectHost = _nobody,
    ) -> Run:
        """The state of a run that has not begun."""
        if result is None:
            result = Result()
        result.failed = result.cancels_keep = False
        hooks = self._hooks
        if state is None:
            state = {}
        elif hooks or HOOKS in state:
            # What an earlier script's capabilities have begun, as flags, concerns this one's actions, too.
            hooks = state[HOOKS] = tuple(dict.fromkeys((*state.get(HOOKS, ()), *hooks)))
        if settings is None:
            settings = _DEFAULTS
        return Run(
            message,
            message,
            envelope if envelope is not None else Envelope(),
            settings,
            environment if environment is not None else {},
            now,
            result,
            state,
            [""] * self.variables,
            hooks,
            trace,
            len(result.actions),
            min(SLICE, settings.limits.operations),
            host,
        )

    def finish(self, run: Run) -> Running:
        """Do all of a run that `begin` made."""
        try:
            if self.asks:
                steps = self._step(run)
                answer: Any = None
                while True:
                    try:
                        request = steps.send(answer)
                    except StopIteration:
                        break
                    if run.is_timed:
                        before = time.thread_time()
                        answer = yield request
                        run.waited(time.thread_time() - before)
                    else:
                        answer = yield request
            else:
                self._step(run)
        except Leave:
            pass
        except Exception as error:  # noqa: BLE001 - whatever it is, the message is kept and it is reported
            _fail(run, error)
        run.end()
        return run.result

    def _traced_script(self) -> Script:
        if self._traced is None:
            return self
        if not isinstance(self._traced, Script):
            self._traced = self._traced()
        return self._traced


_DEFAULTS = Settings()


def _fail(run: Run, error: Exception) -> None:
    text = str(error) if isinstance(error, RunFailed) else f"internal error: {type(error).__name__}: {error}"
    cause = None if isinstance(error, RunFailed) else error
    run.message = run.original
    run.result.fail(Fault(run.position, text, run.script, cause), run.mark, run.original)


def load(
    text: str | bytes,
    dialect: Dialect,
    *,
    name: str = "",
    settings: Settings | None = None,
    store: ScriptStore | None = None,
    tracing: bool = False,
    trees: TreeCache | None = None,
) -> Script:
    """Compile a script. Raises InvalidScript with all that is wrong with it, the closing error last.

    `trees` keeps what was read of it and of what it includes, as a `DiskCache`, for the next time.
    """
    unit = Unit(settings or _DEFAULTS, store, tracing, trees=trees)
    script, diagnostics = load_unit(text, dialect, unit)
    if script is None:
        raise InvalidScript(diagnostics)
    script.name = name
    if not tracing:
        octets = script.text
        script._traced = lambda: load(
            octets, dialect, name=name, settings=settings, store=store, tracing=True, trees=trees
        )
    return script


def check(
    text: str | bytes,
    dialect: Dialect,
    *,
    settings: Settings | None = None,
    store: ScriptStore | None = None,
) -> list[Diagnostic]:
    """Everything that is wrong with a script, warnings too, without a closing error; none if nothing is."""
    return [
        one
        for one in load_unit(text, dialect, Unit(settings or _DEFAULTS, store))[1]
        if one.code not in (PARSE_FAILED, VALIDATION_FAILED)
    ]


PARSE_FAILED = "parse-failed"
VALIDATION_FAILED = "validation-failed"
"""Codes of the error that closes the list, where there are others."""


def load_unit(
    text: str | bytes, dialect: Dialect, unit: Unit, name: str = ""
) -> tuple[Script | None, list[Diagnostic]]:
    """Compile a script of a unit: the script, or None, and all that is wrong; never raises.

    `name` goes into the diagnostics; that of an included script. The list ends with a closing error if it
    has one at all.
    """
    octets = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    if unit.trees is None or unit.depth:
        return _load_one(octets, dialect, unit, name)
    before = dict(unit.state)
    try:
        return _load_one(octets, dialect, unit, name)
    except _WrongTree:
        unit.doubts_trees = True
        unit.state.clear()
        unit.state.update(before)
        unit.loaded.clear()
        return _load_one(octets, dialect, unit, name)


class _WrongTree(Exception):
    """A tree that was kept is not that of the text: somebody has changed it. The whole unit begins anew."""


def _load_one(
    octets: bytes, dialect: Dialect, unit: Unit, name: str
) -> tuple[Script | None, list[Diagnostic]]:
    """See `load_unit`. Raises _WrongTree."""
    trees = unit.trees
    key = b"" if trees is None else key_of(octets)
    kept = None if trees is None or unit.doubts_trees else trees.read(key)
    tree = None if kept is None else read_tree(kept)
    if tree is not None:
        loaded = _compile(tree, Source(octets, name), dialect, unit)
        if loaded[0] is not None:
            return loaded
    parser = Parser()
    right = parser.read(octets, name)
    written = b"" if trees is None or parser.diagnostics else write_tree(right)
    if tree is not None:
        if written != kept:
            raise _WrongTree
        return loaded  # it is wrong here only: in this dialect, with these settings or included scripts
    if parser.diagnostics:
        # The lexer has gone through all of it before the parser began.
        found = sorted(parser.diagnostics, key=lambda one: (one.line, one.column))
        return None, _closed(found, parser.source, PARSE_FAILED, "parse failed")
    loaded = _compile(right, parser.source, dialect, unit)
    if trees is not None and loaded[0] is not None:
        trees.write(key, written)
    return loaded


def _compile(
    tree: list[Call], source: Source, dialect: Dialect, unit: Unit
) -> tuple[Script | None, list[Diagnostic]]:
    """The script of a tree that the grammar allows."""
    checked = validate(tree, source, dialect, unit)
    if checked.checker.has_errors:
        return None, _closed(checked.diagnostics, source, VALIDATION_FAILED, "validation failed")
    nodes: list[Node] = checked.nodes
    checker = checked.checker
    compiler = Compiler(dialect, source, checker.enabled, checker.scope, unit, tracing=unit.tracing)
    try:
        step = compiler.block(nodes)
    except ValueError as error:
        # A word that finds only now that it cannot be compiled: refused, like all that is wrong.
        fault = source.diagnostic(0, 0, "internal", f"internal error: {error}")
        return None, _closed([*checked.diagnostics, fault], source, VALIDATION_FAILED, "validation failed")
    _release(nodes)
    script = Script(
        step,
        text=source.octets,
        name=source.name,
        dialect=dialect,
        enabled=frozenset(checker.enabled),
        variables=checker.scope.size,
        warnings=tuple(checked.diagnostics),
        included=dict(unit.loaded),
        traced=None,
    )
    return script, checked.diagnostics


def _release(nodes: list[Node]) -> None:
    """Let nodes go that have been compiled: without cycles they are gone at once, no collection needed."""
    for node in nodes:
        node.parent = None
        if node.tests:
            _release(node.tests)
        if node.children:
            _release(node.children)


def _closed(found: list[Diagnostic], source: Source, code: str, text: str) -> list[Diagnostic]:
    end = source.position(len(source.octets))
    return [*found, Diagnostic(end.line, end.column, 0, Severity.ERROR, code, text, "", source.name)]
