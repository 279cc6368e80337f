"""The FileStore on a real disk: the order of its system calls, a full disk, one that is read-only, kill -9.

What a crash can lose is decided by the order of the calls and by nothing else that a test could see, so the
first tests read it from strace.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.peers.needs import needs, program
from tests.peers.running import ROOT

PATIENCE = 30.0
TRACED = "mkdir,mkdirat,write,pwrite64,fsync,fdatasync,link,linkat,unlink,unlinkat,rename,renameat,renameat2"
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT / 'queue'}{os.pathsep}{ROOT}"}
PRELUDE = """\
import asyncio, os, sys
from mailqueue.store.base import *
from mailqueue.store.file import FileStore
from tests.peers.storecontract import Pieces
root = sys.argv[1]
def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
async def attempt(call):
    try:
        say(await call)
    except StoreError as error:
        say(type(error).__name__, error.text)
"""


def run(script: str, root: Path, prefix: Sequence[str] = ()) -> list[str]:
    """Run a script in a process of its own; returns what it said."""
    lines = "".join(f"    {line}\n" for line in script.strip().splitlines())
    text = f"{PRELUDE}async def main():\n{lines}asyncio.run(main())\n"
    done = subprocess.run(
        [*prefix, sys.executable, "-c", text, str(root)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=ENVIRONMENT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def system_calls(trace: Path) -> list[str]:
    """Calls in the order in which they ended; of several threads too."""
    calls, begun = [], {}
    for line in trace.read_text().splitlines():
        pid, _, call = line.partition(" ")
        call = call.lstrip()
        if call.endswith("<unfinished ...>"):
            begun[pid] = call.removesuffix("<unfinished ...>")
        elif call.startswith("<... ") and pid in begun:
            calls.append(begun.pop(pid) + call.partition(" resumed>")[2])
        else:
            calls.append(call)
    return calls


def seen(trace: Path, root: Path, *files: str) -> list[str]:
    """Names of the steps that were taken, in order."""
    scratch = rf"{root}/\.tmp/[0-9a-f]+"
    steps = [
        ("make folder", re.compile(r"mkdir\w*\(\d+<[^>]*>, \"(log|body|s|1)\".* = 0")),
        ("write", re.compile(rf"write\(\d+<{scratch}/\d+>")),
        ("flush file", re.compile(rf"fsync\(\d+<{scratch}/\d+>\) += 0")),
        ("link", re.compile(rf"linkat\(\d+<{scratch}>, \"\d+\", \d+<{root}/[^>]+>, \"[^\"]+\", 0\) += 0")),
        ("unlink", re.compile(rf"unlinkat\(\d+<{scratch}>, \"\d+\", 0\) += 0")),
        ("flush root", re.compile(rf"fsync\(\d+<{root}>\) += 0")),
        ("flush above", re.compile(rf"fsync\(\d+<{root}/(log|body)>\) += 0")),
        ("flush folder", re.compile(rf"fsync\(\d+<{root}/(log/s|body/1)>\) += 0")),
        ("flush parent of root", re.compile(rf"fsync\(\d+<{root.parent}>\) += 0")),
        ("answer", re.compile(r"write\(1<.*(True|False)")),
    ]
    return [name for call in system_calls(trace) for name, pattern in steps if pattern.search(call)]


def strace(trace: Path) -> list[str]:
    needs("strace")
    return [program("strace"), "-f", "-y", "-s", "64", "-o", str(trace), "-e", f"trace={TRACED}"]


def test_an_object_is_on_the_disk_before_the_answer(tmp_path: Path) -> None:
    root, trace = tmp_path / "queue", tmp_path / "trace"
    script = """
store = FileStore(root)
await attempt(store.put_new("log/s/0", b"first"))
await attempt(store.put_new("log/s/1", b"second"))
await attempt(store.put_new("log/s/1", b"second"))
await attempt(store.put_new("log/s/1", b"other"))
await store.close()
"""
    assert run(script, root, strace(trace)) == ["True", "True", "True", "False"]
    found = seen(trace, root)
    folders = ["make folder", "flush root", "make folder", "flush above"]
    taken = ["write", "flush file", "flush folder", "unlink", "answer"]
    assert found == [
        "flush parent of root",
        *("write", "flush file", *folders, "link", "unlink", "flush folder", "answer"),
        *("write", "flush file", "link", "unlink", "flush folder", "answer"),
        *taken,
        *taken,
    ]


def test_a_large_body_is_written_in_pieces_and_flushed_once(tmp_path: Path) -> None:
    root, trace = tmp_path / "queue", tmp_path / "trace"
    script = """
store = FileStore(root)
await attempt(store.put_new("body/1/a", Pieces(b"x" * 65536, 20)))
await attempt(store.put_new("body/1/a", Pieces(b"x" * 65536, 20)))
await store.close()
"""
    assert run(script, root, strace(trace)) == ["True", "True"]
    assert seen(trace, root) == [
        "flush parent of root",
        *["write"] * 20,
        *("flush file", "make folder", "flush root", "make folder", "flush above"),
        *("link", "unlink", "flush folder", "answer"),
        *("flush folder", "answer"),  # the second time it is only compared
    ]


def in_small_file_system(root: Path, options: str) -> list[str]:
    """A prefix that runs a command with a tmpfs at `root` that nobody else sees."""
    root.mkdir()
    unshare = ["unshare", "--mount", "--fork", "--kill-child"]
    if os.geteuid() != 0:
        unshare += ["--user", "--map-root-user"]
    return [*unshare, "sh", "-c", f'mount -t tmpfs -o mode=700,{options} none "{root}" && exec "$@"', "sh"]


@pytest.mark.parametrize("blob", [False, True])
def test_a_full_disk(tmp_path: Path, blob: bool) -> None:
    large = 'Pieces(b"x" * 10000, 20)' if blob else 'b"x" * 200_000'
    script = f"""
store = FileStore(root)
await attempt(store.put_new("body/1/a", {large}))
await attempt(store.put_new("body/1/b", {large}))
await attempt(store.put("hb/s", b"x" * 200_000))
await attempt(store.list_after(""))
say(sum(len(files) for _, _, files in os.walk(os.path.join(root, ".tmp"))))
await attempt(store.put_new("log/s/0", b"small"))
await attempt(store.delete(["body/1/a"]))
await attempt(store.put_new("body/1/b", {large}))
await store.close()
"""
    root = tmp_path / "queue"
    assert run(script, root, in_small_file_system(root, "size=256k")) == [
        "True",
        "StoreFull writing body/1/b: No space left on device",
        "StoreFull writing hb/s: No space left on device",
        "['body/1/a']",
        "1",  # the lock
        "True",
        "None",
        "True",
    ]


def test_no_room_for_another_name(tmp_path: Path) -> None:
    """No inode is left: for the file itself, then for the folder it goes to."""
    script = """
store = FileStore(root)
outcome = []
for number in range(30):
    try:
        await store.put_new(f"log/{number}/0", b"x")
    except StoreFull as error:
        outcome.append(error.text.partition(":")[2])
say(len(outcome) > 0, set(outcome))
say(len(await store.list_after("")) + len(outcome))
await store.close()
"""
    root = tmp_path / "queue"
    said = run(script, root, in_small_file_system(root, "size=1m,nr_inodes=40"))
    assert said == ["True {' No space left on device'}", "30"]


def test_a_read_only_file_system(tmp_path: Path) -> None:
    script = """
store = FileStore(root)
await attempt(store.put_new("log/s/0", b"entry"))
assert os.system(f"mount -o remount,ro {root}") == 0
await attempt(store.put_new("log/s/1", b"entry"))
await attempt(store.put("hb/s", b"x"))
await attempt(store.delete(["log/s/0"]))
await attempt(store.get("log/s/0"))
await attempt(store.list_after(""))
await store.close()
store = FileStore(root)
await attempt(store.get("log/s/0"))
await attempt(store.list_after(""))
await attempt(store.put("hb/s", b"x"))
assert os.system(f"mount -o remount,rw {root}") == 0
await attempt(store.put_new("log/s/1", b"entry"))
await store.close()
"""
    root = tmp_path / "queue"
    assert run(script, root, in_small_file_system(root, "size=1m")) == [
        "True",
        "StoreUnavailable writing log/s/1: Read-only file system",
        "StoreUnavailable writing hb/s: Read-only file system",
        "StoreUnavailable removing log/s/0: Read-only file system",
        "b'entry'",
        "['log/s/0']",
        "b'entry'",
        "['log/s/0']",
        "StoreUnavailable writing hb/s: Read-only file system",
        "True",
    ]


def test_kill_9_loses_nothing_and_leaves_nothing_for_ever(tmp_path: Path) -> None:
    root = tmp_path / "queue"
    script = f"""{PRELUDE}
async def main():
    store = FileStore(root)
    async def write(stream):
        for number in range(100_000):
            assert await store.put_new(f"log/{{stream}}/{{number:08}}", b"%d %d" % (stream, number) * 500)
            say(stream, number)
    await asyncio.gather(*(write(stream) for stream in range(4)))
asyncio.run(main())
"""
    answered = []
    with subprocess.Popen(
        [sys.executable, "-c", script, str(root)], stdout=subprocess.PIPE, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            answered.append(line.split())
            if len(answered) == 200:
                process.send_signal(signal.SIGKILL)
    assert len(answered) >= 200
    for stream, number in answered:
        path = root / "log" / stream.decode() / f"{int(number):08}"
        assert path.read_bytes() == b"%s %s" % (stream, number) * 500
    # Whole or not at all, also what was not answered any more.
    for path in (root / "log").glob("*/*"):
        assert path.read_bytes() == b"%s %d" % (path.parent.name.encode(), int(path.name)) * 500
    script = 'store = FileStore(root)\nawait store.put("hb/s", b"x")\nawait store.close()'
    assert run(script, root) == []
    assert list((root / ".tmp").iterdir()) == []
