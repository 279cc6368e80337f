"""Invariant: what strangers publish and send gives values, never exceptions, and cannot forge our results.

Run ``python -m tests.fuzz.fuzz_authn [-max_total_time=SECONDS] [CORPUS]``. `check` is also run with generated
octets by the unit tests. Replies of the DNS, DMARC records, SPF records, From fields and fields with results
are read. A result that we write, with any words in it, is ours when it is read again, and is one field.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

from mta.authn.authresults import claimed_id, claims, render
from mta.authn.bimi import Malformed, read_assertion, read_selector
from mta.authn.dmarcauthor import find_author
from mta.authn.dmarcrecord import is_dmarc, parse_record
from mta.authn.results import MethodResult, Result
from mta.authn.spf import check_host
from mta.net.resolver import wire
from mta.net.resolver.fake import FakeResolver
from mta.net.resolver.names import wire_name
from sieve_ext.message import HeaderIndex
from sieve_ext.message.header import Header

ID = "mx.example.org"
ASKED = wire.question(b"\1d\4test\0", 16)


def check(data: bytes) -> None:
    """Read the octets as each of these things."""
    text = data.decode("utf-8", "replace")
    reply = b"\0\0\x81\x80\0\1\0\3\0\1\0\1" + ASKED + data
    assert wire.is_reply(reply, ASKED)
    try:
        found = wire.read_reply(reply, ASKED)
        assert found.error.isprintable()
    except wire.WireError:
        pass
    name = wire_name(text)
    assert name is None or len(name) <= 255
    record = parse_record(b"v=DMARC1;" + data)
    assert record is not None
    assert (parse_record(data) is not None) == is_dmarc(data)
    author = find_author(Header(HeaderIndex(b"From: " + data + b"\r\n\r\n")))
    assert bool(author.domain) is not bool(author.reason)
    assert author.domain.isascii()
    for read in (read_assertion, read_selector):
        with contextlib.suppress(Malformed):
            read(b"v=BIMI1;" + data)
    claims(data, [ID])
    value = render(ID, [MethodResult("spf", Result.FAIL, text, {"smtp.mailfrom": text})])
    assert claimed_id(value.encode()) == ID
    assert value.isascii()
    assert all(line.isprintable() for line in value.split("\r\n\t"))
    asyncio.run(_spf(data))


async def _spf(data: bytes) -> None:
    dns = FakeResolver()
    dns.text("d.test", b"v=spf1 " + data)
    dns.add("d.test", "A", "192.0.2.1")
    deadline = asyncio.get_running_loop().time() + 60
    found = await check_host(dns, "192.0.2.1", "user", "d.test", "h.test", deadline=deadline)
    assert found.result.result is not Result.TEMPERROR
    assert found.explanation.isprintable()
    assert found.queries <= 150


def main() -> None:
    """Fuzz."""
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
