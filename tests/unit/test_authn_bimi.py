"""BIMI: which mail is looked at, selectors, records, and what is written of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import dns.rdata
import pytest
from dns.rdata import Rdata

from mta.authn.authresults import render
from mta.authn.bimi import Assertion, Malformed, _found, check, read_assertion, read_selector
from mta.authn.dkim import DkimResult
from mta.authn.dkimsignature import read_signature
from mta.authn.dmarc import check as check_author
from mta.authn.results import MethodResult, Result
from mta.net.resolver.base import Answer, Status
from mta.net.resolver.fake import FakeResolver
from sieve_ext.message import HeaderIndex, Message
from sieve_ext.message.header import Header

LOGO, PROOF = "https://d.test/logo.svg", "https://d.test/proof.pem"


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (f"v=BIMI1; l={LOGO}; a={PROOF}", Assertion(LOGO, PROOF)),
        (f" v = BIMI1 ; L={LOGO} ;", Assertion(LOGO)),
        ("v=BIMI1; l=; a=;", Assertion()),
        ("v=BIMI1; l=", Assertion()),
        (f"v=BIMI1; l={LOGO}; x-new=1", Assertion(LOGO)),
        ("v=BIMI1;", "the record has no l="),
        ("v=BIMI1; l=http://d.test/logo.svg", "l= is no https URI"),
        ("v=BIMI1; l=https:///logo.svg", "l= is no https URI"),
        ("v=BIMI1; l=https://[d.test/logo.svg", "l= is no https URI"),
        (f"v=BIMI1; l={LOGO}; a=ftp://x/", "a= is no https URI"),
        (f"v=BIMI1; l={LOGO}{'x' * 1024}", "l= is no https URI"),
        (f"v=BIMI1; l={LOGO}; l={LOGO}", "it is no list of tags"),
        ("v=BIMI1; l", "it is no list of tags"),
        ("v=BIMI1; l=https://ü.test/", "it is not ASCII"),
        (f"v=BIMI1; l={LOGO}; {' ' * 5000}", "the record is too long"),
    ],
)
def test_records(record: str, expected: Assertion | str) -> None:
    if isinstance(expected, Assertion):
        assert read_assertion(record.encode()) == expected
        return
    with pytest.raises(Malformed, match=expected.replace("=", ".")):
        read_assertion(record.encode())


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (b"v=BIMI1; s=brand", "brand"),
        (b" v=BIMI1;s=Brand.2026;", "brand.2026"),
        (b"s=brand", None),
        (b"v=BIMI2; s=brand", None),
        (b"v=BIMI1", None),
        (b"v=BIMI1; s=a..b", None),
        (b"v=BIMI1; s=" + b"a" * 64, None),
        (b"v=BIMI1; s=a.b.c.d.e", None),
    ],
)
def test_selectors(field: bytes, expected: str | None) -> None:
    if expected is not None:
        assert read_selector(field) == expected
        return
    with pytest.raises(Malformed):
        read_selector(field)


def text_record(text: str) -> Rdata:
    return dns.rdata.from_text("IN", "TXT", f'"{text}"')


DMARC = "v=DMARC1; p=reject"
RECORD = f"v=BIMI1; l={LOGO}; a={PROOF}"


def found(
    records: Mapping[str, str],
    *,
    author: str = "d.test",
    signer: str = "d.test",
    selector: str = "",
    names: str = "from",
    fails: str = "",
) -> MethodResult:
    """What is found of a message that `signer` has signed, over `names`."""
    resolver = FakeResolver()
    for name, text in records.items():
        resolver.text(name, text)
    if fails:
        resolver.fail(fails, "TXT")
    octets = f"From: a@{author}\r\n".encode()
    if selector:
        octets += f"BIMI-Selector: v=BIMI1; s={selector}\r\n".encode()
    written = f"v=1; a=rsa-sha256; d={signer}; s=k; h={names}; bh=eA==; b=eA=="
    field = Message(f"DKIM-Signature: {written}\r\n\r\n".encode()).all("dkim-signature")[0]
    signature = DkimResult(Result.PASS, "", read_signature(field))
    header = Header(HeaderIndex(octets + b"\r\n"))

    async def main() -> MethodResult:
        until = asyncio.get_running_loop().time() + 5
        dmarc = await check_author(resolver, header, None, [signature.method_result], deadline=until)
        return await check(resolver, header, dmarc, [signature], deadline=until)

    return asyncio.run(main())


HERE = {"default._bimi.d.test": RECORD}
BRAND = {"brand._bimi.d.test": RECORD}
COVERED = "from:bimi-selector"
MESSAGES: list[tuple[dict[str, str], dict[str, str], str, str, str]] = [
    # records, the message, the result, its domain, its reason
    (HERE, {}, "pass", "d.test", "record only"),
    ({}, {}, "none", "d.test", "no record"),
    ({"default._bimi.d.test": "v=BIMI1; l=; a="}, {}, "declined", "d.test", ""),
    ({"default._bimi.d.test": "v=BIMI1; l=x"}, {}, "fail", "d.test", "l= is no https URI"),
    ({"default._bimi.d.test": "v=spf1 -all"}, {}, "none", "d.test", "no record"),
    (HERE, {"author": "sub.d.test"}, "pass", "d.test", "record only"),
    (HERE, {"signer": "e.test"}, "skipped", "", "DMARC has not passed"),
    ({**HERE, "_dmarc.d.test": "v=DMARC1; p=none"}, {}, "skipped", "", "asks for nothing"),
    ({**HERE, "_dmarc.d.test": f"{DMARC}; sp=none"}, {}, "skipped", "", "asks for nothing"),
    ({**HERE, "_dmarc.d.test": f"{DMARC}; t=y"}, {}, "skipped", "", "on trial"),
    (BRAND, {"selector": "brand"}, "none", "d.test", "no record"),  # nobody has signed the field
    (BRAND, {"selector": "brand", "names": COVERED}, "pass", "d.test", ""),
    ({}, {"selector": "a..b", "names": COVERED}, "fail", "d.test", "names no selector"),
    ({}, {"fails": "default._bimi.d.test"}, "temperror", "d.test", ""),
]


@pytest.mark.parametrize(("records", "options", "result", "domain", "reason"), MESSAGES)
def test_messages(
    records: dict[str, str], options: dict[str, str], result: str, domain: str, reason: str
) -> None:
    one = found({"_dmarc.d.test": DMARC, **records}, **options)
    assert one.result.value == result, one
    assert one.properties.get("header.d", "") == domain
    assert reason in one.reason


def test_what_is_written() -> None:
    one = found({"_dmarc.d.test": DMARC, "default._bimi.d.test": RECORD})
    value = " ".join(render("mx.test", [one]).split())
    assert value == (
        "mx.test; bimi=pass (record only, nothing was fetched) header.d=d.test header.selector=default"
        f' policy.indicator-uri="{LOGO}" policy.authority-uri="{PROOF}"'
    )


def test_several_records_count_as_wrong() -> None:
    answer = Answer(Status.INSECURE, tuple(text_record(RECORD) for _ in range(2)))
    one = _found(answer, "d.test", "default")
    assert one is not None
    assert (one.result, one.reason) == (Result.FAIL, "several records")
