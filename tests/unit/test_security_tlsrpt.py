"""TLS reports: the record, the JSON, the message, and the way out."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Sequence
from email import policy as email_policy
from email.parser import BytesParser
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.address import parse_address
from mta.delivery.security import tlsrpt as module
from mta.delivery.security.clienttls import ClientContexts
from mta.delivery.security.tlsreporter import TlsReporter
from mta.delivery.security.tlsrpt import HttpsTarget, Submitter, Targets, make_report, read_record
from mta.net.https import IsRefused
from mta.net.resolver.fake import FakeResolver
from mta.reporting.daily import NotNow
from mta.reporting.mail import MailSubmitter, NoWay, ReportMail, report_message
from tests.unit.test_security_sts import Web, plain

A = parse_address("tls@example.org")
RECORDS: list[tuple[list[bytes], Targets]] = [
    ([b"v=TLSRPTv1; rua=mailto:tls@example.org"], Targets((A,))),
    ([b"v=TLSRPTv1;rua=MAILTO:tls%40example.org?subject=x;"], Targets((A,))),
    (
        [b"v=TLSRPTv1; rua=https://r.test/v1?x=y, mailto:tls@example.org,https://r.test:8443"],
        Targets((A,), (HttpsTarget("r.test", 443, "/v1?x=y"), HttpsTarget("r.test", 8443, "/"))),
    ),
    ([b"v=spf1 -all", b"v=TLSRPTv1; rua=mailto:tls@example.org"], Targets((A,))),
    ([b"v=TLSRPTv1; rua=mailto:tls@example.org", b"v=TLSRPTv1; rua=mailto:b@example.org"], Targets()),
    ([], Targets()),
    ([b"v=TLSRPTv1"], Targets()),
    ([b"v=TLSRPTv2; rua=mailto:tls@example.org"], Targets()),
    ([b"v=TLSRPTv1; rua=http://r.test/"], Targets()),
    ([b"v=TLSRPTv1; rua=https://u:p@r.test/"], Targets()),
    ([b"v=TLSRPTv1; rua=https://r.test:99999/"], Targets()),
    ([b"v=TLSRPTv1; rua=https:///x"], Targets()),
    ([b"v=TLSRPTv1; rua=mailto:nobody"], Targets()),
    ([b"v=TLSRPTv1; rua=mailto:%0d%0a@example.org"], Targets()),
    ([b"v=TLSRPTv1; rua=mailto:tls@example.org," + b"mailto:tls@example.org," * 50], Targets((A,))),
]


@pytest.mark.parametrize(("texts", "expected"), RECORDS, ids=lambda value: repr(value)[:50])
def test_record(texts: list[bytes], expected: Targets) -> None:
    assert read_record(texts) == expected


@given(st.binary(max_size=100))
def test_any_record(octets: bytes) -> None:
    read_record([octets])
    found = read_record([b"v=TLSRPTv1; rua=" + octets])
    assert all(address.text.isascii() for address in found.mail)


US = Submitter("Example Ltd", "mailto:post@us.test", "us.test", "mx1.us.test")
STS = {
    "policy-type": "sts",
    "policy-string": ["version: STSv1"],
    "policy-domain": "d.test",
    "mx-host": ["*.d.test"],
}
NONE = {"policy-type": "no-policy-found", "policy-domain": "d.test"}
ROWS: list[tuple[dict[str, Any], int]] = [
    ({"policy": STS}, 7),
    (
        {
            "policy": STS, "failure": "certificate-expired", "mx": "mx.d.test", "helo": "h",
            "ip": "192.0.2.1", "local": "", "reason": "too old",
        },
        3,
    ),
    ({"policy": STS, "failure": "starttls-not-supported", "mx": "mx.d.test", "reason": ""}, 2),
    ({"policy": NONE}, 1),
]  # fmt: skip


def test_report() -> None:
    document = json.loads(gzip.decompress(make_report("2026-11-28", "d.test", ROWS, US)))
    assert document == {
        "organization-name": "Example Ltd",
        "date-range": {"start-datetime": "2026-11-28T00:00:00Z", "end-datetime": "2026-11-28T23:59:59Z"},
        "contact-info": "mailto:post@us.test",
        "report-id": "2026-11-28_d.test_mx1.us.test@us.test",
        "policies": [
            {
                "policy": STS,
                "summary": {"total-successful-session-count": 7, "total-failure-session-count": 5},
                "failure-details": [
                    {
                        "result-type": "certificate-expired",
                        "receiving-mx-hostname": "mx.d.test",
                        "receiving-mx-helo": "h",
                        "receiving-ip": "192.0.2.1",
                        "failed-session-count": 3,
                        "failure-reason-code": "too old",
                    },
                    {
                        "result-type": "starttls-not-supported",
                        "receiving-mx-hostname": "mx.d.test",
                        "failed-session-count": 2,
                    },
                ],
            },
            {
                "policy": NONE,
                "summary": {"total-successful-session-count": 1, "total-failure-session-count": 0},
            },
        ],
    }


def test_report_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REPORT", 3000)
    rows = [
        ({"policy": STS, "failure": "validation-failure", "mx": f"mx{n}.{n * n}.test"}, 1)
        for n in range(3000)
    ]
    packed = make_report("2026-11-28", "d.test", rows, US)
    assert len(packed) <= 3000
    (policy,) = json.loads(gzip.decompress(packed))["policies"]
    assert policy["summary"]["total-failure-session-count"] == 3000
    assert 0 < len(policy["failure-details"]) < 1000


class Outbox:
    """Takes reports in place of a queue."""

    def __init__(self, trouble: str = "") -> None:
        self.mail: list[ReportMail] = []
        self.trouble = trouble

    async def submit(self, mail: ReportMail) -> str:
        if self.trouble:
            raise NotNow(self.trouble)
        self.mail.append(mail)
        return "Q1"


def send(
    web: Web | None,
    dns: FakeResolver,
    outbox: Outbox | None,
    rows: Sequence[Any] = ROWS,
    is_refused: IsRefused = lambda address: False,
) -> str:
    async def run() -> str:
        reporter = TlsReporter(
            US, parse_address("post@us.test"), dns,
            lambda: ClientContexts(web.ca_file if web else "").context(verify=True),
            cast(MailSubmitter | None, outbox), is_refused,
        )  # fmt: skip
        if web is None:
            return await reporter.report("2026-11-28", "d.test", rows)
        async with web.serve() as port:
            dns.add("mta-sts.good.test", "A", "127.0.0.1")
            rua = f"v=TLSRPTv1; rua=https://mta-sts.good.test:{port}/r,mailto:tls@example.org"
            dns.text("_smtp._tls.d.test", rua)
            return await reporter.report("2026-11-28", "d.test", rows)

    return asyncio.run(run())


def test_sending(tmp_path: Path) -> None:
    web, outbox = Web(tmp_path), Outbox()
    web.answer = plain(b"", "201 Created")
    assert send(web, FakeResolver(), outbox) == "posted to mta-sts.good.test, queued as Q1"
    head, _, body = web.asked[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /r HTTP/1.1")
    assert b"application/tlsrpt+gzip" in head
    assert json.loads(gzip.decompress(body))["report-id"] == "2026-11-28_d.test_mx1.us.test@us.test"
    (mail,) = outbox.mail
    header, body, made = report_message(mail, "mx.us.test", 1_800_000_000.0, bytes(range(24)))
    message = BytesParser(policy=email_policy.default).parsebytes(header + body)
    assert message["TLS-Report-Domain"] == "d.test"
    assert message["TLS-Report-Submitter"] == "us.test"
    assert message["TLS-Required"] == "No"
    subject = "Report Domain: d.test Submitter: us.test Report-ID: <2026-11-28_d.test_mx1.us.test@us.test>"
    assert message["Subject"] == subject
    assert message["Message-ID"] == made
    assert message["To"] == "tls@example.org"
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "tlsrpt"
    text, report = message.iter_parts()
    assert "TLS report" in text.get_content()
    assert report.get_content_type() == "application/tlsrpt+gzip"
    assert report.get_filename() == "mx1.us.test!d.test!1795824000!1795910399.json.gz"
    assert json.loads(gzip.decompress(report.get_content()))["organization-name"] == "Example Ltd"
    assert all(len(line) <= 998 for line in (header + body).split(b"\r\n"))


def test_one_place_is_enough(tmp_path: Path) -> None:
    web, outbox = Web(tmp_path), Outbox()
    web.answer = plain(b"", "500 No")
    assert send(web, FakeResolver(), outbox) == "queued as Q1, failed: mta-sts.good.test: status 500"
    with pytest.raises(NotNow, match="status 500; full"):
        send(web, FakeResolver(), Outbox("full"))


def test_a_server_that_cannot_mail_posts_until_it_has_posted(tmp_path: Path) -> None:
    class Nowhere(Outbox):
        async def submit(self, mail: ReportMail) -> str:
            raise NoWay("550 5.4.4 no route")

    web = Web(tmp_path)
    web.answer = plain(b"", "500 No")
    with pytest.raises(NotNow, match="status 500"):
        send(web, FakeResolver(), Nowhere())
    web = Web(tmp_path)
    web.answer = plain(b"", "200 OK")
    outcome = send(web, FakeResolver(), Nowhere())
    assert outcome == "posted to mta-sts.good.test, not mailed: 550 5.4.4 no route"


def test_reports_are_not_posted_to_addresses_that_nobody_connects_to(tmp_path: Path) -> None:
    web = Web(tmp_path)
    outcome = send(web, FakeResolver(), Outbox(), is_refused=lambda address: address == "127.0.0.1")
    assert outcome == "queued as Q1, failed: mta-sts.good.test: refused address 127.0.0.1"
    assert not web.asked


def test_nobody_asks() -> None:
    assert send(None, FakeResolver(), Outbox()) == "nobody asks for it"
    dns = FakeResolver()
    dns.fail("_smtp._tls.d.test")
    with pytest.raises(NotNow, match="SERVFAIL"):
        send(None, dns, Outbox())
