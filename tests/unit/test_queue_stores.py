"""Whom root becomes before a command opens the stores of the queue."""

from __future__ import annotations

import asyncio
import os
import pwd
import subprocess
import sys
from pathlib import Path
from zlib import crc32

import msgspec
import pytest
from typer.testing import CliRunner

from mailqueue.keys import log_key
from mailqueue.store.file import FileStore
from mta import cli_exit, commands, config
from mta.cli_queue_stores import EXIT_DAMAGED
from mta.queue_stores import server_account
from mta.spool.remote import QueueProblem
from tests.peers.needs import needs
from tests.simulation.queues import crash, message, open_queue

NOBODY = pwd.getpwnam("nobody")

_BECOME = """
import os, sys
from mta import config
from mta.queue_stores import become_server_user
become_server_user(config.parse(sys.argv[1], "tamis.toml", config.this_machine()))
print(os.getresuid(), os.getresgid())
"""


def settings(state: Path, more: str = "") -> config.Config:
    return config.parse(text(state, more), "tamis.toml", config.this_machine())


def text(state: Path, more: str = "") -> str:
    return f'process.state_directory = "{state}"\n{more}'


def test_the_owner_of_the_state_directory_where_no_user_is_set(tmp_path: Path) -> None:
    """The unit of systemd sets the user; what root writes in the queue must be that user's to read."""
    needs(root=True)
    assert server_account(settings(tmp_path)) is None, "a server of root"
    assert server_account(settings(tmp_path / "not there yet")) is None
    os.chown(tmp_path, NOBODY.pw_uid, NOBODY.pw_gid)
    account = server_account(settings(tmp_path))
    assert account is not None
    assert (account.user, account.uid, account.gid) == ("nobody", NOBODY.pw_uid, NOBODY.pw_gid)
    command = [sys.executable, "-c", _BECOME, text(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"{(NOBODY.pw_uid,) * 3} {(NOBODY.pw_gid,) * 3}\n"


def test_an_owner_without_a_name(tmp_path: Path) -> None:
    needs(root=True)
    os.chown(tmp_path, 61234, 61235)
    account = server_account(settings(tmp_path))
    assert account is not None
    assert (account.uid, account.gid, account.groups) == (61234, 61235, (61235,))


def test_the_user_that_is_set_goes_before_the_owner(tmp_path: Path) -> None:
    account = server_account(settings(tmp_path, 'process.user = "nobody"'))
    assert account is not None
    assert account.uid == NOBODY.pw_uid
    with pytest.raises(QueueProblem, match="user 'nobody-there' does not exist"):
        server_account(settings(tmp_path, 'process.user = "nobody-there"'))


@pytest.mark.parametrize("command", ["list", "streams", "flush", "fsck"])
def test_a_store_of_a_newer_version(tmp_path: Path, command: str) -> None:
    """As after a downgrade: what nobody may read is not shown, and the reason is a line."""
    (tmp_path / "state/queue").mkdir(parents=True)
    (tmp_path / "state/queue/format").write_bytes(
        msgspec.msgpack.encode(("mailqueue", 2, b"16 random octets"))
    )
    path = tmp_path / "tamis.toml"
    path.write_text(text(tmp_path / "state", f'process.runtime_directory = "{tmp_path}"\n'))
    done = CliRunner().invoke(commands.SUB_APPS["queue"](), [command, "-c", str(path)])
    assert done.exit_code == (EXIT_DAMAGED if command == "fsck" else cli_exit.EXIT_FAILED)
    assert f"file:{tmp_path}/state/queue has format 2; this program knows 1" in done.output


def test_what_a_newer_version_has_left_is_missing_in_what_is_done(tmp_path: Path) -> None:
    """Without a server the command takes over itself what ended processes have left."""
    folder = tmp_path / "state/queue"
    folder.mkdir(parents=True)

    async def newer() -> str:
        store = FileStore(str(folder))
        queue = await open_queue(store)
        await queue.enqueue(message())
        crash(queue)
        key = log_key(queue.stream, 0)
        entry = bytearray(await store.get(key))
        entry[4] = 2
        entry[60:64] = crc32(bytes(entry[:60])).to_bytes(4, "little")
        await store.delete([key])
        await store.put_new(key, bytes(entry))
        await store.close()
        return key

    key = asyncio.run(newer())
    path = tmp_path / "tamis.toml"
    path.write_text(
        text(tmp_path / "state", f'process.runtime_directory = "{tmp_path}"\n')
        + '[queue]\nnode = "n"\ntakeover = "3s"\n'
    )
    done = CliRunner().invoke(commands.SUB_APPS["queue"](), ["delete", "--all", "-c", str(path)])
    assert (done.exit_code, done.stdout) == (cli_exit.EXIT_FAILED, "delete: 0 messages\n")
    assert f"{key}: a log entry of version 2; this program knows up to 1" in done.stderr
    assert "tamis: incomplete: takeover: not all that ended processes have left was taken over" in done.stderr
