"""The state of one test file while it runs; the commands of the language are thin words around it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sieve_ext.diagnostic import InvalidScript
from sieve_ext.message import Message
from sieve_ext.runtime.envelope import Envelope
from sieve_ext.runtime.errors import Leave
from sieve_ext.runtime.execute import execute
from sieve_ext.runtime.result import Result
from sieve_ext.runtime.run import Run
from sieve_ext.runtime.script import Script, load
from sieve_ext.runtime.settings import Settings
from sieve_ext.testsuite.delivery import Postman
from sieve_ext.testsuite.host import TestHost
from sieve_ext.testsuite.mailstore import MailStore, StoredMessage
from sieve_ext.testsuite.report import Outcome, Report
from sieve_ext.testsuite.scripts import TestScripts, script_name
from sieve_ext.testsuite.surroundings import MESSAGE, derived_envelope

if TYPE_CHECKING:
    from sieve_ext.language.dialect import Dialect

KEY = "vnd.dovecot.testsuite"
"""Where the session is in `Run.state`; the name of the capability."""

ENVIRONMENT = {"location": "MS", "phase": "post", "name": "Pigeonhole Sieve"}
"""Items of the environment (RFC 5183) in a test. The name is that which files written for the reference
implementation ask for."""

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
        self.host = TestHost(self)
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
        self._result_message: Message | None = None
        self._run_failed = False
        self._directories = [self.directory]
        self._script_directory = self.directory
        self._fails: list[bool] = []

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
        run.message = Message(octets)
        run.envelope = derived_envelope(run.message)
        self.forget(run)

    def forget(self, run: Run) -> None:
        """Drop what is remembered of the message."""
        self._result_message = None
        run.match_values = ()
        for name in [name for name in run.state if name in PER_MESSAGE]:
            del run.state[name]

    def set_stored(self, run: Run, stored: StoredMessage) -> None:
        """Test a message of the mail store, with its flags."""
        self.set_message(run, stored.octets)
        self.host.show_flags(run, stored.flags)

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
        failed = self._execute(run, self.script, message, run.envelope, run.result, {KEY: self})
        self._run_failed = run.result.failed
        self._result_message = run.result.message
        run.result.failed = False
        return not failed

    def _execute(
        self,
        run: Run,
        script: Script,
        message: Message,
        envelope: Envelope,
        result: Result,
        state: dict[str, object],
    ) -> bool:
        """Run a script; True when it failed, its errors being kept."""
        if len(self._fails) >= DEPTH:
            run.fail(f"scripts that run scripts are nested too deeply (max {DEPTH})")
        known = len(result.errors)
        before = time.thread_time()
        self._fails.append(False)
        self._directories.append(self._script_directory)
        execute(
            script,
            message,
            envelope,
            self.host,
            settings=self.settings,
            environment=ENVIRONMENT,
            result=result,
            state=state,
        )
        self._directories.pop()
        has_test_failed = self._fails.pop()
        run.waited(time.thread_time() - before)
        self.errors += [fault.text for fault in result.errors[known:]]
        del result.errors[known:]
        return result.failed or has_test_failed

    def run_sequence(self, run: Run, paths: Sequence[str]) -> bool:
        """Run scripts one after the other, as a delivery does; each is carried out before the next."""
        self.errors.clear()
        scripts = [self._load(path) for path in paths]
        if None in scripts:
            return False
        result = Result()
        message = run.message.snapshot()
        state: dict[str, object] = {KEY: self}
        good = True
        for place, script in enumerate(scripts):
            mark = len(result.actions)
            if script is None or self._execute(run, script, message, run.envelope, result, state):
                good = False
            message = result.message or message
            own = result.actions[mark:]
            is_last = place == len(scripts) - 1 or not good
            keep = result.implicit_keep
            if keep is None and not any(one.cancels_keep for one in own):
                keep = self.host.implicit_keep(message)
            keeps = keep is not None or any(self.host.is_keep(one) for one in own)
            if not keeps or is_last:
                problems = self.postman.carry_out(result, message, run.envelope, keep)
            else:
                problems = self.postman.carry_out(result, message, run.envelope, None, hold=True)
                result.actions = [one for one in result.actions if not self.host.is_keep(one)]
            self.errors += problems
            if problems or not keeps or is_last:
                return good and not problems
        return good

    # The result

    def drop_result(self, run: Run) -> None:
        """Begin a new result."""
        run.result = Result()
        run.mark = 0
        run.state.pop("imap4flags", None)  # the internal variable belongs to a result
        self._result_message = None
        self._run_failed = False

    def carry_out(self, run: Run) -> bool:
        """Do what the result says."""
        self.errors.clear()
        result = run.result
        if result.cancels_keep and not self._run_failed:
            result.implicit_keep = None
        elif result.implicit_keep is None:
            run.end()
        message = self._result_message or run.message
        self.errors += self.postman.carry_out(result, message, run.envelope, result.implicit_keep)
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


PER_MESSAGE = frozenset(["body", "mime", "foreverypart", "extlists", "imap4flags", "date"])
"""What extensions keep in `Run.state` that belongs to one message."""


def session_of(run: Run) -> Session:
    """The session of a run."""
    found = run.state.get(KEY)
    if not isinstance(found, Session):
        run.fail("the commands of the test language only work in test files")
    return found
