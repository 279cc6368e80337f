"""The embedded store with users' scripts, whose disk fills up while its process and the workers are killed.

What was answered 250 is where the script of each recipient wants it, or in the mailbox where that cannot be,
or its sender was told. More copies need a process that was killed while it delivered, or a next hop that did
not say that it has it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from mta.accounts.user import User as Account
from mta.accounts.usersfile import edit
from mta.scripts.names import user_folder
from mta.scripts.store import FolderLimits, ScriptFolder
from tests.peers.chaos import SECONDS, SEED
from tests.peers.chaosusers import LONGEST, Answered, Order, User
from tests.peers.fickle import Fickle, Ledger
from tests.peers.load import name_in, run
from tests.peers.queuesite import QUICK, flush, kill_all, queue_site, rows, waiting
from tests.peers.running import until
from tests.peers.site import ALICE, Site
from tests.peers.smalldisk import fill, mounted

pytestmark = pytest.mark.scenario

TIME = 0.4 * SECONDS
DISK_SIZE = 48 * 1024 * 1024
USERS = 8
SCRIPTS = {
    "plain": "",
    "filer": 'require "fileinto"; fileinto "Lists";',
    "both": 'require ["fileinto", "copy"]; fileinto :copy "Lists";',
    "copier": 'require "copy"; redirect :copy "target@other.test";',
    "mover": 'redirect "boxed@example.test";',
    "boxed": "keep;",
    "answerer": 'require "vacation"; vacation :days 7 "away";',
    "refuser": 'require "reject"; reject "not here";',
    "dropper": "discard;",
    "tagger": 'require "editheader"; addheader "X-Tag" "yes";',
    "broken": 'require "fileinto" fileinto "Lists";',
}
"""Users of example.test beside alice, and their scripts."""
TARGET = "target@other.test"
PLACES = {"filer": ("Lists",), "both": ("", "Lists"), "mover": (), "refuser": (), "dropper": ()}
"""Folders in which somebody's mail lies; "" is the mailbox, which is the rule."""
_REST = """
[delivery]
deadline = "4s"
[store]
enabled = true
path = "{disk}/mail"
[domains."other.test"]
recipients = "all"
backend = "other"
[backends.other]
addresses = ["127.0.0.1:{other}"]
connect_timeout = "1s"
failure_delay = "0.2s"
"""
_ABOUT = re.compile(rb"^Final-Recipient: rfc822; *(\S+)\nAction: failed$", re.MULTILINE)


class Writer(User):
    """Writes to those who have scripts."""

    def _new(self, name: str) -> Order:
        chance = self._chance
        people = chance.sample(sorted(SCRIPTS), chance.choice((1, 1, 2, 3)))
        size = chance.choice((300,) * 8 + (5000, 70_000, 300_000))
        head = (
            f"From: {ALICE}\r\nTo: {people[0]}@example.test\r\nSubject: chaos\r\n"
            f"Date: Sun, 29 Nov 2026 12:00:00 +0000\r\nMessage-ID: <{name}@load>\r\nX-Load: {name}\r\n\r\n"
        )
        line = "..0123456789abcdef0123456789abcdef0123456789abcdef\r\n.x\r\n"
        octets = (head + line * (size // len(line))).encode()
        return Order(name, {f"{one}@example.test": "" for one in people}, "", "", octets)


class Boxes:
    """The users of a site, their scripts, and what lies in their mailboxes."""

    def __init__(self, server: Site, mail: Path) -> None:
        self._mail = mail
        with edit(server.directory / "users") as table:
            for name in SCRIPTS:
                table.put(Account(f"{name}@example.test"))
        for name, text in SCRIPTS.items():
            if text:
                folder = user_folder(str(server.directory / "state"), f"{name}@example.test")
                scripts = ScriptFolder(folder, FolderLimits())
                with scripts.locked():
                    scripts.put("mine", text.encode())
                    scripts.activate("mine")

    def messages(self, user: str, folder: str = "") -> Iterator[bytes]:
        """What lies there."""
        box = self._mail / "example.test" / user / (f".{folder}" if folder else "")
        for path in box.glob("new/*"):
            yield path.read_bytes()

    def names(self, user: str, folder: str = "") -> Counter[str]:
        """The messages of the test that lie there, by name; reports are none."""
        found = [one for one in self.messages(user, folder) if b"\nX-Load: " in one.partition(b"\n\n")[0]]
        return Counter(_name(one) for one in found)

    def reports(self) -> Counter[tuple[str, str]]:
        """Of which messages alice was told that they have failed for whom."""
        found = [one for one in self.messages("alice") if b"multipart/report" in one]
        return Counter((_name(one), who.decode()) for one in found for who in _ABOUT.findall(one))


def _name(octets: bytes) -> str:
    return name_in(octets.replace(b"\n", b"\r\n"))


async def reload(server: Site, disk: Path, chance: random.Random) -> bool:
    """As an administrator does it."""
    await asyncio.to_thread(server.request, {"command": "reload"})
    return False


async def kill(server: Site, disk: Path, chance: random.Random) -> bool:
    """kill -9 of the store or a worker."""
    processes = await asyncio.to_thread(server.workers)
    for pid in chance.sample(sorted(processes.values()), min(1, len(processes))):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return True


async def burn(server: Site, disk: Path, chance: random.Random) -> bool:
    """kill -9 of all, and a new start."""
    await asyncio.to_thread(kill_all, server)
    await asyncio.to_thread(server.start)
    return True


async def use_up(server: Site, disk: Path, chance: random.Random) -> bool:
    """The disk of the mailboxes is full for a while."""
    filler = await asyncio.to_thread(fill, disk)
    await asyncio.sleep(1)
    filler.unlink()
    return False


Trouble = Callable[[Site, Path, random.Random], Awaitable[bool]]
"""True when a process has died."""


KINDS: dict[str, Sequence[Trouble]] = {"deaths": [reload, use_up, kill, burn]}
if "TAMIS_CHAOS_SECONDS" in os.environ:  # `make test` has no time for it
    KINDS["disk"] = [reload, use_up]


@pytest.mark.parametrize("kind", KINDS)
def test_mail_lies_where_scripts_want_it(tmp_path: Path, kind: str) -> None:
    troubles = KINDS[kind]
    chance, ledger = random.Random(SEED), Ledger()

    async def main() -> None:
        killed = False
        with mounted(tmp_path, DISK_SIZE) as disk:
            async with Fickle(ledger, chance, longest=LONGEST) as other:
                more = _REST.format(disk=disk, other=other.port)
                settings = {
                    "backend": 'backend = "store"\n',
                    "queue": QUICK,
                    "trusted": '["127.0.0.0/8"]',
                    "more": more,
                }
                with queue_site(tmp_path, **settings) as server:
                    boxes = Boxes(server, disk / "mail")
                    ports = {
                        "smtp": server.smtp, "submission": server.submission,
                        "submissions": server.submissions,
                    }  # fmt: skip
                    users = [Writer(n, SEED * 1000 + n, ports, server.trust(), {}) for n in range(USERS)]
                    lives = [asyncio.create_task(user.live()) for user in users]
                    end = time.monotonic() + TIME
                    while (pause := 1 + chance.random()) < end - time.monotonic():
                        await asyncio.sleep(pause)
                        killed |= await chance.choice(troubles)(server, disk, chance)
                    for user in users:
                        user.stopping = True
                    other.calm()
                    await asyncio.gather(*lives)
                    await asyncio.sleep(LONGEST)

                    def empty() -> bool:
                        flush(server)
                        return waiting(server) == 0

                    await asyncio.to_thread(until, empty, lambda: f"an empty queue: {rows(server)[:5]}")
                    answers = [one for user in users for one in user.answers.values()]
                    wrong = list(faults(boxes, ledger, answers, killed=killed))
                    assert not wrong, "\n".join(wrong)
                    assert len(answers) > 20, "it was a quiet time"
                    await asyncio.to_thread(server.stop)

    run(main, TIME + 240)


def faults(boxes: Boxes, ledger: Ledger, answers: Sequence[Answered], *, killed: bool) -> Iterator[str]:
    """What is not where it should be, or there too often."""
    lying = {(user, folder): boxes.names(user, folder) for user in SCRIPTS for folder in ("", "Lists")}
    reports = boxes.reports()
    for answered in answers:
        name, accepted = answered.order.name, answered.reply.startswith("2")
        for address in answered.order.named:
            user = address.partition("@")[0]
            for folder in PLACES.get(user, ("",)):
                found = lying[user, folder][name]
                if accepted and not found and not (folder and lying[user, ""][name]):
                    yield f"{name} is missing for {user} in {folder or 'the mailbox'}: {answered.tries}"
                most = 2 if user == "boxed" and "mover@example.test" in answered.order.named else 1
                if found > most and not killed:
                    yield f"{name} is there {found} times for {user}: {answered.tries}"
            if user == "refuser":
                if lying[user, ""][name]:
                    yield f"{name} was stored for {user}"
                if accepted and not reports[name, address]:
                    yield f"nobody was told that {name} was refused: {answered.tries}"
            if not accepted and user != "refuser":
                yield f"{name} was refused for {user}: {answered.reply}"
            if not accepted:
                continue
            if user == "copier" and not ledger.has[name, TARGET] and not lying[user, ""][name]:
                yield f"{name} is missing for {TARGET}"
            if user == "copier" and ledger.has[name, TARGET] > 1 + ledger.unsure[name, TARGET] and not killed:
                yield f"{name} has come to {TARGET} {ledger.has[name, TARGET]} times: {answered.tries}"
            if user == "mover" and not lying["boxed", ""][name] and not lying[user, ""][name]:
                yield f"{name} is missing for boxed: {answered.tries}"
    if not any(b"Auto-Submitted: auto-replied (vacation)" in one for one in boxes.messages("alice")):
        yield "no answer of vacation"
