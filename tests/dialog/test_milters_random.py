"""Random dialogs of several clients at once: whatever ends a message, a milter never sees two of them as one.

Addresses and subjects carry the number of their message. Milters look whether all that they hear between MAIL
and the end has the same number, and whether the macros say so too.
"""

from __future__ import annotations

import asyncio
import random
import re
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from mailmilter.filter import ACCEPT, DISCARD, REJECT, TEMPFAIL, Answer, Client, Context, Field, Milter, serve
from tests.dialog.server import Client as SmtpClient
from tests.dialog.server import Server, run, serving

CLIENTS, MESSAGES = 8, 30
WORDS = {"rej": REJECT, "tmp": TEMPFAIL, "acc": ACCEPT, "dis": DISCARD}
NAMES = ("one", "two", "three")
MORE = """
[milters.one]
address = "unix:one"
listeners = ["smtp"]
reuse = {reuse}
[milters.two]
address = "unix:two"
reuse = {reuse}
[milters.three]
address = "unix:three"
[policy]
scripts = ["policy.sieve"]
"""
SCRIPT = """require ["vnd.tamis.stage", "vnd.tamis.milter", "vnd.tamis.reply", "envelope"];
stage "mail" {
    if envelope :contains "from" "join2" { milter "two"; }
    if envelope :contains "from" "no" { reply "no"; }
}
stage "rcpt" {
    if envelope :contains "to" "join2" { milter "two"; }
    if envelope :contains "to" "join3" { milter "three"; }
    if envelope :contains "to" "no" { reply "no"; }
}
stage "data" { if envelope :contains "from" "join3" { milter "three"; } }
"""


def number(text: bytes) -> str:
    found = re.search(rb"m(\d+)", text)
    return found[1].decode() if found else "none"


class Watcher(Milter):
    """Looks, and answers as an address says: "m7.one-rcpt-rej@..." has the first milter refuse it at RCPT."""

    rejected_recipients = True

    def __init__(self, name: str, faults: list[str], rng: random.Random) -> None:
        self.name = name
        self.faults = faults
        self.rng = rng
        self.heard: list[str] = []
        self.now = ""

    async def see(self, what: str, text: bytes, fits: bool) -> Answer | None:
        self.heard.append(f"{what} {text.decode()}")
        if not fits:
            self.faults.append(f"{self.name}: {self.heard[-12:]}")
        if self.rng.random() < 0.2:
            await asyncio.sleep(self.rng.random() / 200)
        found = re.search(rf"{self.name}-{what}-(...)", text.decode())
        return WORDS[found[1]] if found else None

    async def connect(self, ctx: Context, client: Client) -> Answer | None:
        return await self.see("connect", b"", not self.heard)

    async def mail(self, ctx: Context, address: bytes, parameters: tuple[bytes, ...]) -> Answer | None:
        fits = bool(self.heard) and not self.now and not ctx.recipients and not ctx.fields
        self.now = number(address)
        return await self.see("mail", address, fits and number(ctx.macro("mail_addr").encode()) == self.now)

    async def rcpt(self, ctx: Context, address: bytes, parameters: tuple[bytes, ...]) -> Answer | None:
        told = number(ctx.macro("rcpt_addr").encode()) in (self.now, "none")  # "none": the text of a refusal
        return await self.see("rcpt", address, told and number(address) == self.now)

    async def data(self, ctx: Context) -> Answer | None:
        return await self.see("data", ctx.sender, {*map(number, ctx.recipients)} <= {self.now})

    async def header(self, ctx: Context, field: Field) -> Answer | None:
        fits = field.name != b"Subject" or number(field.value) == self.now
        return await self.see("header", field.value, fits)

    async def end_of_message(self, ctx: Context) -> Answer | None:
        fits = {*map(number, ctx.recipients)} == {self.now}
        self.now = ""
        return await self.see("eom", ctx.sender, fits)

    async def abort(self, ctx: Context) -> None:
        self.now = ""


def tag(rng: random.Random, *stages: str) -> str:
    if rng.random() < 0.6:
        return ""
    return f".{rng.choice(NAMES)}-{rng.choice(stages)}-{rng.choice(list(WORDS))}"


async def session(client: SmtpClient, rng: random.Random, numbers: range) -> None:
    """Some messages in one session; each ends as chance will have it."""
    await client.hello()
    for n in numbers:
        sender = (
            f"m{n}{rng.choice(['', '', '.join2', '.join3', '.no'])}{tag(rng, 'mail', 'data', 'eom')}@x.test"
        )
        lines = [f"MAIL FROM:<{sender}>"]
        for k in range(rng.randint(0, 4)):
            word = rng.choice(["", "", ".join2", ".join3", ".no"])
            lines.append(f"RCPT TO:<m{n}.r{k}{word}{tag(rng, 'rcpt')}@example.test>")
        if rng.random() < 0.1:
            lines.insert(rng.randint(0, len(lines)), rng.choice(["RSET", "FROB"]))
        end = rng.choice(["DATA", "DATA", "BDAT", "RSET", "EHLO c", "cut"])
        if end == "DATA":
            lines.append(end)
        client.writer.write("".join(f"{line}\r\n" for line in lines).encode())
        replies = [await client.read_reply() for _ in lines]
        body = f"Subject: m{n}\r\n\r\nhello\r\n"
        if end == "DATA":
            if replies[-1].startswith("354"):
                await client.say(body + ".")
            elif rng.random() < 0.5 and replies[-1].startswith(("451", "550")):
                continue  # DATA itself was refused: there is no transaction
        elif end == "BDAT":
            await client.say(f"BDAT {len(body)} LAST\r\n{body}".encode())
        elif end == "cut":
            return
        else:
            await client.say(end)
        await client.say("RSET")


async def client(server: Server, seed: int) -> None:
    rng = random.Random(seed)
    for start in range(0, MESSAGES, 5):
        first = seed * 1000 + start
        connected = await server.connect()
        await session(connected, rng, range(first, first + 5))
        connected.cut()


@pytest.mark.parametrize("reuse", ["true", "false"])
def test_no_message_is_seen_as_part_of_another(tmp_path: Path, reuse: str) -> None:
    faults: list[str] = []
    rng = random.Random(5)

    async def main() -> None:
        (tmp_path / "policy.sieve").write_text(SCRIPT)
        async with AsyncExitStack() as stack:
            for name in NAMES:
                made = await serve(partial(Watcher, name, faults, rng), f"unix:{tmp_path}/{name}")
                stack.push_async_callback(made.close)
            async with serving(tmp_path, more=MORE.format(reuse=reuse)) as server:
                await asyncio.gather(*(client(server, seed) for seed in range(1, CLIENTS + 1)))
                for kept in server.store.delivered:
                    assert number(kept.octets[kept.octets.index(b"Subject:") :]) == number(
                        kept.recipient.encode()
                    )
                assert len(server.store.delivered) > CLIENTS

    run(main)
    assert not faults, faults[:3]
