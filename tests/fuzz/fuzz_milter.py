"""Invariant: whatever a milter sends, cut anywhere, nothing raises, and the message stays a message.

Run ``python -m tests.fuzz.fuzz_milter [-max_total_time=SECONDS] [CORPUS]``. `check` is also run with
generated octets by the unit tests. The MTA's side allows no exception at all, and gives the same outcome
whole and cut; edits applied to a message leave fields that split again as they are. The filter's side allows
MilterProtocolError only, and writes whole packets.
"""

from __future__ import annotations

import asyncio
import sys

from mailmilter import requests
from mailmilter.constants import ALL_ACTIONS, Command, Protocol, Stage
from mailmilter.filter import Answer, Context, Milter
from mailmilter.filter.dialog import FilterDialog
from mailmilter.message import Message, split_fields
from mailmilter.negotiation import Offer, offer
from mailmilter.packets import MilterProtocolError, PacketReader, packet
from mailmilter.session import Bounds, MilterSession
from mailmilter.values import DefaultAction, Outcome, Quarantine, Ruling

HEAD = b"A: 1\r\nB: 2\r\n\tfolded\r\na:3\r\n"
DEFAULTS = tuple(DefaultAction)
CONTINUE = packet(ord("c"))


def drive(flags: int, default: DefaultAction, stream: bytes, cut: int) -> tuple[Outcome, bytes]:
    """Send a message to a filter that sends `stream` in pieces of `cut` octets, and then closes."""
    session = MilterSession(offer(6), default, Bounds(edits=20, edit_octets=500, body_octets=500, progress=5))
    session.negotiate()
    out = session.bytes_to_send()
    session.receive(packet(Command.NEGOTIATE, Offer(6, ALL_ACTIONS, Protocol(flags)).encode()))
    assert session.agreement is not None
    message = Message(split_fields(HEAD), lambda: (b"body\r\n",))
    macros = {Stage.END_OF_HEADERS: packet(Command.MACRO, b"Ni\0Q\0")}
    session.begin(requests.content(session.agreement, message.shown(), message.body(), macros))
    out += session.bytes_to_send()
    for start in range(0, len(stream), cut):
        session.receive(stream[start : start + cut])
        out += session.bytes_to_send()
    session.receive(b"")
    assert session.outcome is not None
    assert session.failed or session.outcome.verdict.ruling is not Ruling.CONTINUE
    message.apply(session.outcome.edits)
    rendered = b"".join(one.render() for one in message.fields)
    assert [one.render() for one in split_fields(rendered)] == [one.render() for one in message.fields]
    return session.outcome, out


def check_client(flags: int, default: DefaultAction, stream: bytes, cut: int) -> None:
    """Whole and cut come to the same, and what goes out are whole packets."""
    results = [drive(flags, default, stream, size) for size in (len(stream) or 1, cut)]
    for outcome, out in results:
        verdict = outcome.verdict
        assert verdict.code == 0 or 400 <= verdict.code <= 599
        assert all("\r" not in line and "\n" not in line for line in verdict.lines)
        if outcome.failure:
            assert verdict == default.outcome("").verdict
            assert all(isinstance(one, Quarantine) for one in outcome.edits)
        reader = PacketReader()
        reader.feed(out)
        while reader.next() is not None:
            pass
        assert reader.waiting == 0
    assert results[0][0].verdict == results[1][0].verdict
    assert bool(results[0][0].failure) == bool(results[1][0].failure)


class Heard(Milter):
    """Edits all it can."""

    async def header(self, ctx: Context, field: object) -> Answer | None:
        """Ask for an edit."""
        ctx.add_header("X", ctx.header("a") or "-")
        return None

    async def end_of_message(self, ctx: Context) -> Answer | None:
        """Ask for more."""
        ctx.change_sender(ctx.sender)
        return None


async def _listen(stream: bytes) -> bytes:
    written: list[bytes] = []
    dialog = FilterDialog(Heard, written.append)
    reader = PacketReader(1000)
    reader.feed(packet(Command.NEGOTIATE, offer(6).encode()) + stream)
    try:
        while not dialog.finished and (found := reader.next()) is not None:
            await dialog.handle(*found)
    except MilterProtocolError:
        written.append(b"")
    await dialog.end()
    return b"".join(written)


def check(data: bytes) -> None:
    """Take flags, default and cut from the first octets, the stream from the rest; hold both sides to it."""
    if len(data) < 5:
        return
    flags = int.from_bytes(data[:3], "big") & 0x1FFFFF
    default, cut = DEFAULTS[data[3] % len(DEFAULTS)], data[4] % 16 + 1
    stream = CONTINUE * (data[3] >> 4) + data[5:]
    check_client(flags, default, stream, cut)
    reader = PacketReader()
    reader.feed(asyncio.run(_listen(data[5:])))
    while reader.next() is not None:
        pass
    assert reader.waiting == 0


def main() -> None:
    """Fuzz."""
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
