"""Invariant: whatever milters and policy servers answer becomes whole header fields, addresses and replies.

Run ``python -m tests.fuzz.fuzz_programs [-max_total_time=SECONDS] [CORPUS]``. `check` is also run with
generated octets by the unit tests. A negotiation ends in an agreement or an outcome. Edits of milters become
changes of our message or EditError, whose fields end where they should; actions of policy servers become
wishes that are carried out, at each stage. A policy server of ours answers each question with one action, or
closes; only PolicyProtocolError is allowed there.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from mailmilter import requests
from mailmilter.constants import ALL_ACTIONS, Command, Protocol, Stage
from mailmilter.endpoint import parse_endpoint
from mailmilter.negotiation import Offer, offer
from mailmilter.packets import packet
from mailmilter.policy.actions import parse_action
from mailmilter.policy.server import PolicyServer
from mailmilter.policy.wire import BlockReader, PolicyProtocolError
from mailmilter.session import Bounds, MilterSession
from mta.address import parse_address
from mta.envelope import Envelope, Recipient
from mta.policy.external.pending import Pending
from mta.policy.external.policyservers import PolicyServers
from mta.policy.milter.edits import EditError, changes_of, shown_to_milters
from mta.policy.sieve.facts import Facts
from mta.policy.verdict import Orders, Verdict
from mta.session import Session
from sieve_ext.message import Message

TEXT = b"Subject: hi\r\nX-Two: 1\r\n\tfolded\r\nX-Two: 2\r\n\r\nhello\r\n"
STAGES = ("connect", "helo", "mail", "rcpt", "data")


def negotiate(stream: bytes, cut: int) -> None:
    """A filter that begins with `stream`: an agreement, or why there is none."""
    session = MilterSession(offer(6))
    session.negotiate()
    session.bytes_to_send()
    for start in range(0, len(stream), cut):
        session.receive(stream[start : start + cut])
    session.receive(b"")
    assert session.failed
    assert session.outcome is not None


def edit(stream: bytes, cut: int) -> None:
    """A filter that answers `stream` to a message of ours."""
    session = MilterSession(offer(6), bounds=Bounds(edits=50, edit_octets=2000, body_octets=2000, progress=5))
    session.negotiate()
    session.bytes_to_send()
    everything = Protocol.NO_CONNECT | Protocol.NO_HEADERS | Protocol.NO_BODY | Protocol.NO_END_OF_HEADERS
    session.receive(packet(Command.NEGOTIATE, Offer(6, ALL_ACTIONS, everything).encode()))
    assert session.agreement is not None
    message = Message(TEXT)
    recipients = [Recipient(parse_address("b@x.test")), Recipient(parse_address("c@x.test"))]
    edited = shown_to_milters(message, recipients, b"X-Above: 1\r\n", b"")
    fields = list(edited.fields)
    macros = {Stage.END_OF_HEADERS: b""}
    session.begin(requests.content(session.agreement, edited.shown(), edited.body(), macros))
    session.bytes_to_send()
    for start in range(0, len(stream), cut):
        session.receive(stream[start : start + cut])
        session.bytes_to_send()
    session.receive(b"")
    assert session.outcome is not None
    edited.apply(session.outcome.edits)
    try:
        changes = changes_of(
            session.outcome.edits,
            edited,
            fields,
            message,
            recipients,
            [one.address.text for one in recipients],
            "mx.test",
        )
    except EditError:
        return
    assert whole(changes.above), changes.above
    if changes.message is not None:
        octets = b"".join(changes.message.chunks())
        header = changes.message.render_header()
        assert octets.startswith(header)
        assert whole(header), header
        assert octets[len(header) : len(header) + 2] == b"\r\n"
        assert len(octets) == changes.message.size
    for one in changes.added:
        assert "\n" not in one.address.text
        assert "\r" not in one.address.text


def whole(fields: bytes) -> bool:
    """Header fields that end where the next one begins: no empty line, no line without a name."""
    if not fields:
        return True
    lines = fields.split(b"\r\n")
    if lines.pop():
        return False
    return all(line.strip() and (line[:1] in b" \t" or b":" in line) for line in lines)


def decide(text: str) -> None:
    """A policy server that answers `text` at each stage of two messages."""
    session = Session("s", "smtp", "smtp", "192.0.2.1")
    pending: dict[str, Pending] = {}
    servers = PolicyServers({}, pending, lambda place: "filter:one" if "1" in place else "")
    decision = parse_action(text)
    for _ in range(2):
        envelope = Envelope(parse_address("a@x.test"), [Recipient(parse_address("b@x.test"))])
        for stage in STAGES:
            told = servers._apply("one", decision, Facts(stage, session, "mx.test", envelope))
            assert told.reply is None or told.reply.code >= 400
            assert "\n" not in told.note
            if (kept := pending.get(session.id)) is not None:
                verdict = kept.settle(Verdict(), stage)
                assert verdict.reply is None or verdict.reply.is_temporary
        if kept is not None:
            orders = kept.ordered(Orders(), envelope)
            assert whole(orders.above)
            assert all("\n" not in one.address.text for one in orders.added)
            assert len(orders.added) <= 2


class Writer:
    """Where a policy server of ours writes."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        """Take octets."""
        self.written += data

    async def drain(self) -> None:
        """There is room."""

    def close(self) -> None:
        """The end."""


async def serve(stream: bytes, cut: int) -> None:
    """A client of our policy server that sends `stream`, and is told what it has said."""
    asked: list[dict[str, str]] = []

    async def echo(request: dict[str, str]) -> str:
        asked.append(request)
        return "REJECT " + " ".join(request.values())

    reader, writer = asyncio.StreamReader(), Writer()
    for start in range(0, len(stream), cut):
        reader.feed_data(stream[start : start + cut])
    reader.feed_eof()
    both: Any = (reader, writer)
    try:
        await PolicyServer(echo, parse_endpoint("unix:/nowhere"))._run(*both)
    except PolicyProtocolError:
        assert writer.written.count(b"\n\n") == len(asked)
    answers = BlockReader()
    answers.feed(writer.written)
    for _ in asked:
        found = answers.next()
        assert found is not None
        assert found["action"].startswith("REJECT")
    assert answers.empty


def check(data: bytes) -> None:
    """Take the cut from the first octet, the stream from the rest."""
    if not data:
        return
    cut, stream = data[0] % 16 + 1, data[1:]
    negotiate(stream, cut)
    edit(stream, cut)
    decide(stream.decode("utf-8", "replace"))
    asyncio.run(serve(stream, cut))


def main() -> None:
    """Fuzz."""
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
