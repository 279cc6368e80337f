"""The policy of a real server whose workers come and go while somebody edits the files."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.daemon_scripts import KEPT, policy_files
from tests.dialog.server import Link
from tests.dialog.test_mta_kept_certificates import replace_worker
from tests.dialog.test_policy_reload import BROKEN, POLICY, answer
from tests.peers.running import tamis

DOMAIN = """
[domains."example.test"]
recipients = "all"
script = "domain.sieve"
[backends.b]
addresses = ["127.0.0.1:1"]
[policy]
scripts = ["policy.sieve"]
[queue]
enabled = false
"""
OWN = 'require ["vnd.tamis.stage", "vnd.tamis.reply"];\nstage "rcpt" { reply "not here"; }\n'


def test_a_worker_that_replaces_another_has_the_same_policy(tmp_path: Path) -> None:
    """The files are half edited by then, which a reload refuses."""
    with tamis(tmp_path) as server:
        del server.options["daemon"]
        script, other = tmp_path / "policy.sieve", tmp_path / "domain.sieve"
        script.write_text(POLICY % "first")
        other.write_text(OWN)
        server.configure(workers=1, rest=DOMAIN)
        server.start()
        assert answer(server) == "550 5.7.1 first"
        script.write_text(BROKEN)
        other.unlink()
        assert server.run("reload").returncode == 78
        replace_worker(server)
        assert answer(server) == "550 5.7.1 first"
        script.write_text(POLICY % "second")
        other.write_text(OWN)
        replace_worker(server)
        assert answer(server) == "550 5.7.1 first"
        assert server.run("reload").returncode == 0
        assert answer(server) == "550 5.7.1 second"
        script.write_text(BROKEN)
        replace_worker(server)
        assert answer(server) == "550 5.7.1 second"
        assert "worker fault" not in server.log()


def test_policy_files_without_room_are_read_from_the_disk(tmp_path: Path) -> None:
    scripts = [tmp_path / f"{number}.sieve" for number in range(3)]
    for script in scripts:
        script.write_bytes(b"#" * (KEPT // 2))
    link, said = Link(), list[tuple[str, object]]()

    def warn(event: str, **facts: object) -> None:
        said.append((event, facts))

    with policy_files(link, warn) as read:
        for script in (*scripts, *scripts):
            assert read(str(script)) == (str(script), script.read_bytes())
    assert not link.given
    assert said == [("policy files not kept for later workers", {"octets": 3 * (KEPT // 2)})]


def test_policy_files_of_a_policy_that_cannot_be_made_are_not_kept(tmp_path: Path) -> None:
    script = tmp_path / "policy.sieve"
    script.write_text("keep;")
    link = Link()

    def make() -> None:
        with policy_files(link, print) as read:
            read(str(script))
            raise ValueError("a mistake")

    with pytest.raises(ValueError, match="a mistake"):
        make()
    assert not link.given
