"""The capability record as text, as octets, and as what it means."""

from __future__ import annotations

import dns.exception
import dns.rdata
import pytest
from dns.rdata import Rdata
from hypothesis import given
from hypothesis import strategies as st

from mta.delivery.security.capability import FLOORS, Capabilities, ours, owner_name, read_capabilities


def svcb(text: str) -> Rdata:
    return dns.rdata.from_text("IN", "SVCB", text)


FULL = Capabilities(
    "1.2", 465, True, ("8BITMIME", "SMTPUTF8"), 50_000_000, (("MAILMAX", 100), ("RCPTMAX", 500)), 7
)


@pytest.mark.parametrize("one", [Capabilities(), FULL, Capabilities("1.3"), Capabilities(ehlo=("PRDR",))])
def test_there_and_back(one: Capabilities) -> None:
    record = svcb(one.rdata())
    assert read_capabilities([record]) == one
    wire = record.to_wire() or b""
    assert read_capabilities([dns.rdata.from_wire("IN", "SVCB", wire, 0, len(wire))]) == one
    assert len(wire) < 300


READ: dict[str, Capabilities | None] = {
    '1 . key65280="1.2"': Capabilities("1.2"),
    '1 . key65280="1.9"': Capabilities("1.2"),
    "1 . key65280": Capabilities("1.2"),
    '1 . key65280="\\200"': Capabilities(),
    "1 . key65282": Capabilities(require_tls=True),
    '1 . key65282="x"': Capabilities(require_tls=True),
    '1 . key65281="70000"': Capabilities(),
    '1 . key65281="465"': Capabilities(implicit_tls=465),
    '1 . key65283="smtputf8,,no blanks,CHUNKING"': Capabilities(ehlo=("SMTPUTF8", "CHUNKING")),
    '1 . key65284="-5"': Capabilities(),
    '1 . key65285="RCPTMAX=5,MAILMAX=x,FOO=1,RCPTDOMAINMAX=0"': Capabilities(limits=(("RCPTMAX", 5),)),
    '1 . key65299="of tomorrow"': Capabilities(),
    '1 . mandatory=key65280 key65280="1.3"': Capabilities("1.3"),
    '1 . mandatory=key65299 key65280="1.3" key65299="x"': None,
    '1 . mandatory=port port=25 key65280="1.3"': None,
    '1 . port=2525 key65280="1.3"': Capabilities("1.3"),
    '1 other.test. key65280="1.3"': None,
    "0 other.test.": None,
    "0 .": None,
}


@pytest.mark.parametrize("text", READ)
def test_read(text: str) -> None:
    assert read_capabilities([svcb(text)]) == READ[text]


def test_which_of_several_counts() -> None:
    low, high = svcb('1 . key65280="1.2"'), svcb('2 . key65280="1.3"')
    for answer in ([low, high], [high, low]):
        assert read_capabilities(answer) == Capabilities("1.2")
    weak, strong = svcb('1 . key65284="5"'), svcb('1 . key65280="1.2"')
    for answer in ([weak, strong], [strong, weak]):
        assert read_capabilities(answer) == Capabilities("1.2")
    unknown = svcb("1 . mandatory=key65299 key65299=x")
    assert read_capabilities([unknown, high]) == Capabilities("1.3")
    assert read_capabilities([]) is None
    assert read_capabilities([dns.rdata.from_text("IN", "A", "192.0.2.1")]) is None


def test_what_it_demands() -> None:
    assert FULL.demands
    assert FULL.promised == {"REQUIRETLS"}
    assert Capabilities(require_tls=True).demands
    assert not Capabilities(ehlo=("STARTTLS",), size=5).demands
    assert not Capabilities("1.2").promised


def test_ours() -> None:
    words = ["STARTTLS", "SIZE", "REQUIRETLS", "SMTPUTF8", "LIMITS", "AUTH", "8BITMIME"]
    one = ours(starttls=True, minimum_version="TLSv1.2", offered=words, size=100, recipients=50, serial=3)
    assert one == Capabilities("1.2", 0, True, ("8BITMIME", "LIMITS", "SMTPUTF8"), 100, (("RCPTMAX", 50),), 3)
    plain = ours(starttls=False, minimum_version="TLSv1.2", offered=words, size=0, recipients=0)
    assert not plain.demands
    assert owner_name("mx.test") == "_25._smtp.mx.test"


@given(st.binary(max_size=120))
def test_any_octets(octets: bytes) -> None:
    wire = b"\0\1\0" + octets
    try:
        record = dns.rdata.from_wire("IN", "SVCB", wire, 0, len(wire))
    except (dns.exception.DNSException, ValueError):
        return
    found = read_capabilities([record])
    assert found is None or found.tls_floor in ("", *FLOORS)


@given(st.dictionaries(st.sampled_from(range(65280, 65288)), st.binary(max_size=40)))
def test_any_values(values: dict[int, bytes]) -> None:
    wire = b"\0\1\0" + b"".join(
        key.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value
        for key, value in sorted(values.items())
    )
    found = read_capabilities([dns.rdata.from_wire("IN", "SVCB", wire, 0, len(wire))])
    assert found is not None
    # What was read can be said again.
    assert read_capabilities([svcb(found.rdata())]) == found
