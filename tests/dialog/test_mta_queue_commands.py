"""`tamis queue`, `mailq` and `postqueue` against a real server, while it runs and when it is stopped."""

from __future__ import annotations

import json
import os
import re
import signal
import smtplib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mta.cli_queue import make_app
from mta.queue_access import open_queue
from mta.sendmail import run
from tests.peers.needs import needs
from tests.peers.running import until
from tests.peers.site import ALICE, BOB, PASSWORD, Site, site

DEAD = 'backend = "b"\n[backends.b]\naddresses = ["127.0.0.1:9"]\n'
"""A mail store that nobody is."""

TAKEOVER = 10.0
"""Seconds after which a heartbeat that stands still is a death: whoever is faster has not waited for it."""


class Desk:
    """A site with a dead mail store, and its command line in this process."""

    def __init__(self, server: Site, running: bool) -> None:
        self.server = server
        self.running = running

    def tamis(self, *words: str, status: int = 0) -> str:
        """`tamis queue` with these words; what it prints on standard output."""
        result: Result = CliRunner().invoke(
            make_app(open_queue), [words[0], "-c", str(self.server.path), *words[1:]]
        )
        assert result.exit_code == status, result.output + result.stderr
        assert "Traceback" not in result.output
        self.error = result.stderr
        return result.stdout_bytes.decode()

    def rows(self, *words: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.tamis("list", "--json", *words).splitlines()]

    def ids(self, *words: str) -> list[str]:
        return [row["id"] for row in self.rows(*words)]

    def postfix(self, name: str, *words: str) -> int:
        os.environ["TAMIS_CONFIG"] = str(self.server.path)
        try:
            return run(name, words)
        finally:
            del os.environ["TAMIS_CONFIG"]


def send(server: Site, subject: str, *recipients: str, body: str = "hi\r\n") -> str:
    """Have a message queued; its id."""
    with smtplib.SMTP("localhost", server.submission) as client:
        client.starttls(context=server.trust())
        client.login(ALICE, PASSWORD)
        client.mail(ALICE)
        for recipient in recipients or (ALICE, BOB):
            client.rcpt(recipient)
        code, text = client.data(f"From: {ALICE}\r\nSubject: {subject}\r\n\r\n{body}".encode())
    assert code == 250, text
    return text.decode().split()[-1]


@pytest.fixture(params=[True, False], ids=["running", "stopped"])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    with site(tmp_path, backend=DEAD, recipients="all") as server:
        for number in range(3):
            send(server, f"message {number}")
        send(server, "large", ALICE, body="x" * 78 + "\r\n" + "0123456789abcdef\r\n" * 20_000)
        if not request.param:
            server.stop()
        yield Desk(server, request.param)
        if request.param:
            server.stop()


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server that has stopped with a message in its queue."""
    with site(tmp_path_factory.mktemp("stopped"), backend=DEAD, recipients="all") as server:
        send(server, "waits", ALICE)
        server.stop()
        yield server


def test_look(desk: Desk) -> None:
    rows = desk.rows()
    assert len(rows) == 4
    assert {row["sender"] for row in rows} == {ALICE}
    assert {row["node"] for row in rows} == {"mx.example.test"}
    assert [r["status"] for r in rows[0]["recipients"]][:1] == ["deferred"]
    assert "451 4.4.1" in rows[0]["recipients"][0]["reply"]
    table = desk.tamis("list")
    assert table.count("bob@example.test") == 3
    assert max(len(line) for line in table.splitlines()) <= 80
    assert table.splitlines()[-1].startswith("4 messages, ")
    assert desk.tamis("list", "recipient=nobody@example.test") == "No message in the queue matches.\n"
    assert len(desk.ids(f"recipient={BOB}")) == len(desk.ids("--filter", f"recipient={BOB}")) == 3
    assert desk.ids("older=1h", "-f", f"recipient={BOB}") == []
    assert "-- " in desk.tamis("list", "--mailq").splitlines()[-1]
    stats = json.loads(desk.tamis("stats", "--json"))
    assert sum(stats["domains"]["example.test"]) == 7
    assert "example.test" in desk.tamis("stats")


def test_show(desk: Desk) -> None:
    large = max(desk.rows(), key=lambda row: int(row["size"]))
    facts = json.loads(desk.tamis("show", "--json", large["id"]))
    assert facts["recipients"][0]["attempts"] == 1
    assert facts["envelope"]["vouching"] == "login"
    assert "Subject: large\r\n" in facts["header"]
    assert "To <alice@example.test>: deferred, tried 1 time" in desk.tamis("show", large["id"])
    assert desk.tamis("show", "--headers", large["id"]).endswith("Subject: large\n\n")
    if desk.running:
        desk.tamis("retry", large["id"])

        def again() -> list[dict[str, Any]]:
            tries: list[dict[str, Any]] = json.loads(desk.tamis("show", "--json", large["id"]))["tries"]
            return tries if len(tries) == 2 else []

        tries = until(again, "a second try")
        assert all(one["to"] == ALICE and one["reply"].startswith("451 4.4.1 ") for one in tries)
        shown = re.sub(r"\s+", " ", desk.tamis("show", large["id"]))
        # While another message tries the server this one is told so, or what the other has met; else it has
        # its own try.
        refused = r"127\.0\.0\.1:9: Connection refused"
        why = rf"\((?:{refused}|being probed|451 4\.4\.1 [^()]*\({refused}\))\)"
        assert re.search(rf" \d+s ago: 451 4\.4\.1 [^()]*reached[^()]* {why}", shown), shown
        assert len(re.findall(why, shown)) == 2, shown
        assert "(127.0.0.1:9: Connection refused)" in shown
    raw = desk.tamis("show", "--raw", large["id"])
    assert raw.count("0123456789abcdef") == 20_000
    desk.tamis("show", "01M8FKJGP6GAXE8R6EWXSWWB0P", status=1)
    assert "01M8FKJGP6GAXE8R6EWXSWWB0P" in desk.error


def test_act(desk: Desk) -> None:
    first, second, third, large = desk.ids()
    assert desk.tamis("hold", first, large) == "hold: 2 messages\n"
    assert sorted(desk.ids("status=held")) == sorted([first, large])
    assert json.loads(desk.tamis("release", "--json", large)) == {"action": "release", "done": [large]}
    assert desk.ids("status=held") == [first]
    assert desk.tamis("delete", "--filter", "status=held") == "delete: 1 message\n"
    desk.tamis("delete", first, status=1)
    assert desk.error == f"tamis: nothing to delete of {first}\n"
    assert desk.tamis("redirect", "--to", "carol@example.test", second) == "redirect: 1 message\n"
    (moved,) = desk.rows("recipient=carol@example.test")
    assert moved["id"] != second
    assert [r["address"] for r in moved["recipients"]] == ["carol@example.test"]
    assert desk.tamis("bounce", third) == "bounce: 1 message\n"
    (report,) = desk.rows("sender=<>")
    assert [r["address"] for r in report["recipients"]] == [ALICE]
    assert "returned by an administrator" in desk.tamis("show", "--raw", report["id"])
    when = "now" if desk.running else "when a server starts"
    assert desk.tamis("flush").endswith(f"will be tried {when}\n")
    desk.tamis("flush", "backend:typo", status=1)
    assert desk.error.startswith("tamis: no message waits for backend:typo")
    if desk.running:
        assert desk.error.endswith("; messages wait for backend:b\n")
    assert desk.tamis("retry", "--all").startswith("retry: ")
    desk.tamis("delete", status=2)
    desk.tamis("delete", "--filter", "recipient=nobody", status=2)
    desk.tamis("redirect", "--to", "nonsense", large, status=2)
    assert "no address" in desk.error


def test_export_and_import(desk: Desk, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    before = {name: json.loads(desk.tamis("show", "--json", name)) for name in desk.ids()}
    assert desk.tamis("export", "--all", "--to", str(folder)) == f"export: 4 messages in {folder}\n"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        f"{name}.{ending}" for name in before for ending in ("eml", "json")
    )
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert desk.tamis("import", str(folder)) == "import: 0 messages, 4 were in the queue before\n"
    desk.tamis("delete", "--all")
    assert desk.tamis("import", str(folder)) == "import: 4 messages\n"
    found = until(lambda: ids if len(ids := desk.ids()) == 4 else None, "messages that were imported")
    assert set(found) == set(before)
    for name, facts in before.items():
        again = json.loads(desk.tamis("show", "--json", name))
        for key in ("header", "envelope", "origin", "expires", "priority", "tags"):
            assert again[key] == facts[key]
        assert [r["reply"] for r in again["row"]["recipients"]] == [
            r["reply"] for r in facts["row"]["recipients"]
        ]
        content = (folder / f"{name}.eml").read_bytes()
        assert desk.tamis("show", "--raw", name).encode() == content
    desk.tamis("export", "01M8FKJGP6GAXE8R6EWXSWWB0P", "--to", str(folder), status=1)
    assert "01M8FKJGP6GAXE8R6EWXSWWB0P" in desk.error
    desk.tamis("export", "--to", str(folder), status=2)


def test_import_of_what_is_no_message(desk: Desk, tmp_path: Path) -> None:
    for name, text in (("a", "{"), ("b", '{"format": 9, "sender": "", "recipients": []}')):
        (tmp_path / f"{name}.json").write_text(text)
        (tmp_path / f"{name}.eml").write_text("Subject: x\n\nx\n")
    (tmp_path / "c.json").write_text('{"format": 1, "sender": "", "recipients": [{"address": "x"}]}')
    (tmp_path / "d.json").write_text(
        '{"format": 1, "sender": "", "recipients": [{"address": "new@example.test"}]}'
    )
    (tmp_path / "d.eml").write_text("Subject: by hand\n\nhello\n")
    files = [str(tmp_path / f"{name}.json") for name in "abcd"]
    assert desk.tamis("import", *files, status=1) == "import: 1 message\n"
    problems = desk.error.splitlines()
    assert len(problems) == 3
    assert "format 9" in problems[1]
    assert "c.eml" in problems[2]
    (name,) = until(lambda: desk.ids("recipient=new@example.test"), "the good one")
    assert desk.tamis("show", "--raw", name) == "Subject: by hand\r\n\r\nhello\r\n"
    (tmp_path / "alone.eml").write_text("Subject: x\n\n")
    desk.tamis("import", str(tmp_path / "alone.eml"), status=1)
    assert "alone.json" in desk.error
    desk.tamis("import", str(tmp_path / "nothing"), status=1)


def test_stores(desk: Desk) -> None:
    facts = [json.loads(line) for line in desk.tamis("streams", "--json").splitlines()]
    assert sum(stream["messages"] for stream in facts) == 4
    assert {stream["state"] for stream in facts} == {"alive" if desk.running else "closed"}
    assert "process " in desk.tamis("streams")
    assert desk.tamis("probe").splitlines()[-1].endswith(": ok")
    assert desk.tamis("fsck").rstrip().endswith("4 messages, 1 bodies: ok")


def test_damage_is_found(desk: Desk) -> None:
    if desk.running:
        desk.server.stop()
        desk.running = False
    (body,) = (desk.server.directory / "state" / "queue" / "body").glob("*/*")
    octets = bytearray(body.read_bytes())
    octets[len(octets) // 2] ^= 1
    body.chmod(0o600)
    body.write_bytes(octets)
    found = desk.tamis("fsck", status=4)
    assert f"body/{body.parent.name}/{body.name}" in found
    assert "(mail is lost, or may be)" in found
    report = json.loads(desk.tamis("fsck", "--json", status=4))
    assert [finding["lost"] for finding in report["findings"]] == [True]
    desk.server.start()
    desk.running = True


def test_names_of_postfix(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.postfix("mailq") == 0
    text = capsys.readouterr().out
    assert text.splitlines()[0].startswith("----Queue ID---")
    assert text.splitlines()[-1].endswith(" Kbytes in 4 Requests.")
    assert desk.postfix("sendmail", "-bp") == 0
    assert capsys.readouterr().out == text
    assert desk.postfix("postqueue", "-j") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 4
    assert desk.postfix("postqueue", "-f") == 0
    assert desk.postfix("sendmail", "-q") == 0
    assert desk.postfix("postqueue", "-i", lines[0]["queue_id"]) == 0
    assert desk.postfix("postqueue", "-s", "example.test") == 0
    assert desk.postfix("postqueue", "-i", "01M8FKJGP6GAXE8R6EWXSWWB0P") == 69
    assert desk.postfix("postqueue") == 64
    for no_domain in ("[", ""):
        assert desk.postfix("postqueue", "-s", no_domain) == 64
    assert "-s '[': no domain" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["list"], ["list", "--json"], ["show", "ID", "--raw"], ["stats"], []])
def test_output_that_cannot_be_written(stopped: Site, words: list[str]) -> None:
    """One line says so, of whatever program."""
    (id,) = (json.loads(line)["id"] for line in stopped.command("queue", "list", "--json").splitlines())
    words = ["mailq"] if not words else ["queue", *(id if word == "ID" else word for word in words)]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mta.cli", *words],
            env={**os.environ, "TAMIS_CONFIG": str(stopped.path)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.stderr == "tamis: the output cannot be written: No space left on device\n"
    assert done.returncode == 74


def test_the_metrics_of_a_server_with_mail_that_waits(tmp_path: Path) -> None:
    """The expressions of docs/queue.md mean what they say."""
    with site(tmp_path, backend=DEAD, recipients="all") as server:
        send(server, "waits", ALICE)

        def metrics() -> dict[str, Any]:
            found: dict[str, Any] = json.loads(server.command("status", "--json"))["metrics"]
            return found if found["queue_messages"] == {"": 1} else {}

        found = until(metrics, "the gauges")
        assert found["queue_open"] == {"": 1}
        assert found["queue_room_bytes"][""] > 0
        assert found["queue_recipients"] == {"": 1}
        Desk(server, True).tamis("flush")
        found = until(lambda: (more := metrics()) and more["queue_tries"] and more, "a try")
        assert found["queue_tries"] == {"temporary\tbackend:b": 1}
        server.stop()


def test_after_a_reload_the_whole_queue_is_seen_at_once(tmp_path: Path) -> None:
    with site(tmp_path, backend=DEAD, recipients="all") as server:
        desk = Desk(server, running=True)
        sent = sorted(send(server, f"message {number}", ALICE) for number in range(12))
        for state in ("held", "deferred"):
            assert server.request({"command": "reload"})["ok"]
            assert desk.tamis("hold" if state == "held" else "release", "--all").split()[1] == "12"
            assert server.request({"command": "reload"})["ok"]
            rows = desk.rows()
            assert sorted(row["id"] for row in rows) == sent
        assert server.request({"command": "reload"})["ok"]
        assert json.loads(desk.tamis("show", "--json", sent[0]))["row"]["id"] == sent[0]
        assert server.request({"command": "reload"})["ok"]
        assert desk.tamis("flush") == "12 messages will be tried now\n"
        server.stop()


def test_a_worker_that_hangs(tmp_path: Path) -> None:
    with site(tmp_path, backend=DEAD, recipients="all") as server:
        desk = Desk(server, running=True)
        sent = {send(server, f"message {number}", ALICE) for number in range(12)}
        (name, pid), *_ = sorted(server.workers().items())
        reply = f"tamis: incomplete: {name}: has given no sign of life for 5 s\n"
        os.kill(pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            listed = desk.tamis("list", "--json", status=1).splitlines()
            assert time.monotonic() - began < 20
            assert reply in desk.error
            shown = {json.loads(line)["id"] for line in listed[:-1]}
            assert shown < sent
            assert json.loads(listed[-1])["missing"][name] == "has given no sign of life for 5 s"
            # By now the others may have begun to take it for dead, and that is told, too.
            assert int(desk.tamis("flush", status=1).split()[0]) >= len(shown)
            assert reply in desk.error
        finally:
            os.kill(pid, signal.SIGCONT)
        # While it was stopped it may have been taken for dead; whose they are now is waited for.
        until(lambda: set(desk.ids()) == sent, "all messages are shown again")
        server.stop()


def test_a_server_that_starts_has_what_was_changed(tmp_path: Path) -> None:
    with site(tmp_path, backend=DEAD, recipients="all") as server:
        desk = Desk(server, True)
        kept, deleted = send(server, "kept"), send(server, "deleted")
        server.stop()
        desk.tamis("delete", deleted)
        desk.tamis("hold", kept)
        server.start()
        began = time.monotonic()
        until(lambda: desk.ids() == [kept], "the message that is left")
        assert time.monotonic() - began < TAKEOVER
        assert desk.ids("status=held") == [kept]
        server.stop()


def test_orders_to_a_stopped_server_are_in_its_log(tmp_path: Path) -> None:
    """Where that is a file: who looks for a message finds its end there."""
    with site(tmp_path, backend=DEAD, recipients="all") as server:
        desk, log = Desk(server, True), tmp_path / "orders"
        first, second = send(server, "one"), send(server, "two")
        server.stop()
        with server.path.open("a") as file:
            file.write(f'[log]\ntarget = "{log}"\nformat = "json"\n')

        def tamis(*words: str) -> str:
            command = [sys.executable, "-m", "mta.cli", "queue", words[0], "-c", str(server.path), *words[1:]]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
            return done.stderr

        assert tamis("delete", first) == ""
        assert tamis("retry", "--all") == ""
        assert tamis("redirect", "--all", "--to", BOB) == ""
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        found = [(line["event"], line["queue"], line["order"], line.get("to")) for line in lines]
        assert found == [("ordered", first, "delete", None), ("ordered", second, "redirect", BOB)]
        log.unlink()
        log.mkdir()
        assert f"it will not be in the log: {log}: Is a directory" in tamis("hold", "--all")
        assert len(desk.ids("status=held")) == 1


def test_a_killed_server_is_worked_on_at_once(tmp_path: Path) -> None:
    with site(tmp_path, backend=DEAD, recipients="all") as server:
        desk = Desk(server, True)
        name = send(server, "left behind")
        server.end()
        began = time.monotonic()
        assert desk.tamis("hold", name) == "hold: 1 message\n"
        assert time.monotonic() - began < TAKEOVER
        assert desk.ids("status=held") == [name]


def test_no_queue(tmp_path: Path) -> None:
    with site(tmp_path, backend=DEAD, recipients="all", queue="enabled = false") as server:
        desk = Desk(server, True)
        desk.tamis("list", status=1)
        assert "queue.enabled" in desk.error
        server.stop()
        desk.tamis("list", status=1)
        assert "queue.enabled" in desk.error


def test_stores_that_cannot_be_read(tmp_path: Path) -> None:
    server = Site(tmp_path)
    server.set_up(backend=DEAD, recipients="all")
    desk = Desk(server, False)
    for words in (["list"], ["show", "01M8FKJGP6GAXE8R6EWXSWWB0P"], ["flush"], ["streams"], ["fsck"]):
        desk.tamis(*words, status=1)
        assert desk.error.endswith("there is no queue yet\n")
    (tmp_path / "state" / "queue").write_text("no folder")
    desk.tamis("list", status=1)
    assert "Not a directory" in desk.error
    desk.tamis("probe", status=1)
    assert "Not a directory" in desk.error
    # What is wrong elsewhere does not keep anybody from the queue.
    (tmp_path / "state" / "queue").unlink()
    (tmp_path / "main.key").unlink()
    desk.tamis("list", status=1)
    assert desk.error.endswith("there is no queue yet\n")
    server.path.write_text("[queue]\nretries = 3\n")
    desk.tamis("list", status=78)


def test_looking_at_a_disk_that_is_read_only(stopped: Site, tmp_path: Path) -> None:
    needs(root=True)
    queue = stopped.directory / "state" / "queue"
    desk = Desk(stopped, False)
    subprocess.run(["mount", "--bind", queue, queue], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", queue], check=True)
        (name,) = desk.ids()
        assert "Subject: waits" in desk.tamis("show", "--headers", name)
        assert desk.tamis("streams")
        assert "1 message" in desk.tamis("fsck")
        assert desk.tamis("export", name, "--to", str(tmp_path / "out")).startswith("export: 1 message ")
        desk.tamis("delete", name, status=1)
        assert "Read-only file system" in desk.error
    finally:
        subprocess.run(["umount", "--lazy", queue], check=True)
    assert desk.ids() == [name]


def test_messages_of_a_node_that_lives_are_left_alone(tmp_path: Path) -> None:
    shared = f'[queue_stores.shared]\nurl = "file:{tmp_path}/shared"\n'
    (tmp_path / "mx1").mkdir()
    (tmp_path / "mx2").mkdir()
    queue = 'stores = ["shared"]\nnode = "{}"\n'
    with site(
        tmp_path / "mx1", backend=DEAD, recipients="all", queue=queue.format("mx1"), more=shared
    ) as alive:
        name = send(alive, "theirs")
        stopped = Site(tmp_path / "mx2")
        stopped.set_up(backend=DEAD, recipients="all", queue=queue.format("mx2"), more=shared)
        desk = Desk(stopped, False)
        assert [(row["id"], row["node"]) for row in desk.rows()] == [(name, "mx1")]
        desk.tamis("delete", name, status=1)
        assert f"message {name} is with node mx1" in desk.error
        assert desk.tamis("delete", "--all") == "delete: 0 messages\n"
        assert desk.tamis("export", "--all", "--to", str(tmp_path / "out")).startswith("export: 1 message ")
        assert Desk(alive, True).ids() == [name]
        alive.stop()
