"""Sends TLS reports by HTTPS and by mail to the places that the domain's record names (RFC 8460 section 5).

A report that reached one of them is done though another failed: trying again would send it twice.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from datetime import date

from mta.address import Address
from mta.delivery.security.tlsrpt import HttpsTarget, Row, Submitter, make_report, read_record, report_id
from mta.net.https import HttpsError, IsRefused, Request, request
from mta.net.resolver.base import Resolver
from mta.reporting.daily import DAY, NotNow
from mta.reporting.mail import Attachment, MailSubmitter, NoWay, ReportMail

LOOKUP_TIME = 20.0
"""Seconds for the record."""
POST_TIME = 60.0
"""Seconds for one HTTPS request."""
MAX_ANSWER = 64 * 1024
"""Octets of an answer; nobody reads them."""
GZIP = "application/tlsrpt+gzip"


class TlsReporter:
    """`mta.reporting.daily.Reporter` of TLS reports."""

    def __init__(
        self,
        submitter: Submitter,
        sender: Address,
        resolver: Resolver,
        context: Callable[[], ssl.SSLContext],
        mail: MailSubmitter | None,
        is_refused: IsRefused = lambda address: False,
    ) -> None:
        """`context` gives what HTTPS is verified with; `mail` None: there is no queue, HTTPS only."""
        self._submitter = submitter
        self._sender = sender
        self._resolver = resolver
        self._context = context
        self._mail = mail
        self._is_refused = is_refused

    async def report(self, day: str, subject: str, rows: Sequence[Row]) -> str:
        """See `mta.reporting.daily.Reporter`."""
        loop = asyncio.get_running_loop()
        answer = await self._resolver.query(f"_smtp._tls.{subject}", "TXT", loop.time() + LOOKUP_TIME)
        if not answer.usable:
            raise NotNow(f"_smtp._tls.{subject}: {answer.reason}")
        targets = read_record(answer.texts)
        if not targets:
            return "nobody asks for it"
        packed = await asyncio.to_thread(make_report, day, subject, rows, self._submitter)
        done: list[str] = []
        troubles: list[str] = []
        refusal: list[str] = []
        for target in targets.https:
            try:
                await self._post(target, packed)
            except HttpsError as error:
                troubles.append(str(error))
            else:
                done.append(f"posted to {target.host}")
        if targets.mail and self._mail is not None:
            try:
                name = await self._mail.submit(self._message(day, subject, targets.mail, packed))
            except NotNow as error:
                troubles.append(str(error))
            except NoWay as error:
                refusal = [f"not mailed: {error}"]
            else:
                done.append(f"queued as {name}")
        if troubles and not done:
            raise NotNow("; ".join(troubles))
        told = [*done, *refusal, *(f"failed: {trouble}" for trouble in troubles)]
        return ", ".join(told) or "there is no queue"

    async def _post(self, target: HttpsTarget, packed: bytes) -> None:
        what = Request(target.host, target.path, target.port, "POST", {"Content-Type": GZIP}, packed)
        deadline = asyncio.get_running_loop().time() + POST_TIME
        answer = await request(
            what,
            self._resolver,
            self._context(),
            limit=MAX_ANSWER,
            deadline=deadline,
            is_refused=self._is_refused,
        )
        if not 200 <= answer.status < 300:
            raise HttpsError(f"{target.host}: status {answer.status}")

    def _message(self, day: str, domain: str, to: tuple[Address, ...], packed: bytes) -> ReportMail:
        ours, ident = self._submitter, report_id(day, domain, self._submitter)
        begin = (date.fromisoformat(day) - date(1970, 1, 1)).days * DAY
        name = f"{ours.host or ours.domain}!{domain}!{begin}!{begin + DAY - 1}.json.gz"
        return ReportMail(
            self._sender,
            to,
            f"Report Domain: {domain} Submitter: {ours.domain} Report-ID: <{ident}>",
            (
                f"This is a TLS report of {ours.organization} about mail to {domain}",
                f"on {day} (UTC). The attachment is for programs (RFC 8460).",
                "",
                f"Contact: {ours.contact}",
            ),
            Attachment(GZIP, name, packed),
            "multipart/report; report-type=tlsrpt",
            (
                ("TLS-Report-Domain", domain),
                ("TLS-Report-Submitter", ours.domain),
                # RFC 8460 section 5.3: the report must arrive even if TLS is what is broken (RFC 8689).
                ("TLS-Required", "No"),
            ),
        )
