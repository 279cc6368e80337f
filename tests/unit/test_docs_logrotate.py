"""The lines for logrotate on the page about monitoring are such that logrotate reads."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs/monitoring.md"


@pytest.mark.skipif(shutil.which("logrotate") is None, reason="logrotate is not installed")
def test_logrotate_takes_the_lines_of_the_page(tmp_path: Path) -> None:
    block = re.search(r"```\n(/var/log/tamis/log \{.*?)```", PAGE.read_text(), re.DOTALL)
    assert block is not None
    logs = tmp_path / "logs"
    logs.mkdir(mode=0o755)
    (logs / "log").write_text("a line\n")
    settings = tmp_path / "logrotate.conf"
    settings.write_text(block[1].replace("/var/log/tamis", str(logs)))
    settings.chmod(0o644)
    command = ["logrotate", "--force", "--state", str(tmp_path / "state"), str(settings)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert [one.name for one in logs.iterdir()] == ["log.1"]
