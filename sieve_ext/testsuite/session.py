"""The state of one test file while it runs; the commands of the language are thin words around it."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sieve_ext.diagnostic import InvalidScript
from sieve_ext.message import Message
from sieve_ext.runtime.errors import Leave
from sieve_ext.runtime.execute import execute
from sieve_ext.runtime.requests import Request
from sieve_ext.runtime.result import Result
from sieve_ext.runtime.run import Run
from sieve_ext.runtime.script import Script, load
from sieve_ext.runtime.sequence import run_sequence
from sieve_ext.runtime.settings import Settings
from sieve_ext.testsuite.delivery import Postman
from sieve_ext.testsuite.host import TestHost
from sieve_ext.testsuite.mailstore import MailStore, StoredMessage
from sieve_ext.testsuite.report import Outcome, Report
from sieve_ext.testsuite.scripts import TestScripts, script_name
from sieve_ext.testsuite.surroundings import ENVIRONMENT, MESSAGE, derived_envelope

if TYPE_CHECKING:
    from sieve_ext.language.dialect import Dialect

KEY = "vnd.dovecot.testsuite"
"""Where the session is in `Run.state`; the name of the capability."""

DEPTH = 10
"""How deep scripts that run scripts may be nested."""


class TestFailed(Leave):
    """`test_fail`: leaves the test, or the script that is being tested."""

    __test__ = False  # not one of pytest's


class Session:
    """One test file being run."""

    def __init__(self, path: Path, dialect: Dialect, report: Report) -> None:
        """`path` is absolute."""
        self.directory = path.parent
        """Of the test file."""
        self.dialect = dialect
        self.report = report
        self.settings = Settings()
        """In force now."""
        self.overrides: dict[str, str | None] = {}
        """Settings changed by the test and not yet read: values, None for the default."""
        self.store = MailStore()
        self.postman = Postman(self.store, self.settings)
        self.scripts = TestScripts(self.directory, self.settings)
        self.host = TestHost(self.store, self.settings, self.directory)
        self.errors: list[str] = []
        """What the last script, or carrying its result out, had to complain of."""
        self.script: Script | None = None
        """The one that was compiled last."""
        self.saved: dict[str, Script] = {}
        """Compiled scripts by the name that they were saved under."""
        self.test = 0
        """Number of the test that is open, 0 outside of tests."""
        self.test_name = ""
        self.aborted = False
        """The file ends here, failed; the reason has been reported."""
        self.received = Message(MESSAGE)
        """The message being tested, without edits."""
        self._result_message: Message | None = None
        self._state: dict[str, Any] = {}
        self._shown: list[str] | None = None
        self._run_failed = False
        self._directories = [self.directory]
        self._script_directory = self.directory
        self._fails: list[bool] = []
        self._test_failed = False

    # Tests

    def succeed(self) -> None:
        """The open test has come to its end."""
        self.report.lines.append(Outcome(self.test, self.test_name, True))

    def fail(self, reason: str) -> None:
        """The open test failed, the script under test did, or the whole file. Raises TestFailed."""
        self.report.lines.append(Outcome(self.test, self.test_name, False, reason))
        if self._fails:
            self._fails[-1] = True
        else:
            self.report.failures += 1
            self.aborted = not self.test
        raise TestFailed

    @property
    def is_nested(self) -> bool:
        """A script that the test file runs is being run."""
        return bool(self._fails)

    # The message

    def set_message(self, run: Run, octets: bytes) -> None:
        """Test another message, with the envelope that it suggests."""
        self.received = Message(octets)
        run.message = self.received.snapshot()
        run.envelope = derived_envelope(run.message)
        if self._shown is not None and run.state.get(FLAGS) == self._shown:
            del run.state[FLAGS]
        self._shown = None
        self.forget(run)

    def forget(self, run: Run) -> None:
        """Drop what is remembered of the message."""
        self._result_message = None
        for name in PER_MESSAGE:
            run.state.pop(name, None)

    def set_stored(self, run: Run, stored: StoredMessage) -> None:
        """Test a message of the mail store, with its flags."""
        self.set_message(run, stored.octets)
        self._shown = list(stored.flags)
        run.state[FLAGS] = list(stored.flags)

    def default_message(self, run: Run) -> None:
        """Test the message that was there in the beginning."""
        self.set_message(run, MESSAGE)

    # Scripts

    def compile(self, path: str) -> bool:
        """Compile a script beside the one that is running; False, with errors, if that cannot be."""
        self.errors.clear()
        script = self._load(path)
        if script is None:
            return False
        self.script = script
        self._script_directory = (self._directories[-1] / path).parent
        return True

    def _load(self, path: str) -> Script | None:
        file = self._directories[-1] / path
        try:
            text = file.read_bytes()
        except OSError as error:
            self.errors.append(f"failed to open script '{path}': {error.strerror or error}")
            return None
        try:
            return load(
                text, self.dialect, name=script_name(file), settings=self.settings, store=self.scripts
            )
        except InvalidScript as invalid:
            self.errors += [one.text for one in invalid.errors]
            return None

    def run_script(self, run: Run, *, append: bool) -> bool:
        """Run the compiled script on the message, its actions being added to the result."""
        if self.script is None:
            run.fail("no script has been compiled yet")
        self.errors.clear()
        if not append:
            self.drop_result(run)
        message = run.message.snapshot()
        known = len(run.result.errors)
        script = self.script
        with self._nested(run):
            execute(
                script,
                message,
                run.envelope,
                self.host,
                settings=self.settings,
                environment=ENVIRONMENT,
                result=run.result,
                state=self._state,
            )
        self._run_failed = run.result.failed
        self._result_message = run.result.message
        run.result.failed = False
        self._take_errors(run.result, known)
        return not self._run_failed and not self._test_failed

    @contextmanager
    def _nested(self, run: Run) -> Iterator[None]:
        """While another script is run: its time is not that of the test file, nor are its failures."""
        if len(self._fails) >= DEPTH:
            run.fail(f"scripts that run scripts are nested too deeply (max {DEPTH})")
        before = time.thread_time()
        self._fails.append(False)
        self._directories.append(self._script_directory)
        self._state[KEY] = self
        yield
        self._directories.pop()
        self._test_failed = self._fails.pop()
        run.waited(time.thread_time() - before)

    def _take_errors(self, result: Result, known: int) -> None:
        """The errors of a script under test are not those of the test file."""
        self.errors += [fault.text for fault in result.errors[known:]]
        del result.errors[known:]

    def run_sequence(self, run: Run, paths: Sequence[str]) -> bool:
        """Run scripts one after the other, as a delivery does; each is carried out before the next."""
        self.errors.clear()
        scripts = [script for path in paths if (script := self._load(path)) is not None]
        if len(scripts) < len(paths):
            return False
        problems: list[str] = []

        def between(result: Result) -> None:
            edited = result.message or run.message
            problems.extend(self.postman.carry_out(result, self.received, edited, run.envelope, hold=True))

        running = run_sequence(
            scripts,
            run.message.snapshot(),
            run.envelope,
            settings=self.settings,
            environment=ENVIRONMENT,
            between=between,
        )
        with self._nested(run):
            result = answered(running, self.host)
        failed = result.failed
        self._take_errors(result, 0)
        problems += self.postman.carry_out(result, self.received, result.message or run.message, run.envelope)
        self.errors += problems
        return not failed and not problems

    # The result

    def drop_result(self, run: Run) -> None:
        """Begin a new result."""
        run.result = Result()
        run.mark = 0
        run.state.pop("imap4flags", None)  # the internal variable belongs to a result
        self._result_message = None
        self._run_failed = False
        self._state = {}
        run.state.pop(FLAGS, None)

    def carry_out(self, run: Run) -> bool:
        """Do what the result says."""
        self.errors.clear()
        result = run.result
        if result.cancels_keep and not self._run_failed:
            result.implicit_keep = None
        elif result.implicit_keep is None:
            run.end()
        edited = self._result_message or run.message
        self.errors += self.postman.carry_out(result, self.received, edited, run.envelope)
        for record in result.records:
            self.host.answer(record)
        result.records.clear()
        return not self.errors

    # Settings

    def reload(self) -> None:
        """Let the settings that were changed be in force."""
        for key, value in self.overrides.items():
            if value is None:
                self.settings.unset(key)
            else:
                self.settings.set(key, value)
        self.overrides.clear()


PER_MESSAGE = ("body", "foreverypart", "enclose", "extlists")
"""What extensions keep in `Run.state` of one message."""

FLAGS = "imap4flags"
"""Where the flags that a script sees are in `Run.state`."""


def answered(running: Generator[Request, Any, Result], host: TestHost) -> Result:
    """The result of a run whose requests `host` answers."""
    answer: Any = None
    try:
        while True:
            answer = host.answer(running.send(answer))
    except StopIteration as end:
        result: Result = end.value
        return result


def session_of(run: Run) -> Session:
    """The session of a run."""
    found = run.state.get(KEY)
    if not isinstance(found, Session):
        run.fail("the commands of the test language only work in test files")
    return found
