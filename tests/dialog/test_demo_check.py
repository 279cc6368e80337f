"""`make demo` from beginning to end: a real server, three ports, mail in the mailboxes, a clean stop."""

from __future__ import annotations

import subprocess
import sys

TIMEOUT = 90


def test_the_demonstration_checks_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mta.demo", "--check", "--ports", "auto"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["sent", "stored"] * 3 + ["refused", "refused", "ok"]
