"""DMARC aggregate reports: what is counted of a message, and the XML that a day of it becomes (RFC 9990).

    row = row_of(client_address, sender, dmarc, spf, dkim, refused=False)
    packed = make_report(day, domain, rows, submitter)

Rows hold what RFC 9990 wants: the client's address, what was evaluated and what was done, domains, and no
address of a person. Strangers' words are written as XML text, without control characters. Pure.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from xml.sax.saxutils import escape

from mta.authn.dkim import DkimResult
from mta.authn.dmarc import DmarcResult
from mta.authn.dmarcrecord import DmarcRecord, Policy
from mta.authn.results import Result
from mta.authn.spf import SpfResult
from mta.reporting.daily import DAY, Row

KIND = "dmarc"
"""The word of the store."""
NAMESPACE = "urn:ietf:params:xml:ns:dmarc-2.0"
MAX_SIGNATURES = 10
"""Signatures of a message that are reported."""
MAX_XML = 8 * 1024 * 1024
"""Octets of a report before it is packed; rarer rows are left out beyond it."""


@dataclass(slots=True, frozen=True)
class Submitter:
    """Who reports."""

    organization: str
    contact: str
    domain: str
    host: str = ""
    """Which server of the domain it is: each counts its own messages. "" is the domain itself."""


def row_of(
    client: str,
    envelope_domain: str,
    dmarc: DmarcResult,
    spf: SpfResult | None,
    dkim: Sequence[DkimResult],
    *,
    refused: bool,
) -> tuple[str, dict[str, Any]] | None:
    """The domain whose report it belongs into and the row; None when nobody is to be told.

    `refused` says that the message was refused for good.
    """
    record = dmarc.record
    if not client[:1].isdigit() and ":" not in client:
        return None  # a Unix socket
    if record is None or not record.rua or dmarc.result.result not in (Result.PASS, Result.FAIL):
        return None
    reason = ""
    if dmarc.passed:
        done = "pass"
    elif refused:
        done = "reject"
        reason = "" if dmarc.disposition is Policy.REJECT else "local_policy"
    elif dmarc.disposition is Policy.REJECT:
        done, reason = "none", "local_policy"
    else:
        done = dmarc.disposition.value
        if dmarc.disposition is not dmarc.policy and dmarc.disposition is dmarc.policy.lowered:
            # Milder than what is published, which must have its reason (section 3.1.1.9): t=y, or pct.
            reason = "policy_test_mode" if record.testing else "other"
    row: dict[str, Any] = {
        "ip": client,
        "done": done,
        "dkim": "pass" if dmarc.dkim_aligned else "fail",
        "spf": "pass" if dmarc.spf_aligned else "fail",
        "from": dmarc.domain,
        "envelope": envelope_domain,
        "signatures": [
            [one.domain, one.signature.selector, one.result.value]
            for one in dkim[:MAX_SIGNATURES]
            if one.signature is not None
        ],
        "sender": None if spf is None else [spf.domain, spf.result.result.value],
        "policy": published(record),
    }
    if reason:
        row["reason"] = reason
    return dmarc.policy_domain, row


def published(record: DmarcRecord) -> dict[str, str]:
    """What a report says of the record that was found."""
    return {
        "p": record.p.value,
        "sp": (record.sp or record.p).value,
        "np": (record.np or record.sp or record.p).value,
        "adkim": "s" if record.strict_dkim else "r",
        "aspf": "s" if record.strict_spf else "r",
        "fo": ":".join(record.fo),
        "testing": "y" if record.testing else "n",
    }


def report_id(day: str, domain: str, submitter: Submitter) -> str:
    """The name of a report: the same when it is made again, and another one on each server.

    Some of those who read reports know them by what stands before the "@" alone.
    """
    return f"{day}.{domain}.{submitter.host or submitter.domain}@{submitter.domain}"


def make_report(
    day: str,
    domain: str,
    rows: Sequence[Row],
    submitter: Submitter,
    *,
    generator: str,
    psl: bool = False,
    newest: Mapping[str, str] | None = None,
) -> bytes:
    """The report of one day, packed by gzip; `rows` begin with the most frequent one, and are not empty.

    Of several policies in a day the last one is to be told (section 3.1): `newest`, if a row has it.
    """
    begin = begin_of(day)
    policy = next((row["policy"] for row, _ in rows if row["policy"] == newest), rows[0][0]["policy"])
    head = "".join(
        (
            '<?xml version="1.0" encoding="UTF-8"?>\n',
            f'<feedback xmlns="{NAMESPACE}">\n<version>1.0</version>\n<report_metadata>\n',
            _tag("org_name", submitter.organization),
            _tag("email", submitter.contact),
            _tag("report_id", report_id(day, domain, submitter)),
            f"<date_range><begin>{begin}</begin><end>{begin + DAY - 1}</end></date_range>\n",
            _tag("generator", generator),
            "</report_metadata>\n<policy_published>\n",
            _tag("domain", domain),
            *(_tag(name, policy[name]) for name in ("p", "sp", "np", "adkim", "aspf")),
            _tag("discovery_method", "psl" if psl else "treewalk"),
            _tag("fo", policy["fo"]),
            _tag("testing", policy["testing"]),
            "</policy_published>\n",
        )
    )
    pieces = [head]
    size = len(head)
    for row, count in rows:
        record = _record(row, count)
        size += len(record)
        if size > MAX_XML:
            break
        pieces.append(record)
    pieces.append("</feedback>\n")
    return gzip.compress("".join(pieces).encode("utf-8"), mtime=0)


def begin_of(day: str) -> int:
    """The first second of a day, of the epoch."""
    return (date.fromisoformat(day) - date(1970, 1, 1)).days * DAY


def _record(row: dict[str, Any], count: int) -> str:
    reason = f"<reason>{_tag('type', row['reason'])}</reason>\n" if row.get("reason") else ""
    signatures = "".join(
        f"<dkim>{_tag('domain', name)}{_tag('selector', selector)}{_tag('result', result)}</dkim>\n"
        for name, selector, result in row["signatures"]
    )
    sender = ""
    if row["sender"] is not None:
        name, result = row["sender"]
        sender = f"<spf>{_tag('domain', name)}{_tag('scope', 'mfrom')}{_tag('result', result)}</spf>\n"
    return "".join(
        (
            "<record>\n<row>\n",
            _tag("source_ip", row["ip"]),
            _tag("count", str(count)),
            "<policy_evaluated>\n",
            _tag("disposition", row["done"]),
            _tag("dkim", row["dkim"]),
            _tag("spf", row["spf"]),
            reason,
            "</policy_evaluated>\n</row>\n<identifiers>\n",
            _tag("envelope_from", row["envelope"]),
            _tag("header_from", row["from"]),
            "</identifiers>\n<auth_results>\n",
            signatures,
            sender,
            "</auth_results>\n</record>\n",
        )
    )


def _tag(name: str, text: str) -> str:
    kept = "".join(c if c.isprintable() else "?" for c in text)
    return f"<{name}>{escape(kept)}</{name}>\n"
