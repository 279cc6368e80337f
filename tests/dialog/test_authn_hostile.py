"""Messages made to keep us busy, through the daemon: each is answered, and soon."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mta.authn.arc import Chain
from mta.authn.arcseal import seal
from mta.authn.results import Result
from sieve_ext.message import Message
from tests.dialog.senders import RSA, Zone, authenticating, deliver, signed, stranger
from tests.dialog.server import run
from tests.unit.test_authn_dkim_linear import CASES

SECONDS = 6.0
"""Of processor time, for a slow machine; a quadratic algorithm would need minutes."""
HEAD = b"From: Alice <alice@good.test>\r\nSubject: hi\r\n"


OTHER = HEAD.replace(b"good", b"other") + b"\r\nx\r\n"


def chain(length: int) -> bytes:
    """A message with an ARC chain whose seals are wrong from the second one on."""
    message = HEAD + b"\r\nx\r\n"
    first = seal(Message(message), Chain(Result.NONE), "good.test; none", RSA, now=time.time())
    more = b"".join(
        first.replace(b"i=1", b"i=%d" % number).replace(b"cv=none", b"cv=pass")
        for number in range(length, 1, -1)
    )
    return more + first + message


MESSAGES = {
    "1 MB of blanks": signed(HEAD + b"\r\n" + (b" " * 998 + b"\r\n") * 1000, now=time.time()),
    "empty lines": signed(HEAD + b"\r\n" + b"\r\n" * 500_000, now=time.time()),
    "20,000 fields": CASES["20,000 fields, 300 names"],
    "names of fields": CASES["20,000 fields, one name 300 times"],
    "1,000 signatures": CASES["1,000 signatures"],
    "50 ARC sets": chain(50),
    "forged results": b"Authentication-Results: mx.test; x=(\r\n" * 3000 + HEAD + b"\r\nx\r\n",
    "a long From": b"From: " + b"(" * 100_000 + b"\r\n" + HEAD + b"\r\nx\r\n",
}
LIMITS = '[message]\nmax_header_size = "1MiB"'


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_it_is_answered_soon(tmp_path: Path, message: bytes) -> None:
    async def main() -> None:
        async with authenticating(tmp_path, Zone(), more=LIMITS) as server:
            client = await stranger(server)
            began = time.process_time()
            assert (await deliver(client, message))[:3] in ("250", "550", "552", "554")
            assert time.process_time() - began < SECONDS
            assert (await deliver(client, HEAD + b"\r\nx\r\n")).startswith("250")

    run(main)


def test_a_record_that_asks_for_more_and_more_ends(tmp_path: Path) -> None:
    async def main() -> None:
        zone = Zone()
        for number in range(30):
            names = " ".join(f"include:{number + 1}.{n}.bomb.test" for n in range(8))
            for n in range(8):
                zone.add(f"{number}.{n}.bomb.test", "TXT", f'"v=spf1 {names} -all"')
        zone.add("bomb.test", "TXT", '"v=spf1 include:0.0.bomb.test include:0.1.bomb.test -all"')
        async with authenticating(tmp_path, zone) as server:
            client = await stranger(server)
            assert (await deliver(client, OTHER, sender="a@bomb.test")).startswith("250")
            assert b"spf=permerror" in server.store.delivered[0].octets
            assert server.daemon._resolver is not None
            assert server.daemon._resolver.counters["sent"] < 40

    run(main)


@pytest.mark.parametrize(
    "author",
    [
        b"ceo@good.test,",
        b"ceo@good.test <a@other.test>",
        b"a@other.test\r\nFrom: ceo@good.test",
        b"ceo@(c)good.test",
        b"a@other.test\r\nFrom : ceo@good.test",
    ],
)
def test_an_odd_from_does_not_evade_the_base_policy(tmp_path: Path, author: bytes) -> None:
    async def main() -> None:
        async with authenticating(tmp_path, Zone()) as server:
            client = await stranger(server, "198.51.100.7")
            message = b"From: " + author + b"\r\nDate: Mon, 30 Nov 2026 01:00:00 +0000\r\n\r\nx\r\n"
            answer = await deliver(client, message, sender="a@other.test")
            assert answer.startswith("550 5.7.1 the DMARC policy of good.test refuses this message")

    run(main)
