"""The store as a process of its own: order of its system calls, a full disk, SIGTERM and SIGKILL.

The first test reads the order of writes from strace: what a crash can lose is decided by that order and by
nothing else that a test could see.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from mta.store.settings import StoreSettings
from tests.peers.needs import needs, program
from tests.peers.store import RawClient

STARTUP = 60.0
"""Seconds; under strace, on a busy machine."""
ANSWER = '"250 2.0.0 Stored'
TRACED = "openat,mkdir,mkdirat,write,writev,sendto,sendmsg,fsync,fdatasync,rename,renameat,renameat2"
TEXT = b"Subject: hi\r\n\r\nHello.\r\n.\r\n"


@dataclass
class Process:
    popen: subprocess.Popen[bytes]
    lmtp: Path

    def connect(self) -> RawClient:
        deadline = time.monotonic() + STARTUP
        while True:
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(STARTUP)
            try:
                connection.connect(str(self.lmtp))
            except (FileNotFoundError, ConnectionRefusedError):
                connection.close()
                assert self.popen.poll() is None, "the store did not start"
                assert time.monotonic() < deadline
                time.sleep(0.02)
            else:
                client = RawClient(connection)
                client.hello()
                return client

    def stop(self) -> int:
        self.popen.terminate()
        return self.popen.wait(STARTUP)


@contextmanager
def process(tmp_path: Path, root: Path, prefix: Sequence[str] = ()) -> Iterator[Process]:
    """A store for alice and bob@example.test; `prefix` is a command that runs it."""
    users = tmp_path / "users"
    users.write_text("alice@example.test:*\nbob@example.test:*\n")
    users.chmod(0o640)
    lmtp = tmp_path / "lmtp"
    settings = StoreSettings(
        root=str(root), users_file=str(users), hostname="store.example.test", listen=(f"unix:{lmtp}",)
    )
    (tmp_path / "settings.json").write_bytes(msgspec.json.encode(settings))
    command = [*prefix, sys.executable, "-m", "mta.store", str(tmp_path / "settings.json")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as popen:
        try:
            yield Process(popen, lmtp)
        finally:
            popen.kill()


def deliver(client: RawClient, text: bytes, *recipients: str) -> list[str]:
    client.ask("MAIL FROM:<s@example.org>", *(f"RCPT TO:<{r}@example.test>" for r in recipients), "DATA")
    client.send(text)
    return [client.reply() for _ in recipients]


def store_process(tracer: int) -> int:
    """The child of strace or unshare."""
    children = Path(f"/proc/{tracer}/task/{tracer}/children").read_text().split()
    return int(children[0])


def system_calls(trace: Path) -> Iterator[str]:
    """Calls in the order in which they ended, but the answer when it began: the order that must hold."""
    begun: dict[str, str] = {}
    for line in trace.read_text().splitlines():
        pid, _, call = line.partition(" ")
        call = call.lstrip()
        if call.endswith("<unfinished ...>"):
            call = call.removesuffix("<unfinished ...>")
            if ANSWER in call:
                yield call
            else:
                begun[pid] = call
        elif call.startswith("<... "):
            if pid in begun:
                yield begun.pop(pid) + call.partition(" resumed>")[2]
        else:
            yield call


def test_a_message_is_on_the_disk_before_the_client_hears_of_it(tmp_path: Path) -> None:
    root, trace = tmp_path / "mail", tmp_path / "trace"
    needs("strace")
    strace = program("strace")
    options = ["-f", "-y", "-s", "64", "-o", str(trace), "-e", f"trace={TRACED}"]
    with process(tmp_path, root, [strace, *options]) as store:
        with store.connect() as client:
            for _ in range(2):  # the first one makes the mailbox too
                assert deliver(client, TEXT, "alice")[0].startswith("250 2.0.0")
        os.kill(store_process(store.popen.pid), signal.SIGTERM)
        store.popen.wait(STARTUP)

    box = f"{root}/example.test/alice"
    steps = [
        ("make", re.compile(rf'mkdir\w*\(.*"{box}/new"')),
        ("flush mailbox", re.compile(rf"fsync\(\d+<{box}>")),
        ("flush domain", re.compile(rf"fsync\(\d+<{root}/example\.test>")),
        ("flush root", re.compile(rf"fsync\(\d+<{root}>")),
        ("complete", re.compile(rf'mkdir\w*\(.*"{box}/cur"')),
        ("write", re.compile(rf"write\(\d+<{box}/tmp/[^>]+>.*Return-Path")),
        ("flush file", re.compile(rf"fsync\(\d+<{box}/tmp/[^>]+>")),
        ("rename", re.compile(r"rename\w*\(\d+<.*/alice/tmp>.*/alice/new>")),
        ("flush new", re.compile(rf"fsync\(\d+<{box}/new>")),
        ("answer", re.compile(re.escape(ANSWER))),
    ]
    seen = [name for call in system_calls(trace) for name, pattern in steps if pattern.search(call)]
    message = ["write", "flush file", "rename", "flush new", "answer"]
    first_box = ["make", "flush mailbox", "flush domain", "flush root", "complete", "flush mailbox"]
    assert seen == [*first_box, *message, *message]


def test_a_full_disk_is_452_and_leaves_nothing(tmp_path: Path) -> None:
    """A tmpfs of 256 kB that only the store's mount namespace has; tests look at it through /proc."""
    root = tmp_path / "mail"
    root.mkdir()
    unshare = ["unshare", "--mount", "--fork", "--kill-child"]
    if os.geteuid() != 0:
        unshare += ["--user", "--map-root-user"]
    mount = f'mount -t tmpfs -o size=256k,mode=700 none "{root}" && exec "$@"'
    with process(tmp_path, root, [*unshare, "sh", "-c", mount, "sh"]) as store, store.connect() as client:
        inside = Path(f"/proc/{store_process(store.popen.pid)}/root{root}")
        large = b"Subject: large\r\n\r\n" + (b"x" * 70 + b"\r\n") * 2000 + b".\r\n"
        assert deliver(client, TEXT, "alice", "bob")[1].startswith("250 2.0.0")
        assert deliver(client, large, "alice")[0].startswith("250 2.0.0")
        # The second copy of the same message has no room any more; the session goes on.
        assert deliver(client, large, "bob") == ["452 4.3.1 Insufficient system storage"]
        assert list(inside.glob("*/*/tmp/*")) == []
        assert len(list(inside.glob("*/bob/new/*"))) == 1
        assert deliver(client, TEXT, "bob")[0].startswith("250 2.0.0")
        for path in inside.glob("*/alice/new/*"):
            path.unlink()
        assert deliver(client, large, "bob")[0].startswith("250 2.0.0")


def test_sigterm_ends_it_with_status_0(tmp_path: Path) -> None:
    with process(tmp_path, tmp_path / "mail") as store, store.connect() as client:
        client.ask("MAIL FROM:<s@example.org>", "RCPT TO:<alice@example.test>", "DATA")
        store.popen.terminate()
        time.sleep(0.2)
        client.send(TEXT)
        assert client.reply().startswith("250 2.0.0")
        assert store.popen.wait(STARTUP) == 0
    assert len(list((tmp_path / "mail/example.test/alice/new").iterdir())) == 1


def test_nothing_that_was_answered_250_is_missing_after_sigkill(tmp_path: Path) -> None:
    root = tmp_path / "mail"
    answered = 0
    with process(tmp_path, root) as store, store.connect() as client:
        client.connection.settimeout(5)
        while True:
            client.send(b"MAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n")
            if answered == 30:
                store.popen.kill()
            try:
                replies = [client.reply() for _ in range(3)]
                client.send(TEXT)
                replies.append(client.reply())
            except (ConnectionError, BrokenPipeError):
                break
            if not replies[-1]:
                break
            assert replies[-1].startswith("250 2.0.0")
            answered += 1
    assert answered >= 30
    stored = [path.read_bytes() for path in (root / "example.test/alice/new").iterdir()]
    assert answered <= len(stored) <= answered + 1
    assert all(text.endswith(b"\nHello.\n") for text in stored)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (b"{", "Input data was truncated"),
        (b"{}", "missing required field `root`"),
        (b'{"root": "/nowhere", "users_file": "/nowhere/users", "hostname": "x"}', "No such file"),
    ],
)
def test_wrong_settings_end_it_with_the_reason(tmp_path: Path, settings: bytes, message: str) -> None:
    path = tmp_path / "settings.json"
    path.write_bytes(settings)
    done = subprocess.run(
        [sys.executable, "-m", "mta.store", str(path)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 78
    assert message in done.stderr
