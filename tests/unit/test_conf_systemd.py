"""The unit of systemd fits what the server leaves in its folders."""

from __future__ import annotations

from pathlib import Path

from mta import config, sendmail_server

UNIT = Path(__file__).resolve().parents[2] / "conf/systemd/tamis.service"


def test_what_sendmail_reads_is_there_during_a_restart() -> None:
    """With tamis.socket a program that sends mail waits for the server, if it only knows where that is."""
    lines = UNIT.read_text().splitlines()
    folder = config.Process().runtime_directory
    assert f"{folder}/{sendmail_server.FILE_NAME}" == sendmail_server.PUBLISHED
    assert f"RuntimeDirectory={folder.removeprefix('/run/')}" in lines
    assert "RuntimeDirectoryPreserve=restart" in lines


def test_the_clock_is_set_before_certificates_are_looked_at() -> None:
    """A machine without a battery begins each day in the past; 78 is not tried again."""
    (after,) = (line for line in UNIT.read_text().splitlines() if line.startswith("After="))
    assert {"time-set.target", "time-sync.target"} <= set(after.removeprefix("After=").split())
