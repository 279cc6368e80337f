"""Reports on their way through a queue, and the security of a worker with all that runs beside it."""

from __future__ import annotations

import asyncio
import gzip
import json
from dataclasses import replace
from email import policy as email_policy
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import pytest

from mailqueue.store.base import Blob
from mta import config
from mta.address import parse_address
from mta.daemon_security import SecurityService, memory_path, report_path
from mta.delivery.security import wording
from mta.delivery.security.pins import Held
from mta.delivery.security.requirement import HostAddresses, MxSet, Requirement, Result, Wishes
from mta.delivery.security.tlsrpt import KIND
from mta.dsn.decide import Kind
from mta.net.certificates import CertificateError
from mta.net.resolver.base import Status
from mta.net.resolver.fake import FakeResolver
from mta.reply import Reply
from mta.reporting.daily import NotNow
from mta.reporting.mail import Attachment, MailSubmitter, NoWay, ReportMail, report_message
from mta.reporting.store import ReportStore
from tests.unit.spool_kit import LATER, NO, OK, Work, played, route

MAIL = ReportMail(
    parse_address("reports@us.test"),
    (parse_address("tls@relay.test"),),
    "Report",
    ("Hello",),
    Attachment("application/tlsrpt+gzip", "a.json.gz", gzip.compress(b"{}")),
)


def sign(header: bytes, body: Blob) -> bytes:
    octets = header + b"".join(body.chunks())
    assert len(octets) == len(header) + body.size
    return b"DKIM-Signature: v=1\r\n"


def test_report_goes_through_the_queue() -> None:
    async def act(work: Work) -> None:
        hop = work.hops["relay"]
        hop.answer = lambda address, call: OK if call else LATER
        submitter = MailSubmitter(
            "mx.us.test", lambda: work.queue, route, work.runner.added, sign, now=work.now
        )
        assert await submitter.submit(MAIL)
        await asyncio.sleep(500)
        assert len(hop.seen) == 2
        seen = hop.seen[1]
        assert seen.recipients == ["tls@relay.test"]
        assert seen.envelope.sender.text == "reports@us.test"
        assert seen.octets.startswith(b"DKIM-Signature: v=1\r\nFrom: Mail reports <reports@us.test>\r\n")
        assert b"Auto-Submitted: auto-generated\r\n" in seen.octets
        assert not work.journal.reports

    played(act)


def test_a_name_that_is_not_ascii() -> None:
    """`reports.organization` is any text."""
    mail = replace(MAIL, text=("A report of Müller & Söhne", "=x"))
    header, body, _ = report_message(mail, "mx.us.test", 1_800_000_000.0, bytes(range(24)))
    assert (header + body).isascii()
    message = BytesParser(policy=email_policy.default).parsebytes(header + body)
    text, report = message.iter_parts()
    assert text.get_content().splitlines() == ["A report of Müller & Söhne", "=x"]
    assert report.get_content() == MAIL.attachment.content


def test_who_cannot_be_reached_gets_none_and_the_postmaster_does_not_hear_of_it() -> None:
    async def act(work: Work) -> None:
        submitter = MailSubmitter(
            "mx.us.test", lambda: work.queue, route, work.runner.added, None, now=work.now
        )
        nowhere, relay = parse_address("tls@nowhere.test"), parse_address("tls@relay.test")
        with pytest.raises(NoWay, match=r"550 5\.1\.2 no route"):
            await submitter.submit(replace(MAIL, to=(nowhere,)))
        assert await submitter.submit(replace(MAIL, to=(nowhere, relay)))
        await work.idle(100)
        assert work.hops["relay"].seen[0].recipients == ["tls@relay.test"]
        assert not work.hops["home"].seen
        assert await submitter.submit(replace(MAIL, to=(nowhere,), kind=Kind.NOTICE))

    played(act)


def test_one_that_is_refused_is_told_to_nobody() -> None:
    """Anybody can have as many domains with a dead address as he likes."""

    async def act(work: Work) -> None:
        work.hops["relay"].answer = lambda address, call: NO
        submitter = MailSubmitter(
            "mx.us.test", lambda: work.queue, route, work.runner.added, None, now=work.now
        )
        assert await submitter.submit(MAIL)
        await work.idle(100)
        assert len(work.hops["relay"].seen) == 1
        assert not work.hops["home"].seen
        ours = parse_address("postmaster@relay.test")
        assert await submitter.submit(replace(MAIL, to=(ours,), kind=Kind.NOTICE))
        await work.idle(100)
        assert not work.hops["home"].seen
        assert [to for to, _ in work.journal.untolds] == ["postmaster@relay.test"]

    played(act)


def test_no_queue() -> None:
    async def act() -> None:
        submitter = MailSubmitter("mx.us.test", lambda: None, route, lambda name: None, None, now=lambda: 1.0)
        with pytest.raises(NotNow):
            await submitter.submit(MAIL)

    asyncio.run(act())


CONFIG = """
[identity]
hostname = "mx.us.test"
[process]
state_directory = "{state}"
[security]
signed_names = ["."]
broken_names = []
"""


def test_service(tmp_path: Path) -> None:
    settings = config.parse(CONFIG.format(state=tmp_path), str(tmp_path / "tamis.toml"))
    dns = FakeResolver()
    dns.status("good.test", Status.SECURE)
    dns.add("_25._tcp.mx.good.test", "TLSA", "3 1 1 " + "ab" * 32)

    async def act() -> None:
        service = SecurityService(settings, dns)
        service.start(lambda: None, route, None, None)
        deadline = asyncio.get_running_loop().time() + 5
        found = await service.security.for_domain(
            MxSet("good.test", Status.SECURE, ("mx.good.test",)), Wishes(), deadline
        )
        assert not isinstance(found, Reply)
        what = await found.for_host(HostAddresses("mx.good.test", Status.SECURE), deadline)
        assert isinstance(what, Requirement)
        found.report(Result(what, "192.0.2.1"))
        assert service.security.figures["level", "dane"] == 1
        await service.close()

    asyncio.run(act())
    assert Path(memory_path(settings)).exists()
    store = ReportStore(report_path(settings))
    (day,) = store.days(KIND)
    ((row, count),) = store.rows(KIND, day, "good.test")
    assert (row["policy"]["policy-type"], count) == ("tlsa", 1)
    store.close()


def test_service_says_what_is_wrong_with_authorities(tmp_path: Path) -> None:
    text = CONFIG.format(state=tmp_path) + f'ca_file = "{tmp_path}/none.pem"\n'
    settings: Any = config.parse(text, str(tmp_path / "tamis.toml"))
    with pytest.raises(CertificateError, match=r"none\.pem"):
        SecurityService(settings, FakeResolver())


def test_report_is_json() -> None:
    assert json.loads(gzip.decompress(MAIL.attachment.content)) == {}


def test_report_to_the_sender_says_why_mail_waited() -> None:
    async def act(work: Work) -> None:
        held = Held("far.test", work.now() - 3600, work.now(), work.now() + 48 * 3600)
        work.hops["relay"].answer = lambda address, call: wording.unsigned("far.test", held)
        await work.add("b@relay.test", sender="a@home.test")
        await asyncio.sleep(4000)
        (report,) = work.hops["home"].seen[-1:]
        words = b" ".join(report.octets.split())
        assert b"far.test was signed with DNSSEC and is not any more (last proven" in words
        assert b"451 4.7.5" in words

    played(act)
