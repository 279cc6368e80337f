"""BIMI: what a domain has published as its sign, for mail that DMARC has let pass (draft-brand-indicators).

    found = await check(resolver, message, dmarc, signatures, deadline=loop.time() + 5)
    found.result             # Result.PASS: there is a record; NONE, DECLINED, SKIPPED, FAIL, TEMPERROR

Only the record is looked at: neither the picture nor the evidence that it names is fetched, so a *pass* says
that the author's domain, which has sent the message, names a picture - and not that it may use it. Mail
programs that show it have to look at the evidence.

Nothing is asked unless DMARC has passed for the one domain in From, under a policy that is meant: quarantine
or reject, for all mail, and for subdomains, too. The field BIMI-Selector counts if a good signature of the
author's domain covers it; anybody could add it otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from mta.authn.dkim import DkimResult
from mta.authn.dmarc import DmarcResult
from mta.authn.dmarcrecord import Policy
from mta.authn.results import MethodResult, Result
from mta.net.resolver.base import Answer, Resolver
from sieve_ext.message.header import Header

SELECTOR_FIELD = "bimi-selector"
DEFAULT_SELECTOR = "default"
MAX_RECORD = 4096
"""Octets of a record that are read."""
MAX_URI = 1024
"""Characters of a URI."""

_version = re.compile(rb"[ \t]*v[ \t]*=[ \t]*BIMI1[ \t]*(?:;|\Z)").match
_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_selector = re.compile(rf"{_LABEL}(?:\.{_LABEL}){{0,3}}").fullmatch
_tag_name = re.compile(r"[a-z][a-z0-9_-]*").fullmatch


class Malformed(ValueError):
    """A record, or a field BIMI-Selector, that cannot be used; the text says why."""


@dataclass(slots=True, frozen=True)
class Assertion:
    """What a record says."""

    location: str = ""
    """`l=`: where the picture is."""
    authority: str = ""
    """`a=`: where the evidence is."""

    @property
    def is_declined(self) -> bool:
        """The domain says that it has no sign."""
        return not self.location and not self.authority


def is_bimi(record: bytes) -> bool:
    """Whether a TXT record is one of BIMI at all."""
    return _version(record) is not None


def read_assertion(record: bytes) -> Assertion:
    """A record. Raises Malformed."""
    if len(record) > MAX_RECORD:
        raise Malformed("the record is too long")
    tags = _tags(record)
    if "l" not in tags:
        raise Malformed("the record has no l=")
    return Assertion(*(_uri(tags.get(name, ""), name) for name in ("l", "a")))


def read_selector(field: bytes) -> str:
    """The selector of a field BIMI-Selector. Raises Malformed."""
    if not is_bimi(field) or len(field) > MAX_RECORD:
        raise Malformed("BIMI-Selector does not begin with v=BIMI1")
    selector = _tags(field).get("s", "").lower()
    if not _selector(selector):
        raise Malformed("BIMI-Selector names no selector")
    return selector


def _tags(octets: bytes) -> dict[str, str]:
    try:
        text = octets.decode("ascii")
    except UnicodeDecodeError:
        raise Malformed("it is not ASCII") from None
    tags: dict[str, str] = {}
    for part in text.split(";"):
        name, sign, value = part.partition("=")
        name, value = name.strip().lower(), value.strip()
        if not name and not sign:
            continue
        if not sign or not _tag_name(name) or name in tags:
            raise Malformed("it is no list of tags")
        tags[name] = value
    return tags


def _uri(text: str, name: str) -> str:
    if not text:
        return ""
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = None
    usable = len(text) <= MAX_URI and text.isprintable() and not set(text) & set(' "<>\\')
    if parts is None or parts.scheme.lower() != "https" or not parts.hostname or not usable:
        raise Malformed(f"{name}= is no https URI")
    return text


async def check(
    resolver: Resolver,
    header: Header,
    dmarc: DmarcResult,
    signatures: Sequence[DkimResult],
    *,
    deadline: float,
) -> MethodResult:
    """Look for the record of the author's domain. Raises nothing but CancelledError."""
    why_not = _obstacle(dmarc)
    if why_not:
        return MethodResult("bimi", Result.SKIPPED, why_not)
    try:
        selector = _chosen(header, dmarc, signatures)
    except Malformed as error:
        return MethodResult("bimi", Result.FAIL, str(error), {"header.d": dmarc.domain})
    for domain in dict.fromkeys((dmarc.domain, dmarc.organizational or dmarc.policy_domain)):
        answer = await resolver.query(f"{selector}._bimi.{domain}", "TXT", deadline)
        found = _found(answer, domain, selector)
        if found is not None:
            return found
    return MethodResult("bimi", Result.NONE, "no record", {"header.d": dmarc.domain})


def _found(answer: Answer, domain: str, selector: str) -> MethodResult | None:
    """The result of an answer; None when there is no record."""
    properties = {"header.d": domain, "header.selector": selector}
    if not answer.usable:
        return MethodResult("bimi", Result.TEMPERROR, answer.reason or "no answer", properties)
    records = [text for text in answer.texts if is_bimi(text)]
    if not records:
        return None
    if len(records) > 1:
        return MethodResult("bimi", Result.FAIL, "several records", properties)
    try:
        assertion = read_assertion(records[0])
    except Malformed as error:
        return MethodResult("bimi", Result.FAIL, str(error), properties)
    if assertion.is_declined:
        return MethodResult("bimi", Result.DECLINED, "", properties)
    properties["policy.indicator-uri"] = assertion.location
    properties["policy.authority-uri"] = assertion.authority
    return MethodResult("bimi", Result.PASS, "record only, nothing was fetched", properties)


def _obstacle(dmarc: DmarcResult) -> str:
    """Why BIMI is not for this message, "" when it is."""
    record = dmarc.record
    if not dmarc.passed or record is None or not dmarc.domain or len(dmarc.author.domains) > 1:
        return "DMARC has not passed"
    if Policy.NONE in (record.p, record.sp):
        return "the DMARC policy asks for nothing"
    if record.testing or record.percent < 100:
        return "the DMARC policy is on trial"
    return ""


def _chosen(header: Header, dmarc: DmarcResult, signatures: Sequence[DkimResult]) -> str:
    """The selector; that of the field if the author's domain has signed it. Raises Malformed."""
    fields = header.all(SELECTOR_FIELD)
    if len(fields) != 1:
        return DEFAULT_SELECTOR
    aligned = [
        one.signature
        for one in signatures
        if one.passed and one.signature is not None and one.domain in dmarc.dkim_aligned
    ]
    if not any(SELECTOR_FIELD in one.names for one in aligned):
        return DEFAULT_SELECTOR
    return read_selector(fields[0].unfolded)
