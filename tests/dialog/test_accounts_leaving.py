"""Clients that leave while Dovecot has their password: what is counted, told and held of them."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mta import metrics
from tests.dialog.server import Client, Server, run, serving
from tests.dialog.test_accounts_dovecotclient import Dovecot, until

HELLO = b"VERSION\t1\t2\nMECH\tPLAIN\nMECH\tLOGIN\nMECH\tOAUTHBEARER\nSPID\t7\nCUID\t1\nCOOKIE\tx\nDONE\n"
GUESS = f"AUTH PLAIN {b64encode(b'|ann@example.test|secret'.replace(b'|', bytes(1))).decode()}"
TOKEN = f"AUTH OAUTHBEARER {b64encode(b'n,,|auth=Bearer forged||'.replace(b'|', bytes([1]))).decode()}"
WHY = b64encode(b'{"status": "invalid_token"}').decode()
OPTIONS = """\
[[listener]]
name = "open"
protocol = "submission"
tls = "none"
auth = "optional"
addresses = ["127.0.0.1:3"]
[auth]
backend = "dovecot"
dovecot_socket = "unix:{socket}"
require_tls = false
failure_delay = "0s"
failures_per_client = 3
[limits]
exempt_networks = [{exempt}]
"""


class Scene:
    """A daemon before a Dovecot that answers what, and when, the test says."""

    def __init__(self, server: Server, dovecot: Dovecot) -> None:
        self.server = server
        self.dovecot = dovecot

    async def client(self) -> Client:
        client = await self.server.connect("open")
        assert "AUTH PLAIN LOGIN" in await client.hello()
        return client

    async def guess(self) -> str:
        """Leave when Dovecot has been asked; the number of the request."""
        asked = len(self.dovecot.lines)
        client = await self.client()
        client.writer.write(GUESS.encode() + b"\r\n")
        await until(lambda: len(self.dovecot.lines) > asked)
        await self.leave(client)
        return self.dovecot.lines[-1].split("\t")[1]

    async def leave(self, client: Client) -> None:
        client.writer.close()
        await until(lambda: not metrics.value(self.server.daemon.snapshot(), "sessions_open"))

    def say(self, line: str) -> None:
        """Dovecot's answer."""
        self.dovecot.writers[-1].write(line.encode() + b"\n")

    async def asked(self, beginning: str) -> None:
        """Wait until this is the last that Dovecot has heard."""
        await until(lambda: self.dovecot.lines[-1].startswith(beginning))

    async def ends(self, told: Mapping[str, float]) -> None:
        """Wait until so many logins have ended so."""
        await until(lambda: self.told() == told)

    def told(self) -> dict[str, float]:
        """How many logins have ended how, by log and metrics."""
        snapshot = self.server.daemon.snapshot()
        results = ("success", "failure", "temporary")
        return {name: count for name in results if (count := metrics.value(snapshot, "auth", name))}

    async def refusal(self) -> str:
        """The answer to AUTH where it is given at once, "" where Dovecot is asked."""
        client, asked = await self.client(), len(self.dovecot.lines)
        answer = asyncio.ensure_future(client.say(GUESS))
        await until(lambda: answer.done() or len(self.dovecot.lines) > asked)
        if not answer.done():
            self.say(f"FAIL\t{self.dovecot.lines[-1].split(chr(9))[1]}\ttemp")
            await answer
            return ""
        return answer.result()


@asynccontextmanager
async def scene(folder: Path, *, exempt: str = "") -> AsyncIterator[Scene]:
    dovecot = Dovecot(lambda fields: None, HELLO)
    path = folder / "auth-client"
    listening = await asyncio.start_unix_server(dovecot.serve, path)
    try:
        async with serving(folder, more=OPTIONS.format(socket=path, exempt=exempt)) as server:
            yield Scene(server, dovecot)
    finally:
        listening.close()
        dovecot.drop()
        await listening.wait_closed()


def test_guesses_of_a_client_that_never_waits_close_auth(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as here:
            for number in range(1, 4):
                here.say(f"FAIL\t{await here.guess()}")
                await here.ends({"failure": number})
            assert (await here.refusal()).startswith("454 4.7.0 Too many failed logins")

    run(main)


def test_checks_left_behind_count_as_failures_until_they_are_answered(tmp_path: Path) -> None:
    """Else a guesser leaves as many as fit into the time of the first answer."""

    async def main() -> None:
        async with scene(tmp_path) as here:
            numbers = [await here.guess() for _ in range(3)]
            assert (await here.refusal()).startswith("454 4.7.0 Too many failed logins")
            told = {"temporary": 1}
            assert here.told() == told
            here.say(f"OK\t{numbers[0]}\tuser=ann@example.test")
            here.say(f"FAIL\t{numbers[1]}\ttemp")
            await here.ends(told | {"success": 1, "temporary": 2})
            assert await here.refusal() == ""
            here.say(f"FAIL\t{numbers[2]}")
            await here.ends({"success": 1, "failure": 1, "temporary": 3})
            assert await here.refusal() == ""
            assert not metrics.value(here.server.daemon.snapshot(), "internal_errors")

    run(main)


def test_an_exempt_client_may_leave_as_it_likes(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path, exempt='"127.0.0.1"') as here:
            for _ in range(4):
                await here.guess()
            assert await here.refusal() == ""

    run(main)


def test_who_leaves_before_it_has_said_a_password_is_not_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as here:
            client = await here.client()
            client.writer.write(b"AUTH LOGIN\r\n")
            await here.asked("AUTH")
            await here.leave(client)
            await here.asked("CANCEL\t1")

            client = await here.client()
            client.writer.write(b"AUTH LOGIN\r\n")
            await here.asked("AUTH")
            here.say("CONT\t2\tVXNlcm5hbWU6")
            await client.read_reply()
            client.writer.write(b"YW5u\r\n")
            await here.asked("CONT\t2")
            await here.leave(client)
            here.say("CONT\t2\tUGFzc3dvcmQ6")  # it asks for more: nobody will say it
            await here.asked("CANCEL\t2")
            assert await here.refusal() == ""
            assert here.told() == {"temporary": 1}

    run(main)


@pytest.mark.parametrize("ending", ["leaves", "*", "AQ=="])
def test_a_token_whose_refusal_was_explained_has_failed(tmp_path: Path, ending: str) -> None:
    """Whether the client comes back for the 535, thinks better of it or is gone: once."""

    async def main() -> None:
        async with scene(tmp_path) as here:
            for number in range(1, 4):
                client = await here.client()
                answer = asyncio.ensure_future(client.say(TOKEN))
                await here.asked(f"AUTH\t{number}\t")
                here.say(f"CONT\t{number}\t{WHY}")
                assert (await answer).startswith("334 ")
                if ending == "*":
                    assert (await client.say("*")).startswith("501 5.7.0")
                elif ending == "AQ==":
                    answer = asyncio.ensure_future(client.say(ending))
                    await here.asked(f"CONT\t{number}\t")
                    here.say(f"FAIL\t{number}")
                    assert (await answer).startswith("535 5.7.8")
                await here.leave(client)
                assert here.told() == {"failure": number}
            assert (await here.refusal()).startswith("454 4.7.0 Too many failed logins")

    run(main)


def test_the_end_of_a_worker_does_not_wait_for_who_has_left(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as here:
            await here.guess()
            async with asyncio.timeout(20):  # half of what Dovecot is given
                await here.server.daemon.drain(600)
            assert here.told() == {"temporary": 1}
            assert not [task for task in asyncio.all_tasks() if "Connection._run" in repr(task)]

    run(main)
