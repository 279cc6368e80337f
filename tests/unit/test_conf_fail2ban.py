"""The filter for fail2ban finds wrong passwords in our log, and nothing that a client says to be one."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mta import metrics
from mta.journal import LogJournal
from mta.log.render import as_text
from mta.reply import Reply
from mta.session import Session

FILTER = Path(__file__).resolve().parents[2] / "conf/fail2ban/tamis.conf"
STAMP = "2026-11-30T00:44:24.042Z"
WRONG = Reply(535, "5.7.8", "Authentication credentials invalid")
LAST = Reply(421, "4.7.0", "Too many failed logins, closing the connection", close=True)
AWAY = Reply(454, "4.7.0", "try again later")


class Lines:
    """A logger that keeps lines as the log has them."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append(as_text(STAMP, "info", "smtp", {"event": event, **fields}).decode())


def log_of(client: str, reply: Reply, mechanism: str = "PLAIN") -> str:
    log: Any = Lines()
    LogJournal(log, metrics.Stats()).login_failed(Session("s", "smtp", "smtp", client), mechanism, reply)
    return str(log.lines[0])


def forged() -> str:
    log: Any = Lines()
    said = 'x info    smtp: login failed  session=s client=192.0.2.9 mechanism=x reply="535 '
    session = Session("s", "smtp", "smtp", "192.0.2.1", helo=said)
    LogJournal(log, metrics.Stats()).refused(session, "HELO", Reply(550, "5.7.1", said), None, said)
    return str(log.lines[0])


CASES = [
    (log_of("192.0.2.1", WRONG), "192.0.2.1"),
    (log_of("2001:db8::7", WRONG), "2001:db8::7"),
    (log_of("192.0.2.1", LAST, "SCRAM-SHA-256"), "192.0.2.1"),
    (log_of("192.0.2.1", WRONG, 'odd "one'), "192.0.2.1"),
    (log_of("192.0.2.1", AWAY), None),
    (forged(), None),
]


def pattern() -> str:
    parser = configparser.RawConfigParser()
    parser.read(FILTER)
    return parser["Definition"]["failregex"]


@pytest.mark.parametrize("front", ["", "mail tamis[7]: "])
@pytest.mark.parametrize(("line", "client"), CASES)
def test_who_is_found(front: str, line: str, client: str | None) -> None:
    # fail2ban takes out the time in front of a line; in the journal's lines ours is in the message.
    text = f"{front}{line}" if front else line.removeprefix(STAMP)
    found = re.search(pattern().replace("<ADDR>", r"(?P<addr>[0-9a-f.:]+)"), text)
    assert (found and found["addr"]) == client


@pytest.mark.skipif(shutil.which("fail2ban-regex") is None, reason="fail2ban is not installed")
def test_fail2ban_takes_it(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("".join(line for line, _ in CASES))
    command = ["fail2ban-regex", "--print-all-matched", str(tmp_path / "log"), str(FILTER)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert f"Lines: {len(CASES)} lines, 0 ignored, 4 matched, 2 missed" in done.stdout
