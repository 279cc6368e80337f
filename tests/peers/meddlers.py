"""A milter and a policy server that do what a message asks for, and fail by chance until they are calm.

The field X-Wish of a message says what the milter does to it (`WISHES`); whatever it does, it adds one field
X-Meddler with the name of the message. The policy server refuses recipients whose local part begins with
`DENIED`. In trouble both are late, hang, break the protocol or are gone for a moment.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path
from types import TracebackType

from mailmilter.filter import (
    CONNECTION_FAILURE,
    DISCARD,
    SHUTDOWN,
    TEMPFAIL,
    Answer,
    Context,
    FilterServer,
    Milter,
    reply,
    serve,
)
from mailmilter.policy import PolicyServer, serve_policy

DENIED = "denied"
EXTRA = "extra@other.test"
"""Who is added by the wish "extra"."""
NEW_BODY = b"This is another body.\r\n.\r\n"
WISHES = ("reject", "discard", "quarantine", "extra", "without", "body", "headers")
SETTINGS = """
[milters.meddler]
address = "unix:{folder}/milter"
listeners = ["*"]
command_timeout = "0.5s"
content_timeout = "1s"
total_timeout = "2s"
[policy_servers.meddler]
address = "unix:{folder}/policy"
timeout = "0.5s"
down_time = "0.2s"
"""


class Meddlers:
    """Both servers, at sockets in one folder; use as an async context manager."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.rate = 0.02
        """Part of the callbacks that have a fault."""
        self.faults: Counter[str] = Counter()
        self._folder = folder
        self._chance = chance
        self._milter: FilterServer | None = None
        self._policy: PolicyServer | None = None

    def calm(self) -> None:
        """No more faults."""
        self.rate = 0.0

    @property
    def settings(self) -> str:
        """The part of a configuration that names them."""
        return SETTINGS.format(folder=self._folder)

    async def __aenter__(self) -> Meddlers:
        await self.come()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.go()

    async def come(self) -> None:
        """Serve."""
        self._milter = await serve(lambda: _Meddler(self), f"unix:{self._folder}/milter")
        self._policy = await serve_policy(self._decide, f"unix:{self._folder}/policy")

    async def go(self) -> None:
        """Be gone, with all sessions."""
        assert self._milter is not None
        assert self._policy is not None
        await self._milter.close()
        await self._policy.close()

    async def trouble(self, where: str, kinds: tuple[str, ...]) -> str:
        """What is wrong now, "" for nothing; being late is done here."""
        if self._chance.random() >= self.rate:
            return ""
        kind = self._chance.choice(kinds)
        self.faults[f"{where} {kind}"] += 1
        if kind == "late":
            await asyncio.sleep(self._chance.choice((0.2, 0.9, 3)))
            return ""
        return kind

    async def _decide(self, request: dict[str, str]) -> str:
        is_denied = request["recipient"].startswith(DENIED)
        match await self.trouble("policy", ("late", "raise", "nonsense", "defer", "prepend")):
            case "raise":
                raise RuntimeError("a fault of the test")
            case "nonsense":
                return "WHATEVER"
            case "defer":
                return "DEFER not now"
            case "prepend" if not is_denied:
                return "PREPEND X-Asked: yes"
        return "REJECT not that one" if is_denied else "DUNNO"


class _Meddler(Milter):
    """One session."""

    def __init__(self, server: Meddlers) -> None:
        self.server = server

    async def trouble(self, where: str) -> Answer | None:
        match await self.server.trouble(where, ("late", "raise", "tempfail", "shutdown", "failure")):
            case "raise":
                raise RuntimeError("a fault of the test")
            case "tempfail":
                return TEMPFAIL
            case "shutdown":
                return SHUTDOWN
            case "failure":
                return CONNECTION_FAILURE
        return None

    async def mail(self, ctx: Context, address: bytes, parameters: tuple[bytes, ...]) -> Answer | None:
        return await self.trouble("mail")

    async def rcpt(self, ctx: Context, address: bytes, parameters: tuple[bytes, ...]) -> Answer | None:
        return await self.trouble("rcpt")

    async def body(self, ctx: Context, piece: bytes) -> Answer | None:
        return await self.trouble("body")

    async def end_of_message(self, ctx: Context) -> Answer | None:
        ctx.add_header("X-Meddler", ctx.header("X-Load") or "")
        if answer := await self.trouble("end"):
            return answer
        match (ctx.header("X-Wish") or "").strip():
            case "reject":
                return reply(550, "5.7.1", "as you wish")
            case "discard":
                return DISCARD
            case "quarantine":
                ctx.quarantine("as you wish")
            case "extra":
                ctx.add_recipient(EXTRA.encode())
            case "without":
                ctx.delete_recipient(ctx.recipients[0])
            case "body":
                ctx.replace_body(NEW_BODY)
            case "headers":
                ctx.change_header("Subject", "another one")
                ctx.insert_header(0, "X-Top", "yes")
                ctx.delete_header("X-Wish")
        return None
