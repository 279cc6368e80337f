"""DMARC aggregate reports: rows, XML, whom they may go to, and what happens when the DNS does not say."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any
from xml.etree import ElementTree

import pytest

from mta.address import parse_address
from mta.authn.dmarc import DmarcResult
from mta.authn.dmarcauthor import Author
from mta.authn.dmarcrecord import DmarcRecord, Policy, parse_record
from mta.authn.results import MethodResult, Result
from mta.authn.spf import SpfResult
from mta.net.resolver.fake import FakeResolver
from mta.reporting import dmarc as module
from mta.reporting.daily import NotNow, Row
from mta.reporting.dmarc import NAMESPACE, Submitter, make_report, row_of
from mta.reporting.dmarcreporter import DmarcReporter, targets
from mta.reporting.mail import ReportMail

OURS = Submitter("Us & Co", "postmaster@mx.test", "mx.test")
DAY = "2026-11-27"


def record(text: str = "p=reject; rua=mailto:d@a.test") -> DmarcRecord:
    found = parse_record(f"v=DMARC1; {text}".encode())
    assert found is not None
    return found


def evaluated(
    result: Result = Result.FAIL,
    disposition: Policy = Policy.REJECT,
    of: DmarcRecord | None = None,
    **more: Any,
) -> DmarcResult:
    return DmarcResult(
        MethodResult("dmarc", result), Author("a.test"), "a.test", policy_domain="a.test",
        record=of or record(), disposition=disposition, **more,
    )  # fmt: skip


def counted(found: DmarcResult, *, refused: bool = False, client: str = "192.0.2.1") -> dict[str, Any] | None:
    spf = SpfResult(MethodResult("spf", Result.FAIL), "mailfrom", "a.test")
    row = row_of(client, "a.test", found, spf, (), refused=refused)
    return None if row is None else row[1]


@pytest.mark.parametrize(
    ("result", "disposition", "refused", "done", "reason"),
    [
        (Result.PASS, Policy.NONE, False, "pass", None),
        (Result.FAIL, Policy.REJECT, True, "reject", None),
        (Result.FAIL, Policy.REJECT, False, "none", "local_policy"),
        (Result.FAIL, Policy.NONE, True, "reject", "local_policy"),
        (Result.FAIL, Policy.QUARANTINE, False, "quarantine", None),
        (Result.FAIL, Policy.NONE, False, "none", None),
    ],
)
def test_what_was_done(
    result: Result, disposition: Policy, refused: bool, done: str, reason: str | None
) -> None:
    row = counted(evaluated(result, disposition), refused=refused)
    assert row is not None
    assert (row["done"], row.get("reason")) == (done, reason)


@pytest.mark.parametrize(
    ("policy", "t", "done", "reason"),
    [
        (Policy.REJECT, "t=y; ", "quarantine", "policy_test_mode"),
        (Policy.QUARANTINE, "t=y; ", "none", "policy_test_mode"),
        (Policy.REJECT, "", "quarantine", "other"),  # pct, by RFC 7489
        (Policy.NONE, "t=y; ", "none", None),
    ],
)
def test_milder_than_published_has_its_reason(policy: Policy, t: str, done: str, reason: str | None) -> None:
    of = record(f"p={policy}; {t}rua=mailto:d@a.test")
    row = counted(evaluated(disposition=policy.lowered, of=of, policy=policy))
    assert row is not None
    assert (row["done"], row.get("reason")) == (done, reason)


def test_what_nobody_is_told() -> None:
    assert counted(evaluated(Result.TEMPERROR)) is None
    assert counted(evaluated(Result.NONE)) is None
    assert counted(evaluated(of=record("p=reject"))) is None
    assert counted(evaluated(), client="unix") is None
    assert counted(evaluated(), client="2001:db8::1") is not None


def rows() -> list[Row]:
    row = counted(evaluated(spf_aligned=True))
    assert row is not None
    strange = {**row, "envelope": "<x>&\x01", "signatures": [["a.test", "s&", "pass"]], "reason": "other"}
    return [(row, 7), (strange, 1)]


def test_the_report_is_xml_of_rfc_9990() -> None:
    packed = make_report(DAY, "a.test", rows(), OURS, generator="Tamis")
    root = ElementTree.fromstring(gzip.decompress(packed))
    of = {"d": NAMESPACE}
    assert root.tag == f"{{{NAMESPACE}}}feedback"

    def text(path: str) -> list[str]:
        return [one.text or "" for one in root.findall("/".join(f"d:{part}" for part in path.split("/")), of)]

    assert text("report_metadata/org_name") == ["Us & Co"]
    assert text("report_metadata/date_range/begin") == ["1795737600"]
    assert text("report_metadata/date_range/end") == ["1795823999"]
    assert text("policy_published/p") == ["reject"]
    assert text("policy_published/discovery_method") == ["treewalk"]
    assert text("record/row/count") == ["7", "1"]
    assert text("record/row/policy_evaluated/spf") == ["pass", "pass"]
    assert text("record/identifiers/envelope_from") == ["a.test", "<x>&?"]
    assert text("record/auth_results/dkim/selector") == ["s&"]
    assert text("record/row/policy_evaluated/reason/type") == ["local_policy", "other"]
    assert make_report(DAY, "a.test", rows(), OURS, generator="Tamis") == packed


def test_a_report_that_would_be_too_large_leaves_rare_rows_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_XML", 2000)
    xml = gzip.decompress(make_report(DAY, "a.test", rows() * 10, OURS, generator="Tamis"))
    assert len(xml) < 2100
    assert ElementTree.fromstring(xml).tag.endswith("feedback")


def test_of_several_policies_the_newest_is_told() -> None:
    old, new = counted(evaluated()), counted(evaluated(of=record("p=none; rua=mailto:d@a.test")))
    assert old is not None
    assert new is not None
    day: list[Row] = [(old, 7), (new, 1)]

    def told(newest: dict[str, str] | None) -> bytes:
        xml = gzip.decompress(make_report(DAY, "a.test", day, OURS, generator="Tamis", newest=newest))
        return xml.partition(b"<p>")[2].partition(b"</p>")[0]

    assert told(new["policy"]) == b"none"
    assert told({**new["policy"], "p": "quarantine"}) == b"reject"  # no message has met it
    assert told(None) == b"reject"


def test_servers_of_one_domain_report_under_names_of_their_own() -> None:
    names, files = set(), set()
    for host in ("mx1.mx.test", "mx2.mx.test"):
        ours = Submitter(OURS.organization, OURS.contact, OURS.domain, host)
        dns, mail = FakeResolver(), Mail()
        dns.text("_dmarc.a.test", "v=DMARC1; p=none; rua=mailto:d@a.test")
        reporter = DmarcReporter(ours, parse_address(OURS.contact), dns, mail)  # type: ignore[arg-type]
        for _ in range(2):
            asyncio.run(reporter.report(DAY, "a.test", rows()))
            names.add(mail.sent[-1].subject.rpartition(" ")[2])
            files.add(mail.sent[-1].attachment.filename)
    assert names == {f"<{DAY}.a.test.mx{number}.mx.test@mx.test>" for number in (1, 2)}
    assert len(files) == 2


class Mail:
    def __init__(self) -> None:
        self.sent: list[ReportMail] = []

    async def submit(self, mail: ReportMail) -> str:
        self.sent.append(mail)
        return "Q1"


def report(dns: FakeResolver, subject: str = "a.test") -> tuple[str, list[str]]:
    mail = Mail()
    reporter = DmarcReporter(OURS, parse_address(OURS.contact), dns, mail)  # type: ignore[arg-type]
    outcome = asyncio.run(reporter.report(DAY, subject, rows()))
    return outcome, [to.text for one in mail.sent for to in one.to]


def test_an_address_of_the_domain_gets_it() -> None:
    dns = FakeResolver()
    dns.text(
        "_dmarc.a.test", "v=DMARC1; p=none; rua=mailto:d@a.test,mailto:e@sub.a.test!10m,https://a.test/x"
    )
    assert report(dns) == ("queued as Q1", ["d@a.test", "e@sub.a.test"])


def test_an_address_elsewhere_gets_it_only_if_that_agrees() -> None:
    dns = FakeResolver()
    dns.text("_dmarc.a.test", "v=DMARC1; p=none; rua=mailto:d@b.test,mailto:d@c.test,mailto:d@e.test")
    dns.text("a.test._report._dmarc.b.test", "v=DMARC1;")
    dns.text("a.test._report._dmarc.c.test", "v=spf1 -all")
    assert report(dns) == ("queued as Q1", ["d@b.test"])


@pytest.mark.parametrize(
    ("rua", "to"),
    [
        ("mailto:for-a@b.test", ["for-a@b.test"]),
        ("mailto:one@B.test,mailto:two@b.test", ["one@B.test", "two@b.test"]),
        ("mailto:d@c.test", []),
        ("mailto:for-a@b.test,mailto:d@c.test", []),
        ("mailto:d@sub.b.test", []),
        ("https://b.test/x", []),
    ],
)
def test_who_agrees_may_name_another_address_of_the_same_domain(rua: str, to: list[str]) -> None:
    """RFC 9990 section 4, step 9."""
    dns = FakeResolver()
    dns.text("_dmarc.a.test", "v=DMARC1; p=none; rua=mailto:d@b.test")
    dns.text("a.test._report._dmarc.b.test", f"v=DMARC1; rua={rua}")
    assert report(dns) == ("queued as Q1" if to else "nobody who asks for it may have it", to)


def test_nobody_may_have_it() -> None:
    dns = FakeResolver()
    dns.text("_dmarc.a.test", "v=DMARC1; p=none; rua=mailto:d@b.test")
    assert report(dns) == ("nobody who asks for it may have it", [])
    assert report(FakeResolver()) == ("the domain has no record any more", [])


@pytest.mark.parametrize("broken", ["_dmarc.a.test", "a.test._report._dmarc.b.test"])
def test_a_dns_that_does_not_say_is_asked_again_later(broken: str) -> None:
    dns = FakeResolver()
    dns.text("_dmarc.a.test", "v=DMARC1; p=none; rua=mailto:d@b.test")
    dns.fail(broken)
    with pytest.raises(NotNow):
        report(dns)


def test_an_address_whose_dns_is_dead_takes_the_report_from_nobody_else() -> None:
    dns = FakeResolver()
    dns.text("_dmarc.a.test", "v=DMARC1; p=none; rua=mailto:d@b.test,mailto:d@a.test")
    dns.fail("a.test._report._dmarc.b.test")
    outcome, sent = report(dns)
    assert sent == ["d@a.test"]
    assert outcome.startswith("queued as Q1, failed: a.test._report._dmarc.b.test: ")


@pytest.mark.parametrize(
    "uri", ["mailto:p%C3%B6st@x.test", "mailto:x@b%C3%BCcher.test", "mailto:a%ff@x.test"]
)
def test_an_address_that_a_report_cannot_be_sent_to(uri: str) -> None:
    assert targets([uri]) == []


def test_targets() -> None:
    found = targets(
        ["mailto:a%2Bb@x.test?subject=1", "MAILTO:a+b@x.test", "mailto:", "https://x", "mailto:x@[1.2.3.4]"]
    )
    assert [one.text for one in found] == ["a+b@x.test"]
