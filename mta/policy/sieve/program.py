"""The policy files as one program: loaded with all their errors, run stage by stage.

Files are in order, and so are the blocks of a stage in each. `accept` ends a stage for all of them, `stop`
for the file that it stands in. A run that fails ends the stage. Edits of the message are seen by the files
after.
"""

from __future__ import annotations

import os.path
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from mta.policy.sieve.asking import Asking
from mta.policy.sieve.dialect import hint_of, hint_of_word, policy_dialect
from mta.policy.sieve.facts import STAGES
from mta.policy.sieve.outcome import NOTHING, Outcome
from mta.policy.sieve.queue import QUEUE
from mta.policy.sieve.reply import Accept
from mta.policy.sieve.route import ROUTES
from mta.policy.sieve.stages import KEY, Blocks
from mta.policy.sieve.tables import TABLES
from sieve_ext import (
    Diagnostic,
    Dialect,
    Envelope,
    Event,
    Message,
    Result,
    Script,
    Settings,
    Severity,
)
from sieve_ext.closures.unit import Unit
from sieve_ext.extend import sequence
from sieve_ext.runtime.glances import joined
from sieve_ext.runtime.script import PARSE_FAILED, VALIDATION_FAILED, DirectHost, load_unit

CPU_SECONDS = 0.05
"""Processor time of a run on the event loop, which serves every session of the worker meanwhile."""
CPU_ASIDE = 2.0
"""Processor time of a run in a thread of its own."""
OPERATIONS = 500_000
"""Values compared and commands done in a run."""
SCRIPT_OCTETS = 1024 * 1024
"""Octets of the largest policy file."""
READS_BODY = frozenset(("body", "mime", "foreverypart"))
"""Capabilities whose tests read more than the header."""


@dataclass(slots=True, frozen=True)
class File:
    """A policy file that is ready to run."""

    name: str
    """For people: the name, with its folder where two files have the same."""
    stages: Mapping[str, Script]
    """What it does at each stage, of those that it has."""
    direct: Mapping[str, Script]
    """The same for hosts that answer at once."""


@dataclass(slots=True, frozen=True)
class FileDiagnostic:
    """Something that is wrong with a policy file, with the file."""

    path: str
    diagnostic: Diagnostic

    @property
    def is_warning(self) -> bool:
        """False: the file cannot be used."""
        return self.diagnostic.severity is Severity.WARNING

    def __str__(self) -> str:
        return f"{self.path}:{self.diagnostic}"


FileTrace = Callable[[str, Event], None]
"""Told the name of a file and what happens in it."""


class Program:
    """Policy files, by stage."""

    def __init__(self, files: Sequence[File], settings: Settings) -> None:
        """`settings` are those that the files were loaded with."""
        self.files = files
        self._stages = _by_stage((one.name, one.stages) for one in files)
        self._direct = _by_stage((one.name, one.direct) for one in files)
        self.glances = {
            stage: joined([script.glance for _, script in scripts], False)
            for stage, scripts in self._direct.items()
        }
        """By stage: says True where `run_at_once` would say nothing (`sieve_ext.runtime.glances`)."""
        self.doubts: dict[str, int] = {}
        """By stage: in how many runs it is not counted on that all is answered at once (`asking.asked`)."""
        self._usual = settings
        self._aside = _limited(settings, CPU_ASIDE)
        self.reads_body = any(script.enabled & READS_BODY for _, script in self._stages.get("data", ()))
        """A run for a large message takes long."""

    def has(self, stage: str) -> bool:
        """True when there is something to do in the stage."""
        return stage in self._stages

    def run(
        self,
        stage: str,
        environment: Mapping[str, str],
        envelope: Envelope | Callable[[], Envelope],
        message: Message | None = None,
        *,
        aside: bool = False,
        trace: FileTrace | None = None,
    ) -> Asking[Outcome]:
        """Do the blocks of a stage; never raises. `aside` says that this is not the event loop's thread.

        `trace` is told what happens, if the program was loaded with tracing.
        """
        outcome, ended = NOTHING, False
        current = NO_MESSAGE if message is None else message
        settings = self._aside if aside else self._usual
        for name, script in self._stages.get(stage, ()):
            if script.asks or trace is not None:
                result = yield from script.run(
                    current,
                    envelope,
                    settings=settings,
                    environment=environment,
                    trace=None if trace is None else partial(trace, name),
                )
            else:
                result = script.run_plain(current, envelope, settings=settings, environment=environment)
            if result.actions or result.notes or result.failed or result.message is not current:
                outcome, current, ended = _told(outcome, name, result, current)
                if ended:
                    break
        return outcome

    def run_at_once(
        self,
        stage: str,
        environment: Mapping[str, str],
        envelope: Envelope | Callable[[], Envelope],
        message: Message | None,
        host: DirectHost,
    ) -> Outcome:
        """`run`, given a host that answers at once. Raises only what of its errors is no Exception."""
        outcome, ended = NOTHING, False
        current = NO_MESSAGE if message is None else message
        for name, script in self._direct.get(stage, ()):
            result = script.run_plain(
                current, envelope, settings=self._usual, environment=environment, host=host
            )
            if result.actions or result.notes or result.failed or result.message is not current:
                outcome, current, ended = _told(outcome, name, result, current)
                if ended:
                    break
        return outcome


def _by_stage(
    files: Iterable[tuple[str, Mapping[str, Script]]],
) -> dict[str, tuple[tuple[str, Script], ...]]:
    """What files do at each stage, with their names; stages where nothing is done are left out."""
    found: dict[str, tuple[tuple[str, Script], ...]] = {}
    for name, stages in files:
        for stage in STAGES:
            if stage in stages:
                found[stage] = (*found.get(stage, ()), (name, stages[stage]))
    return found


def _told(outcome: Outcome, name: str, result: Result, current: Message) -> tuple[Outcome, Message, bool]:
    """The outcome with what a file says, the message as it leaves it, and whether it ends the stage."""
    if outcome is NOTHING:
        outcome = Outcome()
    outcome.notes += [f"{name}:{note}" for note in result.notes]
    outcome.actions += [(f"{name}:{one.position.line}", one) for one in result.actions]
    if result.failed:
        outcome.fault = f"{name}:{result.errors[-1]}"
        return outcome, current, True
    if result.message is not None and result.message is not current:
        outcome.message = current = result.message
    return outcome, current, any(isinstance(one, Accept) for one in result.actions)


NO_MESSAGE = Message(b"")
"""What scripts see as the message before there is one; no word that reads it is legal then."""


def settings_for(
    routes: Iterable[str],
    tables: Iterable[str] = (),
    *,
    has_queue: bool,
    names: Mapping[str, Iterable[str]] | None = None,
) -> Settings:
    """What the configuration says to the words: next hops as "relay:NAME", names of tables, a queue.

    `names` are the names of other sections, by the setting that lists them.
    """
    return _limited(
        Settings(
            {
                ROUTES: " ".join(routes),
                TABLES: " ".join(tables),
                QUEUE: "yes" if has_queue else "no",
                **{setting: " ".join(known) for setting, known in (names or {}).items()},
                "sieve_max_operations": str(OPERATIONS),
                "sieve_max_actions": "100",
            }
        ),
        CPU_SECONDS,
    )


def _limited(settings: Settings, seconds: float) -> Settings:
    values = {key: settings.text(key) for key in settings.keys()}  # noqa: SIM118 - not a mapping
    return Settings({**values, "sieve_max_cpu_time": f"{round(seconds * 1000)}ms"})


def load(
    sources: Sequence[tuple[str, bytes]],
    settings: Settings,
    *,
    tracing: bool = False,
    dialect: Dialect | None = None,
) -> tuple[Program | None, list[FileDiagnostic]]:
    """Load files, given as path and octets: the program, None if there is an error; and all that is wrong.

    With `tracing` runs can be traced, and all are slower. `dialect` is by default that of the site's files.
    """
    dialect = dialect or policy_dialect()
    files: list[File] = []
    found: list[FileDiagnostic] = []
    ended: dict[str, str] = {}
    names = display_names([path for path, _ in sources])
    for (path, octets), name in zip(sources, names, strict=True):
        if len(octets) > SCRIPT_OCTETS:
            found.append(_found(path, Severity.ERROR, "too-large", "the file is larger than 1 MiB"))
            continue
        unit = Unit(settings, tracing=tracing)
        script, diagnostics = load_unit(octets, dialect, unit)
        found += [
            FileDiagnostic(path, _hinted(one))
            for one in diagnostics
            if one.code not in (PARSE_FAILED, VALIDATION_FAILED)
        ]
        if script is None:
            continue
        stages: dict[str, Blocks] = unit.state.get(KEY, {})
        parts = _parts(script, stages)
        asks = not tracing and any(part.asks for part in parts.values())
        files.append(File(name, parts, _direct(octets, dialect, settings) if asks else parts))
        if not stages:
            found.append(
                _found(path, Severity.WARNING, "no-stage", "there is no stage in this file: it does nothing")
            )
        for stage, blocks in stages.items():
            if stage in ended:
                text = f"stage '{stage}' of this file is never reached: {ended[stage]} ends it with accept"
                found.append(_found(path, Severity.WARNING, "dead-stage", text))
            elif blocks.ends:
                ended[stage] = name
    if any(not one.is_warning for one in found):
        return None, found
    return Program(files, settings), found


def _direct(octets: bytes, dialect: Dialect, settings: Settings) -> dict[str, Script]:
    """What a file that is known to be right does at each stage, for hosts that answer at once."""
    unit = Unit(settings, direct=True)
    script, _ = load_unit(octets, dialect, unit)
    assert script is not None
    return _parts(script, unit.state.get(KEY, {}))


def _parts(script: Script, stages: Mapping[str, Blocks]) -> dict[str, Script]:
    """What a file does at each stage where it does something."""
    return {stage: _part(script, blocks) for stage, blocks in stages.items() if blocks.placed}


def _part(script: Script, blocks: Blocks) -> Script:
    return Script(
        sequence(blocks.placed),
        text=script.text,
        name=script.name,
        dialect=script.dialect,
        enabled=script.enabled,
        variables=script.variables,
        warnings=(),
        traced=None,
    )


def display_names(paths: Sequence[str]) -> list[str]:
    """What to call files: by their last part, but by the whole path where that is not enough."""
    short = [os.path.basename(path) for path in paths]
    return [name if short.count(name) == 1 else path for name, path in zip(short, paths, strict=True)]


def _found(path: str, severity: Severity, code: str, text: str) -> FileDiagnostic:
    return FileDiagnostic(path, Diagnostic(1, 1, 0, severity, code, text))


def _hinted(diagnostic: Diagnostic) -> Diagnostic:
    """Say what to write instead of a capability or a word that a policy does not have."""
    if diagnostic.code == "unknown-capability":
        name = _named(diagnostic.text)
        if name in policy_dialect().capabilities:  # of a script of a domain or a user
            return replace(diagnostic, hint="only files of the site have it")
        return replace(diagnostic, hint=hint_of(name) or diagnostic.hint)
    if diagnostic.hint:
        return diagnostic
    if diagnostic.code in ("unknown-command", "unknown-test"):
        return replace(diagnostic, hint=hint_of_word(_named(diagnostic.text)))
    return diagnostic


def _named(text: str) -> str:
    """What a message names in quotes."""
    return text.partition("'")[2].partition("'")[0]
