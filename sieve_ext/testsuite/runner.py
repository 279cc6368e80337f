"""Running a test file from top to bottom."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sieve_ext.diagnostic import InvalidScript
from sieve_ext.message import Message
from sieve_ext.runtime.execute import execute
from sieve_ext.runtime.script import load
from sieve_ext.testsuite.capability import testsuite_dialect
from sieve_ext.testsuite.report import Outcome, Report
from sieve_ext.testsuite.scripts import script_name
from sieve_ext.testsuite.session import KEY, Session
from sieve_ext.testsuite.surroundings import ENVIRONMENT, MESSAGE, derived_envelope

if TYPE_CHECKING:
    from sieve_ext.language.dialect import Dialect
    from sieve_ext.runtime.tracing import Trace


def run_file(
    path: Path | str,
    *,
    expect_failure: bool = False,
    dialect: Dialect | None = None,
    trace: Trace | None = None,
) -> Report:
    """Run a test file. Never raises: what is wrong with the file is in the report.

    `dialect` is that of the file and of the scripts that it tests, by default all that the engine knows.
    """
    report = Report(str(path), expect_failure)
    file = Path(path).absolute()
    session = Session(file, dialect or testsuite_dialect(), report)
    try:
        text = file.read_bytes()
    except OSError as error:
        return _broken(report, f"failed to open: {error.strerror or error}")
    try:
        script = load(
            text, session.dialect, name=script_name(file), settings=session.settings, store=session.scripts
        )
    except InvalidScript as invalid:
        report.errors += [f"{path}: {one}" for one in invalid.errors]
        return _broken(report, "failed to compile testcase script")
    message = session.received = Message(MESSAGE)
    result = execute(
        script,
        message,
        derived_envelope(message),
        session.host,
        settings=session.settings,
        environment=ENVIRONMENT,
        state={KEY: session},
        trace=trace,
    )
    if result.errors and not session.aborted:
        report.errors += [f"{path}: {fault}" for fault in result.errors]
        return _broken(report, f"execution aborted due to error: {result.errors[-1].text}")
    return report


def _broken(report: Report, why: str) -> Report:
    report.lines.append(Outcome(0, "", False, why))
    report.failures += 1
    return report
