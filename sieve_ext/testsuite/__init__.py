"""Policy tests in Sieve: the language `vnd.dovecot.testsuite` and what runs it.

    report = run_file(Path("tests/policy.svtest"))
    print(report.text())
    exit(0 if report.passed else 1)

A test file is a Sieve script that may say more: it sets a message, compiles and runs other scripts, carries
their results out into a mail store in memory and looks at what came of it. Administrators of Dovecot write
such files for Pigeonhole; the same files run here. See docs/sieve.md.
"""

from sieve_ext.testsuite.capability import testsuite_dialect
from sieve_ext.testsuite.report import Outcome, Report
from sieve_ext.testsuite.runner import run_file

__all__ = ["Outcome", "Report", "run_file", "testsuite_dialect"]
