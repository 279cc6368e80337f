"""`make demo` from beginning to end: a real server, three ports, mail in the mailboxes, a clean stop."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_server_ends_with_the_demonstration(tmp_path: Path, number: signal.Signals) -> None:
    """Also when nobody presses Ctrl-C: the terminal was closed, or a service was stopped."""
    command = [sys.executable, "-m", "mta.demo", "--folder", str(tmp_path / "demo"), "--ports", "auto"]
    usual = signal.signal(
        number, signal.SIG_DFL
    )  # what the tests ignore, as under nohup, the demo would ignore
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as demo:
        signal.signal(number, usual)
        try:
            assert demo.stdout is not None
            port = 0
            for line in demo.stdout:
                if found := re.search(r"--server 127\.0\.0\.1:(\d+) --from you", line):
                    port = int(found[1])
                    break
            socket.create_connection(("127.0.0.1", port)).close()
            demo.send_signal(number)
            demo.communicate(timeout=TIMEOUT)
            assert demo.returncode == 128 + number
        finally:
            demo.kill()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
