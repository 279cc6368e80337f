"""Sends DMARC aggregate reports to the addresses that a domain's record names (RFC 9990).

An address outside of the domain's organization gets reports only if its own domain agrees (section 4):
`example.org._report._dmarc.elsewhere.example` must exist and begin with `v=DMARC1`. If that names addresses
of its own they get the reports in its place; all must be of the same domain. Only `mailto:` is known.

A report that can go to one of the addresses is done though the DNS does not say whether another may have it:
whoever names an address whose DNS is dead takes the report from nobody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import unquote

import mta
from mta.address import Address, AddressError, domain_key, parse_address
from mta.authn.dmarcrecord import parse_record
from mta.authn.dmarcwalk import organizational_by_list, walk
from mta.net.resolver.base import Resolver
from mta.reporting.daily import DAY, NotNow, Row
from mta.reporting.dmarc import Submitter, begin_of, make_report, published, report_id
from mta.reporting.mail import Attachment, MailSubmitter, NoWay, ReportMail

LOOKUP_TIME = 20.0
"""Seconds for all records of one report."""
MAX_TARGETS = 5
"""Addresses that a report goes to."""
MAX_PACKED = 5 * 1024 * 1024
"""Octets of a packed report; more is too much for most mailboxes, once it is mail."""


class DmarcReporter:
    """`mta.reporting.daily.Reporter` of DMARC aggregate reports."""

    def __init__(
        self,
        submitter: Submitter,
        sender: Address,
        resolver: Resolver,
        mail: MailSubmitter,
        *,
        public_suffixes: bool = False,
    ) -> None:
        """`sender` is whom the reports are from; `public_suffixes` says how DMARC is evaluated here."""
        self._submitter = submitter
        self._sender = sender
        self._resolver = resolver
        self._mail = mail
        self._public_suffixes = public_suffixes

    async def report(self, day: str, subject: str, rows: Sequence[Row]) -> str:
        """See `mta.reporting.daily.Reporter`."""
        if not rows:
            return "nothing was counted"
        deadline = asyncio.get_running_loop().time() + LOOKUP_TIME
        answer = await self._resolver.query(f"_dmarc.{subject}", "TXT", deadline)
        if not answer.usable:
            raise NotNow(f"_dmarc.{subject}: {answer.reason}")
        records = [record for text in answer.texts if (record := parse_record(text)) is not None]
        if len(records) != 1:
            return "the domain has no record any more"
        wanted = targets(records[0].rua)
        found: dict[str, Address] = {}
        doubts: list[str] = []
        for to in wanted[:MAX_TARGETS]:
            try:
                found |= {one.key: one for one in await self._agreed(subject, to, deadline)}
            except NotNow as error:
                doubts.append(str(error))
        if doubts and not found:
            raise NotNow("; ".join(doubts))
        if not found:
            return "nobody asks for it" if not wanted else "nobody who asks for it may have it"
        packed = await asyncio.to_thread(
            make_report,
            day,
            subject,
            rows,
            self._submitter,
            generator=f"Tamis {mta.__version__}",
            psl=self._public_suffixes,
            newest=published(records[0]),
        )
        if len(packed) > MAX_PACKED:
            return f"too large: {len(packed)} octets"
        mail = self._message(day, subject, tuple(found.values())[:MAX_TARGETS], packed)
        try:
            name = await self._mail.submit(mail)
        except NoWay as error:
            return f"not sent: {error}"
        return ", ".join([f"queued as {name}", *(f"failed: {doubt}" for doubt in doubts)])

    async def _agreed(self, subject: str, to: Address, deadline: float) -> list[Address]:
        """Who gets reports about a domain that it wants sent to an address; nobody where that does not agree.

        Raises NotNow when the DNS does not say.
        """
        try:
            host = domain_key(to.domain)
        except AddressError:
            return []
        if host == subject or await self._home(host, deadline) == await self._home(subject, deadline):
            return [to]
        name = f"{subject}._report._dmarc.{host}"
        answer = await self._resolver.query(name, "TXT", deadline)
        if not answer.usable:
            raise NotNow(f"{name}: {answer.reason}")
        records = [record for text in answer.texts if (record := parse_record(text)) is not None]
        uris = [uri for record in records for uri in record.rua]
        others = targets(uris)
        if any(domain_key(other.domain) != host for other in others):
            return []  # neither these nor the one that was asked about
        return others if uris else [to] if records else []

    async def _home(self, domain: str, deadline: float) -> str:
        """The organizational domain."""
        if self._public_suffixes:
            return organizational_by_list(domain)
        found = await walk(self._resolver, domain, deadline)
        if found.error:
            raise NotNow(f"organizational domain of {domain}: {found.error}")
        return found.organizational

    def _message(self, day: str, domain: str, to: tuple[Address, ...], packed: bytes) -> ReportMail:
        ours = self._submitter
        begin = begin_of(day)
        return ReportMail(
            self._sender,
            to,
            f"Report Domain: {domain} Submitter: {ours.domain} Report-ID: <{report_id(day, domain, ours)}>",
            (
                f"This is a DMARC aggregate report of {ours.organization} about mail from {domain}",
                f"on {day} (UTC). The attachment is for programs (RFC 9990).",
                "",
                f"Contact: {ours.contact}",
            ),
            Attachment(
                "application/gzip",
                f"{ours.host or ours.domain}!{domain}!{begin}!{begin + DAY - 1}.xml.gz",
                packed,
            ),
        )


def targets(uris: Sequence[str]) -> list[Address]:
    """The addresses of `mailto:` URIs, each once; in ASCII, for reports are sent without SMTPUTF8."""
    found: dict[str, Address] = {}
    for uri in uris:
        scheme, _, rest = uri.partition(":")
        if scheme.lower() != "mailto":
            continue
        try:
            address = parse_address(unquote(rest.partition("?")[0], errors="strict"))
        except (AddressError, UnicodeDecodeError):
            continue
        if address.text.isascii() and address.domain and not address.domain.startswith("["):
            found.setdefault(address.key, address)
    return list(found.values())
